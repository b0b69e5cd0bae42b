package promotion

import (
	"fmt"
	"strings"
	"time"

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

// judge looks at a report that answers the newest order.
type judge func(Unit, *target.PlaceReport) (standing, string)

// Which units of the promotion are meant. Those that were skipped are in none.
func (d *decider) all(u Unit) bool      { return !u.Skipped }
func (d *decider) inWave(u Unit) bool   { return !u.Skipped && u.Wave == d.State.Wave }
func (d *decider) changed(u Unit) bool  { return !u.Skipped && u.Wave < d.State.Wave }
func (d *decider) switched(u Unit) bool { return !u.Skipped && u.Wave < d.State.Progress.Switched }
func (d *decider) ordered(u Unit) bool  { return !u.Skipped && u.Wave <= d.State.Wave }

// watch judges every unit that is meant by its own report.
func (d *decider) watch(meant func(Unit) bool, by judge) []seen {
	var out []seen
	for _, u := range d.State.Units {
		if meant(u) {
			out = append(out, d.see(u, by))
		}
	}
	return out
}

func (d *decider) see(u Unit, by judge) seen {
	s := seen{unit: u, obs: d.observed(u.Node)}
	report := s.obs.obeyed()
	switch {
	case s.obs.Gone:
		s.at, s.why = gone, "the node left the fleet"
	case report != nil && report.Refused != "" && !d.mends(u, report):
		s.at, s.why = broken, report.Refused
	case report != nil:
		s.at, s.why = by(u, report)
	}
	// Of a unit that was there once and says nothing since, nobody knows where it stands now.
	if (s.at == pending || s.at == reached) && d.now.Sub(s.lastWord(d.State.Since)) > silence {
		s.at, s.why = silent, "no word since "+s.lastWord(d.State.Since).UTC().Format(time.TimeOnly)
	}
	return s
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
// in standby and passed its smoke test, or takes the traffic already.
func (d *decider) prepared(u Unit, r *target.PlaceReport) (standing, string) {
	want := d.State.want()
	if u.Former != nil && want != nil && u.Former.Digest == want.Digest {
		return instance(r.Active, want)
	}
	at, why := instance(r.Standby, want)
	if at == reached && want != nil {
		return d.smoked(r.Standby)
	}
	return at, why
}

// activated judges a unit that was asked to switch.
func (d *decider) activated(_ Unit, r *target.PlaceReport) (standing, string) {
	return instance(r.Active, d.State.want())
}

// steady judges a unit after the switch: any sign of a crash is a failure.
func (d *decider) steady(u Unit, r *target.PlaceReport) (standing, string) {
	at, why := instance(r.Active, d.State.want())
	switch {
	case at == reached && r.Active != nil && r.Active.Restarts > u.Restarts:
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
	d.wait(next, d.wave()+fmt.Sprintf("%d of %s %s", count(all, reached), units(len(all)), done), progress(all, done), command)
}

// wave names the wave where there are several: "wave 2 of 4: ".
func (d *decider) wave() string {
	if n := d.State.Waves(); n > 1 {
		return fmt.Sprintf("wave %d of %d: ", d.State.Wave+1, n)
	}
	return ""
}
