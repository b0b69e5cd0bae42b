package promotion

import (
	"errors"
	"fmt"
	"time"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/target"
)

// Errors of an event that does not fit the state. Nothing may be stored then.
var (
	ErrFinal   = errors.New("promotion is final")
	ErrUnknown = errors.New("unknown event")
)

// System is the actor of what HotSwap does because its rules say so.
var System = audit.Actor{Kind: audit.System, Name: "advance"}

// Times after which an open promotion is looked at again when nothing wakes it.
// They are backstops: reports, freed slots and people wake it at once.
const (
	lookAgain = 30 * time.Second
	// silence is how long a unit may say nothing before its silence is what is
	// waited for. Agents report at least every few seconds.
	silence = 20 * time.Second
)

// Decide returns what follows for s from ev at time now. A decision without
// Transition changes nothing but what is waited for and until when.
func Decide(s State, ev Event, now time.Time) (Decision, error) {
	if s.Status.Final() && s.Version > 0 {
		return Decision{}, fmt.Errorf("decide %s: %w: %s", s.ID, ErrFinal, s.Status)
	}
	ev.Version = EventVersion
	d := &decider{before: s, Decision: Decision{State: s}, ev: ev, now: now}
	switch {
	case ev.Kind == Created && s.Version == 0:
		d.created()
	case ev.Kind == Looked && s.Version > 0:
		d.looked()
	case ev.Kind == Stopped && s.Version > 0:
		d.stopped()
	default:
		return Decision{}, fmt.Errorf("decide %s at version %d: %w %q", s.ID, s.Version, ErrUnknown, ev.Kind)
	}
	return d.done(), nil
}

// A decider collects one decision. It is a value in the making: nothing of it
// is shared with the arguments of [Decide] that the caller could see change.
type decider struct {
	Decision
	before State
	ev     Event
	now    time.Time
	moved  bool
}

// done closes the decision: the transition with its outcome, or none.
func (d *decider) done() Decision {
	if !d.moved {
		d.State = d.before
		return d.Decision
	}
	d.Transition = &Transition{Promotion: d.before.ID, From: d.before.Version, At: d.now, Event: d.ev, To: outcome(d.State)}
	if d.State.Status.Final() {
		d.Waiting, d.Wake = nil, time.Time{}
	} else if d.Wake.IsZero() {
		d.wait(d.now, "the next step", "", "")
	}
	return d.Decision
}

// become moves the promotion and says so in the audit trail.
func (d *decider) become(status Status, phase Phase, action, reason string) {
	d.moved = true
	d.State.Version = d.before.Version + 1
	if d.State.Status != status || d.State.Phase != phase {
		d.State.Since = d.now
	}
	d.State.Status, d.State.Phase, d.State.Reason = status, phase, reason
	actor := d.ev.Actor
	if actor.Name == "" {
		actor = System
	}
	d.Rows = append(d.Rows, audit.Row{
		ID:     fmt.Sprintf("%s/%d", d.State.ID, d.State.Version),
		Tenant: d.State.Tenant, At: d.now, Actor: actor, Action: action,
		Subject: "promotion " + d.State.ID, Reason: reason,
		Promotion: d.State.ID, Version: d.State.Version,
		Attributes: map[string]string{
			"deployment": d.State.Deployment, "environment": d.State.Environment, "release": d.State.Release,
			"module": d.State.Spec.Instance.Module.Name, "version": d.State.Spec.Instance.Module.Version,
			"state": string(status), "phase": string(phase),
		},
	})
}

// wait says what an unchanged promotion waits for and when to look again.
func (d *decider) wait(next time.Time, what, evidence, command string) {
	d.Wake = next
	d.Waiting = &Waiting{What: what, Since: d.State.Since, Evidence: evidence, Next: next, Command: command}
}

func (d *decider) created() {
	d.State.Plan = d.ev.Facts.Plan
	d.become(Gating, "", "promotion.created", fmt.Sprintf("release %s came to stage %s", d.State.Release, d.State.Spec.Stage.Name))
}

