package crash_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// workerDSN names the database of a child process that is a worker and nothing else.
const workerDSN = "HOTSWAP_CRASH_WORKER"

// A storm of real kills: workers are processes, each is killed after a random
// while, and another takes over. It finds less than the points do, but it does
// not depend on what somebody thought of.
func TestAStormOfKills(t *testing.T) {
	seeds := 2
	if full() {
		seeds = 30
	}
	kills := 0
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { kills += storm(t, uint64(seed)) })
	}
	fmt.Printf("%s: %d kills in %d releases\n", t.Name(), kills, seeds)
	require.Greater(t, kills, seeds, "too few kills to prove anything")
}

// storm takes one release through workers that die, and returns how many died.
func storm(t *testing.T, seed uint64) (kills int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*deadline)
	defer cancel()
	random := rand.New(rand.NewPCG(seed, 1))
	var alone []scenario // a worker process hears of no person
	for _, sc := range scenarios() {
		if sc.after == nil {
			alone = append(alone, sc)
		}
	}
	sc := alone[seed%uint64(len(alone))]
	w, b, db := play(ctx, t, sc)
	for {
		life, die := context.WithCancel(ctx)
		base, err := startChild(life, db.DSN("hotswap_app"), w.bare)
		require.NoError(t, err)
		// Lives grow longer, so that the first ones end early and the last one does not.
		killed := time.AfterFunc(time.Duration(1+random.IntN(30*(kills+1)))*time.Millisecond, die)
		err = w.played(life, base)
		killed.Stop()
		die()
		if !errors.Is(err, context.Canceled) || ctx.Err() != nil {
			require.NoError(t, w.end(ctx, b, sc, &findings{}, err))
			return kills
		}
		kills++
		require.NoError(t, w.pass(ctx))
	}
}

// played gives forge and nodes their turns with a worker process that works by
// itself, until the release has ended or the process was killed.
func (w *world) played(ctx context.Context, base string) error {
	for {
		_ = w.push.send(ctx, w.client, base+"/hook")
		for _, g := range w.agents {
			_ = g.ask(ctx, w.client, base, w.newest(context.WithoutCancel(ctx), g))
			_ = g.report(ctx, w.client, base)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if now, err := w.progress(context.WithoutCancel(ctx)); err != nil || now.ended {
			return err
		}
	}
}

// startChild starts this program as a worker, and returns the address of its
// server. The end of ctx is kill -9.
func startChild(ctx context.Context, dsn, bare string) (base string, err error) {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), workerDSN+"="+dsn, "HOTSWAP_CRASH_REPOSITORY="+bare)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	go func() { _ = cmd.Wait() }() // ends with ctx
	if err != nil {
		return "", fmt.Errorf("a worker says nothing: %w", err)
	}
	return strings.TrimSpace(line), nil
}

// child is the life of a worker process: it works until it is killed.
func child(dsn string) error {
	ctx := context.Background()
	k, err := (&world{bare: os.Getenv("HOTSWAP_CRASH_REPOSITORY")}).worker(ctx, "child", dsn)
	if err != nil {
		return err
	}
	fmt.Println(k.server.URL)
	for {
		_, _ = k.engine.Validate(ctx)
		_, _ = k.engine.Advance(ctx)
		_ = k.engine.Backstop(ctx)
		time.Sleep(time.Millisecond) // a tick
	}
}
