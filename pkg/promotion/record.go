package promotion

import (
	"slices"

	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/record"
)

// A Source is where a release comes from.
type Source struct {
	Digest     string // releaseDigest
	Commit     string // of the intent
	Repository string
}

// Recorded returns what Git is to say about a slot after d, and false when d
// changes nothing of it: only an end and a new hold do. Before is what it says
// now; nil: nothing yet. What runs is told anew when a promotion succeeded; after
// any other end the former version goes on.
func Recorded(before *record.Record, src Source, s intent.Snapshot, d Decision) (record.Record, bool) {
	ended := d.Slot != nil && d.Slot.Holder == "" && d.State.Status.Final()
	if !ended && d.Hold == nil {
		return record.Record{}, false
	}
	p := d.State
	r := record.Record{Environment: p.Environment, Deployment: p.Deployment, Tenant: p.Tenant}
	if before != nil {
		r = *before
		r.Holds = slices.Clone(r.Holds)
	}
	if d.Hold != nil && !slices.ContainsFunc(r.Holds, func(h record.Hold) bool { return h.Artifact == d.Hold.Artifact }) {
		r.Holds = append(r.Holds, record.Hold{Artifact: d.Hold.Artifact, Reason: d.Hold.Reason, Since: d.Transition.At, By: System.Name})
	}
	if !ended {
		return r, true
	}
	r.Promotion, r.PromotionKind, r.State, r.At = p.ID, string(p.Kind), string(p.Status), d.Transition.At
	if p.Status == Succeeded {
		r = brought(r, src, s, p)
	}
	return r, true
}

// Proposed is the record that the promotion pull request of p proposes, and that Git
// has from its merge until p has ended. It depends on nothing that moves while the
// plan stays: an approval of the commit that holds it is one of the plan. Before is
// what Git says now; nil: nothing yet.
func Proposed(before *record.Record, src Source, s intent.Snapshot, p State) record.Record {
	r := record.Record{Environment: p.Environment, Deployment: p.Deployment, Tenant: p.Tenant}
	if before != nil {
		r.Holds = slices.Clone(before.Holds)
	}
	r.Promotion, r.PromotionKind, r.State, r.At = p.ID, string(p.Kind), string(Running), p.Progress.Planned
	return brought(r, src, s, p)
}

// brought is r with what p brings.
func brought(r record.Record, src Source, s intent.Snapshot, p State) record.Record {
	r.Release, r.Generation, r.Commit, r.ReleaseDigest, r.PlanDigest = p.Release, p.Generation, src.Commit, src.Digest, p.Plan
	r.Module, r.Config = s.Module, s.Configs[p.Environment]
	if p.Kind == Remove {
		r.Module, r.Config = intent.Module{}, intent.Config{}
	}
	return r
}
