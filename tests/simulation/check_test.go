package simulation_test

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/target"
)

// A checker watches what is written, and looks at everything after each step.
type checker struct {
	w       *world
	step    int
	moved   time.Time             // when there was a transition last
	written map[placeOrder]string // what each position of a place ever ordered, in every history
}

type placeOrder struct {
	placeKey
	at target.Position
}

// accepted is told of every claim that a commit was accepted with: it must be the
// newest of its row.
func (c *checker) accepted(x claim) {
	if r, ok := c.w.db.due.rows[x.dueKey]; !ok || r.fence != x.fence {
		c.w.violates("one claim at a time", "%s %s was committed with fence %d, which is %d", x.kind, x.id, x.fence, r.fence)
	}
}

// decided is told of every transition before it is written.
func (c *checker) decided(s step, d promotion.Decision) {
	k := s.row.key()
	before := c.w.db.promotions.rows[k]
	c.moved = c.w.now
	c.w.say("%s/%s: %s -> %s (%s)", k.tenant, k.id, before.Where(), d.State.Where(), d.State.Reason)
	if before.Status.Final() {
		c.w.violates("I4", "%s was %s and becomes %s", k.id, before.Status, d.State.Status)
	}
	if !promotion.Listed(before.State, d.State) {
		c.w.violates("moves are listed", "%s goes from %s to %s", k.id, before.Where(), d.State.Where())
	}
	folded, err := promotion.Apply(before.State, *d.Transition)
	if err != nil || !same(folded, d.State) {
		c.w.violates("I3", "%s: folding %s gives %+v, not %+v (%v)", k.id, d.Transition.Event.Kind, folded, d.State, err)
	}
	if len(before.Units) > 0 && len(d.State.Units) != len(before.Units) {
		c.w.violates("units are frozen", "%s had %d units and has %d", k.id, len(before.Units), len(d.State.Units))
	}
	if d.State.Token != before.Token {
		c.started(s, d)
	}
	if before.Phase == promotion.Preparing && (d.State.Phase == promotion.Activating || d.State.Phase == promotion.Stabilising) {
		c.prepared(before.State)
	}
	if d.State.Status.Final() {
		c.replays(d.State, append(slices.Clone(c.w.db.transitions[k]), *d.Transition))
	}
}

func (c *checker) replays(s promotion.State, all []promotion.Transition) {
	if err := promotion.CheckReplay(s, all); err != nil {
		c.w.violates("I3", "%v", err)
	}
}

// same compares two states but for what never changes.
func same(a, b promotion.State) bool {
	a.Spec, b.Spec = promotion.Spec{}, promotion.Spec{}
	return len(a.Units) == len(b.Units) && reflect.DeepEqual(a, b)
}

// started is told of every promotion that takes its slot.
func (c *checker) started(s step, d promotion.Decision) {
	p, slot := d.State, c.w.db.slots.rows[s.row.slot()]
	fault := func(invariant, format string, args ...any) {
		c.w.violates(invariant, "%s/%s starts %s", p.Tenant, p.ID, fmt.Sprintf(format, args...))
	}
	if slot.Holder != "" || p.Token != slot.Token+1 {
		fault("I1", "with token %d in a slot of token %d held by %q", p.Token, slot.Token, slot.Holder)
	}
	if slot.Dirty && p.Kind != promotion.Restore {
		fault("I15", "in a dirty slot")
	}
	if p.Kind == promotion.Restore {
		if c.w.db.holds[holdKey{s.row.slot(), p.Spec.Instance.Module.Digest}] != "" && s.facts.Held == "" && s.now.Equal(c.w.now) {
			fault("I7", "although its artifact is held")
		}
		return
	}
	if s.truth.held {
		fault("I7", "although its artifact is held")
	}
	if p.Spec.Concurrency != "queue" && p.Generation < slot.Started {
		fault("I6", "although generation %d was started", slot.Started)
	}
	if !s.truth.open {
		fault("I10", "at %s, outside of its windows %v", s.now.In(berlin), p.Spec.Stage.Gates.Windows)
	}
	if p.Plan != s.truth.plan {
		fault("I2", "with a plan that moved")
	}
	if (p.Spec.Stage.Gates.Approval != "" || p.Kind == promotion.Remove) && !c.approved(s, p.Plan) {
		fault("I2", "and nobody agreed to its plan")
	}
}

// prepared is told of every wave that is prepared: by whatever clock, every standby
// was tested for as long as the stage says.
func (c *checker) prepared(p promotion.State) {
	smoke := p.Spec.Stage.Strategy.Smoke
	if smoke.Path == "" || p.Kind != promotion.Promote {
		return
	}
	for _, u := range p.Units {
		same := u.Former != nil && u.Former.Digest == p.Spec.Instance.Digest
		if u.Skipped || u.Wave != p.Wave || same {
			continue
		}
		if lasted := c.w.node(key{p.Tenant, u.Node}).tested[p.Spec.Instance.Digest]; lasted < intent.Duration(smoke.For) {
			c.w.violates("smoke tests last", "%s goes on, and the standby on %s was tested for %s of %s", p.ID, u.Node, lasted, smoke.For)
		}
	}
}

// approved reports whether a person agreed to the plan, and it has not moved since.
func (c *checker) approved(s step, plan string) bool {
	for _, t := range slices.Backward(c.w.db.transitions[s.row.key()]) {
		switch {
		case t.To.Plan != plan:
			return false
		case t.Event.Kind == promotion.Promoted && t.Event.Actor == ann && t.To.Status == promotion.Gating && t.To.Progress.Approval != nil:
			return true
		}
	}
	return false
}

