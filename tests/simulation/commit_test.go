package simulation_test

import (
	"fmt"
	"slices"
	"time"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/target"
)

// commit stores all of a decision or nothing, with the checks of pkg/store.
func (w *world) commit(c claim, s step, d promotion.Decision) error {
	k := key{s.row.Tenant, s.row.ID}
	now, ok := w.db.promotions.rows[k]
	if !ok || !w.fenced(c) || now.Version != s.row.Version && w.mutant != noFence {
		return errLost
	}
	if d.Transition == nil {
		w.db.promotions.put(k, &promotionRow{State: now.State, waiting: d.Waiting})
		w.check.accepted(c)
		w.rest(c, d.Wake)
		return nil
	}
	if d.Slot != nil && !w.slotIs(s) {
		return errLost
	}
	for _, l := range d.Load {
		if w.db.changing(k.tenant, s.row.Environment, l.Cluster) >= l.Limit {
			return fmt.Errorf("cluster %s has no room: %w", l.Cluster, errConflict)
		}
	}
	w.check.accepted(c)
	w.check.decided(s, d)
	w.store(k, s, d)
	w.pokes(s, d)
	if d.State.Status.Final() {
		w.db.due.drop(c.dueKey)
	} else {
		w.rest(c, d.Wake)
	}
	if d.Slot != nil && d.Slot.Holder == "" {
		w.poke(s.row.slot().due())
	}
	return nil
}

// slotIs reports whether the slot is as it was read.
func (w *world) slotIs(s step) bool {
	have := w.db.slots.rows[s.row.slot()]
	return w.mutant == noFence || have.Token == s.facts.Slot.Token && have.Holder == s.facts.Slot.Holder
}

// store writes the rows of a decision with a transition.
func (w *world) store(k key, s step, d promotion.Decision) {
	row := &promotionRow{State: d.State, waiting: d.Waiting}
	if d.State.Status.Final() {
		row.finished = s.now
		w.db.end(k, row.slot())
	}
	w.db.promotions.put(k, row)
	w.db.transitions[k] = append(w.db.transitions[k], *d.Transition)
	if d.Slot != nil {
		w.db.slots.put(row.slot(), *d.Slot)
	}
	w.order(k.tenant, s.now, d.Orders)
	w.setLive(k.tenant, row.Place(), d.Live)
	if d.Hold != nil {
		if at := (holdKey{row.slot(), d.Hold.Artifact}); w.db.holds[at] == "" {
			w.db.holds[at] = d.Hold.Reason
		}
	}
	w.tell(d.Rows)
}

// order writes what places should run from now on.
func (w *world) order(tenant string, at time.Time, orders []promotion.UnitOrder) {
	for _, u := range orders {
		k := placeKey{tenant, u.Node, u.Order.Place.Environment, u.Order.Place.Deployment}
		w.check.ordered(k, w.db.wanted[k], u.Order)
		w.db.wanted[k] = &wantedRow{u.Order, at}
	}
}

func (w *world) setLive(tenant string, at target.Place, live []promotion.Live) {
	for _, l := range live {
		w.db.live[placeKey{tenant, l.Node, at.Environment, at.Deployment}] = l.Instance
	}
}

// tell writes audit rows. A row of which there is one already is refused, and with
// it the transaction that it belongs to: that is a defect of whoever wrote it.
func (w *world) tell(rows []audit.Row) {
	if w.mutant == auditOutside && w.n(10) == 0 {
		return
	}
	for _, r := range rows {
		k := key{r.Tenant, r.ID}
		if _, ok := w.db.rows[k]; ok {
			w.violates("I11", "a second audit row %s", r.ID)
		}
		w.db.rows[k] = r.Version
		if r.Promotion != "" {
			w.db.told[key{r.Tenant, r.Promotion}]++
		}
	}
}

// pokes wakes whoever the decision concerns, as pkg/store does.
func (w *world) pokes(s step, d promotion.Decision) {
	p, before := d.State, s.row.Status
	if p.Status.Final() {
		w.poke(dueKey{p.Tenant, releaseDue, p.Release})
	}
	free := d.Slot != nil && d.Slot.Holder == ""
	room := free && s.env != nil && s.env.document.Spec.Limits.PromotionsPerCluster > 0
	left := before == promotion.Queued || before == promotion.Gating && p.Status.Final()
	turn := left && p.Status != promotion.Superseded && p.Status != promotion.Running
	switch {
	case room || p.Kind == promotion.Restore && p.Status.Final():
		w.pokeWaiting(p)
	case free || turn:
		w.pokeSlot(slotOf(p), p.ID)
	}
}

