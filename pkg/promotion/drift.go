package promotion

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/target"
)

// A FindingKind says in which way a unit is not as it is recorded.
type FindingKind string

// The kinds of findings.
const (
	Unexpected FindingKind = "unexpected" // it runs something else than its newest order says
	Disobeying FindingKind = "disobeying" // it speaks, and did not take its newest order
	Ailing     FindingKind = "ailing"     // what it runs is not healthy
	Quiet      FindingKind = "quiet"      // nothing was heard of it for a while
	Outside    FindingKind = "outside"    // the environment does not select it any more, and it still runs there
	Differing  FindingKind = "differing"  // its newest order is not what is live
)

// A Finding is a difference between what is recorded and what a unit reports. It
// is open until a look finds it gone.
type Finding struct {
	Node   string      `json:"node"`
	Kind   FindingKind `json:"kind"`
	Detail string      `json:"detail"`
	Since  time.Time   `json:"since"`
}

// Times of looking for drift.
const (
	driftGrace = time.Minute     // for an order to be obeyed and what it starts to become healthy
	driftQuiet = 2 * time.Minute // without a word
	driftLook  = 5 * time.Minute // backstop; a report that differs, a node that joins and a freed slot wake it at once
)

// DriftFacts are one slot as it was read.
type DriftFacts struct {
	Tenant   string
	Place    target.Place
	Epoch    int64
	Slot     Slot
	Instance *target.Instance // that Slot.Live made live; nil: nothing
	Units    []Resident       // selected, ordered or reporting
	Open     []Finding
}

// A Resident is a unit of a slot as it was last seen.
type Resident struct {
	Node     string
	Selected bool // by the environment
	Gone     bool // the node left the fleet
	Seen     time.Time
	Wanted   target.Position  // of its newest order; zero: it never had one
	Active   *target.Instance // that the order makes active
	Ordered  time.Time
	Report   *target.PlaceReport
}

// A DriftDecision is what follows from a look at a slot.
type DriftDecision struct {
	Orders []UnitOrder // to units that came late or lost what they ran
	Live   []Live
	Opened []Finding
	Closed []Finding
	Rows   []audit.Row
	Wake   time.Time
}

// Drift compares what the units of a slot report with what is recorded. A unit
// that came late, or was given back what is not live any more while it was away,
// is brought to the live release without a new approval, unless the slot is held
// or dirty. Everything else is a finding for a person.
func Drift(f DriftFacts, now time.Time) DriftDecision {
	d := DriftDecision{Wake: now.Add(driftLook)}
	if f.Slot.Holder != "" { // its promotion watches the units; the freed slot wakes this
		return d
	}
	var found []Finding
	for _, u := range f.Units {
		if u.Gone {
			continue
		}
		if f.converges(u) {
			d.converge(f, u, now)
			continue
		}
		kind, detail, again := f.differs(u, now)
		if kind != "" {
			found = append(found, Finding{Node: u.Node, Kind: kind, Detail: detail, Since: now})
		}
		if !again.IsZero() && again.Before(d.Wake) {
			d.Wake = again
		}
	}
	d.compare(f, found, now)
	return d
}

// converges reports whether a unit is to be brought to what is live.
func (f DriftFacts) converges(u Resident) bool {
	return u.Selected && !f.Slot.Dirty && f.Slot.Live != "" && !same(u.Active, f.Instance)
}

func same(a, b *target.Instance) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Digest == b.Digest
}

func (d *DriftDecision) converge(f DriftFacts, u Resident, now time.Time) {
	position := target.Position{Epoch: f.Epoch, Token: f.Slot.Token, Generation: u.Wanted.Generation + 1}
	d.Orders = append(d.Orders, UnitOrder{Node: u.Node, Order: target.Order{Place: f.Place, Position: position, Active: f.Instance}})
	d.Live = append(d.Live, Live{Node: u.Node, Instance: f.Instance})
	what := "nothing"
	if f.Instance != nil {
		what = f.Instance.Module.Name + " " + f.Instance.Module.Version
	}
	d.Rows = append(d.Rows, audit.Row{
		ID:     fmt.Sprintf("drift/%s/%s/%s/converged/%d-%d-%d", f.Place.Environment, f.Place.Deployment, u.Node, position.Epoch, position.Token, position.Generation),
		Tenant: f.Tenant, At: now, Actor: System, Action: "unit.converged", Subject: "unit " + f.unit(u.Node),
		Reason:     "it came late or lost what it ran; it is brought to " + what + ", which is live by " + f.Slot.Live,
		Attributes: map[string]string{"environment": f.Place.Environment, "deployment": f.Place.Deployment, "node": u.Node},
	})
}

