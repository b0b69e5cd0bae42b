package simulation_test

import (
	"errors"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/promotion"
)

// A worker is a process of the engine. Between any two of claim, read and commit it
// may die or stand still.
type worker struct {
	claims []claim
	tx     *transaction // of the first claim; nil: nothing was read yet
}

// A transaction was read and decided, and is to be committed.
type transaction struct {
	at     time.Time // when it read
	commit func() error
}

// idle is how long a transaction may stand still; the database ends it then.
const idle = 15 * time.Second

// work takes a worker one step: claim, or read, or commit. It reports whether there
// was anything to do.
func (w *world) work(k *worker) bool {
	switch {
	case len(k.claims) == 0:
		k.claims = w.claim(3)
		return len(k.claims) > 0
	case k.tx == nil:
		tx, err := w.read(k.claims[0])
		if err != nil {
			w.ended(k, err)
			return true
		}
		k.tx = &tx
		if w.twin == nil { // beside another database what is read is committed at once: there are no facts in between
			return true
		}
		err = w.finish(k.tx)
		w.twin.step(k.claims[0], err)
		w.ended(k, err)
	default:
		w.ended(k, w.finish(k.tx))
	}
	return true
}

// finish commits a transaction, if the database has not ended it.
func (w *world) finish(tx *transaction) error {
	if w.now.Sub(tx.at) > idle {
		return errUnknown
	}
	return tx.commit()
}

// ended is what the engine does when a step has ended.
func (w *world) ended(k *worker, err error) {
	c := k.claims[0]
	k.claims, k.tx = k.claims[1:], nil
	switch {
	case err == nil, errors.Is(err, errLost):
	default:
		if !errors.Is(err, errConflict) && !expected(err) {
			w.violates("no step fails", "%s %s: %v", c.kind, c.id, err)
		}
		w.fail(c, err)
	}
}

// expected reports whether an error is one that the world brings about.
func expected(err error) bool { return errors.Is(err, errUnknown) }

// errUnknown is an answer that was lost: what was committed, is.
var errUnknown = errors.New("the connection was lost")

// read reads what a claim is about and decides.
func (w *world) read(c claim) (transaction, error) {
	k := key{c.tenant, c.id}
	tx := transaction{at: w.now}
	switch c.kind {
	case promotionDue:
		return w.readPromotion(c, k)
	case releaseDue:
		s, err := w.loadRelease(k)
		if err != nil {
			return tx, err
		}
		if s.row.state != promotion.ReleaseOpen {
			tx.commit = func() error { return w.retire(c) }
			return tx, nil
		}
		res, err := w.decideRelease(c.tenant, s)
		tx.commit = func() error { return w.commitRelease(c, s, res) }
		return tx, err
	default:
		f, at := w.loadDrift(c), w.now
		d := promotion.Drift(f, at)
		tx.commit = func() error { return w.commitDrift(c, f, d, at) }
		return tx, nil
	}
}

func (w *world) readPromotion(c claim, k key) (transaction, error) {
	tx := transaction{at: w.now}
	s, err := w.loadStep(k)
	if err != nil {
		return tx, err
	}
	if s.row.Status.Final() && w.mutant != noFence { // its due row outlived it
		tx.commit = func() error { return w.retire(c) }
		return tx, nil
	}
	if s.row.Status.Final() {
		return tx, errLost
	}
	d, err := promotion.Decide(s.row.State, promotion.Event{Kind: promotion.Looked, Actor: promotion.System, Facts: s.facts}, s.now)
	if err != nil {
		return tx, err
	}
	tx.commit = func() error { return w.commit(c, s, d) }
	return tx, nil
}

func (w *world) retire(c claim) error {
	if !w.fenced(c) {
		return errLost
	}
	w.check.accepted(c)
	w.db.due.drop(c.dueKey)
	return nil
}

// kill ends a worker: before its commit, after it, or after it with an answer that
// was lost, so that it gives back as failed what was done.
func (w *world) kill(k *worker) {
	if k.tx == nil || w.n(3) == 0 {
		k.claims, k.tx = nil, nil
		return
	}
	err := w.finish(k.tx)
	if w.n(2) == 0 {
		k.claims, k.tx = nil, nil
		return
	}
	if err == nil {
		err = errUnknown
	}
	w.ended(k, err)
}

// endless is more steps than any work at one time takes: a slot in which n wait costs
// up to n² looks.
const endless = 20_000

// drain lets a worker work until nothing is due.
func (w *world) drain(k *worker) (steps int) {
	for w.work(k) {
		if steps++; steps == endless {
			w.violates("I9", "work at one time does not end: %s", strings.Join(w.openWork(), "; "))
			return steps
		}
	}
	return steps
}
