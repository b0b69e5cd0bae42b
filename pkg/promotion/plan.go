package promotion

import (
	"fmt"

	"hotswap.dev/hotswap/pkg/canonical"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/strategy"
)

// planDomain and environmentDomain separate the digests, see pkg/canonical.
const (
	planDomain        = "hotswap.dev/plan/v1"
	environmentDomain = "hotswap.dev/environment/v1"
)

// A Plan is what a promotion will do. Its digest is what an approval names, so
// it holds what decides the effect and nothing that moves by itself: no
// versions that run now, no unit list, no commit ids.
type Plan struct {
	Release     string            `json:"release"` // releaseDigest
	Stage       intent.Stage      `json:"stage"`
	Environment string            `json:"environment"` // digest of the environment's spec
	Selector    map[string]string `json:"selector"`
	Waves       []strategy.Wave   `json:"waves"`
}

// NewPlan returns the plan of taking the frozen intent s through one of its
// stages into env as it is now.
func NewPlan(s intent.Snapshot, stage string, env intent.Environment) (Plan, error) {
	st, ok := StageOf(s.Pipeline, stage)
	if !ok {
		return Plan{}, fmt.Errorf("plan of %s: pipeline %s has no stage %q", s.Deployment, s.Pipeline.Metadata.Name, stage)
	}
	release, err := s.Digest()
	if err != nil {
		return Plan{}, fmt.Errorf("plan of %s: %w", s.Deployment, err)
	}
	environment, err := canonical.Digest(environmentDomain, env.Spec)
	if err != nil {
		return Plan{}, fmt.Errorf("plan of %s: %w", s.Deployment, err)
	}
	waves, err := strategy.Waves(st.Strategy)
	if err != nil {
		return Plan{}, fmt.Errorf("plan of %s: stage %s: %w", s.Deployment, stage, err)
	}
	return Plan{Release: release, Stage: st, Environment: environment, Selector: env.Spec.Selector, Waves: waves}, nil
}

// Digest returns the planDigest.
func (p Plan) Digest() (string, error) { return canonical.Digest(planDomain, p) }

// StageOf returns the stage of p with the given name.
func StageOf(p intent.Pipeline, name string) (intent.Stage, bool) {
	for _, st := range p.Spec.Stages {
		if st.Name == name {
			return st, true
		}
	}
	return intent.Stage{}, false
}
