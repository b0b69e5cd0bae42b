package promotion

import (
	"fmt"
	"strings"
)

// withdraw ends a promotion before any unit was switched: the standby is taken
// back and what ran goes on, so the slot stays clean.
func (d *decider) withdraw(status Status, action, reason string) {
	d.orderFormer()
	d.finish(status, false, action, reason)
}

// orderFormer orders every unit that was changed to what it ran before, also
// those whose node left: it may join again.
func (d *decider) orderFormer() {
	for _, u := range d.State.Units {
		if u.Wave <= d.State.Wave {
			d.order(u.Node, d.wanted(u.Node), u.Former, nil)
		}
	}
}

// failed ends what is bad: before the first switch nothing is to be undone;
// after it, the stage's onFailure says what follows.
func (d *decider) failed(reason string) {
	switch {
	case d.State.Progress.Switched == 0:
		d.withdraw(Failed, "promotion.failed", reason)
	case d.State.Spec.Stage.OnFailure.Action == "fail":
		d.finish(Failed, true, "promotion.failed", reason+"; the units stay as they are")
	default:
		d.rollBack(RolledBack, reason)
	}
}

// rollBack orders every unit back to what it ran. It ends as ending.
func (d *decider) rollBack(ending Status, reason string) {
	d.orderFormer()
	d.State.Ending = ending
	d.become(RollingBack, "", "rollback.started", reason)
}

// rollingBack waits until every unit that is there is back. Who left the fleet
// runs nothing of ours; its order waits for its return.
func (d *decider) rollingBack() {
	var all []seen
	left := ""
	for _, s := range d.watch(d.ordered, d.restored) {
		if s.at == gone {
			left += "; " + unitSays(s)
			continue
		}
		all = append(all, s)
	}
	bad := first(all, broken)
	why := left + "; rolled back because: " + d.State.Reason
	switch {
	case bad != nil:
		d.finish(RollbackFailed, true, "rollback.failed", unitSays(*bad)+why)
	case count(all, reached) == len(all):
		for _, s := range all {
			d.Live = append(d.Live, Live{Node: s.unit.Node, Instance: s.unit.Former})
		}
		d.finish(d.State.Ending, false, "rollback.finished", units(len(all))+" back on the former version"+why)
	case !d.now.Before(d.deadline()):
		d.finish(RollbackFailed, true, "rollback.failed", "not back within the deadline: "+unitSays(*worst(all))+why)
	default:
		d.waitForUnits(all, "back on the former version")
	}
}

// pause stops where the promotion is: a person says how to go on.
func (d *decider) pause(reason string) {
	d.State.Progress.Resume = d.State.Phase
	d.become(Running, Paused, "promotion.paused", reason)
}

// paused waits for a person. What was switched is watched all the same: a pause
// must not keep a broken version in front of users.
func (d *decider) paused() {
	if bad := first(d.watch(d.switched, d.steady), broken); bad != nil {
		d.failed(unitSays(*bad) + "; it was paused: " + d.State.Reason)
		return
	}
	commands := []string{"hotswap resume " + d.State.ID, "hotswap abort " + d.State.ID}
	if d.State.Progress.Resume == Stabilising || d.State.Progress.Resume == Analysing {
		commands = append(commands, fmt.Sprintf("hotswap promote %s to go on without a verdict", d.State.ID))
	}
	d.wait(d.now.Add(lookAgain), d.wave()+"a person to say how to go on", d.State.Reason, strings.Join(commands, ", or "))
}

// byPerson is the reason of what a person asked for.
func (d *decider) byPerson() string {
	return "asked by " + d.ev.Actor.Name + ": " + d.ev.Reason
}

// stopped follows a person's wish to stop.
func (d *decider) stopped() {
	reason := d.byPerson()
	switch {
	case d.State.Phase == Recording: // nothing was ordered yet
		d.finish(Cancelled, false, "promotion.cancelled", reason)
	case d.State.Status == Running && d.State.Progress.Switched == 0:
		d.withdraw(Cancelled, "promotion.cancelled", reason)
	case d.State.Status == Running:
		d.rollBack(Cancelled, reason)
	case d.State.Status == RollingBack:
		d.rollingBack()
	default:
		d.become(Cancelled, "", "promotion.cancelled", reason)
	}
}

// promoted follows a person's yes: to the plan that a gate waits with, or to a
// wave that is paused without a verdict.
func (d *decider) promoted() error {
	resume := d.State.Progress.Resume
	switch {
	case d.State.reviewed() && d.State.Status == Gating:
		return fmt.Errorf("%w: promotion %s waits for the reviews that policy %s asks for, not for an operator", ErrNotNow, d.State.ID, d.State.Spec.Stage.Gates.Approval)
	case d.State.Status == Gating && d.needsApproval() && d.State.Progress.Approval == nil && d.State.Kind != Restore:
		if d.moves() {
			d.replan()
			return nil
		}
		d.State.Progress.Approval = &Approval{By: d.ev.Actor, Reason: d.ev.Reason, At: d.now, Plan: d.State.Plan}
		d.become(Gating, "", "promotion.approved", fmt.Sprintf("plan %s, %s", short(d.State.Plan), d.byPerson()))
	case d.State.Phase == Paused && resume == Analysing:
		d.waveDone("on without a verdict, " + d.byPerson())
	case d.State.Phase == Paused && resume == Stabilising && d.State.Wave >= d.State.Progress.Switched:
		d.activateWave("wave.activated", "on without a verdict, "+d.byPerson()+"; ")
	case d.State.Phase == Paused && resume == Stabilising:
		d.stable("on without a verdict, " + d.byPerson())
	default:
		return fmt.Errorf("%w: promotion %s is %s and waits for nobody's yes", ErrNotNow, d.State.ID, d.State.Where())
	}
	return nil
}

// refused follows a person's no.
func (d *decider) refused() error {
	if d.State.Status != Gating && d.State.Status != Queued {
		return fmt.Errorf("%w: promotion %s is %s already; stop it with: hotswap abort %s", ErrNotNow, d.State.ID, d.State.Where(), d.State.ID)
	}
	d.become(Rejected, "", "promotion.rejected", d.byPerson())
	return nil
}

// held follows a person's wish that it waits where it is.
func (d *decider) held() error {
	if d.State.Status != Running || d.State.Phase == Paused || d.State.Phase == Recording {
		return fmt.Errorf("%w: promotion %s is %s; only what is running is paused", ErrNotNow, d.State.ID, d.State.Where())
	}
	d.pause(d.byPerson())
	return nil
}

// resumed goes on where it was paused, with time of its own. Units whose node
// left are skipped: the person has seen them.
func (d *decider) resumed() error {
	if d.State.Phase != Paused {
		return fmt.Errorf("%w: promotion %s is %s, not paused", ErrNotNow, d.State.ID, d.State.Where())
	}
	var left []string
	for _, s := range d.watch(d.ordered, d.activated) {
		if s.at == gone {
			d.skip(s.unit.Node)
			left = append(left, s.unit.Node)
		}
	}
	reason := d.byPerson()
	if len(left) > 0 {
		reason += "; skipped because they left the fleet: " + strings.Join(left, ", ")
	}
	if len(d.watch(d.all, d.activated)) == 0 {
		d.finish(Errored, d.State.Progress.Switched > 0, "promotion.errored", reason+"; no unit is left")
		return nil
	}
	phase := d.State.Progress.Resume
	d.State.Progress.Extended = 0
	d.become(Running, phase, "promotion.resumed", reason)
	return nil
}
