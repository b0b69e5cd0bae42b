package platform

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// child is a process that ends at the latest when this one does.
type child struct {
	pid  int
	done chan struct{} // closed when it has ended
	err  error         // of Wait; read after done
	cmd  *exec.Cmd
}

// startChild starts cmd such that the kernel sends it the signal when we die. The kernel watches the *thread* that
// forked (prctl(2), PR_SET_PDEATHSIG), and Go ends idle threads: so one goroutine keeps its thread locked from the
// start of the process until its end, and ends with it.
func startChild(cmd *exec.Cmd, whenWeDie syscall.Signal) (*child, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = whenWeDie
	cmd.SysProcAttr.Setpgid = true // a terminal's Ctrl-C is for us; we stop our children in order
	c := &child{done: make(chan struct{}), cmd: cmd}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		c.err = cmd.Wait()
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	c.pid = cmd.Process.Pid
	return c, nil
}

// runChild runs a short program to its end; when ctx ends first its whole process group is killed.
func runChild(ctx context.Context, cmd *exec.Cmd) error {
	c, err := startChild(cmd, syscall.SIGKILL)
	if err != nil {
		return err
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		_ = syscall.Kill(-c.pid, syscall.SIGKILL)
		<-c.done
		return context.Cause(ctx)
	}
}

// stop asks gently, asks harder when ctx ends, kills five seconds later. A child that has ended is fine.
func (c *child) stop(ctx context.Context, gently, harder syscall.Signal) error {
	if c.ended(ctx, gently) {
		return nil
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if c.ended(last, harder) {
		return nil
	}
	_ = syscall.Kill(-c.pid, syscall.SIGKILL)
	<-c.done
	return errors.New("it did not end when asked and was killed; the next start recovers")
}

// ended signals the process and reports whether it ended before ctx did. os.Process.Signal never reaches a process
// that took over the id of an ended one.
func (c *child) ended(ctx context.Context, s syscall.Signal) bool {
	_ = c.cmd.Process.Signal(s)
	select {
	case <-c.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// hasEnded reports whether it has ended already.
func (c *child) hasEnded() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// exit describes how a child ended, for an error's text.
func (c *child) exit() string {
	var e *exec.ExitError
	if errors.As(c.err, &e) {
		return e.String()
	}
	return fmt.Sprint(c.err)
}
