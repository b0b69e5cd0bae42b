package strategy

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hotswap.dev/hotswap/pkg/intent"
)

func TestAPlanShowsTheWavesOfItsStrategy(t *testing.T) {
	tests := map[string]struct {
		strategy intent.Strategy
		want     []Wave
	}{
		"direct is one wave of all units":              {intent.Strategy{Type: "direct"}, []Wave{{Percent: 100}}},
		"blue-green is one wave of all units":          {intent.Strategy{Type: "blueGreen"}, []Wave{{Percent: 100}}},
		"rolling says how many go at a time":           {intent.Strategy{Type: "rolling", MaxUnavailable: "25%"}, []Wave{{Percent: 100, AtMost: "25%"}}},
		"a canary has the waves that its author wrote": {intent.Strategy{Type: "canary", Waves: []string{"10%", "100%"}}, []Wave{{Percent: 10}, {Percent: 100}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			waves, err := Waves(tt.strategy)
			require.NoError(t, err)
			require.Equal(t, tt.want, waves)
		})
	}
	_, err := Waves(intent.Strategy{Type: "yolo"})
	require.ErrorContains(t, err, `unknown strategy "yolo"`)
}

func TestUnitsAreSplitIntoWaves(t *testing.T) {
	rolling := func(atOnce string) intent.Strategy { return intent.Strategy{Type: "rolling", MaxUnavailable: atOnce} }
	canary := intent.Strategy{Type: "canary", Waves: []string{"10%", "30%", "50%", "100%"}}
	tests := map[string]struct {
		strategy intent.Strategy
		units    int
		want     []int
	}{
		"a canary of ten units":                      {canary, 10, []int{1, 3, 5, 10}},
		"shares are rounded up":                      {canary, 4, []int{1, 2, 4}},
		"a share that adds no unit is no wave":       {canary, 2, []int{1, 2}},
		"a canary of one unit has one wave":          {canary, 1, []int{1}},
		"a quarter of four is one at a time":         {rolling("25%"), 4, []int{1, 2, 3, 4}},
		"the last batch may be smaller":              {rolling("2"), 5, []int{2, 4, 5}},
		"a batch larger than the fleet is the fleet": {rolling("9"), 5, []int{5}},
		"rolling without a size goes one by one":     {rolling(""), 3, []int{1, 2, 3}},
		"direct changes all together":                {intent.Strategy{Type: "direct"}, 7, []int{7}},
		"no units, no waves":                         {canary, 0, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { require.Equal(t, tt.want, Split(tt.strategy, tt.units)) })
	}
}

func TestASplitRisesStrictlyToAllUnits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 2000).Draw(t, "units")
		s := intent.Strategy{Type: "rolling", MaxUnavailable: fmt.Sprint(rapid.IntRange(1, 3000).Draw(t, "at once"))}
		if rapid.Bool().Draw(t, "canary") {
			s = intent.Strategy{Type: "canary"}
			for p := 0; p < 100; {
				p = rapid.IntRange(p+1, 100).Draw(t, "percent")
				s.Waves = append(s.Waves, fmt.Sprintf("%d%%", p))
			}
		}
		last := 0
		for _, at := range Split(s, n) {
			if at <= last {
				t.Fatalf("%d after %d", at, last)
			}
			last = at
		}
		if last != n {
			t.Fatalf("ends at %d of %d", last, n)
		}
	})
}

func TestSizeRoundsUpAndStaysWithinTheUnits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		percent, n := rapid.IntRange(1, 100).Draw(t, "percent"), rapid.IntRange(1, 10000).Draw(t, "n")
		got := Size(percent, n)
		if got < 1 || got > n || got*100 < percent*n || (got-1)*100 >= percent*n {
			t.Fatalf("Size(%d, %d) = %d", percent, n, got)
		}
	})
	require.Equal(t, 0, Size(50, 0))
	require.Equal(t, 3, Size(25, 10))
}
