package intent

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"hotswap.dev/hotswap/pkg/canonical"
)

// ReleaseDomain is the digest domain of releases.
const ReleaseDomain = "hotswap.dev/release/v1"

// What is filled in where a document says nothing.
const (
	DefaultHealthPath  = "/healthz"
	DefaultInterval    = "1s"
	DefaultTimeout     = "2s"
	DefaultStartWithin = "60s"
	DefaultDrain       = "10s"
	DefaultHealthyFor  = "0s"
	DefaultDeadline    = "10m"
	DefaultAction      = "rollback"
	DefaultConcurrency = "supersede"
	DefaultTarget      = "node"
)

// Snapshot freezes a deployment: its module, the effective configuration of
// every environment of its pipeline, and the pipeline, all with defaults filled
// in. The error wraps [ErrUnknownDeployment], or [ErrInvalid] with the first
// problem that refuses the deployment.
func (s *Set) Snapshot(deployment string) (Snapshot, error) {
	for _, p := range s.Problems(deployment) {
		if p.Severity == Error {
			return Snapshot{}, fmt.Errorf("snapshot of %s: %w: %s", deployment, ErrInvalid, p)
		}
	}
	d, ok := s.Deployments[deployment]
	if !ok {
		return Snapshot{}, fmt.Errorf("snapshot of %s: %w", deployment, ErrUnknownDeployment)
	}
	pipeline, ok := s.Pipelines[d.Spec.Pipeline]
	if !ok {
		return Snapshot{}, fmt.Errorf("snapshot of %s: pipeline %s: %w", deployment, d.Spec.Pipeline, ErrInvalid)
	}
	out := Snapshot{
		Tenant:     cmp.Or(s.Tenant, d.Metadata.Tenant),
		Deployment: deployment,
		Module:     d.Spec.Module,
		Configs:    map[string]Config{},
		Pipeline:   freeze(pipeline),
	}
	for _, name := range out.Pipeline.Spec.Analyses() {
		a, ok := s.Analyses[name]
		if !ok {
			return Snapshot{}, fmt.Errorf("snapshot of %s: analysis %s: %w", deployment, name, ErrInvalid)
		}
		if out.Analyses == nil {
			out.Analyses = map[string]AnalysisSpec{}
		}
		out.Analyses[name] = a.Spec
	}
	for _, stage := range out.Pipeline.Spec.Stages {
		out.Configs[stage.Environment] = effective(d.Spec.Config, d.Spec.Environments[stage.Environment].Config)
	}
	return out, nil
}

// Digest returns the release's digest: over tenant, deployment, the module's
// name, version and artifact digest, the effective configurations, the pipeline
// and the analyses that it names, and whether it is a removal. Where the artifact lies, its signature and its declared size are not
// in it: the same bytes from another place are the same release.
func (s Snapshot) Digest() (string, error) {
	type module struct {
		Name    string `json:"name"`
		Version string `json:"version"`
		Digest  string `json:"digest"`
	}
	type pipeline struct {
		Name string       `json:"name"`
		Spec PipelineSpec `json:"spec"`
	}
	return canonical.Digest(ReleaseDomain, struct {
		Tenant     string            `json:"tenant"`
		Deployment string            `json:"deployment"`
		Module     module            `json:"module"`
		Configs    map[string]Config `json:"configs"`
		Pipeline   pipeline          `json:"pipeline"`

		Analyses map[string]AnalysisSpec `json:"analyses,omitempty"`
		Remove   bool                    `json:"remove,omitempty"`
	}{
		s.Tenant, s.Deployment,
		module{s.Module.Name, s.Module.Version, s.Module.Digest},
		s.Configs,
		pipeline{s.Pipeline.Metadata.Name, s.Pipeline.Spec},
		s.Analyses, s.Remove,
	})
}

// freeze returns a deep copy of a pipeline with its defaults. Its tenant is left
// out: a snapshot has one, and writing it down twice is no other release.
func freeze(p Pipeline) Pipeline {
	out := Pipeline{Metadata: Metadata{Name: p.Metadata.Name}}
	out.Spec.Concurrency = cmp.Or(p.Spec.Concurrency, DefaultConcurrency)
	for _, s := range p.Spec.Stages {
		s.Needs = nilIfEmpty(slices.Sorted(slices.Values(s.Needs))) // their order says nothing
		s.Strategy.HealthyFor = cmp.Or(s.Strategy.HealthyFor, DefaultHealthyFor)
		s.Strategy.Deadline = cmp.Or(s.Strategy.Deadline, DefaultDeadline)
		s.OnFailure.Action = cmp.Or(s.OnFailure.Action, DefaultAction)
		out.Spec.Stages = append(out.Spec.Stages, s)
	}
	return out
}

// effective lays an override over a configuration: args replace (an empty list
// removes them), env and secrets are merged by name, every other field replaces
// when set.
func effective(base, over Config) Config {
	out := Config{
		Args: base.Args,
		Port: cmp.Or(over.Port, base.Port),
		Health: Health{
			Path:        cmp.Or(over.Health.Path, base.Health.Path, DefaultHealthPath),
			Interval:    cmp.Or(over.Health.Interval, base.Health.Interval, DefaultInterval),
			Timeout:     cmp.Or(over.Health.Timeout, base.Health.Timeout, DefaultTimeout),
			StartWithin: cmp.Or(over.Health.StartWithin, base.Health.StartWithin, DefaultStartWithin),
		},
		Drain: cmp.Or(over.Drain, base.Drain, DefaultDrain),
		Resources: Resources{
			Memory: cmp.Or(over.Resources.Memory, base.Resources.Memory),
			CPU:    cmp.Or(over.Resources.CPU, base.Resources.CPU),
		},
		Secrets: mergeSecrets(base.Secrets, over.Secrets),
	}
	if over.Args != nil {
		out.Args = over.Args
	}
	out.Args = nilIfEmpty(slices.Clone(out.Args))
	if len(base.Env)+len(over.Env) > 0 {
		out.Env = map[string]string{}
		maps.Copy(out.Env, base.Env)
		maps.Copy(out.Env, over.Env)
	}
	return out
}

// mergeSecrets lays references over others by their names, in the order of names.
func mergeSecrets(base, over []SecretRef) []SecretRef {
	by := map[string]SecretRef{}
	for _, ref := range append(slices.Clone(base), over...) {
		by[ref.Name] = ref
	}
	var out []SecretRef
	for _, name := range slices.Sorted(maps.Keys(by)) {
		out = append(out, by[name])
	}
	return out
}

func nilIfEmpty[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}
