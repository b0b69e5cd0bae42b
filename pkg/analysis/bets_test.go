package analysis

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// wilson is the upper end of the one-sided 99.9 % confidence interval of a share
// (Wilson 1927).
func wilson(hits, n float64) float64 { return wilsonAt(hits, n, 3.09) }

// wilsonAt is the upper end at another quantile of the normal distribution.
func wilsonAt(hits, n, z float64) float64 {
	p := hits / n
	return (p + z*z/(2*n) + z*math.Sqrt(p*(1-p)/n+z*z/(4*n*n))) / (1 + z*z/n)
}

// TestAVersionThatIsNoWorseIsTakenBackAtMostFiveInAHundredTimes looks every ten
// seconds for half an hour: 180 times at one threshold.
func TestAVersionThatIsNoWorseIsTakenBackAtMostFiveInAHundredTimes(t *testing.T) {
	const trials, looks = 4000, 180
	for _, rps := range []float64{1, 10, 100} {
		for _, incidents := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v rps, incidents %t", rps, incidents), func(t *testing.T) {
				t.Parallel()
				hits := 0.0
				for i := range uint64(trials) {
					p := newPlay(traffic{rps: rps, share: 0.1, base: 0.01, ratio: 1, incidents: incidents}, i)
					if p.found(looks, 1/spend(0.05, 1, 0, 1)) > 0 {
						hits++
					}
				}
				require.LessOrEqual(t, wilson(hits, trials), 0.05, "%v of %d trials", hits, trials)
			})
		}
	}
}

// TestAFiveFoldRegressionIsFoundWithinThreeLooks is under the alpha that the first
// of four waves has for one of two metrics.
func TestAFiveFoldRegressionIsFoundWithinThreeLooks(t *testing.T) {
	const trials = 2000
	for _, tt := range []struct {
		name string
		traffic
		p90 int
	}{
		{"100 rps to the changed units, 1 % failures before", traffic{rps: 100, share: 0.1, base: 0.01, ratio: 5}, 1},
		{"100 rps, bursts of failures", traffic{rps: 100, share: 0.1, base: 0.01, ratio: 5, incidents: true}, 1},
		{"30 rps, a third of the units", traffic{rps: 30, share: 0.3, base: 0.01, ratio: 5}, 3},
		{"10 rps, 5 % failures before", traffic{rps: 10, share: 0.1, base: 0.05, ratio: 5}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var at []int
			for i := range uint64(trials) {
				n := newPlay(tt.traffic, i).found(180, 1/spend(0.05, 2, 0, 4))
				if n == 0 {
					n = math.MaxInt
				}
				at = append(at, n)
			}
			slices.Sort(at)
			require.LessOrEqual(t, at[trials*9/10], tt.p90)
		})
	}
}

func TestABetterVersionMakesNoEvidence(t *testing.T) {
	p := newPlay(traffic{rps: 100, share: 0.1, base: 0.02, ratio: 0.2}, 1)
	require.Zero(t, p.found(180, 20))
}

func TestAlphaIsSpentAtMostOnce(t *testing.T) {
	for waves := 1; waves <= 8; waves++ {
		total := 0.0
		for wave := range waves {
			total += 2 * spend(0.05, 2, wave, waves)
		}
		require.InDelta(t, 0.05, total, 1e-12, "%d waves", waves)
	}
}

func TestTheBoundOfThePastHoldsAsOftenAsItSays(t *testing.T) {
	const trials, requests, rate = 4000, 2000, 0.01
	misses := 0.0
	for i := range uint64(trials) {
		p := newPlay(traffic{}, i)
		if upperRate(requests, p.poisson(requests*rate), 0.025) < rate {
			misses++
		}
	}
	require.LessOrEqual(t, wilson(misses, trials), 0.025)
	require.InDelta(t, math.Log(40)/2000, upperRate(2000, 0, 0.025), 1e-6, "the rule of three, for another alpha")
}

func TestBetsThatSayNothingChangeNothing(t *testing.T) {
	var b Bets
	for _, x := range [][4]float64{
		{0, 1, 1, 1}, {1, 1, 1, 1}, {0.5, 0, 0, 1}, {math.NaN(), 1, 1, 1}, {0.5, math.NaN(), 1, 1}, {0.5, math.Inf(1), 1, 1}, {0.5, -1, 3, 1},
	} {
		b.Add(x[0], x[1], x[2], x[3])
	}
	require.InDelta(t, 1, b.Capital(1), 0)
}
