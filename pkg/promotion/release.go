package promotion

import (
	"slices"

	"hotswap.dev/hotswap/pkg/intent"
)

// A ReleaseState is where a release stands as a whole.
type ReleaseState string

// The states of a release. All but ReleaseOpen are final, until a person asks
// for another attempt of a stage.
const (
	ReleaseOpen       ReleaseState = "open"
	ReleaseSucceeded  ReleaseState = "succeeded"  // every stage succeeded
	ReleaseFailed     ReleaseState = "failed"     // a stage did not, see its promotion
	ReleaseSuperseded ReleaseState = "superseded" // a newer release took its place
	ReleaseCancelled  ReleaseState = "cancelled"
)

// A StageStatus is how the newest attempt of one stage stands.
type StageStatus struct {
	Stage   string
	Status  Status
	Attempt int
	Harmful bool // the analysis found that the release does harm
}

// A StageStart is an attempt of a stage that is to begin.
type StageStart struct {
	Stage   intent.Stage
	Attempt int
}

// A ReleaseDecision says what a release needs next.
type ReleaseDecision struct {
	Start []StageStart // stages whose every need has succeeded, and retries
	State ReleaseState
}

// DecideRelease returns what follows for a release from how its stages stand.
// It is the join of the stage graph: asked any number of times with the same
// stages it gives the same answer.
func DecideRelease(p intent.Pipeline, have []StageStatus) ReleaseDecision {
	stages := map[string]StageStatus{}
	for _, h := range have {
		stages[h.Stage] = h
	}
	var d ReleaseDecision
	open := false
	for _, st := range p.Spec.Stages {
		s, exists := stages[st.Name]
		ready := !slices.ContainsFunc(st.Needs, func(need string) bool { return stages[need].Status != Succeeded })
		switch {
		case exists && !s.Status.Final():
			open = true
		case exists && s.retries(st):
			d.Start = append(d.Start, StageStart{Stage: st, Attempt: s.Attempt + 1})
		case !exists && ready:
			d.Start = append(d.Start, StageStart{Stage: st, Attempt: 1})
		}
	}
	d.State = ReleaseOpen
	if !open && len(d.Start) == 0 {
		d.State = ended(have, len(p.Spec.Stages))
	}
	return d
}

// retries reports whether the attempt ended badly without harm and the stage
// tries again by itself. What a person stopped stays stopped.
func (s StageStatus) retries(st intent.Stage) bool {
	switch s.Status {
	case Failed, Errored, RolledBack:
		return !s.Harmful && s.Attempt <= st.OnFailure.Retries
	default:
		return false
	}
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
		case Failed, Errored, RolledBack, RollbackFailed, Rejected, Expired:
			return ReleaseFailed
		}
	}
	if succeeded == stages {
		return ReleaseSucceeded
	}
	return end
}
