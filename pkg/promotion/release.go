package promotion

import (
	"slices"

	"hotswap.dev/hotswap/pkg/intent"
)

// A ReleaseState is where a release stands as a whole.
type ReleaseState string

// The states of a release. All but ReleaseOpen are final.
const (
	ReleaseOpen       ReleaseState = "open"
	ReleaseSucceeded  ReleaseState = "succeeded"  // every stage succeeded
	ReleaseFailed     ReleaseState = "failed"     // a stage did not, see its promotion
	ReleaseSuperseded ReleaseState = "superseded" // a newer release took its place
	ReleaseCancelled  ReleaseState = "cancelled"
)

// A StageStatus is how the newest attempt of one stage stands.
type StageStatus struct {
	Stage  string
	Status Status
}

// A ReleaseDecision says what a release needs next.
type ReleaseDecision struct {
	Start []intent.Stage // stages whose every need has succeeded and that have no promotion yet
	State ReleaseState
}

// DecideRelease returns what follows for a release from how its stages stand.
// It is the join of the stage graph: asked any number of times with the same
// stages it gives the same answer.
func DecideRelease(p intent.Pipeline, have []StageStatus) ReleaseDecision {
	status := map[string]Status{}
	for _, h := range have {
		status[h.Stage] = h.Status
	}
	var d ReleaseDecision
	open := false
	for _, st := range p.Spec.Stages {
		s, exists := status[st.Name]
		if exists {
			open = open || !s.Final()
			continue
		}
		ready := !slices.ContainsFunc(st.Needs, func(need string) bool { return status[need] != Succeeded })
		if ready {
			d.Start = append(d.Start, st)
		}
	}
	d.State = ReleaseOpen
	if !open && len(d.Start) == 0 {
		d.State = ended(have, len(p.Spec.Stages))
	}
	return d
}

// ended names the end of a release of which nothing is open and nothing can start.
func ended(have []StageStatus, stages int) ReleaseState {
	succeeded, end := 0, ReleaseFailed
	for _, h := range have {
		switch h.Status {
		case Succeeded:
			succeeded++
		case Superseded:
			end = ReleaseSuperseded
		case Cancelled:
			end = ReleaseCancelled
		case Failed, Errored, RolledBack, RollbackFailed:
			return ReleaseFailed
		}
	}
	if succeeded == stages {
		return ReleaseSucceeded
	}
	return end
}
