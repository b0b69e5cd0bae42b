package promotion

import (
	"fmt"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/target"
)

// A standing is where one unit stands on the way that its order asks for.
type standing int

const (
	pending standing = iota // on its way, or nothing was heard yet
	reached                 // it reported what the order wants, healthy
	broken                  // it reported that it cannot
	silent                  // nothing was heard for a while
	gone                    // the node left the fleet
)

// A seen unit is a unit with its standing and, where it matters, why.
type seen struct {
	unit Unit
	obs  Observed
	at   standing
	why  string
}

// watch judges every unit by its own report. judge looks at a report that
// answers the newest order.
func (d *decider) watch(judge func(Unit, *target.PlaceReport) (standing, string)) []seen {
	var out []seen
	for _, u := range d.State.Units {
		s := seen{unit: u, obs: d.observed(u.Node)}
		report := s.obs.obeyed()
		switch {
		case s.obs.Gone:
			s.at, s.why = gone, "the node left the fleet"
		case report != nil && report.Refused != "" && !d.mends(u, report):
			s.at, s.why = broken, report.Refused
		case report != nil:
			s.at, s.why = judge(u, report)
		}
		// Of a unit that was there once and says nothing since, nobody knows where it stands now.
		if (s.at == pending || s.at == reached) && d.now.Sub(s.lastWord(d.State.Since)) > silence {
			s.at, s.why = silent, "no word since "+s.lastWord(d.State.Since).UTC().Format(time.TimeOnly)
		}
		out = append(out, s)
	}
	return out
}

// mends reports whether all that a unit refuses is the former instance while its
// successor is prepared: what is broken must not keep out what repairs it.
func (d *decider) mends(u Unit, r *target.PlaceReport) bool {
	return d.State.Phase == Preparing && u.Former != nil && r.RefusedFor == u.Former.Digest && r.RefusedFor != d.State.Spec.Instance.Digest
}

// lastWord is when the node was last heard, or since when it was waited for.
func (s seen) lastWord(since time.Time) time.Time {
	if s.obs.Seen.After(since) {
		return s.obs.Seen
	}
	if s.obs.Seen.IsZero() {
		return since
	}
	return s.obs.Seen
}

// observed returns what is known of a unit; a unit that was not read is gone.
func (d *decider) observed(node string) Observed {
	for _, o := range d.ev.Facts.Units {
		if o.Node == node {
			return o
		}
	}
	return Observed{Node: node, Gone: true}
}

// instance judges one instance against what is wanted there.
func instance(got *target.InstanceReport, want *target.Instance) (standing, string) {
	switch {
	case want == nil && got == nil:
		return reached, ""
	case want == nil, got == nil, got.Digest != want.Digest:
		return pending, ""
	case got.Phase == target.Healthy:
		return reached, ""
	case got.Phase == target.Failed:
		return broken, fmt.Sprintf("%s: %s", got.Reason, got.Detail)
	default:
		return pending, string(got.Phase)
	}
}

// prepared judges a unit that was asked to prepare: the new instance is healthy
// in standby, or takes the traffic already.
func (d *decider) prepared(u Unit, r *target.PlaceReport) (standing, string) {
	want := &d.State.Spec.Instance
	if u.Former != nil && u.Former.Digest == want.Digest {
		return instance(r.Active, want)
	}
	return instance(r.Standby, want)
}

// activated judges a unit that was asked to switch.
func (d *decider) activated(_ Unit, r *target.PlaceReport) (standing, string) {
	return instance(r.Active, &d.State.Spec.Instance)
}

// steady judges a unit after the switch: any sign of a crash is a failure.
func (d *decider) steady(u Unit, r *target.PlaceReport) (standing, string) {
	at, why := instance(r.Active, &d.State.Spec.Instance)
	switch {
	case at == reached && r.Active.Restarts > u.Restarts:
		return broken, "it crashed after the switch"
	case at == pending && r.Active != nil && r.Active.Phase == target.Unhealthy:
		return broken, "it became unhealthy after the switch"
	}
	return at, why
}

// restored judges a unit that was asked to go back.
func (d *decider) restored(u Unit, r *target.PlaceReport) (standing, string) {
	return instance(r.Active, u.Former)
}

// running moves a promotion that holds the slot.
func (d *decider) running() {
	switch d.State.Phase {
	case Preparing:
		d.preparing()
	case Activating:
		d.activating()
	case Stabilising:
		d.stabilising()
	}
}

