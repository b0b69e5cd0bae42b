package intent

import (
	"cmp"
	"strconv"
	"strings"
)

// Batch returns how many of n units a rolling strategy changes at a time, at least one.
func (s Strategy) Batch(n int) int { return max(1, countOf(cmp.Or(s.MaxUnavailable, "1"), n)) }

// Tolerates returns how many of n units may leave the fleet while they are
// changed and be skipped.
func (s Strategy) Tolerates(n int) int {
	if s.Type == Rolling {
		return s.Batch(n)
	}
	return countOf(s.MaxUnavailable, n)
}

// countOf resolves a count ("2") or a share of n that is rounded up ("25%").
func countOf(s string, n int) int {
	head, share := strings.CutSuffix(s, "%")
	x, err := strconv.Atoi(head)
	switch {
	case err != nil || x < 0:
		return 0
	case share:
		return (n*x + 99) / 100
	default:
		return x
	}
}

// Percentages returns the cumulative shares of a canary's waves, in percent.
func (s Strategy) Percentages() []int {
	var out []int
	for _, w := range s.Waves {
		if p, err := strconv.Atoi(strings.TrimSuffix(w, "%")); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// ConcurrencyOf returns what happens when releases meet at a stage: the stage's
// own word, or the pipeline's.
func (p PipelineSpec) ConcurrencyOf(s Stage) string {
	return cmp.Or(s.Concurrency, p.Concurrency, DefaultConcurrency)
}

// Analyses returns the names of the analyses that the stages refer to.
func (p PipelineSpec) Analyses() []string {
	var out []string
	seen := map[string]bool{"": true}
	for _, s := range p.Stages {
		for _, name := range []string{s.Strategy.Stabilization, s.Strategy.Analysis} {
			if !seen[name] {
				seen[name] = true
				out = append(out, name)
			}
		}
	}
	return out
}
