package simulation_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/promotion"
)

// Bounds of settling.
const (
	stuckAfter = 5 * 24 * time.Hour // without a transition; the longest wait is over a weekend
	mostRounds = 100_000            // of anything
	quietTime  = 15 * time.Minute   // of looking for drift, when all is done
)

// settle stops the faults, lets people answer, and plays on until nothing is open
// but what waits for a person. Then everything must be as it is recorded.
func (w *world) settle() {
	w.say("the world settles")
	w.pcg.Seed(w.seed, 4)
	for _, k := range w.workers { // who stood still comes back
		for k.tx != nil {
			w.work(k)
		}
		k.claims = nil
	}
	w.settling = true
	for _, m := range w.net {
		w.deliver(m)
	}
	w.net = nil
	w.wake(w.n(2) == 0)
	w.check.moved = w.now
	rounds := 0
	for w.runs() || len(w.unexplained()) > 0 {
		rounds++
		if quiet := w.now.Sub(w.check.moved); quiet > stuckAfter || rounds == mostRounds {
			w.violates("I9", "nothing has moved for %s, in %d rounds: %s", quiet, rounds, strings.Join(w.unexplained(), "; "))
			return
		}
		if w.round(); w.found != nil {
			return
		}
	}
	for end := w.now.Add(quietTime); w.now.Before(end) && w.found == nil; {
		w.round()
	}
	if w.found == nil {
		w.check.finally()
	}
}

// wake brings the nodes back: all of them, or those that are not ill for good.
func (w *world) wake(all bool) {
	for _, n := range w.fleet {
		if n.clock = 0; all {
			w.mend(n)
		}
	}
}

// round lets everybody have a turn at one time, and then time pass until something
// happens.
func (w *world) round() { w.roundUntil(time.Time{}) }

// roundUntil is a round after which time passes to end at most; zero: to whatever
// comes next.
func (w *world) roundUntil(end time.Time) {
	for range 50 {
		if steps := w.drain(w.workers[0]); !w.people() && steps == 0 {
			break
		}
		for _, n := range w.fleet {
			w.turn(n)
		}
	}
	w.pcg.Seed(w.seed, uint64(w.now.UnixNano()))
	if w.check.always(); w.found != nil {
		return
	}
	next := w.ahead()
	if !end.IsZero() && (next.After(end) || next.IsZero()) {
		next = end
	}
	w.pass(next)
}

// people answer what waits for them, and report whether anything did. The hundredth
// question of a promotion is answered by stopping it.
func (w *world) people() (asked bool) {
	for _, k := range slices.Clone(w.db.open) {
		p := w.db.promotions.rows[k]
		what := promotion.EventKind("")
		switch {
		case p.Phase == promotion.Paused && p.Version > 100:
			what = promotion.Stopped
		case p.Phase == promotion.Paused:
			what = pick(w, []promotion.EventKind{promotion.Resumed, promotion.Resumed, promotion.Stopped})
		case p.Status == promotion.Gating && p.Progress.Approval == nil && p.Kind != promotion.Restore && (p.Spec.Stage.Gates.Approval != "" || p.Kind == promotion.Remove):
			what = promotion.Promoted
		case p.Status == promotion.Gating && len(p.Spec.Stage.Gates.Checks) > 0 && len(w.db.checks[k]) == 0:
			err := w.setCheck(k, p.Spec.Stage.Gates.Checks[0], true)
			w.twin.check(k, p.Spec.Stage.Gates.Checks[0], true, err)
			w.refusable(err)
			asked = true
			continue
		default:
			continue
		}
		w.say("ann: %s %s", what, k.id)
		w.refusable(w.asked(k, what, "so that it ends"))
		asked = true
	}
	return asked
}

// runs reports whether a promotion holds a slot.
func (w *world) runs() bool {
	return slices.ContainsFunc(w.db.open, func(k key) bool { return w.db.promotions.rows[k].holds() })
}