func (d *decider) preparing() {
	all := d.watch(d.prepared)
	late := !d.now.Before(d.deadline())
	bad, quiet := first(all, broken, gone), first(all, silent)
	switch {
	case bad != nil:
		d.withdraw(all, Failed, "promotion.failed", unitSays(*bad))
	case count(all, reached) == len(all):
		for _, s := range all {
			d.order(s.unit.Node, s.obs.Wanted, &d.State.Spec.Instance, s.unit.Former)
		}
		d.become(Running, Activating, "wave.activated", units(len(all))+" prepared; traffic moves to all of them")
	case late && quiet != nil:
		d.withdraw(all, Errored, "promotion.errored", unitSays(*quiet)+" within the deadline; nothing was switched")
	case late:
		d.withdraw(all, Failed, "promotion.failed", "not prepared within the deadline: "+unitSays(*first(all, pending)))
	default:
		d.waitForUnits(all, "prepared")
	}
}

// withdraw ends a promotion before any unit was switched: the standby is taken
// back and what ran goes on, so the slot stays clean.
func (d *decider) withdraw(all []seen, status Status, action, reason string) {
	for _, s := range all { // also of a node that left: it may join again
		d.order(s.unit.Node, s.obs.Wanted, s.unit.Former, nil)
	}
	d.finish(status, false, action, reason)
}

func (d *decider) activating() {
	all := d.watch(d.activated)
	bad := first(all, broken, gone)
	switch {
	case bad != nil:
		d.failed(all, unitSays(*bad))
	case count(all, reached) == len(all):
		d.switched(all)
	case !d.now.Before(d.deadline()):
		d.failed(all, "not switched within the deadline: "+unitSays(*first(all, silent, pending)))
	default:
		d.waitForUnits(all, "switched")
	}
}

// switched follows when every unit serves the new instance.
func (d *decider) switched(all []seen) {
	if intent.Duration(d.State.Spec.Stage.Strategy.HealthyFor) == 0 {
		d.succeed(all, units(len(all))+" switched and healthy")
		return
	}
	d.State.Units = nil
	for _, s := range all {
		s.unit.Restarts = s.obs.Report.Active.Restarts
		d.State.Units = append(d.State.Units, s.unit)
	}
	d.become(Running, Stabilising, "wave.switched", fmt.Sprintf("%s switched; must stay healthy for %s", units(len(all)), d.State.Spec.Stage.Strategy.HealthyFor))
}

func (d *decider) stabilising() {
	all := d.watch(d.steady)
	bad := first(all, broken, gone)
	until := d.State.Since.Add(intent.Duration(d.State.Spec.Stage.Strategy.HealthyFor))
	if !d.now.Before(until) {
		d.unconfirm(all, until)
	}
	switch {
	case bad != nil:
		d.failed(all, unitSays(*bad))
	case !d.now.Before(until) && count(all, reached) == len(all):
		d.succeed(all, fmt.Sprintf("%s switched and healthy for %s", units(len(all)), d.State.Spec.Stage.Strategy.HealthyFor))
	case !d.now.Before(until.Add(intent.Duration(d.State.Spec.Stage.Strategy.Deadline))):
		d.failed(all, "health not confirmed within the deadline: "+unitSays(*worst(all)))
	case d.now.Before(until):
		d.wait(until, "every unit must stay healthy until "+until.UTC().Format(time.TimeOnly), progress(all, "healthy"), "hotswap abort "+d.State.ID)
	default:
		d.waitForUnits(all, "seen healthy after "+until.UTC().Format(time.TimeOnly))
	}
}

// unconfirm takes the standing from every unit that was not seen healthy at or
// after until: no news is not good news.
func (d *decider) unconfirm(all []seen, until time.Time) {
	for i := range all {
		s := &all[i]
		switch {
		case s.at != reached || !s.obs.Seen.Before(until):
		case d.now.Sub(s.obs.Seen) > silence:
			s.at, s.why = silent, "no word since "+s.obs.Seen.UTC().Format(time.TimeOnly)
		default:
			s.at, s.why = pending, "last seen healthy at "+s.obs.Seen.UTC().Format(time.TimeOnly)
		}
	}
}

