package promotion

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/target"
)

// Errors of an event that does not fit the state. Nothing may be stored then.
var (
	ErrFinal   = errors.New("promotion is final")
	ErrUnknown = errors.New("unknown event")
	// ErrNotNow reports a wish of a person that the state does not allow.
	ErrNotNow = errors.New("not possible now")
)

// System is the actor of what HotSwap does because its rules say so.
var System = audit.Actor{Kind: audit.System, Name: "advance"}

// Times after which an open promotion is looked at again when nothing wakes it.
// They are backstops: reports, freed slots and people wake it at once.
const (
	lookAgain = 30 * time.Second // while units are at work
	lookIdle  = 15 * time.Minute // while nothing runs
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
	s.Units = slices.Clone(s.Units)
	d := &decider{before: s, Decision: Decision{State: s}, ev: ev, now: now}
	d.State.Units = slices.Clone(s.Units)
	var err error
	switch {
	case ev.Kind == Created && s.Version == 0:
		d.created()
	case s.Version == 0:
		err = fmt.Errorf("%w %q", ErrUnknown, ev.Kind)
	case ev.Kind == Looked:
		d.looked()
	case ev.Kind == Stopped:
		d.stopped()
	case ev.Kind == Promoted:
		err = d.promoted()
	case ev.Kind == Refused:
		err = d.refused()
	case ev.Kind == Held:
		err = d.held()
	case ev.Kind == Resumed:
		err = d.resumed()
	default:
		err = fmt.Errorf("%w %q", ErrUnknown, ev.Kind)
	}
	if err != nil {
		return Decision{}, fmt.Errorf("decide %s at version %d: %w", s.ID, s.Version, err)
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
	if !d.State.reviewed() || d.State.Status != Gating && d.State.Status != Queued {
		d.Ask = false
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
	if d.before.Status != status || d.before.Phase != phase || d.before.Wave != d.State.Wave {
		d.State.Since = d.now
	}
	d.State.Status, d.State.Phase, d.State.Reason = status, phase, reason
	if phase != Paused {
		d.State.Progress.Resume = ""
	}
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
	d.State.Plan, d.State.Progress.Parts = d.ev.Facts.Plan, d.ev.Facts.Parts
	d.State.Progress.Asked, d.State.Progress.Planned = d.now, d.now
	reason := fmt.Sprintf("release %s came to stage %s", d.State.Release, d.State.Spec.Stage.Name)
	if d.ev.Reason != "" {
		reason = d.ev.Reason
	}
	d.become(Gating, "", "promotion.created", reason)
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

// order writes the next order for the place on one node.
func (d *decider) order(node string, wanted target.Position, active, standby *target.Instance) *target.Order {
	if active != nil && standby != nil && active.Digest == standby.Digest {
		standby = nil // it runs already: nothing to keep beside it
	}
	d.Orders = append(d.Orders, UnitOrder{Node: node, Order: target.Order{
		Place:    d.State.Place(),
		Position: target.Position{Epoch: d.ev.Facts.Epoch, Token: d.State.Token, Generation: wanted.Generation + 1},
		Active:   active, Standby: standby,
	}})
	return &d.Orders[len(d.Orders)-1].Order
}

// finish ends the promotion and frees the slot, dirty when what the units run
// cannot be told or is mixed.
func (d *decider) finish(status Status, dirty bool, action, reason string) {
	d.free()
	d.Slot.Dirty = d.Slot.Dirty || dirty
	if status == Succeeded {
		d.Slot.Dirty, d.Slot.Live = false, d.State.ID
	}
	d.become(status, "", action, reason)
}

// free gives back the slot.
func (d *decider) free() {
	slot := d.ev.Facts.Slot
	if d.Slot != nil { // it was taken in this very decision
		slot = *d.Slot
	}
	slot.Holder = ""
	d.Slot = &slot
}

// clusters returns the clusters that the promotion's units are in, each once.
func (d *decider) clusters() []string {
	var out []string
	for _, u := range d.State.Units {
		out = append(out, u.Cluster)
	}
	slices.Sort(out)
	return slices.Compact(out)
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
