// Package strategy turns a stage's strategy into waves: which share of the
// units is changed together, in which order. It is pure.
package strategy

import (
	"fmt"

	"hotswap.dev/hotswap/pkg/intent"
)

// Direct is the strategy that prepares all units and then activates all.
const Direct = "direct"

// A Wave is the cumulative share of the units that runs the release when the
// wave is over, in percent. Waves rise strictly and the last is 100.
type Wave struct {
	Percent int `json:"percent"`
}

// Waves returns the waves of s, or an error for a strategy that it does not know.
func Waves(s intent.Strategy) ([]Wave, error) {
	switch s.Type {
	case Direct:
		return []Wave{{Percent: 100}}, nil
	default:
		return nil, fmt.Errorf("unknown strategy %q", s.Type)
	}
}

// Size returns how many of n units a wave of percent changes in all: rounded
// up, at least one while there is a unit, at most n.
func Size(percent, n int) int {
	if n <= 0 || percent <= 0 {
		return 0
	}
	return min(n, (n*percent+99)/100)
}
