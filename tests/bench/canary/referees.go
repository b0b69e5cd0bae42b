package main

import (
	"math"

	"hotswap.dev/hotswap/pkg/analysis"
)

// A referee says at each look whether the changed arm fails more.
type referee interface {
	harmful(changed, others counts) bool
}

// oneSided is the quantile of the normal distribution at 0.95: all tests ask at
// 0.05 whether the changed arm is worse, never whether it is better.
const oneSided = 1.6448536269514722

// referees are the tests that are compared, each anew for every trial.
var referees = []struct {
	name  string
	begin func(past []analysis.Deviation) referee
}{
	{"ours at 0.05", func(past []analysis.Deviation) referee {
		return &bets{needed: 1 / 0.05, dispersion: analysis.Dispersion(past)}
	}},
	// two metrics share alpha, and the first of several waves has half of it
	{"ours, first of four waves", func(past []analysis.Deviation) referee {
		return &bets{needed: 2 * 2 / 0.05, dispersion: analysis.Dispersion(past)}
	}},
	{"ours, without the past", func([]analysis.Deviation) referee { return &bets{needed: 1 / 0.05, dispersion: 1} }},
	{"z-test", func([]analysis.Deviation) referee { return &zTest{} }},
	{"Mann-Whitney", func([]analysis.Deviation) referee { return &mannWhitney{ties: map[float64]float64{}} }},
}

// bets is the test of pkg/analysis.
type bets struct {
	analysis.Bets
	needed, dispersion float64
}

func (b *bets) harmful(changed, others counts) bool {
	if all := changed.requests + others.requests; all > 0 {
		b.Add(changed.requests/all, changed.failures, others.failures, 1)
	}
	return b.Capital(b.dispersion) >= b.needed
}

// zTest compares the shares of failures of all that was seen so far, with the pooled
// variance.
type zTest struct{ changed, others counts }

func (z *zTest) harmful(changed, others counts) bool {
	z.changed.add(changed)
	z.others.add(others)
	return z.score() > oneSided
}

// score is 0 where there is nothing to compare.
func (z *zTest) score() float64 {
	n, m := z.changed.requests, z.others.requests
	pooled := (z.changed.failures + z.others.failures) / (n + m)
	if n == 0 || m == 0 || pooled == 0 || pooled == 1 {
		return 0
	}
	return (z.changed.failures/n - z.others.failures/m) / math.Sqrt(pooled*(1-pooled)*(1/n+1/m))
}

func (c *counts) add(o counts) {
	c.requests += o.requests
	c.failures += o.failures
}

// fewest is how many readings of each arm Mann and Whitney's test needs to be able
// to be sure at 0.05.
const fewest = 4

// mannWhitney compares the shares of failures of each look so far by their ranks,
// with the normal approximation, corrected for ties and for continuity.
type mannWhitney struct {
	changed, others []float64
	u               float64 // pairs in which the changed arm failed more, ties half
	ties            map[float64]float64
	tied            float64 // sum of t³-t over the ties
}

func (m *mannWhitney) harmful(changed, others counts) bool {
	if changed.requests == 0 || others.requests == 0 {
		return false
	}
	m.add(changed.failures/changed.requests, others.failures/others.requests)
	return len(m.changed) >= fewest && m.score() > oneSided
}

func (m *mannWhitney) add(x, y float64) {
	for _, o := range m.others {
		m.u += wins(x, o)
	}
	m.changed, m.others = append(m.changed, x), append(m.others, y)
	for _, c := range m.changed {
		m.u += wins(c, y)
	}
	for _, v := range []float64{x, y} {
		t := m.ties[v]
		m.ties[v] = t + 1
		m.tied += 3 * t * (t + 1) // (t+1)³-(t+1) - (t³-t)
	}
}

func wins(a, b float64) float64 {
	switch {
	case a > b:
		return 1
	case a == b:
		return 0.5
	default:
		return 0
	}
}

// score is 0 where all readings are the same.
func (m *mannWhitney) score() float64 {
	n, k := float64(len(m.changed)), float64(len(m.others))
	all := n + k
	variance := n * k / 12 * (all + 1 - m.tied/(all*(all-1)))
	if variance <= 0 {
		return 0
	}
	return (m.u - n*k/2 - 0.5) / math.Sqrt(variance)
}
