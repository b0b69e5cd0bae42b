package promotion

import (
	"fmt"

	"hotswap.dev/hotswap/pkg/analysis"
	"hotswap.dev/hotswap/pkg/intent"
)

// A Birth is what a promotion begins with.
type Birth struct {
	Tenant     string
	Release    string // id
	Generation int64
	Snapshot   intent.Snapshot
	Stage      intent.Stage
	Kind       Kind
	Attempt    int
	After      string // a restore that goes before; restores only
}

// New returns the state of a promotion before its first event. A restore and a
// removal change all units at once, whatever the stage does on the way forward;
// a restore waits for no gate either: it is the way out.
func New(b Birth) (State, error) {
	st, concurrency := b.Stage, b.Snapshot.Pipeline.Spec.ConcurrencyOf(b.Stage)
	if b.Kind != Promote {
		st.Strategy = intent.Strategy{Type: intent.Direct, HealthyFor: st.Strategy.HealthyFor, Deadline: st.Strategy.Deadline}
		st.OnNewer, st.OnFailure = "", intent.OnFailure{Action: "rollback"}
		concurrency = intent.Supersede
	}
	if b.Kind == Restore {
		st.Gates, st.Needs = intent.Gates{}, nil
	}
	s := State{
		ID: fmt.Sprintf("%s/%s/%s-%d", b.Release, st.Name, b.Kind, b.Attempt), Tenant: b.Tenant, Release: b.Release,
		Deployment: b.Snapshot.Deployment, Environment: st.Environment, Kind: b.Kind, Attempt: b.Attempt, Generation: b.Generation,
		Spec: Spec{Stage: st, Concurrency: concurrency, After: b.After},
	}
	var err error
	if b.Kind != Remove {
		if s.Spec.Instance, err = NewInstance(b.Snapshot, b.Release, st.Environment); err != nil {
			return State{}, err
		}
	}
	if b.Kind != Promote {
		return s, nil
	}
	if s.Spec.Stabilization, err = watchOf(b.Snapshot, st.Strategy.Stabilization, false); err != nil {
		return State{}, fmt.Errorf("promotion %s: %w", s.ID, err)
	}
	if s.Spec.Analysis, err = watchOf(b.Snapshot, st.Strategy.Analysis, true); err != nil {
		return State{}, fmt.Errorf("promotion %s: %w", s.ID, err)
	}
	return s, nil
}

// watchOf returns the bounds of waiting for the named analysis, or for its
// stabilization; nil for no name.
func watchOf(s intent.Snapshot, name string, compare bool) (*Watch, error) {
	if name == "" {
		return nil, nil
	}
	spec, err := AnalysisSpec(s, name)
	if err != nil {
		return nil, err
	}
	w := &Watch{Interval: spec.Stabilization.Interval, Maximum: spec.Stabilization.Maximum, Insufficient: spec.Insufficient}
	if compare {
		w.Interval, w.Maximum = spec.Interval, spec.Maximum
	}
	return w, nil
}

// AnalysisSpec returns the analysis of that name as s froze it.
func AnalysisSpec(s intent.Snapshot, name string) (analysis.Spec, error) {
	a, ok := s.Analyses[name]
	if !ok {
		return analysis.Spec{}, fmt.Errorf("release of %s holds no analysis %q", s.Deployment, name)
	}
	spec, err := analysis.NewSpec(a)
	if err != nil {
		return analysis.Spec{}, fmt.Errorf("analysis %s: %w", name, err)
	}
	return spec, nil
}