// holds reports whether the promotion holds its slot.
func (p *promotionRow) holds() bool {
	return p.Status == promotion.Running || p.Status == promotion.RollingBack
}

// unexplained is what is open and does not wait for a person.
func (w *world) unexplained() (out []string) {
	stands := w.standing()
	for _, k := range w.db.open {
		if !stands[k] {
			out = append(out, w.describe(k))
		}
	}
	for _, k := range w.db.releases.order {
		if r := w.db.releases.rows[k]; r.state == promotion.ReleaseOpen && !w.hasOpen(k) {
			out = append(out, "release "+k.id+" is open and none of its promotions is")
		}
	}
	return out
}

// standing are the open promotions that wait for what only a person does, and those
// that wait for such a one. Promotions in a circle are not among them.
func (w *world) standing() map[key]bool {
	stands := map[key]bool{}
	for again := true; again; {
		again = false
		for _, k := range w.db.open {
			p := w.db.promotions.rows[k]
			if !stands[k] && (w.needsPerson(p) || w.waitsForOne(p, stands)) {
				stands[k], again = true, true
			}
		}
	}
	return stands
}

func (w *world) hasOpen(release key) bool {
	return slices.ContainsFunc(w.db.byRelease[release], func(k key) bool { return w.db.promotions.rows[k].finished.IsZero() })
}

// needsPerson reports whether an open promotion waits for something that only a
// person does: to lift a hold, to clean a slot, to add a node, to look at a failed check.
func (w *world) needsPerson(p *promotionRow) bool {
	env := w.db.environments[key{p.Tenant, p.Environment}].document
	switch {
	case p.Status != promotion.Gating && p.Status != promotion.Queued:
		return false
	case w.db.holds[holdKey{p.slot(), p.Spec.Instance.Module.Digest}] != "":
		return true
	case p.Status == promotion.Gating:
		return slices.ContainsFunc(w.db.checks[p.key()], func(c promotion.CheckFact) bool { return !c.Passed })
	case p.Kind != promotion.Restore && w.db.slots.rows[p.slot()].Dirty:
		return true
	}
	return p.Kind == promotion.Promote && len(w.db.nodesOf(p.Tenant, env.Spec.Selector)) == 0
}

// waitsForOne reports whether somebody who stands goes before p.
func (w *world) waitsForOne(p *promotionRow, stands map[key]bool) bool {
	if p.Status == promotion.Gating {
		return stands[key{p.Tenant, p.Spec.After}]
	}
	return p.Status == promotion.Queued && slices.ContainsFunc(w.db.openIn(p.slot()), func(q *promotionRow) bool {
		return stands[q.key()] && goesFirst(q, p)
	})
}

// goesFirst reports whether q has its turn in the slot before p.
func goesFirst(q, p *promotionRow) bool {
	if p.Kind == promotion.Restore || (p.Spec.Concurrency == "queue") != (q.Spec.Concurrency == "queue") {
		return false
	}
	if p.Spec.Concurrency == "queue" {
		return q.Kind == promotion.Promote && q.Generation < p.Generation
	}
	return q.Status == promotion.Queued && q.Generation > p.Generation
}

func (p *promotionRow) key() key { return key{p.Tenant, p.ID} }

// describe tells where an open promotion stands.
func (w *world) describe(k key) string {
	p := w.db.promotions.rows[k]
	waits := "nothing"
	if p.waiting != nil {
		waits = p.waiting.What + " (" + p.waiting.Evidence + ")"
	}
	return fmt.Sprintf("%s/%s is %s and waits for %s", k.tenant, k.id, p.Where(), waits)
}

// openWork is everything that is due now.
func (w *world) openWork() (out []string) {
	for _, k := range w.db.due.order {
		if r := w.db.due.rows[k]; !r.wake.After(w.now) {
			out = append(out, fmt.Sprintf("%s %s", k.kind, k.id))
		}
	}
	return out
}