// created is told of every promotion that begins.
func (c *checker) created(d promotion.Decision) {
	c.w.say("%s/%s begins (%s)", d.State.Tenant, d.State.ID, d.State.Reason)
	if d.State.Version != 1 || d.State.Status != promotion.Gating {
		c.w.violates("moves are listed", "%s begins as %s", d.State.ID, d.State.Where())
	}
}

// ordered is told of every order: it is newer than the one before, and its position
// never ordered anything else.
func (c *checker) ordered(k placeKey, before *wantedRow, o target.Order) {
	if before != nil && !o.Position.Newer(before.order.Position) {
		c.w.violates("I13", "%v is ordered %v after %v", k, o.Position, before.order.Position)
	}
	says := orderSays(o)
	if c.w.story != nil {
		c.w.say("%v is ordered %v: %s", k, o.Position, says)
	}
	at := placeOrder{k, o.Position}
	if was, ok := c.written[at]; ok && was != says {
		c.w.violates("I13", "position %v of %v orders %s, and ordered %s", o.Position, k, says, was)
	}
	c.written[at] = says
}

func orderSays(o target.Order) string {
	digest := func(i *target.Instance) string {
		if i == nil {
			return "nothing"
		}
		return i.Module.Version
	}
	return digest(o.Active) + " beside " + digest(o.Standby)
}

// took is told when a node persisted orders.
func (c *checker) took(n *node) {
	newest := map[target.Place]target.Position{}
	for i, o := range slices.Backward(n.ledger) {
		if next, ok := newest[o.place]; ok && !next.Newer(o.at) {
			c.w.violates("I13", "node %v obeyed %v after %v in %v", n.key, next, o.at, o.place)
		}
		if newest[o.place] = o.at; i < len(n.ledger)-8 {
			return
		}
	}
}

func (c *checker) cleaned(at slotKey) { c.w.say("%v is clean because a person says so", at) }

// always checks what must hold after every step.
func (c *checker) always() {
	db, holders := c.w.db, map[slotKey]string{}
	for _, k := range db.open {
		p := db.promotions.rows[k]
		if !db.due.has(dueKey{k.tenant, promotionDue, k.id}) || p.waiting == nil || p.waiting.What == "" {
			c.w.violates("I5", "%s is %s and nobody will look, or it does not say what for", k.id, p.Where())
		}
		if n := int64(len(db.transitions[k])); n != p.Version || db.told[k] != n {
			c.w.violates("I11", "%s has version %d, %d transitions and %d rows", k.id, p.Version, n, db.told[k])
		}
		if !p.holds() {
			continue
		}
		if other, taken := holders[p.slot()]; taken {
			c.w.violates("I1", "%s and %s run in one slot", other, p.ID)
		}
		holders[p.slot()] = p.ID
	}
	for _, at := range db.slots.order {
		if s := db.slots.rows[at]; s.Holder != holders[at] {
			c.w.violates("I1", "%v is held by %q, and %q runs", at, s.Holder, holders[at])
		}
	}
	for _, k := range c.w.db.releases.order {
		if r := c.w.db.releases.rows[k]; r.state == promotion.ReleaseOpen && !c.w.db.due.has(dueKey{k.tenant, releaseDue, k.id}) {
			c.w.violates("I5", "release %s is open and nobody will look", k.id)
		}
	}
}

// finally checks what must hold when nothing is under way any more.
func (c *checker) finally() {
	for _, k := range c.w.db.promotions.order {
		p := c.w.db.promotions.rows[k]
		if n := int64(len(c.w.db.transitions[k])); n != p.Version || c.w.db.told[k] != n {
			c.w.violates("I11", "%s has version %d, %d transitions and %d rows", k.id, p.Version, n, c.w.db.told[k])
		}
		if !p.Status.Final() {
			c.replays(p.State, c.w.db.transitions[k])
		}
	}
	for _, at := range c.w.db.slots.order {
		if s := c.w.db.slots.rows[at]; !s.Dirty && s.Holder == "" {
			c.settled(at, s)
		}
	}
}

// settled checks that the units of a clean slot run what is live, or that a finding
// says that they do not.
func (c *checker) settled(at slotKey, s promotion.Slot) {
	live := c.w.instanceOf(at.tenant, s.Live)
	env := c.w.db.environments[key{at.tenant, at.environment}].document
	for _, n := range c.w.fleet {
		r, ok := c.w.db.nodes.rows[n.key]
		never := live == nil && c.w.db.wanted[placeKey{at.tenant, n.id, at.environment, at.deployment}] == nil
		if n.tenant != at.tenant || !ok || r.left || !selects(env.Spec.Selector, n.labels) || c.w.said(at, n.id) || never {
			continue
		}
		if why := n.differs(target.Place{Environment: at.environment, Deployment: at.deployment}, live, c.w); why != "" {
			c.w.violates("I14", "%v: node %s %s, live is %s by %q, and no finding says so", at, n.id, why, named(live), s.Live)
		}
	}
}

// differs says in which way a node is not as it is recorded; empty: in none.
func (n *node) differs(at target.Place, live *target.Instance, w *world) string {
	var runs *instance
	for _, p := range n.places {
		if p.Place == at {
			runs = p.serving
		}
	}
	switch {
	case n.off || n.silent:
		return "says nothing"
	case runs == nil && live == nil:
		return ""
	case n.lies && runs != nil:
		return "lies"
	case runs == nil:
		return "runs nothing"
	case live == nil || runs.spec.Digest != live.Digest:
		return "runs " + named(runs.spec)
	case runs.phase(w.now) == target.Unhealthy && w.now.Sub(runs.crashed) < 2*heartbeat: // it is about to be told
	case runs.phase(w.now) != target.Healthy:
		return "is " + string(runs.phase(w.now))
	}
	return ""
}

func named(i *target.Instance) string {
	if i == nil {
		return "nothing"
	}
	return i.Module.Version
}
