package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// ErrLocked means that another agent lives on the state folder and does not hand
// it over.
var ErrLocked = errors.New("another agent holds the state folder")

const lockFile = "lock"

// lockFolder takes the lock of a state folder, or returns [ErrLocked]. It is held
// until the file is closed by every process that has it open: an agent passes it on
// by passing the open file on, so that there is no instant without a holder.
func lockFolder(folder string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(folder, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, fmt.Errorf("lock state folder: %w", err)
	}
	return f, nil
}

// openFolders makes the state folder and those in it, closed to everybody else.
func openFolders(state string) error {
	for _, name := range []string{"", runFolder, logFolder, scratchFolder, cacheFolder} {
		path := filepath.Join(state, name)
		if err := os.MkdirAll(path, 0o700); err != nil {
			return fmt.Errorf("open state folder: %w", err)
		}
		if err := os.Chmod(path, 0o700); err != nil {
			return fmt.Errorf("open state folder: %w", err)
		}
	}
	return nil
}

const (
	runFolder     = "run"       // one record per process group
	logFolder     = "logs"      // output of modules
	scratchFolder = "tmp"       // TMPDIR of modules
	cacheFolder   = "artifacts" // see cache
)
