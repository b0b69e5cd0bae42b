package node

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// markerVariable is in the environment of every process of a module. By it the
// leftovers of an agent that was killed are recognised.
const markerVariable = "HOTSWAP_INSTANCE"

// A spawner starts processes from one operating-system thread that lives as long
// as itself. Pdeathsig fires when the *thread* that forked ends, not the process,
// and the Go runtime may end any other thread.
type spawner struct {
	work chan func()
	done chan struct{}
}

func newSpawner() *spawner {
	s := &spawner{work: make(chan func()), done: make(chan struct{})}
	go s.run(func() {})
	return s
}

// run works on a thread of its own, once it has called ready. The Go runtime does not end the main thread with a
// goroutine that is locked to it: while that one is held here, another thread does the work.
func (s *spawner) run(ready func()) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	if unix.Gettid() == unix.Getpid() {
		other := make(chan struct{})
		go s.run(func() { close(other) })
		<-other
		runtime.UnlockOSThread()
		return
	}
	defer close(s.done)
	ready()
	for f := range s.work {
		f()
	}
}

// close ends the thread, and with it whatever it started that still runs.
func (s *spawner) close() {
	close(s.work)
	<-s.done
}

func (s *spawner) start(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	s.work <- func() { result <- cmd.Start() }
	return <-result
}

// A process is a module's process group: a leader of its own session and what it
// has started.
type process struct {
	pid    int
	record string // its file in the run folder

	exited chan struct{} // closed when the leader has ended and its group was killed
	err    error         // how the leader ended, to be read after exited

	mu     sync.Mutex
	reaped bool
}

// A command is what to start.
type command struct {
	path, folder string
	args, env    []string // env is complete
	output       io.Writer
	marker       string // value of the marker variable, unique
	run          string // folder of the records
	credentials  string // folder of the secrets; empty: it refers to none
}

// startProcess starts c in a session of its own. Its leader dies with the agent.
func startProcess(s *spawner, c command) (*process, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	cmd := &exec.Cmd{
		Path: c.path, Args: append([]string{c.path}, c.args...), Dir: c.folder,
		Env:    append(c.env, markerVariable+"="+c.marker),
		Stdout: write, Stderr: write,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	}
	err = s.start(cmd)
	write.Close()
	if err != nil {
		read.Close()
		return nil, fmt.Errorf("start: %w", err)
	}
	p := &process{pid: cmd.Process.Pid, exited: make(chan struct{}), record: filepath.Join(c.run, c.marker)}
	p.recordIdentity()
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(c.output, read) // ends at the latest with the deadline below
	}()
	go func() {
		p.wait(cmd)
		_ = read.SetReadDeadline(time.Now().Add(time.Second)) // somebody outside the group may hold the pipe
		<-copied
		read.Close()
		close(p.exited)
	}()
	return p, nil
}

// recordIdentity notes pid, start time and boot. It need not reach the disk:
// what survives the machine is no process. A record that cannot be written is
// made good for by the marker.
func (p *process) recordIdentity() {
	s, err := readStat(p.pid)
	if err != nil {
		return
	}
	boot, err := bootID()
	if err != nil {
		return
	}
	_ = os.WriteFile(p.record, fmt.Appendf(nil, "%d %d %s\n", p.pid, s.Start, boot), 0o600)
}

// wait returns when the leader has ended. Before it is reaped, while its pid
// cannot be anybody else's, the rest of the group is killed.
func (p *process) wait(cmd *exec.Cmd) {
	for {
		err := unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	p.err = cmd.Wait()
	p.reaped = true
	_ = os.Remove(p.record)
}

func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		_ = syscall.Kill(-p.pid, sig) // the only error is that nobody is left
	}
}

// stop asks the whole group to end, and kills it after grace. It returns when
// the leader has ended.
func (p *process) stop(grace time.Duration) {
	p.signal(syscall.SIGTERM)
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-p.exited:
		return
	case <-t.C:
	}
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// exitText says how a leader ended.
func exitText(err error) string {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "it exited with code 0"
	case errors.As(err, &exit) && exit.Exited():
		return "it exited with code " + strconv.Itoa(exit.ExitCode())
	case errors.As(err, &exit):
		return "it ended by " + exit.String()
	}
	return err.Error()
}
