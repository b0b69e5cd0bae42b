package crash_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/tests/crash/wire"
	"hotswap.dev/hotswap/tests/pgtest"
)

// deadline bounds one point. A point takes well under a second.
const deadline = 30 * time.Second

// lockTimeout is how long a worker waits for a row. It is short so that the
// time that a zombie costs others need not be waited for.
const lockTimeout = "60ms"

// play makes a world for one run of a scenario, with one worker that reaches the
// database directly.
func play(ctx context.Context, t *testing.T, sc scenario) (*world, *worker, *pgtest.DB) {
	t.Helper()
	db := pgtest.New(t)
	w, err := newWorld(ctx, db.AdminDSN(), &delivery{id: "push-2"})
	require.NoError(t, err)
	t.Cleanup(func() { w.close(context.WithoutCancel(ctx)) })
	w.after = sc.after
	if sc.newer {
		w.bare, w.releases = begin.newer, 3
	}
	for _, g := range begin.agents {
		again := g.again()
		again.misdeed = sc.misdeed[g.name]
		w.agents = append(w.agents, again)
	}
	require.NoError(t, w.exec(ctx, fmt.Sprintf("ALTER ROLE hotswap_app IN DATABASE %s SET lock_timeout = '%s'", db.Name, lockTimeout)))
	k, err := w.worker(ctx, "b", db.DSN("hotswap_app"))
	require.NoError(t, err)
	t.Cleanup(k.close)
	return w, k, db
}

// end lets time pass once more, so that whatever was left over is done, and
// returns what does not hold. Err is how the run ended: a release that does not
// end is a finding, too.
func (w *world) end(ctx context.Context, k *worker, sc scenario, f *findings, err error) error {
	if errors.Is(err, errStuck) {
		f.add("every release ends", "%v", err)
	} else if err != nil {
		return err
	}
	now, err := w.progress(ctx)
	if err != nil {
		return err
	}
	if !now.ended {
		f.add("what has ended stays so", "%s", now.text)
	}
	w.always(ctx, k.store, f)
	if err := w.pass(ctx); err != nil {
		return err
	}
	if err := w.round(ctx, k); err != nil {
		return err
	}
	w.finally(ctx, k.store, sc, f)
	if len(f.all) > 0 {
		return f
	}
	return nil
}

// callPoint disturbs the n-th HTTP call and lets the release end. It returns
// the labels of the calls that it took.
func callPoint(t *testing.T, sc scenario, n int, how fault) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	w, b, db := play(ctx, t, sc)
	a, err := w.worker(ctx, "a", db.DSN("hotswap_app"))
	require.NoError(t, err)
	defer a.close()
	w.calls.at, w.calls.fault = n, how
	first := make(chan error, 1)
	go func() { first <- w.drive(ctx, a, w.pass) }()
	select {
	case err = <-first:
	case <-w.calls.hit:
		if how.late() { // the caller waits for its answer; everybody else goes on with B
			a.left.Store(true)
			err = w.drive(ctx, b, w.pass)
			close(w.calls.release)
			err = errors.Join(err, <-first)
		} else {
			err = <-first
		}
	}
	require.True(t, n == 0 || w.calls.was(), "call %d never came: %v", n, err)
	labels := w.calls.seen()
	require.NoError(t, w.end(ctx, b, sc, &findings{}, err))
	return labels
}

// An end is what becomes of worker A at a round trip.
type end int

const (
	diesBefore   end = iota // A dies before the round trip is sent
	diesAfter               // A dies when the server has acted, before it knows
	sleepsBefore            // A stands still before it is sent, until B has done everything
	sleepsAfter             // A stands still before it knows, until B has done everything
	napsBefore              // A stands still before it is sent, until B has gone a little further
	loses                   // A loses the connection when the server has acted, and lives
)

func ends() []end {
	return []end{diesBefore, diesAfter, sleepsBefore, sleepsAfter, napsBefore, loses}
}

func (e end) String() string {
	return [...]string{"dies before", "dies after", "sleeps before", "sleeps after", "naps before", "loses the connection after"}[e]
}

// needsWrite reports whether the end differs from the others only where the
// server has changed something.
func (e end) needsWrite() bool { return e == sleepsAfter || e == loses }

// reads reports whether a round trip changes nothing at the server but the session.
func reads(t wire.Trip) bool {
	acts := regexp.MustCompile(`claim_due|audit_partition|pg_try_advisory|INSERT|UPDATE|DELETE`)
	quiet := regexp.MustCompile(`^(begin|show|prepare|SELECT) ?`)
	return quiet.MatchString(t.Label) && (strings.HasPrefix(t.Label, "prepare") || !acts.MatchString(t.Label))
}

func (e end) deadly() bool { return e == diesBefore || e == diesAfter }

// mode is how the proxy brings the end about. A death is a hold after which
// nothing of A passes any more.
func (e end) mode() wire.Mode {
	return [...]wire.Mode{wire.Hold, wire.HoldAfter, wire.Hold, wire.HoldAfter, wire.Hold, wire.CutAfter}[e]
}

// tripPoint lets A's n-th round trip end so, and the release come to its end.
// It returns the round trips that it took.
func tripPoint(t *testing.T, sc scenario, n int, how end) []wire.Trip {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	w, b, db := play(ctx, t, sc)
	proxy, err := wire.New(db.Socket())
	require.NoError(t, err)
	a, err := w.worker(ctx, "a", fmt.Sprintf("host=%s port=5432 user=hotswap_app dbname=%s sslmode=disable", proxy.Host(), db.Name))
	require.NoError(t, err)
	defer func() { a.die(); proxy.Close(); a.close() }()
	if n > 0 {
		proxy.Arm(n, how.mode())
	}
	f, done := &findings{}, make(chan error, 1)
	go func() { done <- w.drive(a.ctx, a, w.pass) }()
	select {
	case err = <-done: // nothing was held
	case <-proxy.Held():
		err = w.overtake(ctx, a, b, proxy, how, done, f)
	}
	require.True(t, n == 0 || proxy.Fired(), "round trip %d never came: %v", n, err)
	trips := proxy.Trips(0)
	require.NoError(t, w.end(ctx, b, sc, f, err))
	return trips
}

// overtake lets B finish what A was about. A that lives wakes up when B is done,
// or, from a nap, when B has had one round.
func (w *world) overtake(ctx context.Context, a, b *worker, proxy *wire.Proxy, how end, done <-chan error, f *findings) error {
	a.left.Store(true)
	if how.deadly() {
		a.die()
		proxy.Close()
		<-done
	}
	if err := w.pass(ctx); err != nil {
		return err
	}
	if how == napsBefore {
		if err := w.round(ctx, b); err != nil {
			return err
		}
		proxy.Release()
		if err := <-done; err != nil {
			return err
		}
		w.always(ctx, b.store, f)
	}
	err := w.drive(ctx, b, func(ctx context.Context) error { return errors.Join(w.reap(ctx, "a"), w.pass(ctx)) })
	if err != nil || how.deadly() || how == napsBefore {
		return err
	}
	proxy.Release()
	return <-done
}

// label names a round trip by what it asks; one that says little by what came before, too.
func label(trips []wire.Trip, i int) string {
	at := trips[i].Label
	for j := i - 1; j >= 0 && len(at) < 40; j-- {
		at = trips[j].Label[:min(40, len(trips[j].Label))] + "; " + at
	}
	return at
}
