package intent

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/adhocore/gronx"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/promql"
)

// checkStrategies checks what a schema cannot say about the stages' strategies:
// which fields belong to which type.
func (d *Document) checkStrategies() []Problem {
	var problems []Problem
	for i, s := range d.Pipeline.Spec.Stages {
		at := []string{"spec", "stages", strconv.Itoa(i), "strategy"}
		problems = append(problems, d.fieldsOf(s.Strategy, at)...)
		if s.Strategy.Type == Canary {
			problems = append(problems, d.checkWaves(s.Strategy, append(at, "waves"))...)
		}
		if s.Gates.Deadline != "" && s.Gates.Approval == "" {
			problems = append(problems, d.problem(RuleFieldOfStrategy, "deadline bounds the waiting for an approval, and there is none",
				"add approval: operator, or remove it", "spec", "stages", strconv.Itoa(i), "gates", "deadline"))
		}
	}
	return problems
}

// fieldsOf names the fields that the strategy's type does not have, and those
// that it needs.
func (d *Document) fieldsOf(s Strategy, at []string) []Problem {
	var problems []Problem
	only := func(field string, set bool, types ...string) {
		if set && !slices.Contains(types, s.Type) {
			problems = append(problems, d.problem(RuleFieldOfStrategy, fmt.Sprintf("%s has no %s", s.Type, field),
				fmt.Sprintf("it belongs to %s; remove it, or take that type", types[0]), append(slices.Clone(at), field)...))
		}
	}
	only("smoke", s.Smoke != (Smoke{}), BlueGreen)
	only("keepOldFor", s.KeepOldFor != "", BlueGreen)
	only("waves", len(s.Waves) > 0, Canary)
	only("analysis", s.Analysis != "", Canary)
	needs := map[string][]string{Canary: {"waves", "analysis"}}
	have := map[string]bool{"waves": len(s.Waves) > 0, "analysis": s.Analysis != ""}
	for _, field := range needs[s.Type] {
		if !have[field] {
			problems = append(problems, d.problem(RuleFieldOfStrategy, fmt.Sprintf("%s needs %s", s.Type, field), "see: hotswap explain pipeline.spec.stages[].strategy", at...))
		}
	}
	if s.Type == Rolling && s.MaxUnavailable != "" && countOf(s.MaxUnavailable, 100) == 0 {
		problems = append(problems, d.problem(RuleBadValue, "maxUnavailable of rolling must be above zero: it is the size of a batch", "", append(slices.Clone(at), "maxUnavailable")...))
	}
	return problems
}

// checkWaves: shares rise strictly to all units.
func (d *Document) checkWaves(s Strategy, at []string) []Problem {
	var problems []Problem
	waves := s.Percentages()
	for i, p := range waves {
		place := append(slices.Clone(at), strconv.Itoa(i))
		switch {
		case i > 0 && p <= waves[i-1]:
			problems = append(problems, d.problem(RuleBadValue, fmt.Sprintf("%d%% does not come after %d%%: waves are cumulative and rise", p, waves[i-1]), "", place...))
		case i == len(waves)-1 && p != 100:
			problems = append(problems, d.problem(RuleBadValue, "the last wave must be 100%", "", place...))
		}
	}
	if len(waves) == 1 && waves[0] == 100 {
		w := d.problem(RuleNoCanary, "the first wave is every unit: nothing is left to compare it with", "begin with a smaller share", append(slices.Clone(at), "0")...)
		w.Severity = Warning
		problems = append(problems, w)
	}
	return problems
}

// maxWindow is how long a window may be open at most.
const maxWindow = 7 * 24 * time.Hour

// checkQueries checks that both queries of a metric can be completed.
func (d *Document) checkQueries(m Metric, at []string) []Problem {
	if m.Prometheus.Source == "" {
		return nil
	}
	var problems []Problem
	for _, q := range []struct{ field, query string }{{"requests", m.Prometheus.Requests}, {"failures", m.Prometheus.Failures}} {
		if err := promql.Check(q.query); err != nil {
			why := strings.TrimPrefix(err.Error(), promql.ErrQuery.Error()+": ")
			problems = append(problems, d.problem(RuleBadValue, "this query cannot be asked: "+why, `for example sum(http_requests_total{instance=~"{{units}}"})`, append(slices.Clone(at), q.field)...))
		}
	}
	return problems
}

