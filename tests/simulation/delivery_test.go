package simulation_test

import (
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// history plays what people of a seed commit, half an hour apart, in a world where
// deliveries are disturbed or not, and returns what is live in each slot in the end.
// What people commit either does well or never starts: whether a version that breaks
// later is seen in time depends on when it is looked at.
func history(seed uint64, m mutant, disturbed bool) (map[slotKey]string, *world) {
	w := newWorld(seed, m)
	for _, n := range w.fleet {
		w.mend(n)
	}
	w.settling = !disturbed
	for i := range 6 {
		w.pcg.Seed(seed, uint64(i))
		for _, s := range w.shapes {
			for _, d := range s.deployments {
				w.push(s, d, pick(w, []quality{good, good, good, unfit}), false)
			}
		}
		for end := monthsAfter(seed).Add(time.Duration(i) * 30 * time.Minute); w.now.Before(end) && w.found == nil; {
			if disturbed {
				w.disturb(end)
			} else {
				w.roundUntil(end)
			}
		}
	}
	if w.found == nil {
		w.settle()
	}
	live := map[slotKey]string{}
	for _, at := range w.db.slots.order {
		live[at] = named(w.instanceOf(at.tenant, w.db.slots.rows[at].Live))
	}
	return live, w
}

// monthsAfter is half an hour after the world of a seed begins.
func monthsAfter(seed uint64) time.Time { return newWorld(seed, none).now.Add(30 * time.Minute) }

// disturb lets time pass with lost, doubled, late and reordered messages, workers that
// die or stand still, people who are asked twice, agents that start again and clocks
// that jump: everything that is over before a deadline.
func (w *world) disturb(end time.Time) {
	w.pcg.Seed(uint64(w.now.UnixNano()), 9)
	switch n := w.n(100); {
	case n < 30:
		w.do(drains)
	case n < 45:
		w.do(works)
	case n < 49:
		w.do(kills)
	case n < 60:
		w.do(turns)
	case n < 70:
		w.do(delivers)
	case n < 74:
		w.people()
	case n < 75:
		pick(w, w.fleet).clock = time.Duration(w.n(7200)-3600) * time.Second
	default:
		next := w.ahead()
		if next.After(w.now.Add(heartbeat)) && w.runs() {
			next = w.now.Add(heartbeat)
		}
		if next.After(end) {
			next = end
		}
		w.pass(next)
	}
	w.now = w.now.Add(time.Microsecond)
	w.check.always()
}

func TestDeliveriesDoNotChangeWhatIsLiveInTheEnd(t *testing.T) {
	releases, slots := 0, 0
	for seed := uint64(25); seed <= 36; seed++ { // among them one that found something
		calm, one := history(seed, none, false)
		require.Nil(t, one.found, "seed %d", seed)
		wild, two := history(seed, none, true)
		require.Nil(t, two.found, "seed %d, disturbed", seed)
		require.Equal(t, calm, wild, "seed %d", seed)
		releases, slots = releases+one.releases, slots+len(calm)
	}
	t.Logf("%d releases, %d slots", releases, slots)
}

func TestASmokeTestByTheClockOfItsNodeIsFound(t *testing.T) {
	calm, _ := history(32, wallClock, false)
	wild, w := history(32, wallClock, true)
	require.True(t, w.found != nil || !maps.Equal(calm, wild))
}