// succeed ends the promotion well: the former instances are let go.
func (d *decider) succeed(all []seen, reason string) {
	for _, s := range all {
		d.order(s.unit.Node, s.obs.Wanted, &d.State.Spec.Instance, nil)
		d.Live = append(d.Live, Live{Node: s.unit.Node, Instance: &d.State.Spec.Instance})
	}
	d.finish(Succeeded, false, "promotion.succeeded", reason)
}

// failed follows the stage's onFailure once the switch has begun.
func (d *decider) failed(all []seen, reason string) {
	if d.State.Spec.Stage.OnFailure.Action == "fail" {
		d.finish(Failed, true, "promotion.failed", reason+"; the units stay as they are")
		return
	}
	d.rollBack(all, RolledBack, reason)
}

// rollBack orders every unit back to what it ran. It ends as ending.
func (d *decider) rollBack(all []seen, ending Status, reason string) {
	for _, s := range all { // also of a node that left: it may join again
		d.order(s.unit.Node, s.obs.Wanted, s.unit.Former, nil)
	}
	d.State.Ending = ending
	d.become(RollingBack, "", "rollback.started", reason)
}

func (d *decider) rollingBack() {
	all := d.watch(d.restored)
	bad := first(all, broken, gone)
	why := d.State.Reason
	switch {
	case bad != nil:
		d.finish(RollbackFailed, true, "rollback.failed", unitSays(*bad)+"; rolled back because: "+why)
	case count(all, reached) == len(all):
		for _, s := range all {
			d.Live = append(d.Live, Live{Node: s.unit.Node, Instance: s.unit.Former})
		}
		d.finish(d.State.Ending, false, "rollback.finished", units(len(all))+" back on the former version; rolled back because: "+why)
	case !d.now.Before(d.deadline()):
		d.finish(RollbackFailed, true, "rollback.failed", "not back within the deadline: "+unitSays(*worst(all))+"; rolled back because: "+why)
	default:
		d.waitForUnits(all, "back on the former version")
	}
}

// stopped follows a person's wish to stop.
func (d *decider) stopped() {
	reason := "asked by " + d.ev.Actor.Name + ": " + d.ev.Reason
	switch {
	case d.State.Status == Running && d.State.Phase == Preparing:
		d.withdraw(d.watch(d.prepared), Cancelled, "promotion.cancelled", reason)
	case d.State.Status == Running:
		d.rollBack(d.watch(d.activated), Cancelled, reason)
	case d.State.Status == RollingBack:
		d.waitForUnits(d.watch(d.restored), "back on the former version")
	default:
		d.become(Cancelled, "", "promotion.cancelled", reason)
	}
}

// waitForUnits waits until every unit has done what, and names who has not.
func (d *decider) waitForUnits(all []seen, done string) {
	next := d.now.Add(lookAgain)
	if end := d.deadline(); end.After(d.now) && end.Before(next) {
		next = end
	}
	command := "hotswap abort " + d.State.ID
	if s := first(all, silent); s != nil {
		command = fmt.Sprintf("start the agent of node %s, or hotswap node remove %s, or %s", s.unit.Node, s.unit.Node, command)
	}
	d.wait(next, fmt.Sprintf("%d of %s %s", count(all, reached), units(len(all)), done), progress(all, done), command)
}

// progress lists the units that are not there yet, at most five by name.
func progress(all []seen, done string) string {
	var parts []string
	for _, s := range all {
		if s.at == reached {
			continue
		}
		if len(parts) == 5 {
			parts = append(parts, "…")
			break
		}
		parts = append(parts, unitSays(s))
	}
	if len(parts) == 0 {
		return "every unit is " + done
	}
	return strings.Join(parts, "; ")
}

func unitSays(s seen) string {
	why := s.why
	if why == "" {
		why = "has not answered the order yet"
	}
	return s.unit.Node + ": " + why
}

// first returns the first unit with one of the standings, or nil.
func first(all []seen, at ...standing) *seen {
	for i := range all {
		for _, a := range at {
			if all[i].at == a {
				return &all[i]
			}
		}
	}
	return nil
}

// worst returns the unit that explains best why not all is well.
func worst(all []seen) *seen {
	if s := first(all, broken, gone, silent, pending); s != nil {
		return s
	}
	return &all[0]
}

func count(all []seen, at standing) int {
	n := 0
	for _, s := range all {
		if s.at == at {
			n++
		}
	}
	return n
}
