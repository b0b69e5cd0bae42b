package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A recorded process is the leader of a group that an agent started.
type recorded struct {
	pid   int
	start int64
}

// sweep ends what agents that are gone have left: processes with the marker of
// this state folder, and groups whose recorded leader still lives. spare keeps
// markers that are still somebody's. Each process is taken hold of by a pidfd
// before it is looked at, so a pid that was given to somebody else in between
// cannot be hit. It returns when none is left.
func sweep(ctx context.Context, run, stateID string, spare func(marker string) bool) error {
	leaders, err := readRecords(run, spare)
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	for {
		ended, err := endLeftovers(leaders, stateID+".", spare)
		if err != nil || ended == 0 {
			return errors.Join(err, removeRecords(run, spare))
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return fmt.Errorf("sweep: %d processes do not end: %w", ended, err)
		}
	}
}

// endLeftovers kills what it finds and returns how many that were. Leaders are
// stopped first and killed only when nothing else is left: as long as one is
// there, its group cannot be anybody else's.
func endLeftovers(leaders map[int]recorded, prefix string, spare func(string) bool) (ended int, err error) {
	all, err := pids()
	if err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	var held []int // pidfds of leaders
	for _, pid := range all {
		if pid == os.Getpid() {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it has ended
		}
		leftover, leads := isLeftover(pid, leaders, prefix, spare)
		if leftover && leads && unix.PidfdSendSignal(fd, unix.SIGSTOP, nil, 0) == nil {
			held = append(held, fd)
			continue
		}
		if leftover && !leads && unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil {
			ended++
		}
		unix.Close(fd)
	}
	last := ended == 0
	for _, fd := range held {
		if last && unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil {
			ended++
		}
		unix.Close(fd)
	}
	return ended, nil
}

// isLeftover decides by identity: the marker in the process's own environment, or
// membership in a group whose leader is, by its start time, the recorded one. leads
// says that it is such a leader itself.
func isLeftover(pid int, leaders map[int]recorded, prefix string, spare func(string) bool) (leftover, leads bool) {
	s, err := readStat(pid)
	if err != nil || s.Zombie {
		return false, false
	}
	own, ok := leaders[pid]
	leads = ok && own.start == s.Start
	if marker, ok := marked(pid, prefix); ok {
		return !spare(marker), leads
	}
	if leads {
		return true, true
	}
	leader, ok := leaders[s.Group]
	if !ok {
		return false, false
	}
	l, err := readStat(leader.pid)
	return err == nil && l.Start == leader.start, false
}

// readRecords returns the leaders of this boot by pid.
func readRecords(run string, spare func(string) bool) (map[int]recorded, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(run)
	if err != nil {
		return nil, err
	}
	leaders := map[int]recorded{}
	for _, e := range entries {
		var r recorded
		var recordBoot string
		raw, err := readFile(filepath.Join(run, e.Name()), 1024)
		if err != nil || spare(e.Name()) {
			continue
		}
		n, _ := fmt.Sscanf(string(raw), "%d %d %s", &r.pid, &r.start, &recordBoot)
		if n == 3 && recordBoot == boot && r.pid > 1 {
			leaders[r.pid] = r
		}
	}
	return leaders, nil
}

func removeRecords(run string, spare func(string) bool) error {
	entries, err := os.ReadDir(run)
	for _, e := range entries {
		if !spare(e.Name()) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(run, e.Name())))
		}
	}
	return err
}

// spareAgents keeps the processes of agents that live, by the start of a marker:
// state id and agent id.
func spareAgents(prefixes ...string) func(string) bool {
	return func(marker string) bool {
		for _, p := range prefixes {
			if p != "" && strings.HasPrefix(marker, p) {
				return true
			}
		}
		return false
	}
}
