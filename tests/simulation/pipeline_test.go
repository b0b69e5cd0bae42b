package simulation_test

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
)

// A choice is where a world's shape comes from: one generator, seeded once.
type choice struct{ *rand.Rand }

func (c choice) chance(percent int) bool { return c.IntN(100) < percent }

func one[T any](c choice, of ...T) T { return of[c.IntN(len(of))] }

// A tenantShape is what one tenant has written down: environments, and a pipeline
// for each deployment.
type tenantShape struct {
	name         string
	environments []intent.Environment
	deployments  []deploymentShape
}

type deploymentShape struct {
	name     string
	pipeline intent.Pipeline
	analyses map[string]intent.AnalysisSpec
}

// environmentNames are in the order in which stages come to them.
var environmentNames = []string{"dev", "qa", "staging", "prod"}

// newShape draws what a tenant has written down.
func newShape(c choice, name string) tenantShape {
	t := tenantShape{name: name}
	for _, env := range environmentNames {
		t.environments = append(t.environments, newEnvironment(c, env))
	}
	for i := range 1 + c.IntN(2) {
		t.deployments = append(t.deployments, newDeployment(c, fmt.Sprintf("app%d", i)))
	}
	return t
}

// newEnvironment draws an environment: whom it selects, in which clusters, with
// which limit. Its windows are those that a stage may name.
func newEnvironment(c choice, name string) intent.Environment {
	e := intent.Environment{Metadata: intent.Metadata{Name: name}}
	e.Spec.Selector = map[string]string{name: "yes"}
	if c.chance(50) {
		e.Spec.ClusterLabel = "zone"
	}
	if c.chance(40) {
		e.Spec.Limits.PromotionsPerCluster = 1 + c.IntN(2)
	}
	e.Spec.Windows = []intent.Window{
		{Name: "business-hours", Opens: "0 9 * * 1-5", For: "8h", TimeZone: "Europe/Berlin"},
		{Name: "night", Opens: "30 2 * * *", For: "2h", TimeZone: "Europe/Berlin"},
		{Name: "freeze", Effect: intent.Deny, Opens: "0 2 * * *", For: "90m", TimeZone: "Europe/Berlin"},
	}
	return e
}

// newDeployment draws a pipeline: a chain, or stages side by side that join again.
func newDeployment(c choice, name string) deploymentShape {
	d := deploymentShape{name: name, analyses: map[string]intent.AnalysisSpec{"standard": newAnalysis(c)}}
	needs := one(c,
		[][]string{nil, {"dev"}},
		[][]string{nil, {"dev"}, {"qa"}},
		[][]string{nil, {"dev"}, {"dev"}, {"qa", "staging"}},
		[][]string{nil, nil, {"dev", "qa"}},
	)
	d.pipeline.Metadata.Name = name
	d.pipeline.Spec.Concurrency = one(c, intent.Supersede, intent.Supersede, intent.Queue)
	for i, n := range needs {
		d.pipeline.Spec.Stages = append(d.pipeline.Spec.Stages, newStage(c, environmentNames[i], n, i))
	}
	return d
}

func newAnalysis(c choice) intent.AnalysisSpec {
	return intent.AnalysisSpec{
		Stabilization: intent.Stabilization{Interval: "5s", Checks: 2, Minimum: "10s", Maximum: "2m"},
		Interval:      "5s", For: "20s", Maximum: "2m", MinRequests: 50,
		Insufficient: one(c, "pause", "extend", "promote", "rollback"),
	}
}

// newStage draws a stage. The first has no gate, so that releases get anywhere.
func newStage(c choice, name string, needs []string, at int) intent.Stage {
	s := intent.Stage{Name: name, Environment: name, Needs: needs, Strategy: newStrategy(c)}
	s.OnFailure = intent.OnFailure{Action: one(c, "rollback", "rollback", "rollback", "fail"), Hold: c.chance(50), Retries: one(c, 0, 0, 1, 2)}
	if c.chance(20) {
		s.Concurrency = one(c, intent.Supersede, intent.Queue)
	}
	if c.chance(30) {
		s.OnNewer = "abort"
	}
	if at == 0 {
		return s
	}
	if c.chance(30) {
		s.Gates.Approval, s.Gates.Deadline = "operator", one(c, "", "1h")
	}
	if c.chance(25) {
		s.Gates.Soak.For = one(c, "1m", "1h")
	}
	if c.chance(15) {
		s.Gates.Windows = one(c, []string{"business-hours"}, []string{"night"}, []string{"freeze"}, []string{"night", "freeze"})
	}
	if c.chance(10) {
		s.Gates.Checks = []string{"load-test"}
	}
	return s
}

func newStrategy(c choice) intent.Strategy {
	s := intent.Strategy{Type: one(c, intent.Direct, intent.Rolling, intent.BlueGreen, intent.Canary), Deadline: "2m", HealthyFor: one(c, "0s", "0s", "10s")}
	switch s.Type {
	case intent.Rolling:
		s.MaxUnavailable = one(c, "1", "2", "50%")
	case intent.BlueGreen:
		s.KeepOldFor = one(c, "", "10m")
		if c.chance(50) {
			s.Smoke = intent.Smoke{Path: "/ready", For: "5s"}
		}
	case intent.Canary:
		s.Waves, s.Analysis = one(c, []string{"25%", "100%"}, []string{"10%", "50%", "100%"}), "standard"
	}
	if c.chance(30) {
		s.Stabilization = "standard"
	}
	if c.chance(10) {
		s.Units = "exact"
	}
	return s
}

// snapshot freezes a version of a deployment, as the intent would be.
func (d deploymentShape) snapshot(tenant, version string, remove bool) intent.Snapshot {
	s := intent.Snapshot{Tenant: tenant, Deployment: d.name, Pipeline: d.pipeline, Analyses: d.analyses, Configs: map[string]intent.Config{}, Remove: remove}
	s.Module = intent.Module{Name: d.name, Version: version, Artifact: "https://example.org/" + d.name, Digest: "sha256:" + d.name + "-" + version}
	for _, st := range d.pipeline.Spec.Stages {
		s.Configs[st.Environment] = intent.Config{Health: intent.Health{Path: "/healthz", Interval: "1s", Timeout: "1s", StartWithin: "20s"}, Drain: "1s"}
	}
	return s
}

// A planned is a plan as people are told of it.
type planned struct {
	digest string
	parts  promotion.PlanParts
}

// plan returns the plan of a stage as the environment is now. It is
// remembered: the same release, environment and units have the same plan.
func (w *world) plan(r *releaseRow, stage string, env *environmentRow) (planned, error) {
	var units []string
	tenant := r.snapshot.Tenant
	if st, ok := promotion.StageOf(r.snapshot.Pipeline, stage); ok && st.Strategy.Units == "exact" {
		units = w.db.nodesOf(tenant, env.document.Spec.Selector)
	}
	k := planKey{tenant, r.id, stage, env.version, strings.Join(units, " ")}
	if known, ok := w.plans[k]; ok {
		return known, nil
	}
	p, err := promotion.NewPlan(*r.snapshot, stage, env.document, nil, units)
	if err != nil {
		return planned{}, err
	}
	out := planned{}
	if out.digest, err = p.Digest(); err != nil {
		return out, err
	}
	out.parts, err = p.Parts()
	w.plans[k] = out
	return out, err
}

type planKey struct {
	tenant, release, stage string
	environment            int
	units                  string
}
