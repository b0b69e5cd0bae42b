package crash_test

import (
	"fmt"
	"os"
	"testing"

	"hotswap.dev/hotswap/tests/crash/wire"
)

// full says that every point and every mutant is run, not a sample: make test-crash.
func full() bool { return os.Getenv("HOTSWAP_CRASH") == "full" }

// Every round trip of worker A with the database is its last one, or the last
// one before it sleeps until worker B has done everything, or loses its answer.
func TestCrashPointsOfTheDatabase(t *testing.T) {
	var usual []wire.Trip
	c := &counter{stride: 601}
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			trips := undisturbed(t, sc)
			from := same(usual, trips)
			if usual == nil {
				usual = trips
			}
			for i := from; i < len(trips); i++ {
				for _, how := range ends() {
					if how.needsWrite() && reads(trips[i]) {
						continue
					}
					c.run(t, fmt.Sprintf("%d of %d %s %s", i+1, len(trips), how, label(trips, i)), func(t *testing.T) {
						tripPoint(t, sc, i+1, how)
					})
				}
			}
		})
	}
	c.atLeast(t, 5000)
}

// undisturbed returns the round trips of a release that nothing happens to. A
// machine that stalls for a second makes the pool ask whether its connection
// lives: two runs that agree had no stall.
func undisturbed(t *testing.T, sc scenario) []wire.Trip {
	t.Helper()
	var trips []wire.Trip
	for range 10 {
		before := trips
		trips = tripPoint(t, sc, 0, diesBefore)
		if answersEarly || len(before) == len(trips) && same(before, trips) == len(trips) {
			return trips
		}
	}
	t.Fatal("no two undisturbed releases take the same round trips")
	return nil
}

// same returns how many round trips a and b have in common before they part.
func same(a, b []wire.Trip) int {
	n := 0
	for n < len(a) && n < len(b) && a[n].Label == b[n].Label {
		n++
	}
	return n
}

// Every HTTP call of a release is lost, or its answer is, or either comes when
// all is done.
func TestCrashPointsOfTheCalls(t *testing.T) {
	c := &counter{stride: 61}
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			labels := callPoint(t, sc, 0, lostBefore)
			for i := range labels {
				for _, how := range faults() {
					c.run(t, fmt.Sprintf("%d of %d %s %s", i+1, len(labels), how, labels[i]), func(t *testing.T) {
						callPoint(t, sc, i+1, how)
					})
				}
			}
		})
	}
	c.atLeast(t, 220)
}

// A counter runs points, or a sample, and counts both. Stride is the step of the
// sample: a prime, so that it meets every end.
type counter struct{ stride, total, ran int }

func (c *counter) run(t *testing.T, name string, point func(t *testing.T)) {
	c.total++
	if !full() && c.total%c.stride != 0 {
		return
	}
	c.ran++
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		point(t)
	})
}

// atLeast reports the count, and refuses one that proves less than it did.
func (c *counter) atLeast(t *testing.T, points int) {
	t.Helper()
	fmt.Printf("%s: %d of %d points\n", t.Name(), c.ran, c.total)
	if c.total < points {
		t.Errorf("there were %d points, there are %d: what became of them?", points, c.total)
	}
}
