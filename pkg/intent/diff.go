package intent

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Difference is one field that differs between two releases of a deployment.
// Environment is empty for what holds everywhere; From or To is empty for what
// was added or removed. It holds no secret: secrets are references.
type Difference struct {
	Environment string `json:"environment,omitempty"`
	Field       string `json:"field"` // "env.LOG", "module.version", "pipeline.stages.qa.strategy"
	From        string `json:"from,omitempty"`
	To          string `json:"to,omitempty"`
}

// String is the difference as people read it: "production: env.LOG: info → warn".
func (d Difference) String() string {
	where := ""
	if d.Environment != "" {
		where = d.Environment + ": "
	}
	switch {
	case d.From == "":
		return fmt.Sprintf("%s%s: + %s", where, d.Field, d.To)
	case d.To == "":
		return fmt.Sprintf("%s%s: - %s", where, d.Field, d.From)
	default:
		return fmt.Sprintf("%s%s: %s → %s", where, d.Field, d.From, d.To)
	}
}

// DiffSnapshots returns what is different between two frozen intents, ordered by
// environment and field. What differs in the same way in every environment is
// told once.
func DiffSnapshots(from, to Snapshot) []Difference {
	out := diffFields("", moduleFields(from.Module), moduleFields(to.Module))
	out = append(out, diffFields("", pipelineFields(from), pipelineFields(to))...)
	byEnvironment, count := map[string][]Difference{}, map[Difference]int{}
	environments := union(from.Configs, to.Configs)
	for _, env := range environments {
		for _, d := range diffFields("", configFields(from.Configs[env]), configFields(to.Configs[env])) {
			byEnvironment[env] = append(byEnvironment[env], d)
			count[d]++
		}
	}
	told := map[Difference]bool{}
	for _, env := range environments {
		for _, d := range byEnvironment[env] {
			everywhere := count[d] == len(environments)
			if everywhere && told[d] {
				continue
			}
			told[d] = true
			if !everywhere {
				d.Environment = env
			}
			out = append(out, d)
		}
	}
	slices.SortStableFunc(out, func(a, b Difference) int {
		return strings.Compare(a.Environment+"\x00"+a.Field, b.Environment+"\x00"+b.Field)
	})
	return out
}

func union[T any](a, b map[string]T) []string {
	names := map[string]bool{}
	for k := range a {
		names[k] = true
	}
	for k := range b {
		names[k] = true
	}
	return slices.Sorted(maps.Keys(names))
}

func diffFields(env string, from, to map[string]string) []Difference {
	var out []Difference
	for _, field := range union(from, to) {
		if from[field] != to[field] {
			out = append(out, Difference{Environment: env, Field: field, From: from[field], To: to[field]})
		}
	}
	return out
}

func moduleFields(m Module) map[string]string {
	return map[string]string{"module.name": m.Name, "module.version": m.Version, "module.artifact": m.Artifact, "module.digest": m.Digest}
}

// pipelineFields has a field for each part of each stage, so that a difference
// names what changed and not the whole.
func pipelineFields(s Snapshot) map[string]string {
	out := map[string]string{"pipeline": s.Pipeline.Metadata.Name, "pipeline.concurrency": s.Pipeline.Spec.Concurrency}
	for _, st := range s.Pipeline.Spec.Stages {
		at := "pipeline.stages." + st.Name + "."
		out[at+"environment"], out[at+"needs"] = st.Environment, strings.Join(st.Needs, ", ")
		out[at+"strategy"], out[at+"gates"], out[at+"onFailure"] = compact(st.Strategy), compact(st.Gates), compact(st.OnFailure)
		out[at+"concurrency"], out[at+"onNewer"] = st.Concurrency, st.OnNewer
	}
	for name, a := range s.Analyses {
		out["analyses."+name] = compact(a)
	}
	if s.Remove {
		out["intent"] = "removed"
	}
	return out
}

func configFields(c Config) map[string]string {
	out := map[string]string{
		"health": compact(c.Health), "drain": c.Drain, "resources.memory": c.Resources.Memory, "resources.cpu": c.Resources.CPU,
	}
	if len(c.Args) > 0 {
		out["args"] = compact(c.Args)
	}
	if c.Port != 0 {
		out["port"] = fmt.Sprint(c.Port)
	}
	for k, v := range c.Env {
		out["env."+k] = fmt.Sprintf("%q", v)
	}
	for _, ref := range c.Secrets {
		out["secrets."+ref.Name] = "from " + ref.From
	}
	return out
}

// compact is v as JSON on one line; empty for an empty object.
func compact(v any) string {
	b, err := json.Marshal(v)
	if err != nil || string(b) == "{}" {
		return ""
	}
	return string(b)
}
