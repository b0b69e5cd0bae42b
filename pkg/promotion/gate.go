package promotion

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/intent"
)

// A gate is a condition that is not true now.
type gate struct {
	what     string    // that is waited for
	evidence string    // what was seen that says so
	command  string    // what a person can do
	next     time.Time // when it may change by itself; zero: somebody must act
}

// closed returns the gates of the promotion that are not true now. All are
// evaluated, so that a person sees everything that is missing at once. A restore
// has no gate but the restore before it: it is the way out.
func (d *decider) closed() []gate {
	var out []gate
	if d.ev.Facts.Held != "" {
		out = append(out, d.heldGate())
	}
	if d.State.Kind == Restore {
		return append(out, d.afterGate()...)
	}
	out = append(out, d.approvalGate()...)
	out = append(out, d.refusedGate()...)
	if w := d.ev.Facts.Gates.Window; w != nil && !w.Open {
		out = append(out, gate{what: "an open window", evidence: w.Why, next: w.Next})
	}
	if g := d.soakGate(); g != nil {
		out = append(out, *g)
	}
	return append(out, d.checkGates()...)
}

func (d *decider) heldGate() gate {
	module := d.State.Spec.Instance.Module
	return gate{
		what:     fmt.Sprintf("the hold on %s %s to be lifted", module.Name, module.Version),
		evidence: d.ev.Facts.Held,
		command:  fmt.Sprintf("hotswap hold lift %s/%s/%s", d.State.Environment, d.State.Deployment, module.Digest),
	}
}

// approvalGate: a person must agree to this very plan.
func (d *decider) approvalGate() []gate {
	if d.State.reviewed() {
		if g := d.reviewGate(); g != nil {
			return []gate{*g}
		}
		return nil
	}
	if !d.needsApproval() || d.State.Progress.Approval != nil {
		return nil
	}
	return []gate{{
		what:    "an operator to agree to plan " + short(d.State.Plan),
		command: fmt.Sprintf("hotswap promote %s, or hotswap reject %s", d.State.ID, d.State.ID),
		next:    d.expiry(),
	}}
}

// needsApproval: nothing is removed because a file is gone, only because a person agrees.
func (d *decider) needsApproval() bool {
	return d.State.Spec.Stage.Gates.Approval != "" || d.State.Kind == Remove
}

// Expiry is when a missing approval ends the promotion. The clock stops once it is given.
func (s State) Expiry() time.Time {
	wait := intent.Duration(s.Spec.Stage.Gates.Deadline)
	if wait == 0 {
		wait = 24 * time.Hour
	}
	return s.Progress.Asked.Add(wait)
}

func (d *decider) expiry() time.Time { return d.State.Expiry() }

func (d *decider) soakGate() *gate {
	soak := intent.Duration(d.State.Spec.Stage.Gates.Soak.For)
	until := d.ev.Facts.Gates.Needs.Add(soak)
	if soak == 0 || !d.now.Before(until) {
		return nil
	}
	return &gate{
		what:     fmt.Sprintf("the stages before to have run for %s", d.State.Spec.Stage.Gates.Soak.For),
		evidence: "until " + until.UTC().Format("2006-01-02 15:04:05") + " UTC", next: until,
	}
}

// checkGates: an external check that said nothing has not passed.
func (d *decider) checkGates() []gate {
	var out []gate
	for _, name := range d.State.Spec.Stage.Gates.Checks {
		g := gate{
			what:    "external check " + name,
			command: fmt.Sprintf("hotswap check pass %s %s", d.State.ID, name),
		}
		i := slices.IndexFunc(d.ev.Facts.Gates.Checks, func(c CheckFact) bool { return c.Name == name })
		switch {
		case i < 0:
			g.evidence = name + " has said nothing yet"
		case d.ev.Facts.Gates.Checks[i].Passed:
			continue
		default:
			g.evidence = name + " failed: " + d.ev.Facts.Gates.Checks[i].Detail
		}
		out = append(out, g)
	}
	return out
}

// afterGate: restores of several environments go one after the other.
func (d *decider) afterGate() []gate {
	if d.State.Spec.After == "" || d.ev.Facts.After == Succeeded {
		return nil
	}
	return []gate{{what: "restore " + d.State.Spec.After + " to succeed", evidence: "it is " + string(d.ev.Facts.After), command: "hotswap abort " + d.State.ID}}
}

