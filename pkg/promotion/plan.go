package promotion

import (
	"fmt"
	"strings"

	"hotswap.dev/hotswap/pkg/canonical"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/strategy"
)

// planDomain and environmentDomain separate the digests, see pkg/canonical.
const (
	planDomain        = "hotswap.dev/plan/v1"
	policyDomain      = "hotswap.dev/policy/v1"
	environmentDomain = "hotswap.dev/environment/v1"
)

// A Plan is what a promotion will do. Its digest is what an approval names, so
// it holds what decides the effect and nothing that moves by itself: no
// versions that run now, no commit ids, and a unit list only where the stage
// asks for it (units: exact).
type Plan struct {
	Release     string            `json:"release"`        // releaseDigest
	Kind        Kind              `json:"kind,omitempty"` // empty: promote
	Stage       intent.Stage      `json:"stage"`
	Environment string            `json:"environment"` // digest of the environment's spec, its windows included
	Selector    map[string]string `json:"selector"`
	Policy      string            `json:"policy,omitempty"` // digest of the policy's spec; empty: the stage names none, or it is gone
	Waves       []strategy.Wave   `json:"waves"`
	Units       []string          `json:"units,omitempty"`
}

// NewPlan returns the plan of taking the frozen intent s through one of its
// stages into env as it is now. Policy is the one that the stage's gate names, as it is
// now; nil: it names none, or it is gone. Units are the nodes that env selects, in the
// order in which they are changed; they count only where the stage says so.
func NewPlan(s intent.Snapshot, stage string, env intent.Environment, policy *intent.Policy, units []string) (Plan, error) {
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
	p := Plan{Release: release, Stage: st, Environment: environment, Selector: env.Spec.Selector, Waves: waves}
	if s.Remove {
		p.Kind = Remove
	}
	if policy != nil {
		if p.Policy, err = canonical.Digest(policyDomain, policy.Spec); err != nil {
			return Plan{}, fmt.Errorf("plan of %s: policy %s: %w", s.Deployment, policy.Metadata.Name, err)
		}
	}
	if st.Strategy.Units == "exact" {
		p.Units = units
	}
	return p, nil
}

// Digest returns the planDigest.
func (p Plan) Digest() (string, error) { return canonical.Digest(planDomain, p) }

// PlanParts are digests of what can move in a plan while a promotion waits, so that people are told what did.
type PlanParts struct {
	Environment string `json:"environment"`
	Policy      string `json:"policy,omitempty"`
	Units       string `json:"units,omitempty"`
}

// Parts returns the digests of what can move.
func (p Plan) Parts() (PlanParts, error) {
	out := PlanParts{Environment: p.Environment, Policy: p.Policy}
	if len(p.Units) == 0 {
		return out, nil
	}
	var err error
	out.Units, err = canonical.Digest(planDomain, p.Units)
	return out, err
}

// moved says what differs between the plan as it was and as it is.
func (p *PlanParts) moved(now *PlanParts) string {
	if p == nil || now == nil {
		return "the environment, the policy or the set of units was changed"
	}
	var what []string
	if p.Environment != now.Environment {
		what = append(what, "the environment was changed")
	}
	switch {
	case p.Policy != now.Policy && now.Policy == "":
		what = append(what, "the policy is gone")
	case p.Policy != now.Policy:
		what = append(what, "the policy was changed")
	}
	if p.Units != now.Units {
		what = append(what, "the set of units changed")
	}
	return strings.Join(what, " and ")
}

// StageOf returns the stage of p with the given name.
func StageOf(p intent.Pipeline, name string) (intent.Stage, bool) {
	for _, st := range p.Spec.Stages {
		if st.Name == name {
			return st, true
		}
	}
	return intent.Stage{}, false
}

// StageIn returns the stage of p that deploys to the given environment.
func StageIn(p intent.Pipeline, environment string) (intent.Stage, bool) {
	for _, st := range p.Spec.Stages {
		if st.Environment == environment {
			return st, true
		}
	}
	return intent.Stage{}, false
}
