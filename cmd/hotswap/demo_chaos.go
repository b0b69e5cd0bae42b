package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A chaosRun kills a part every second, in turn, until it is stopped.
type chaosRun struct {
	cancel context.CancelFunc
	kills  chan int
}

// startChaos begins to kill, if the demo was asked to.
func (d *demo) startChaos(ctx context.Context) chaosRun {
	ctx, cancel := context.WithCancel(ctx)
	c := chaosRun{cancel: cancel, kills: make(chan int, 1)}
	if !d.chaos {
		c.kills <- 0
		return c
	}
	go func() { c.kills <- d.killUntil(ctx) }()
	return c
}

// stop ends the killing and returns how many were killed.
func (c chaosRun) stop() int {
	c.cancel()
	return <-c.kills
}

// killUntil kills the functions, a node agent and a PostgreSQL backend in turn,
// one each second, with SIGKILL.
func (d *demo) killUntil(ctx context.Context) int {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return n
		case <-tick.C:
		}
		switch n % 3 {
		case 0:
			d.children.kill("functions")
		case 1:
			d.children.kill(d.parts.nodes[n/3%len(d.parts.nodes)].name)
		case 2:
			killBackend(d.parts.cluster.Pid())
		}
	}
}

// killBackend kills one backend of the application role. PostgreSQL then ends
// all others and recovers, as after any crash of a backend.
func killBackend(postmaster int) {
	children, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(postmaster), "task", strconv.Itoa(postmaster), "children"))
	if err != nil {
		return
	}
	for _, text := range strings.Fields(string(children)) {
		title, err := os.ReadFile(filepath.Join("/proc", text, "cmdline"))
		pid, bad := strconv.Atoi(text)
		if err != nil || bad != nil || !strings.Contains(string(title), "postgres: "+appRole) {
			continue
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
		return
	}
}
