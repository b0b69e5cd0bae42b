package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"hotswap.dev/hotswap/pkg/platform"
)

// A childSpec is how one child of the demo is started, again if it dies.
type childSpec struct {
	name string
	args []string
	out  string // file for standard output; empty: the log
}

// children are the supervised processes of the demo. Each is started again when
// it ends by itself or is killed, until stop.
type children struct {
	mu      sync.Mutex
	running map[string]*platform.Process
	order   []string
	stopped bool
	wg      sync.WaitGroup
}

// restartPause keeps a child that cannot start from being started in a tight loop.
const restartPause = 200 * time.Millisecond

// start starts a child and looks after it. Its talk goes to a log file.
func (c *children) start(binary, logs string, spec childSpec) error {
	p, err := launch(binary, logs, spec)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == nil {
		c.running = map[string]*platform.Process{}
	}
	c.running[spec.name] = p
	c.order = append(c.order, spec.name)
	c.wg.Go(func() { c.supervise(binary, logs, spec, p) })
	return nil
}

func launch(binary, logs string, spec childSpec) (*platform.Process, error) {
	if err := os.MkdirAll(logs, 0o700); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.name, err)
	}
	log, err := os.OpenFile(filepath.Join(logs, spec.name+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.name, err)
	}
	defer log.Close()
	cmd := exec.Command(binary, spec.args...) //nolint:noctx // it is stopped in order, see children.stop
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	if spec.out != "" {
		out, err := os.OpenFile(spec.out, os.O_TRUNC|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", spec.name, err)
		}
		defer out.Close()
		cmd.Stdout = out
	}
	p, err := platform.StartProcess(cmd)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.name, err)
	}
	return p, nil
}

// supervise starts the child again whenever it has ended, until stop.
func (c *children) supervise(binary, logs string, spec childSpec, p *platform.Process) {
	for {
		<-p.Done()
		c.mu.Lock()
		if c.stopped || c.running[spec.name] != p {
			c.mu.Unlock()
			return
		}
		next, err := launch(binary, logs, spec)
		if err == nil {
			c.running[spec.name] = next
			p = next
		}
		c.mu.Unlock()
		if err != nil {
			time.Sleep(restartPause)
		}
	}
}

// kill ends a child as an outage would. It is started again.
func (c *children) kill(name string) {
	c.mu.Lock()
	p := c.running[name]
	c.mu.Unlock()
	if p != nil {
		p.Kill()
	}
}

// end stops one child for good, gently, and waits for it.
func (c *children) end(ctx context.Context, name string) error {
	c.mu.Lock()
	p := c.running[name]
	delete(c.running, name)
	c.mu.Unlock()
	if p == nil {
		return nil
	}
	return p.Stop(ctx)
}

// stop ends all children, side by side, and waits for them.
func (c *children) stop(ctx context.Context) error {
	c.mu.Lock()
	c.stopped = true
	all := c.running
	c.running = nil
	c.mu.Unlock()
	errs := make(chan error, len(all))
	for name, p := range all {
		go func() {
			err := p.Stop(ctx)
			if err != nil {
				err = fmt.Errorf("stop %s: %w", name, err)
			}
			errs <- err
		}()
	}
	var err error
	for range all {
		err = errors.Join(err, <-errs)
	}
	c.wg.Wait()
	return err
}
