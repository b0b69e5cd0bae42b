package platform

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxSocketPath is sizeof(sockaddr_un.sun_path) less the final zero (unix(7)).
const maxSocketPath = 107

func socketName() string { return ".s.PGSQL." + strconv.Itoa(port) }

// privateFolder creates dir for us alone, or checks that it is ours and closes it to others.
func privateFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder", dir)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user id %d, not to us (%d): choose another folder, or start as its owner", dir, stat.Uid, os.Geteuid())
	}
	if info.Mode().Perm()&0o077 != 0 {
		return os.Chmod(dir, 0o700)
	}
	return nil
}

// lockFolder takes the folder's lock or says who has it. The server inherits the lock, so that it is free only when
// the last process of a former cluster has ended; wait is for one that is just ending.
func lockFolder(ctx context.Context, dir string, wait time.Duration) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || !errors.Is(err, syscall.EWOULDBLOCK) {
			break
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			holder, _ := os.ReadFile(f.Name())
			_ = f.Close()
			return nil, fmt.Errorf("%w by %s: stop that one, or choose another folder", ErrClusterInUse, strings.TrimSpace(string(holder)))
		}
	}
	if err == nil {
		err = writeHolder(f)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f, nil
}

func writeHolder(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := fmt.Fprintf(f, "%s (process %d, since %s)\n", filepath.Base(os.Args[0]), os.Getpid(), time.Now().UTC().Format(time.RFC3339))
	return err
}

// makeSocketFolder chooses where the socket is: run/ in the cluster's folder, or, when that path is too long for a
// socket, a folder named after it in the temporary folder, whose path socket-folder then holds.
func (c *Cluster) makeSocketFolder() error {
	run := filepath.Join(c.options.Dir, "run")
	note := filepath.Join(c.options.Dir, "socket-folder")
	if len(filepath.Join(run, socketName())) <= maxSocketPath {
		c.socket = run
		if err := os.Remove(note); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return c.ownedFolder(run)
	}
	sum := sha256.Sum256([]byte(c.options.Dir))
	c.socket = filepath.Join(c.options.TempDir, "hotswap-"+hex.EncodeToString(sum[:6]))
	if len(filepath.Join(c.socket, socketName())) > maxSocketPath {
		return fmt.Errorf("the temporary folder %s is too deep for a socket as well (%d bytes at most)", c.options.TempDir, maxSocketPath)
	}
	if err := c.ownedFolder(c.socket); err != nil {
		return err
	}
	return os.WriteFile(note, []byte(c.socket+"\n"), 0o600)
}

// ownedFolder creates a folder that the cluster's user alone may enter, or checks that it is one: in a temporary
// folder anybody may have been there first.
func (c *Cluster) ownedFolder(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err == nil {
		return c.give(dir)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	mine := ok && (int(stat.Uid) == c.identity.uid || int(stat.Uid) == os.Geteuid())
	if !info.IsDir() || !mine {
		return fmt.Errorf("%s exists and is not a folder of ours: remove it", dir)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	return c.give(dir)
}

// give makes the cluster's user the owner of a file or folder.
func (c *Cluster) give(path string) error {
	if c.identity.credential == nil {
		return nil
	}
	if err := os.Lchown(path, c.identity.uid, c.identity.gid); err != nil {
		return fmt.Errorf("give %s to user %s, who runs PostgreSQL for root (does the file system keep owners?): %w", path, c.identity.name, err)
	}
	return nil
}

// clearStale removes what a killed server left behind. We hold the lock, which every server of ours inherits, so the
// process that postmaster.pid names is dead, or is another process under a recycled id, or a server that somebody
// started by hand: only that last one is in the way.
func (c *Cluster) clearStale() error {
	data := filepath.Join(c.options.Dir, "data")
	file := filepath.Join(data, "postmaster.pid")
	content, err := os.ReadFile(file)
	if err == nil {
		first, _, _ := strings.Cut(string(content), "\n")
		if pid, err := strconv.Atoi(strings.TrimSpace(first)); err == nil && worksIn(pid, data) {
			return fmt.Errorf("%w by process %d, a PostgreSQL that was not started by this program: stop it first", ErrClusterInUse, pid)
		}
	}
	for _, stale := range []string{file, filepath.Join(c.socket, socketName()), filepath.Join(c.socket, socketName()+".lock")} {
		if err := os.Remove(stale); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// worksIn reports whether the process exists and has dir as its working folder, as every PostgreSQL server has.
func worksIn(pid int, dir string) bool {
	if pid <= 0 {
		return false
	}
	a, err1 := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	b, err2 := os.Stat(dir)
	return errors.Join(err1, err2) == nil && os.SameFile(a, b)
}