// pokeWaiting pokes everybody who waits in the environment, and the restores that
// wait for this one elsewhere.
func (w *world) pokeWaiting(p promotion.State) {
	for _, k := range w.db.open {
		q := w.db.promotions.rows[k]
		if q.Tenant != p.Tenant || q.ID == p.ID {
			continue
		}
		waits := q.Environment == p.Environment && (q.Status == promotion.Gating || q.Status == promotion.Queued)
		if waits || q.Spec.After == p.ID {
			w.poke(dueKey{q.Tenant, promotionDue, q.ID})
		}
	}
}

// failedWith says with a row that cannot go on why, see store.Claim.
func (w *world) failedWith(c claim, why error, wait time.Duration) {
	waiting := &promotion.Waiting{What: fmt.Sprintf("attempt %d failed; it is tried again", c.attempts+1), Evidence: why.Error(), Since: w.now, Next: w.now.Add(wait)}
	k := key{c.tenant, c.id}
	switch c.kind {
	case releaseDue:
		if r := w.db.releases.rows[k]; r != nil && r.state == promotion.ReleaseOpen {
			n := *r
			n.waiting = waiting
			w.db.releases.put(k, &n)
		}
	case promotionDue:
		if p := w.db.promotions.rows[k]; p != nil && p.finished.IsZero() {
			w.db.promotions.put(k, &promotionRow{State: p.State, waiting: waiting})
		}
	}
}

// create stores the first decision of a promotion.
func (w *world) create(d promotion.Decision, at time.Time) error {
	p := d.State
	k := key{p.Tenant, p.ID}
	if w.db.promotions.has(k) {
		return fmt.Errorf("promotion %s is there already: %w", p.ID, errConflict)
	}
	w.db.promotions.put(k, &promotionRow{State: p, waiting: d.Waiting})
	w.db.begin(k, slotOf(p))
	w.db.bySlot[slotOf(p)] = append(w.db.bySlot[slotOf(p)], k)
	w.db.byRelease[key{p.Tenant, p.Release}] = append(w.db.byRelease[key{p.Tenant, p.Release}], k)
	if !w.db.slots.has(slotOf(p)) {
		w.db.slots.put(slotOf(p), promotion.Slot{})
	}
	w.addDue(dueKey{p.Tenant, promotionDue, p.ID})
	w.addDue(slotOf(p).due())
	w.db.transitions[k] = append(w.db.transitions[k], *d.Transition)
	w.tell(d.Rows)
	w.check.created(d)
	return nil
}

// commitDrift stores what follows from a look at a slot.
func (w *world) commitDrift(c claim, f promotion.DriftFacts, d promotion.DriftDecision, at time.Time) error {
	slot := slotKey{c.tenant, f.Place.Environment, f.Place.Deployment}
	have := w.db.slots.rows[slot]
	if !w.fenced(c) || len(d.Orders) > 0 && (have.Token != f.Slot.Token || have.Holder != "" || have.Live != f.Slot.Live) && w.mutant != noFence {
		return errLost
	}
	w.check.accepted(c)
	w.order(c.tenant, at, d.Orders)
	w.setLive(c.tenant, f.Place, d.Live)
	open := slices.Clone(w.db.findings[slot])
	for _, x := range d.Closed {
		open = slices.DeleteFunc(open, func(y promotion.Finding) bool {
			return y.Node == x.Node && y.Kind == x.Kind && y.Since.Equal(x.Since)
		})
	}
	w.db.findings[slot] = append(open, d.Opened...)
	old := w.now.Add(-time.Hour)
	samples := w.db.samples[slot]
	for len(samples) > 0 && samples[0].At.Before(old) {
		samples = samples[1:]
	}
	w.db.samples[slot] = samples
	w.tell(d.Rows)
	w.rest(c, d.Wake)
	return nil
}