// gating waits until every gate is true.
func (d *decider) gating() {
	after := d.ev.Facts.After
	switch {
	case d.overtaken():
		return
	case d.State.Kind == Restore && d.State.Spec.After != "" && after.Final() && after != Succeeded:
		d.become(Cancelled, "", "promotion.cancelled", fmt.Sprintf("restore %s before it ended %s", d.State.Spec.After, after))
		return
	case d.moves():
		d.replan()
		return
	case d.review():
		return
	}
	closed := d.closed()
	if len(closed) == 0 {
		d.become(Queued, "", "promotion.queued", d.gatesSay())
		return
	}
	if d.needsApproval() && d.State.Kind != Restore && d.State.Progress.Approval == nil && !d.now.Before(d.expiry()) {
		d.become(Expired, "", "promotion.expired", fmt.Sprintf("nobody agreed to plan %s until %s", short(d.State.Plan), d.expiry().UTC().Format("2006-01-02 15:04:05")))
		return
	}
	d.waitForGates(closed)
}

// gatesSay tells why a promotion may go on.
func (d *decider) gatesSay() string {
	g := d.State.Spec.Stage.Gates
	switch a := d.State.Progress.Approval; {
	case d.State.Kind == Restore:
		return "a restore waits for no gate"
	case a != nil:
		return "every gate is true; " + a.says()
	case len(g.Windows)+len(g.Checks) == 0 && g.Soak.For == "":
		return "the stage has no gate"
	default:
		return "every gate is true"
	}
}

// says tells who agreed.
func (a Approval) says() string {
	if a.Head != "" {
		return a.Reason
	}
	return a.By.Name + " agreed: " + a.Reason
}

func (d *decider) waitForGates(closed []gate) {
	next := d.now.Add(lookIdle)
	var what, evidence, commands []string
	for _, g := range closed {
		what = append(what, g.what)
		if g.evidence != "" {
			evidence = append(evidence, g.evidence)
		}
		if g.command != "" {
			commands = append(commands, g.command)
		}
		if g.next.After(d.now) && g.next.Before(next) {
			next = g.next
		}
	}
	command := strings.Join(commands, "; ")
	if command == "" {
		command = "hotswap abort " + d.State.ID
	}
	d.wait(next, strings.Join(what, ", and "), strings.Join(evidence, "; "), command)
}

// moves reports whether the plan rendered again is not the one that is waited
// with. A restore carries out a plan of the past.
func (d *decider) moves() bool {
	return d.State.Kind != Restore && d.ev.Facts.Plan != d.State.Plan
}

// PlanMoved begins the reason of a promotion whose plan became another one.
const PlanMoved = "the plan moved"

// replan takes the plan as it is now. An approval named the former one.
func (d *decider) replan() {
	reason := fmt.Sprintf(PlanMoved+" from %s to %s: %s", short(d.State.Plan), short(d.ev.Facts.Plan), d.State.Progress.Parts.moved(d.ev.Facts.Parts))
	if d.State.Progress.Approval != nil {
		who := d.State.Progress.Approval.By.Name
		if names := d.State.Progress.Approval.Names; len(names) > 0 {
			who = strings.Join(names, " and ")
		}
		reason += "; " + who + " agreed to the former one, which counts no more"
		d.State.Progress.Approval, d.State.Progress.Asked = nil, d.now
	}
	d.State.Plan, d.State.Progress.Parts, d.State.Progress.Planned = d.ev.Facts.Plan, d.ev.Facts.Parts, d.now
	d.become(Gating, "", "promotion.replanned", reason)
}

// overtaken ends a promotion whose slot was started by a newer release.
func (d *decider) overtaken() bool {
	started := d.ev.Facts.Slot.Started
	if d.State.Kind == Restore || d.State.Spec.Concurrency == intent.Queue || started <= d.State.Generation {
		return false
	}
	d.become(Superseded, "", "promotion.superseded", fmt.Sprintf("generation %d was started in %s", started, d.State.Environment))
	return true
}

// short is a digest as people see it.
func short(digest string) string {
	_, hex, ok := strings.Cut(digest, ":")
	if !ok {
		hex = digest
	}
	return hex[:min(len(hex), 8)]
}
