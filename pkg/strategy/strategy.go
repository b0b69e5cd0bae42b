// Package strategy turns a stage's strategy into waves: which share of the
// units is changed together, in which order. It is pure.
package strategy

import (
	"fmt"
	"slices"

	"hotswap.dev/hotswap/pkg/intent"
)

// A Wave is a step of a plan, for any number of units: when it is over, Percent
// of the units run the release, and with AtMost ("25%", "2") no more than that
// were changed at the same time. Percentages rise strictly and the last is 100.
type Wave struct {
	Percent int    `json:"percent"`
	AtMost  string `json:"atMost,omitempty"`
}

// Waves returns the waves of s as a plan shows them, or an error for a strategy
// that it does not know.
func Waves(s intent.Strategy) ([]Wave, error) {
	switch s.Type {
	case intent.Direct, intent.BlueGreen:
		return []Wave{{Percent: 100}}, nil
	case intent.Rolling:
		return []Wave{{Percent: 100, AtMost: s.MaxUnavailable}}, nil
	case intent.Canary:
		var out []Wave
		for _, p := range s.Percentages() {
			out = append(out, Wave{Percent: p})
		}
		return out, nil
	default:
		return nil, fmt.Errorf("unknown strategy %q", s.Type)
	}
}

// Split returns how many of n units run the release after each wave, cumulative:
// strictly rising, the last is n. A share that adds no unit is no wave. It is
// empty exactly when there is no unit.
func Split(s intent.Strategy, n int) []int {
	if n <= 0 {
		return nil
	}
	var out []int
	switch s.Type {
	case intent.Rolling:
		for at := s.Batch(n); at < n; at += s.Batch(n) {
			out = append(out, at)
		}
	case intent.Canary:
		for _, p := range s.Percentages() {
			out = append(out, Size(p, n))
		}
	}
	return slices.Compact(append(out, n))
}

// Size returns how many of n units a share of percent is: rounded up, at least
// one while there is a unit, at most n.
func Size(percent, n int) int {
	if n <= 0 || percent <= 0 {
		return 0
	}
	return min(n, (n*percent+99)/100)
}
