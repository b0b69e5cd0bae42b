package promotion

import (
	"fmt"
	"time"

	"hotswap.dev/hotswap/pkg/analysis"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/target"
)

// smokeFor is how long every standby must pass its smoke test.
func (d *decider) smokeFor() time.Duration {
	return intent.Duration(d.State.Spec.Stage.Strategy.Smoke.For)
}

// smoked judges a healthy standby by its smoke test: one failure is a failure,
// and no test is no success.
func (d *decider) smoked(r *target.InstanceReport) (standing, string) {
	smoke := d.State.Spec.Stage.Strategy.Smoke
	switch {
	case smoke.Path == "" || d.State.Kind != Promote:
		return reached, ""
	case r.Smoke == nil || r.Smoke.Path != smoke.Path || r.Smoke.Passed+r.Smoke.Failed == 0:
		return pending, "healthy, not smoke-tested yet"
	case r.Smoke.Failed > 0:
		return broken, fmt.Sprintf("smoke test GET %s failed: %s", smoke.Path, r.Smoke.Detail)
	case r.Smoke.Last.Sub(r.Smoke.Since) < d.smokeFor():
		return pending, fmt.Sprintf("smoke test passed for %s of %s", r.Smoke.Last.Sub(r.Smoke.Since).Round(time.Second), smoke.For)
	}
	return reached, ""
}

// testing waits until the standby of every unit is stable, before any traffic moves.
func (d *decider) testing() {
	all := d.watch(d.inWave, d.prepared)
	bad := first(all, broken)
	switch {
	case bad != nil:
		d.failed(unitSays(*bad))
	case d.verdict() == analysis.Healthy && count(all, reached) == len(all):
		d.activateWave("wave.activated", "")
	default:
		d.undecided(all, d.State.Spec.Stabilization, func(string) { d.activateWave("wave.activated", "") })
	}
}

func (d *decider) stabilisingBySamples(all []seen) {
	if d.verdict() == analysis.Healthy && count(all, reached) == len(all) {
		d.stable(units(len(all)) + " stable: " + d.evidence())
		return
	}
	d.undecided(all, d.State.Spec.Stabilization, d.stable)
}

// analysing compares the switched units with the others.
func (d *decider) analysing() {
	all := d.watch(d.switched, d.steady)
	bad := first(all, broken)
	switch {
	case bad != nil:
		d.failed(unitSays(*bad))
	case d.verdict() == analysis.Harmful:
		d.harmful()
	case d.verdict() == analysis.Healthy && count(all, reached) == len(all):
		d.waveDone(d.wave() + "the analysis found no harm: " + d.evidence())
	default:
		d.undecided(all, d.State.Spec.Analysis, d.waveDone)
	}
}

// verdict is what the samples say; without any it is insufficient, never a pass.
func (d *decider) verdict() analysis.Verdict {
	if d.ev.Facts.Verdict == nil {
		return analysis.Insufficient
	}
	return d.ev.Facts.Verdict.Verdict
}

func (d *decider) evidence() string {
	if d.ev.Facts.Verdict == nil {
		return "no sample was seen"
	}
	return d.ev.Facts.Verdict.Reason
}

// harmful takes the release back, and holds its artifact where the stage says so.
func (d *decider) harmful() {
	reason := d.wave() + d.evidence()
	d.State.Progress.Harmful = true
	if d.State.Spec.Stage.OnFailure.Hold {
		d.Hold = &Hold{Artifact: d.State.Spec.Instance.Module.Digest, Reason: reason}
		reason += "; the artifact is held"
	}
	d.failed(reason)
}

// undecided waits for a verdict, and follows the policy when there is none in
// the maximum time. pass is what a pass would lead to.
func (d *decider) undecided(all []seen, w *Watch, pass func(reason string)) {
	end := d.State.Since.Add(w.Maximum * time.Duration(1+d.State.Progress.Extended))
	if d.now.Before(end) {
		next := d.now.Add(w.Interval)
		if end.Before(next) {
			next = end
		}
		d.wait(next, fmt.Sprintf("%sa verdict on %s, at the latest at %s", d.wave(), units(len(all)), end.UTC().Format(time.TimeOnly)),
			d.evidence()+unlessWell(all), fmt.Sprintf("hotswap abort %s, or hotswap pause %s", d.State.ID, d.State.ID))
		return
	}
	reason := fmt.Sprintf("%sno verdict in %s: %s", d.wave(), w.Maximum*time.Duration(1+d.State.Progress.Extended), d.evidence()+unlessWell(all))
	switch {
	case w.Insufficient == "promote":
		pass(reason + "; the stage goes on without one")
	case w.Insufficient == "rollback":
		d.failed(reason)
	case w.Insufficient == "extend" && d.State.Progress.Extended == 0:
		d.State.Progress.Extended++
		d.become(Running, d.State.Phase, "wave.extended", reason+"; it gets as long again")
	default:
		d.pause(reason)
	}
}

// unlessWell names the units that are not well, if there are any.
func unlessWell(all []seen) string {
	if count(all, reached) == len(all) {
		return ""
	}
	return "; " + progress(all, "well")
}

// asksVerdict returns which units s asks the samples about, whether it compares
// them (an analysis) or looks at them alone, and false where no verdict is asked for.
func (s State) asksVerdict() (changed []string, compare, ok bool) {
	testing := s.Phase == Stabilising && s.Wave >= s.Progress.Switched
	for _, u := range s.Units {
		if !u.Skipped && (u.Wave < s.Progress.Switched || testing && u.Wave == s.Wave) {
			changed = append(changed, u.Node)
		}
	}
	switch {
	case s.Status != Running:
		return nil, false, false
	case s.Phase == Stabilising:
		return changed, false, s.Spec.Stabilization != nil
	case s.Phase == Analysing:
		return changed, true, s.Spec.Analysis != nil
	}
	return nil, false, false
}

// Verdict judges the samples of s's units for the phase that s is in: nil where
// it asks for none. Spec is that of the analysis that the stage names for the
// phase; extra are the series that were read elsewhere.
func Verdict(s State, spec analysis.Spec, samples []analysis.Sample, extra []analysis.MetricSeries, now time.Time) *analysis.Result {
	changed, compare, ok := s.asksVerdict()
	if !ok {
		return nil
	}
	var r analysis.Result
	if compare {
		r = analysis.Compare(spec, s.Arms(), s.Spec.Instance.Digest, s.Wave, s.Waves(), samples, extra, s.Since, now)
	} else {
		r = analysis.Stabilise(spec, changed, s.Spec.Instance.Digest, samples, s.Since, now)
	}
	return &r
}

// Arms are the units of s that run the release, and those that are still to be changed.
func (s State) Arms() analysis.Arms {
	var a analysis.Arms
	for _, u := range s.Units {
		switch {
		case u.Skipped:
		case u.Wave < s.Progress.Switched:
			a.Changed = append(a.Changed, u.Node)
		default:
			a.Others = append(a.Others, u.Node)
		}
	}
	return a
}

// AnalysisOf returns the name of the analysis that s's phase asks for a verdict;
// empty: none.
func (s State) AnalysisOf() string {
	_, compare, ok := s.asksVerdict()
	switch {
	case !ok:
		return ""
	case compare:
		return s.Spec.Stage.Strategy.Analysis
	default:
		return s.Spec.Stage.Strategy.Stabilization
	}
}