// checkWindows checks what a schema cannot say about an environment's windows.
func (d *Document) checkWindows() []Problem {
	var problems []Problem
	names := map[string]bool{}
	for i, w := range d.Environment.Spec.Windows {
		at := func(field string) []string { return []string{"spec", "windows", strconv.Itoa(i), field} }
		if names[w.Name] {
			problems = append(problems, d.problem(RuleDuplicateName, fmt.Sprintf("a second window is called %q", w.Name), "", at("name")...))
		}
		names[w.Name] = true
		if _, err := time.LoadLocation(w.TimeZone); err != nil {
			problems = append(problems, d.problem(RuleBadValue, fmt.Sprintf("timeZone: %q is not the name of a time zone", clip(w.TimeZone)), "for example Europe/Berlin, or UTC", at("timeZone")...))
		}
		switch {
		case !gronx.New().IsValid(w.Opens):
			problems = append(problems, d.problem(RuleBadValue, fmt.Sprintf("opens: %q is not a cron expression", clip(w.Opens)), `minute, hour, day of month, month, day of week: "0 9 * * 1-5"`, at("opens")...))
		case !comes(w.Opens):
			problems = append(problems, d.problem(RuleBadValue, fmt.Sprintf("opens: %q is a time that never comes", clip(w.Opens)), "", at("opens")...))
		}
		if Duration(w.For) > maxWindow {
			problems = append(problems, d.problem(RuleBadValue, "for: a window is open for at most 168h", "a longer span is several windows", at("for")...))
		}
	}
	return problems
}

// comes reports whether a cron expression fires at all. The day that is begun
// with only has to be one: what fires does so within the years looked at.
func comes(cron string) bool {
	_, err := gronx.NextTickAfter(cron, time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), true)
	return err == nil
}

// checkMetrics checks what a schema cannot say about an analysis.
func (d *Document) checkMetrics() []Problem {
	var problems []Problem
	names := map[string]bool{}
	for i, m := range d.Analysis.Spec.Metrics {
		at := func(field string) []string { return []string{"spec", "metrics", strconv.Itoa(i), field} }
		if names[m.Name] {
			problems = append(problems, d.problem(RuleDuplicateName, fmt.Sprintf("a second metric is called %q", m.Name), "", at("name")...))
		}
		names[m.Name] = true
		if m.Type != MetricErrors && m.Prometheus.Source != "" {
			problems = append(problems, d.problem(RuleBadValue, "only errors are read from Prometheus", "remove prometheus, or take type: errors", at("type")...))
		}
		problems = append(problems, d.checkQueries(m, at("prometheus"))...)
	}
	s := d.Analysis.Spec
	for _, x := range []struct{ low, high, least, most string }{
		{s.For, s.Maximum, "for", "maximum"}, {s.Interval, s.Maximum, "interval", "maximum"},
	} {
		if x.low != "" && x.high != "" && Duration(x.low) > Duration(x.high) {
			problems = append(problems, d.problem(RuleBadValue, fmt.Sprintf("%s is longer than %s: there would never be a verdict", x.least, x.most), "", "spec", x.most))
		}
	}
	if st := s.Stabilization; st.Minimum != "" && st.Maximum != "" && Duration(st.Minimum) > Duration(st.Maximum) {
		problems = append(problems, d.problem(RuleBadValue, "minimum is longer than maximum: there would never be a verdict", "", "spec", "stabilization", "maximum"))
	}
	return problems
}

// checkSecrets: a name is one file.
func (d *Document) checkSecrets() []Problem {
	problems := d.secretsOf(d.Deployment.Spec.Config.Secrets, "spec", "config", "secrets")
	for name, override := range d.Deployment.Spec.Environments {
		problems = append(problems, d.secretsOf(override.Config.Secrets, "spec", "environments", name, "config", "secrets")...)
	}
	return problems
}

func (d *Document) secretsOf(refs []SecretRef, path ...string) []Problem {
	var problems []Problem
	seen := map[string]bool{}
	for i, ref := range refs {
		if seen[ref.Name] {
			problems = append(problems, d.problem(RuleDuplicateName, fmt.Sprintf("a second secret is called %q", clip(ref.Name)), "", append(slices.Clone(path), strconv.Itoa(i), "name")...))
		}
		seen[ref.Name] = true
	}
	return problems
}

// checkPolicy checks what a schema cannot say about a policy.
func (d *Document) checkPolicy() []Problem {
	var problems []Problem
	if d.Policy.Metadata.Name == Operator {
		problems = append(problems, d.problem(RuleBadValue, "no policy is called operator: a stage means one operator's word by it", "take another name", "metadata", "name"))
	}
	var wrong approval.Wrong
	if errors.As(d.Policy.Spec.Check(), &wrong) {
		problems = append(problems, d.problem(RuleBadValue, wrong.Why, "", append([]string{"spec"}, wrong.At...)...))
	}
	return problems
}
