package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// kills counts what was killed.
type kills struct{ functions, nodes, backends int }

func (k kills) total() int { return k.functions + k.nodes + k.backends }

// each reports whether at least one of each kind was killed.
func (k kills) each() bool { return k.functions > 0 && k.nodes > 0 && k.backends > 0 }

func (k kills) String() string {
	return fmt.Sprintf("the functions %d times, a node agent %d times, a PostgreSQL backend %d times", k.functions, k.nodes, k.backends)
}

// A chaosRun kills a part every second, in turn, until it is stopped.
type chaosRun struct {
	cancel context.CancelFunc
	killed chan kills
}

// startChaos begins to kill, if the demo was asked to.
func (d *demo) startChaos(ctx context.Context) chaosRun {
	ctx, cancel := context.WithCancel(ctx)
	c := chaosRun{cancel: cancel, killed: make(chan kills, 1)}
	if !d.chaos {
		c.killed <- kills{}
		return c
	}
	go func() { c.killed <- d.killUntil(ctx) }()
	return c
}

// stop ends the killing and returns what was killed.
func (c chaosRun) stop() kills {
	c.cancel()
	return <-c.killed
}

// killUntil kills the functions, a node agent and a PostgreSQL backend in turn,
// one each second, with SIGKILL.
func (d *demo) killUntil(ctx context.Context) kills {
	var k kills
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return k
		case <-tick.C:
		}
		switch n % 3 {
		case 0:
			d.children.kill("functions")
			k.functions++
		case 1:
			d.children.kill(d.parts.nodes[n/3%len(d.parts.nodes)].name)
			k.nodes++
		case 2:
			if killBackend(d.parts.cluster.Pid()) {
				k.backends++
			}
		}
	}
}

// killBackend kills one backend of the application role. PostgreSQL then ends
// all others and recovers, as after any crash of a backend. False: there was none.
func killBackend(postmaster int) bool {
	children, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(postmaster), "task", strconv.Itoa(postmaster), "children"))
	if err != nil {
		return false
	}
	for _, text := range strings.Fields(string(children)) {
		title, err := os.ReadFile(filepath.Join("/proc", text, "cmdline"))
		pid, bad := strconv.Atoi(text)
		if err != nil || bad != nil || !strings.HasPrefix(string(title), "postgres:") || !strings.Contains(string(title), ": "+appRole+" ") {
			continue
		}
		return syscall.Kill(pid, syscall.SIGKILL) == nil
	}
	return false
}
