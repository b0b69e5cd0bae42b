package platform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The folders reach the server as open descriptors, so that its user needs no way to them through folders that only
// root may enter: opening /proc/self/fd/3 asks for rights on that folder alone. Children inherit them.
const (
	dataFD = "/proc/self/fd/3"
	runFD  = "/proc/self/fd/5"
)

// maxLog is the size in bytes beyond which a start puts the former log aside.
const maxLog = 16 << 20

// command prepares a PostgreSQL program: as the cluster's user, in "/", with a minimal environment, and with data, the
// lock and the socket's folder as descriptors 3, 4 and 5. The returned close is for after its start.
func (c *Cluster) command(data, program string, args ...string) (*exec.Cmd, func(), error) {
	dataFolder, err := os.Open(data)
	if err != nil {
		return nil, nil, err
	}
	run, err := os.Open(c.socket)
	if err != nil {
		_ = dataFolder.Close()
		return nil, nil, err
	}
	cmd := exec.Command(filepath.Join(c.options.BinDir, program), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=/nonexistent"}
	cmd.ExtraFiles = []*os.File{dataFolder, c.lock, run}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.identity.credential}
	return cmd, func() { _ = dataFolder.Close(); _ = run.Close() }, nil
}

// createData runs initdb beside the final place, so that a crash in the middle leaves nothing that looks whole.
func (c *Cluster) createData(ctx context.Context) error {
	data, fresh := filepath.Join(c.options.Dir, "data"), filepath.Join(c.options.Dir, "data.new")
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); err == nil {
		return nil
	}
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := c.ownedFolder(fresh); err != nil {
		return err
	}
	if err := c.runInitdb(ctx, fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, data); err != nil {
		return fmt.Errorf("put the new data in its place: %w", err)
	}
	return syncFolder(c.options.Dir)
}

func (c *Cluster) runInitdb(ctx context.Context, fresh string) error {
	// The "C" locale sorts the same on every machine, so no system upgrade can corrupt an index.
	args := []string{"-D", dataFD, "-U", superuser, "-E", "UTF8", "--locale=C", "--no-instructions"}
	if c.options.Fast {
		args = append(args, "--no-sync")
	}
	if c.options.Trust {
		args = append(args, "-A", "trust")
	} else {
		file, err := c.initialPassword()
		if err != nil {
			return err
		}
		defer os.Remove(file)
		args = append(args, "-A", "scram-sha-256", "--pwfile="+runFD+"/"+filepath.Base(file))
	}
	cmd, closeFiles, err := c.command(fresh, "initdb", args...)
	if err != nil {
		return err
	}
	defer closeFiles()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := runChild(ctx, cmd); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, strings.TrimSpace(out.String()))
	}
	return nil
}

// startServer starts postgres itself, not pg_ctl: the process is ours to signal and to wait for.
func (c *Cluster) startServer(ctx context.Context) error {
	cmd, closeFiles, err := c.command(filepath.Join(c.options.Dir, "data"), "postgres", c.serverArgs()...)
	if err != nil {
		return err
	}
	defer closeFiles()
	log, from, err := openLog(filepath.Join(c.options.Dir, "postgres.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	whenWeDie := syscall.SIGINT
	if c.options.Fast {
		whenWeDie = syscall.SIGQUIT
	}
	if c.server, err = startChild(cmd, whenWeDie); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	if err := c.awaitReady(ctx); err != nil {
		ended, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = c.server.stop(ended, syscall.SIGINT, syscall.SIGQUIT)
		return fmt.Errorf("%w; its log says:\n%s", err, tail(log.Name(), from))
	}
	return nil
}

func (c *Cluster) serverArgs() []string {
	settings := map[string]string{
		"listen_addresses":        "",
		"port":                    strconv.Itoa(port),
		"unix_socket_directories": runFD,
		"unix_socket_permissions": "0700",
		"password_encryption":     "scram-sha-256",
		"logging_collector":       "off",
		"log_timezone":            "UTC",
		"timezone":                "UTC",
		"cluster_name":            "hotswap",
	}
	if c.options.Fast {
		settings["fsync"], settings["full_page_writes"], settings["synchronous_commit"] = "off", "off", "off"
		settings["dynamic_shared_memory_type"] = "mmap" // goes with the folder when a test is killed
	}
	for name, value := range c.options.Settings {
		settings[name] = value
	}
	names := make([]string, 0, len(settings))
	for name := range settings {
		names = append(names, name)
	}
	sort.Strings(names)
	args := []string{"-D", dataFD}
	for _, name := range names {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

// awaitReady reads postmaster.pid as pg_ctl does: its eighth line says "ready" when recovery is over.
func (c *Cluster) awaitReady(ctx context.Context) error {
	file := filepath.Join(c.options.Dir, "data", "postmaster.pid")
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		if b, err := os.ReadFile(file); err == nil {
			lines := strings.Split(string(b), "\n")
			if len(lines) >= 8 && lines[0] == strconv.Itoa(c.server.pid) && strings.TrimSpace(lines[7]) == "ready" {
				return nil
			}
		}
		select {
		case <-look.C:
		case <-c.server.done:
			return fmt.Errorf("postgres ended while starting (%s)", c.server.exit())
		case <-ctx.Done():
			return fmt.Errorf("postgres is not ready yet: %w", context.Cause(ctx))
		}
	}
}

// openLog opens the log for appending and returns its present length.
func openLog(name string) (*os.File, int64, error) {
	if info, err := os.Stat(name); err == nil && info.Size() > maxLog {
		if err := os.Rename(name, name+".1"); err != nil {
			return nil, 0, err
		}
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// tail returns what was written to the log since from, its last 2 KiB.
func tail(name string, from int64) string {
	f, err := os.Open(name)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size()-from > 2048 {
		from = info.Size() - 2048
	}
	b, err := io.ReadAll(io.NewSectionReader(f, from, 2048))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
