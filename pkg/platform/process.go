package platform

import (
	"context"
	"os/exec"
	"syscall"
)

// A Process is a program that ends at the latest when this one does.
type Process struct{ child *child }

// StartProcess starts cmd in a process group of its own. The kernel sends it
// SIGTERM when this process dies, however it dies.
func StartProcess(cmd *exec.Cmd) (*Process, error) {
	c, err := startChild(cmd, syscall.SIGTERM)
	if err != nil {
		return nil, err
	}
	return &Process{child: c}, nil
}

// Pid is the process id.
func (p *Process) Pid() int { return p.child.pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.child.done }

// Exit says how the process ended, for a message. Call it after Done.
func (p *Process) Exit() string { return p.child.exit() }

// Kill ends the process at once, as an outage would. It waits until it has ended.
func (p *Process) Kill() {
	_ = p.child.cmd.Process.Kill()
	<-p.child.done
}

// Stop asks the process to end with SIGTERM, kills its group when ctx ends, and
// waits until it has ended.
func (p *Process) Stop(ctx context.Context) error {
	return p.child.stop(ctx, syscall.SIGTERM, syscall.SIGKILL)
}
