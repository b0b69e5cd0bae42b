package promotion

import (
	"fmt"
	"time"

	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/target"
)

// running moves a promotion that holds the slot.
func (d *decider) running() {
	switch d.State.Phase {
	case Recording:
		d.recording()
		return
	case Paused:
		d.paused()
		return
	}
	if d.missing() {
		return
	}
	switch d.State.Phase {
	case Preparing:
		d.preparing()
	case Activating:
		d.activating()
	case Stabilising:
		d.stabilising()
	case Analysing:
		d.analysing()
	}
}

// missing looks for units whose node left the fleet. As many as the strategy
// tolerates are skipped; with more, a person must say how to go on.
func (d *decider) missing() bool {
	lost := first(d.watch(d.ordered, d.activated), gone)
	if lost == nil {
		return false
	}
	skipped := 1
	for _, u := range d.State.Units {
		if u.Skipped {
			skipped++
		}
	}
	if skipped > d.State.Spec.Stage.Strategy.Tolerates(len(d.State.Units)) || skipped == len(d.State.Units) {
		d.pause(fmt.Sprintf("%s; more units may not be missing", unitSays(*lost)))
		return true
	}
	d.skip(lost.unit.Node)
	d.become(Running, d.State.Phase, "unit.skipped", unitSays(*lost)+"; it is skipped")
	return true
}

// skip takes a unit out of what is waited for. Its order stays: when the node
// comes back, it is brought to what is live then.
func (d *decider) skip(node string) {
	for i := range d.State.Units {
		if d.State.Units[i].Node == node {
			d.State.Units[i].Skipped = true
		}
	}
}

// prepareWave orders the units of the wave to prepare.
func (d *decider) prepareWave(action, says string) {
	if d.State.want() == nil { // nothing is prepared for nothing
		d.activateWave(action, says)
		return
	}
	n := 0
	for _, u := range d.State.Units {
		if !d.inWave(u) {
			continue
		}
		n++
		o := d.order(u.Node, d.wanted(u.Node), u.Former, d.State.want())
		if path := d.State.Spec.Stage.Strategy.Smoke.Path; path != "" {
			o.Smoke = &target.Smoke{Path: path}
		}
	}
	d.become(Running, Preparing, action, fmt.Sprintf("%s%s%s to prepare", says, d.wave(), units(n)))
}

// wanted is the position of the newest order for a unit: of a candidate while
// the promotion starts, of one of its own units afterwards.
func (d *decider) wanted(node string) target.Position {
	if d.before.Status == Queued {
		for _, c := range d.ev.Facts.Candidates {
			if c.Node == node {
				return c.Wanted
			}
		}
	}
	return d.observed(node).Wanted
}

func (d *decider) preparing() {
	all := d.watch(d.inWave, d.prepared)
	late := !d.now.Before(d.deadline().Add(d.smokeFor()))
	bad, quiet := first(all, broken), first(all, silent)
	switch {
	case d.unsteady():
	case bad != nil:
		d.failed(unitSays(*bad))
	case count(all, reached) == len(all) && d.testsStandby():
		d.become(Running, Stabilising, "wave.prepared", fmt.Sprintf("%s%s prepared; the standby must be stable", d.wave(), units(len(all))))
	case count(all, reached) == len(all):
		d.activateWave("wave.activated", "")
	case late && quiet != nil && d.State.Progress.Switched == 0:
		d.withdraw(Errored, "promotion.errored", unitSays(*quiet)+" within the deadline; nothing was switched")
	case late:
		d.failed("not prepared within the deadline: " + unitSays(*worst(all)))
	default:
		d.waitForUnits(all, "prepared")
	}
}

// testsStandby reports whether the standby must be stable before any traffic moves.
func (d *decider) testsStandby() bool {
	s := d.State.Spec
	return s.Stage.Strategy.Type == intent.BlueGreen && s.Stabilization != nil && d.State.Kind == Promote
}

// unsteady fails the promotion when a unit of an earlier wave does not do well.
func (d *decider) unsteady() bool {
	bad := first(d.watch(d.changed, d.steady), broken)
	if bad != nil {
		d.failed(unitSays(*bad))
	}
	return bad != nil
}

// activateWave moves the traffic of the wave's units, all in one decision.
func (d *decider) activateWave(action, says string) {
	n := 0
	for _, u := range d.State.Units {
		if d.inWave(u) {
			n++
			d.order(u.Node, d.wanted(u.Node), d.State.want(), u.Former)
		}
	}
	d.State.Progress.Switched = d.State.Wave + 1
	reason := fmt.Sprintf("%s prepared; traffic moves to all of them", units(n))
	if d.State.want() == nil {
		reason = units(n) + " to stop"
	}
	d.become(Running, Activating, action, says+d.wave()+reason)
}