func (f DriftFacts) unit(node string) string {
	return f.Place.Environment + "/" + f.Place.Deployment + " on " + node
}

// differs says in which way a unit is not as it is recorded, or when that may
// turn out, if it is too early to tell.
func (f DriftFacts) differs(u Resident, now time.Time) (kind FindingKind, detail string, again time.Time) {
	r := u.Report
	early := u.Ordered.Add(driftGrace)
	switch {
	case u.Wanted == target.Position{} && r == nil:
		return "", "", time.Time{}
	case now.Sub(u.Seen) > driftQuiet:
		return Quiet, "no word since " + u.Seen.UTC().Format("2006-01-02 15:04:05"), time.Time{}
	case !u.Selected && u.Active != nil:
		return Outside, "the environment does not select the node any more, and it runs " + u.Active.Module.Version, time.Time{}
	case !same(u.Active, f.Instance):
		return Differing, fmt.Sprintf("its newest order is %s, and %s is live", named(u.Active), named(f.Instance)), time.Time{}
	case now.Before(early):
		return "", "", early
	case r == nil || r.Position != u.Wanted:
		return Disobeying, fmt.Sprintf("it did not take order %d of token %d", u.Wanted.Generation, u.Wanted.Token), time.Time{}
	}
	kind, detail = runs(r, u.Active)
	return kind, detail, time.Time{}
}

// runs compares what a unit reports with what its newest order makes active.
func runs(r *target.PlaceReport, want *target.Instance) (FindingKind, string) {
	got := r.Active
	switch {
	case got == nil && want == nil:
		return "", ""
	case got == nil:
		return Unexpected, "it runs nothing, not " + named(want) + because(r.Refused)
	case want == nil || got.Digest != want.Digest:
		return Unexpected, fmt.Sprintf("it runs %s, not %s", got.Version, named(want)) + because(r.Refused)
	case got.Phase != target.Healthy:
		return Ailing, strings.TrimSpace(fmt.Sprintf("%s is %s %s", got.Version, got.Phase, got.Detail))
	}
	return "", ""
}

func named(i *target.Instance) string {
	if i == nil {
		return "nothing"
	}
	return i.Module.Version
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// compare opens what is new and closes what is gone. The same finding with other
// words is the same finding.
func (d *DriftDecision) compare(f DriftFacts, found []Finding, now time.Time) {
	key := func(x Finding) string { return x.Node + "\x00" + string(x.Kind) }
	is := func(x Finding) func(Finding) bool { return func(y Finding) bool { return key(x) == key(y) } }
	for _, x := range found {
		if !slices.ContainsFunc(f.Open, is(x)) {
			d.Opened = append(d.Opened, x)
			d.Rows = append(d.Rows, f.row(x, now, "drift.found", x.Detail))
		}
	}
	for _, x := range f.Open {
		if !slices.ContainsFunc(found, is(x)) {
			d.Closed = append(d.Closed, x)
			d.Rows = append(d.Rows, f.row(x, now, "drift.gone", "not seen any more: "+x.Detail))
		}
	}
	slices.SortFunc(d.Rows, func(a, b audit.Row) int { return cmp.Compare(a.ID, b.ID) })
}

func (f DriftFacts) row(x Finding, now time.Time, action, reason string) audit.Row {
	return audit.Row{
		ID:     fmt.Sprintf("drift/%s/%s/%s/%s/%d/%s", f.Place.Environment, f.Place.Deployment, x.Node, x.Kind, x.Since.UnixMicro(), action),
		Tenant: f.Tenant, At: now, Actor: System, Action: action, Subject: "unit " + f.unit(x.Node), Reason: string(x.Kind) + ": " + reason,
		Attributes: map[string]string{"environment": f.Place.Environment, "deployment": f.Place.Deployment, "node": x.Node},
	}
}
