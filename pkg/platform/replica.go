package platform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Bounds of one process.
const (
	stopTime    = 20 * time.Second // from SIGTERM to SIGKILL
	connectTime = 2 * time.Second
	firstPort   = 20000 // of programs that listen by themselves: below those that the kernel gives away
	lastPort    = 32767
)

// A replica is one process of a function. Calls, used and stopping are guarded by its
// function's lock.
type replica struct {
	process     *child
	address     string // host and port
	transport   *http.Transport
	out         *lineWriter
	started     time.Time
	d           deployment // that it was started for
	credentials string     // folder

	calls    int
	used     time.Time
	stopping bool // takes no calls any more
	ending   bool // was told to end
	noted    bool // its end is
}

// A launchSpec says how a process is started.
type launchSpec struct {
	command []string
	socket  bool
	dir     string
	env     []string
	write   time.Duration
	log     func(line string)
	now     func() time.Time
}

// launch starts a process and waits until it answers.
func launch(ctx context.Context, s launchSpec) (*replica, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	cmd := exec.Command(s.command[0], s.command[1:]...)
	cmd.Dir, cmd.Env = filepath.Join(s.dir, "tmp"), s.env
	out := &lineWriter{line: s.log}
	cmd.Stdout, cmd.Stderr = out, out // one writer: os/exec gives both one pipe
	cmd.WaitDelay = time.Second       // a grandchild may keep the pipe open
	address, handed, err := socketFor(s)
	if err != nil {
		return nil, err
	}
	if handed != nil {
		cmd.ExtraFiles = []*os.File{handed}
		defer handed.Close() // the process has its own copy
		cmd.Env = append(cmd.Env, "LISTEN_FDS=1")
	} else {
		_, port, _ := net.SplitHostPort(address)
		cmd.Env = append(cmd.Env, "HOST=127.0.0.1", "PORT="+port)
	}
	whenWeDie := syscall.SIGKILL // a program of a user may not listen to less
	if s.socket {
		whenWeDie = syscall.SIGTERM // ours end their work first
	}
	process, err := startChild(cmd, whenWeDie)
	if err != nil {
		return nil, notRun(err)
	}
	now := s.now()
	r := &replica{process: process, address: address, out: out, started: now, used: now, transport: &http.Transport{
		DialContext:  (&net.Dialer{Timeout: connectTime}).DialContext,
		MaxIdleConns: 256, MaxIdleConnsPerHost: 256, IdleConnTimeout: 90 * time.Second, ResponseHeaderTimeout: s.write,
		DisableCompression: true, // what the function sends is passed on as it is
	}}
	if err := r.wait(ctx, s.socket); err != nil {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTime)
		defer cancel()
		err = errors.Join(err, r.stop(end))
		r.clear()
		return nil, err
	}
	return r, nil
}

// notRun says why a program could not be run, without where it is.
func notRun(err error) error {
	p, of := errors.AsType[*fs.PathError](err)
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("its program is not one for %s/%s", runtime.GOOS, runtime.GOARCH)
	case errors.Is(err, syscall.ENOENT): // the file is there: it was registered
		return errors.New("its program, or what it needs to be loaded (an interpreter, a C library), is not on this machine")
	case of:
		return fmt.Errorf("its program cannot be run: %s", p.Err)
	}
	return err
}

// socketFor returns where a process will listen, and the socket to hand over, if it takes one.
func socketFor(s launchSpec) (string, *os.File, error) {
	if !s.socket {
		address, err := freePort()
		return address, nil, err
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return "", nil, err
	}
	defer l.Close()
	f, err := l.File()
	return l.Addr().String(), f, err
}

// freePort finds a port that nothing listens on. Somebody may take it before the process
// does; then the process does not start, and the next try takes another one.
func freePort() (string, error) {
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+rand.N(lastPort-firstPort)))
		l, err := net.Listen("tcp", address)
		if err == nil {
			return address, l.Close()
		}
	}
	return "", errors.New("no free port was found")
}

// wait returns when the process answers: one of ours with its health, others with anything.
func (r *replica) wait(ctx context.Context, healthy bool) error {
	client := &http.Client{Transport: r.transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var last error
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.address+"/_/health", nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(q)
		if err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 4<<10))
			answer.Body.Close()
			if !healthy || answer.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("its health is %s", answer.Status)
		}
		last = err
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-r.process.done:
			t.Stop()
			return fmt.Errorf("%w: %s", ErrEnded, r.process.exit())
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("it did not answer in time: %w", last)
		}
	}
}

// stop ends the process.
func (r *replica) stop(ctx context.Context) error {
	return r.process.stop(ctx, syscall.SIGTERM, syscall.SIGKILL)
}

// clear ends what a process that has ended leaves: what it started, what it said last, and
// the connections to it.
func (r *replica) clear() {
	_ = syscall.Kill(-r.process.pid, syscall.SIGKILL) // its group: nobody else gets that number while one is in it
	r.out.end()
	r.transport.CloseIdleConnections()
}

// A lineWriter tells what is written line by line.
type lineWriter struct {
	line func(string)
	mu   sync.Mutex
	rest []byte
}

// maxLine is the longest line that is kept whole.
const maxLine = 8 << 10

// Write implements [io.Writer].
func (w *lineWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := append(w.rest, b...)
	for {
		i := bytes.IndexByte(rest, '\n')
		switch {
		case i < 0 && len(rest) < maxLine:
			w.rest = append(w.rest[:0:0], rest...)
			return len(b), nil
		case i < 0 || i > maxLine:
			w.line(string(rest[:maxLine]))
			rest = rest[maxLine:]
		default:
			w.line(string(bytes.TrimRight(rest[:i], "\r")))
			rest = rest[i+1:]
		}
	}
}

// end tells a last line that has no end.
func (w *lineWriter) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) > 0 {
		w.line(string(w.rest))
		w.rest = nil
	}
}