func (d *decider) activating() {
	all := d.watch(d.inWave, d.activated)
	bad := first(all, broken)
	switch {
	case d.unsteady():
	case bad != nil:
		d.failed(unitSays(*bad))
	case count(all, reached) == len(all):
		d.waveSwitched(all)
	case !d.now.Before(d.deadline()):
		d.failed("not switched within the deadline: " + unitSays(*first(all, silent, pending)))
	default:
		d.waitForUnits(all, "switched")
	}
}

// waveSwitched follows when every unit of the wave serves the new instance.
func (d *decider) waveSwitched(all []seen) {
	for _, s := range all {
		d.Live = append(d.Live, Live{Node: s.unit.Node, Instance: d.State.want()})
		for i := range d.State.Units {
			if d.State.Units[i].Node == s.unit.Node && s.obs.Report.Active != nil {
				d.State.Units[i].Restarts = s.obs.Report.Active.Restarts
			}
		}
	}
	d.State.Progress.Extended = 0
	healthy := d.State.Spec.Stage.Strategy.HealthyFor
	switch switched := d.wave() + units(len(all)) + " switched"; {
	case d.State.want() == nil:
		d.waveDone(units(len(all)) + " stopped")
	case d.State.Spec.Stabilization != nil:
		d.become(Running, Stabilising, "wave.switched", switched+"; must be stable")
	case intent.Duration(healthy) > 0:
		d.become(Running, Stabilising, "wave.switched", switched+"; must stay healthy for "+healthy)
	case d.compares():
		d.become(Running, Analysing, "wave.switched", switched+"; the analysis begins")
	default:
		d.waveDone(units(len(all)) + " switched and healthy")
	}
}

// compares reports whether a wave is compared before the next begins.
func (d *decider) compares() bool { return d.State.Spec.Analysis != nil && !d.State.Progress.First }

// waveDone goes on to the next wave, or ends well.
func (d *decider) waveDone(reason string) {
	newer := d.ev.Facts.Newest > d.State.Generation
	switch last := d.State.Wave+1 >= d.State.Waves(); {
	case last:
		d.succeed(reason)
	case newer && d.State.Spec.Stage.OnNewer == "abort":
		d.rollBack(Cancelled, fmt.Sprintf("%sgeneration %d is ready and this stage gives way to it", d.wave(), d.ev.Facts.Newest))
	default:
		d.State.Wave++
		d.State.Progress.Extended = 0
		d.prepareWave("wave.started", reason+"; ")
	}
}

// stabilising waits until the switched units are seen healthy and stable; of
// blueGreen, the standby before the switch.
func (d *decider) stabilising() {
	if d.State.Wave >= d.State.Progress.Switched {
		d.testing()
		return
	}
	all := d.watch(d.switched, d.steady)
	if bad := first(all, broken); bad != nil {
		d.failed(unitSays(*bad))
		return
	}
	if d.State.Spec.Stabilization != nil {
		d.stabilisingBySamples(all)
		return
	}
	d.stayingHealthy(all)
}

// stayingHealthy waits for a report of every unit from after the end.
func (d *decider) stayingHealthy(all []seen) {
	strategy := d.State.Spec.Stage.Strategy
	until := d.State.Since.Add(intent.Duration(strategy.HealthyFor))
	if !d.now.Before(until) {
		d.unconfirm(all, until)
	}
	switch {
	case !d.now.Before(until) && count(all, reached) == len(all):
		d.stable(fmt.Sprintf("%s switched and healthy for %s", units(len(all)), strategy.HealthyFor))
	case !d.now.Before(until.Add(intent.Duration(strategy.Deadline))):
		d.failed("health not confirmed within the deadline: " + unitSays(*worst(all)))
	case d.now.Before(until):
		d.wait(until, d.wave()+"every unit must stay healthy until "+until.UTC().Format(time.TimeOnly), progress(all, "healthy"), "hotswap abort "+d.State.ID)
	default:
		d.waitForUnits(all, "seen healthy after "+until.UTC().Format(time.TimeOnly))
	}
}

// stable follows when the switched units did well by themselves.
func (d *decider) stable(reason string) {
	d.State.Progress.Extended = 0
	if d.compares() {
		d.become(Running, Analysing, "wave.stable", d.wave()+reason+"; the analysis begins")
		return
	}
	d.waveDone(reason)
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

// succeed ends the promotion well: the former instances are let go, or kept warm
// for a while.
func (d *decider) succeed(reason string) {
	keep := intent.Duration(d.State.Spec.Stage.Strategy.KeepOldFor)
	for _, u := range d.State.Units {
		if u.Skipped {
			continue
		}
		var old *target.Instance
		if keep > 0 && d.State.Kind == Promote {
			old = u.Former
		}
		o := d.order(u.Node, d.wanted(u.Node), d.State.want(), old)
		if o.Standby != nil {
			o.KeepFor = keep
		}
	}
	d.finish(Succeeded, false, "promotion.succeeded", reason)
}
