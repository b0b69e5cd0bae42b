package simulation_test

import (
	"errors"
	"slices"
	"time"
)

// Errors of pkg/store that callers decide by.
var (
	errLost     = errors.New("somebody else was faster")
	errConflict = errors.New("conflict")
	errNotFound = errors.New("not found")
)

// A claim is a leased due row, as in pkg/store.
type claim struct {
	dueKey
	fence, pokes int64
	attempts     int
}

// lease is how long advance holds a claim, see pkg/engine.
const lease = 5 * time.Second

// claim leases up to n rows that are due, the longest due first.
func (w *world) claim(n int) []claim {
	var ready []dueKey
	for _, k := range w.db.due.order {
		if r := w.db.due.rows[k]; !r.wake.After(w.now) && !r.lease.After(w.now) {
			ready = append(ready, k)
		}
	}
	slices.SortStableFunc(ready, func(a, b dueKey) int { return w.db.due.rows[a].wake.Compare(w.db.due.rows[b].wake) })
	var out []claim
	for _, k := range ready[:min(n, len(ready))] {
		r := w.db.due.rows[k]
		r.lease, r.fence = w.now.Add(lease), r.fence+1
		w.db.due.put(k, r)
		out = append(out, claim{k, r.fence, r.pokes, r.attempts})
		w.twin.claim(out[len(out)-1])
	}
	return out
}

// fenced reports whether the claim is still the newest of its row. In a world
// without fences everything is accepted.
func (w *world) fenced(c claim) bool {
	r, ok := w.db.due.rows[c.dueKey]
	return w.mutant == noFence || w.mutant == lostLease || ok && r.fence == c.fence
}

// rest gives a claim back, see store.Claim.
func (w *world) rest(c claim, wake time.Time) {
	r, ok := w.db.due.rows[c.dueKey]
	if !ok {
		return
	}
	if r.pokes > c.pokes {
		wake = w.now
	}
	r.lease, r.attempts, r.wake = time.Time{}, 0, wake
	w.db.due.put(c.dueKey, r)
}

// Backoff bounds, see pkg/store.
const (
	minBackoff = 200 * time.Millisecond
	maxBackoff = 5 * time.Minute
)

// fail gives a claim back after an error.
func (w *world) fail(c claim, why error) {
	if !w.fenced(c) {
		return
	}
	r, ok := w.db.due.rows[c.dueKey]
	if !ok {
		return
	}
	wait := min(maxBackoff, minBackoff<<min(c.attempts, 12))
	w.failedWith(c, why, wait)
	r.lease, r.attempts, r.wake = time.Time{}, r.attempts+1, w.now.Add((wait/2 + time.Duration(w.n(int(wait/2+1)))).Truncate(time.Microsecond))
	w.db.due.put(c.dueKey, r)
	w.twin.failed(c, r)
}

// poke makes a row due now, and is a hint: a row that is not there is no error.
func (w *world) poke(k dueKey) {
	r, ok := w.db.due.rows[k]
	if !ok {
		return
	}
	r.pokes++
	if w.now.Before(r.wake) {
		r.wake = w.now
	}
	w.db.due.put(k, r)
}

// addDue makes a new row due now.
func (w *world) addDue(k dueKey) {
	if !w.db.due.has(k) {
		w.db.due.put(k, dueRow{wake: w.now})
	}
}

func (s slotKey) due() dueKey { return dueKey{s.tenant, slotDue, s.environment + "/" + s.deployment} }

// pokeSlot pokes everybody who waits for the slot, but for one promotion.
func (w *world) pokeSlot(at slotKey, but string) {
	for _, p := range w.db.openIn(at) {
		if p.ID != but {
			w.poke(dueKey{at.tenant, promotionDue, p.ID})
		}
	}
}

// nextDue is when the next row of these kinds is due; zero: none is.
func (w *world) nextDue(kinds ...kind) time.Time {
	var next time.Time
	for _, k := range w.db.due.order {
		r := w.db.due.rows[k]
		at := r.wake
		if r.lease.After(at) {
			at = r.lease
		}
		if slices.Contains(kinds, k.kind) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// later is the later of two times.
func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
