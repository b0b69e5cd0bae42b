package simulation_test

import (
	"errors"
	"slices"
	"time"

	"hotswap.dev/hotswap/pkg/promotion"
)

// ask lets a person ask for something, anything. What is not possible is refused,
// and nothing else may go wrong. An answer that is lost makes a person ask twice.
func (w *world) ask() {
	wish := pick(w, []func() error{
		w.answer, w.answer, w.answer, w.answer, w.answer, w.answer, w.command, w.backOne, w.backAll, w.holdOne, w.liftOne, w.liftOne,
		w.cleanOne, w.cleanOne, w.again, w.checkOne, w.checkOne,
	})
	seed := uint64(w.rng.Uint32())
	for range 1 + w.n(8)/7 {
		w.pcg.Seed(seed, 3)
		w.now = w.now.Add(time.Microsecond)
		w.refusable(wish())
	}
}

// refusable finds fault with an error that no person should see.
func (w *world) refusable(err error) {
	for _, e := range []error{errNotFound, errConflict, errLost, promotion.ErrFinal, promotion.ErrNotNow, promotion.ErrNoFormer} {
		if errors.Is(err, e) {
			return
		}
	}
	if err != nil {
		w.violates("people get an answer", "%v", err)
	}
}

// openOne picks an open promotion; false: there is none.
func (w *world) openOne() (key, bool) {
	if len(w.db.open) == 0 {
		return key{}, false
	}
	return pick(w, w.db.open), true
}

// answer says yes to what waits for a person, mostly.
func (w *world) answer() error {
	var waits []key
	for _, k := range w.db.open {
		p := w.db.promotions.rows[k]
		if p.Phase == promotion.Paused || p.Status == promotion.Gating {
			waits = append(waits, k)
		}
	}
	if len(waits) == 0 {
		return nil
	}
	k := pick(w, waits)
	what := promotion.Promoted
	switch n := w.n(20); {
	case w.db.promotions.rows[k].Phase == promotion.Paused && n < 14:
		what = promotion.Resumed
	case n == 0:
		what = promotion.Refused
	}
	w.say("ann: %s %s", what, k.id)
	return w.asked(k, what, "so be it")
}

// command gives any promotion any command.
func (w *world) command() error {
	k, ok := w.openOne()
	if !ok {
		return nil
	}
	what := pick(w, []promotion.EventKind{promotion.Held, promotion.Held, promotion.Resumed, promotion.Stopped, promotion.Promoted, promotion.Refused})
	w.say("ann: %s %s", what, k.id)
	return w.asked(k, what, "not like this")
}

// slotOne picks a slot; false: there is none.
func (w *world) slotOne() (slotKey, bool) {
	if len(w.db.slots.order) == 0 {
		return slotKey{}, false
	}
	return pick(w, w.db.slots.order), true
}

func (w *world) backOne() error {
	at, ok := w.slotOne()
	if !ok {
		return nil
	}
	ask := ""
	if f := w.formers(at); len(f) > 0 && w.n(3) == 0 {
		ask = pick(w, f).Release
	}
	w.say("ann: roll back %v to %q", at, ask)
	envs := []string{at.environment}
	err := w.rollBack(at.tenant, at.deployment, envs, ask)
	w.twin.rollBack(at, envs, ask, err)
	return err
}

// backAll rolls back a deployment in all its environments, the last one first.
func (w *world) backAll() error {
	at, ok := w.slotOne()
	if !ok {
		return nil
	}
	var envs []string
	for _, s := range slices.Backward(w.db.slots.order) {
		if s.tenant == at.tenant && s.deployment == at.deployment {
			envs = append(envs, s.environment)
		}
	}
	w.say("ann: roll back %v everywhere", at)
	err := w.rollBack(at.tenant, at.deployment, envs, "")
	w.twin.rollBack(at, envs, "", err)
	return err
}

func (w *world) holdOne() error {
	k, ok := w.openOne()
	if !ok {
		return nil
	}
	p := w.db.promotions.rows[k]
	if p.Spec.Instance.Digest == "" || w.n(2) == 0 {
		return nil
	}
	w.say("ann: hold %s", p.Spec.Instance.Module.Digest)
	at := holdKey{p.slot(), p.Spec.Instance.Module.Digest}
	err := w.setHold(at)
	w.twin.hold(at, true, err)
	return err
}

// liftOne lifts the hold on what waits for it, if anything does.
func (w *world) liftOne() error {
	for _, k := range w.db.open {
		p := w.db.promotions.rows[k]
		at := holdKey{p.slot(), p.Spec.Instance.Module.Digest}
		if w.db.holds[at] != "" {
			w.say("ann: lift %v", at)
			err := w.liftHold(at)
			w.twin.hold(at, false, err)
			return err
		}
	}
	return nil
}

func (w *world) cleanOne() error {
	for _, at := range w.db.slots.order {
		if w.db.slots.rows[at].Dirty {
			w.say("ann: clean %v", at)
			err := w.cleanSlot(at)
			w.twin.clean(at, err)
			return err
		}
	}
	return nil
}

// again asks for another attempt of a stage of any release.
func (w *world) again() error {
	if len(w.db.releases.order) == 0 {
		return nil
	}
	k := pick(w, w.db.releases.order)
	st := pick(w, w.db.releases.rows[k].snapshot.Pipeline.Spec.Stages)
	w.say("ann: retry %s of %s", st.Name, k.id)
	err := w.retry(k, st.Name)
	w.twin.retry(k, st.Name, err)
	return err
}

func (w *world) checkOne() error {
	for _, k := range w.db.open {
		if p := w.db.promotions.rows[k]; len(p.Spec.Stage.Gates.Checks) > 0 && p.Status == promotion.Gating {
			name, passed := p.Spec.Stage.Gates.Checks[0], w.n(4) > 0
			err := w.setCheck(k, name, passed)
			w.twin.check(k, name, passed, err)
			return err
		}
	}
	return nil
}

// ail does something to a node.
func (w *world) ail(n *node) {
	what := w.n(12)
	w.say("node %v ails: %d", n.key, what)
	switch what {
	case 0, 1:
		n.silent = true
	case 2:
		n.off = true
	case 3:
		n.lies = true
	case 4:
		n.broken = true
	case 5, 6:
		w.remove(n)
	case 7, 8:
		w.reinstall(n)
	case 9:
		n.start(w.now)
		w.turn(n)
	default:
		n.clock = time.Duration(w.n(7200)-3600) * time.Second
	}
}

// mend makes a node good again, or lets it join.
func (w *world) mend(n *node) {
	w.say("node %v mends", n.key)
	if n.off {
		n.start(w.now)
	}
	n.nodeFaults = nodeFaults{}
	if r, ok := w.db.nodes.rows[n.key]; !ok || r.left || r.key != n.joined {
		w.join(n)
	}
	w.turn(n)
}

// reinstall lets a node begin from nothing, with a key of its own.
func (w *world) reinstall(n *node) {
	n.install(w.now)
	w.join(n)
	w.turn(n)
}