func (d *decider) looked() {
	switch d.State.Status {
	case Gating:
		d.gating()
	case Queued:
		d.queued()
	case Running:
		d.running()
	case RollingBack:
		d.rollingBack()
	}
}

// gating: the stage has no gate of its own in this version, so what remains is
// whether a newer release has passed this one by.
func (d *decider) gating() {
	if d.overtaken() {
		return
	}
	d.State.Plan = d.ev.Facts.Plan
	d.become(Queued, "", "promotion.queued", "the stage has no gate")
}

// overtaken ends a promotion whose slot was started by a newer release.
func (d *decider) overtaken() bool {
	started := d.ev.Facts.Slot.Started
	if started <= d.State.Generation {
		return false
	}
	d.become(Superseded, "", "promotion.superseded", fmt.Sprintf("generation %d was started in %s", started, d.State.Environment))
	return true
}

func (d *decider) queued() {
	slot, again := d.ev.Facts.Slot, d.now.Add(lookAgain)
	switch {
	case d.overtaken():
	case slot.Holder != "":
		d.wait(again, "the slot is held by promotion "+slot.Holder, "", "hotswap abort "+slot.Holder)
	case slot.Dirty:
		d.wait(again, "the slot is dirty: units may run different versions", "an earlier promotion ended without knowing what every unit runs",
			"hotswap slot clean "+d.State.Environment+"/"+d.State.Deployment)
	case d.ev.Facts.Newest > d.State.Generation:
		d.wait(again, fmt.Sprintf("generation %d goes first", d.ev.Facts.Newest), "", "")
	case d.ev.Facts.Plan != d.State.Plan:
		d.State.Plan = d.ev.Facts.Plan
		d.become(Gating, "", "promotion.replanned", "the plan moved: the environment was changed")
	case len(d.ev.Facts.Candidates) == 0:
		d.wait(again, "no node matches the selector of environment "+d.State.Environment, "", "hotswap join-token create NODE.token --label KEY=VALUE, and hotswap node with it")
	default:
		d.start()
	}
}

// start takes the slot and orders every unit to prepare.
func (d *decider) start() {
	slot := d.ev.Facts.Slot
	slot.Holder, slot.Token, slot.Started = d.State.ID, slot.Token+1, d.State.Generation
	d.Slot = &slot
	d.State.Token = slot.Token
	d.State.Units = nil
	for _, c := range d.ev.Facts.Candidates {
		d.State.Units = append(d.State.Units, Unit{Node: c.Node, Former: c.Former})
		d.order(c.Node, c.Wanted, c.Former, &d.State.Spec.Instance)
	}
	d.become(Running, Preparing, "promotion.started", fmt.Sprintf("the slot is free; %s to prepare", units(len(d.State.Units))))
}

// order writes the next order for the place on one node.
func (d *decider) order(node string, wanted target.Position, active, standby *target.Instance) {
	if active != nil && standby != nil && active.Digest == standby.Digest {
		standby = nil // it runs already: nothing to keep beside it
	}
	d.Orders = append(d.Orders, UnitOrder{Node: node, Order: target.Order{
		Place:    d.State.Place(),
		Position: target.Position{Epoch: d.ev.Facts.Epoch, Token: d.State.Token, Generation: wanted.Generation + 1},
		Active:   active, Standby: standby,
	}})
}

// finish ends the promotion and frees the slot, dirty when what the units run
// cannot be told or is mixed.
func (d *decider) finish(status Status, dirty bool, action, reason string) {
	slot := d.ev.Facts.Slot
	slot.Holder = ""
	slot.Dirty = slot.Dirty || dirty
	d.Slot = &slot
	d.become(status, "", action, reason)
}

// deadline returns when the present phase has used up its time.
func (d *decider) deadline() time.Time {
	return d.State.Since.Add(intent.Duration(d.State.Spec.Stage.Strategy.Deadline))
}

// units counts units in words.
func units(n int) string {
	if n == 1 {
		return "1 unit"
	}
	return fmt.Sprintf("%d units", n)
}
