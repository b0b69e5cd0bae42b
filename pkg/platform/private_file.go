package platform

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// ErrNotPrivate: a file with a secret can be read or changed by others, or is not a plain file of ours.
var ErrNotPrivate = errors.New("a secret file is not private")

// readPrivate reads a secret file of at most limit bytes, and refuses one that others can reach. The check is made on
// the open file, so nobody can put another one in its place in between.
func readPrivate(name string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s is not a plain file", ErrNotPrivate, name)
	case ok && int(stat.Uid) != os.Geteuid():
		return nil, fmt.Errorf("%w: %s belongs to user id %d", ErrNotPrivate, name, stat.Uid)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%w: others can reach %s (mode %04o): put a new secret in its place if they may have read it, and: chmod 600 %s",
			ErrNotPrivate, name, info.Mode().Perm(), name)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return b, err
}

// createPrivate creates a secret file, whole or not at all, and fails with fs.ErrExist when there is one.
func createPrivate(name string, content []byte) error {
	temporary, err := writeTemporary(name, content)
	if err != nil {
		return err
	}
	defer os.Remove(temporary)
	if err := os.Link(temporary, name); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(name))
}

// replacePrivate writes a file of mode 0600 in the place of the former one, atomically.
func replacePrivate(name string, content []byte) error {
	temporary, err := writeTemporary(name, content)
	if err != nil {
		return err
	}
	if err := os.Rename(temporary, name); err != nil {
		_ = os.Remove(temporary)
		return err
	}
	return syncFolder(filepath.Dir(name))
}

func writeTemporary(name string, content []byte) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".") // mode 0600
	if err != nil {
		return "", err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}
