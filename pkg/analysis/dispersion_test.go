package analysis

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hotswap.dev/hotswap/pkg/intent"
)

// minutes are an hour of deviations from chance, each with the given factor beside chance.
func minutes(seed uint64, factor func(minute int, rng *rand.Rand) float64) []Deviation {
	p := newPlay(traffic{}, seed)
	var out []Deviation
	for i := range 60 {
		f := factor(i, p.rng)
		out = append(out, SplitDeviation(noon.Add(time.Duration(i)*time.Minute), 0.1, p.poisson(10*f), p.poisson(90)))
	}
	return out
}

func TestChanceAloneSeldomCountsAsFluctuation(t *testing.T) {
	const trials = 4000
	hits := 0.0
	for i := range uint64(trials) {
		if Dispersion(minutes(i, func(int, *rand.Rand) float64 { return 1 })) > 1 {
			hits++
		}
	}
	require.LessOrEqual(t, wilson(hits, trials), 0.06, "%v of %d: two block lengths at 2 %%, and a normal approximation", hits, trials)
	require.Positive(t, hits)
}

func TestWhatFluctuatesForMinutesIsSeen(t *testing.T) {
	for name, factor := range map[string]func(int, *rand.Rand) float64{
		"up and down every ten minutes": func(i int, _ *rand.Rand) float64 { return 1 + 0.5*float64((i/10)%2*2-1) },
		"a unit that always fails more": func(int, *rand.Rand) float64 { return 1.5 },
		"one minute of twenty times as much": func(i int, _ *rand.Rand) float64 {
			if i == 30 {
				return 20
			}
			return 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(50) {
				d := Dispersion(minutes(seed, factor))
				require.Greater(t, d, 2.0, "seed %d", seed)
				require.LessOrEqual(t, d, 100.0)
			}
		})
	}
}

func TestALittlePastSaysNothing(t *testing.T) {
	all := minutes(1, func(int, *rand.Rand) float64 { return 5 })
	require.InDelta(t, 1, Dispersion(nil), 0)
	require.InDelta(t, 1, Dispersion(all[:12]), 0, "12 minutes are four blocks at most")
	require.Greater(t, Dispersion(all), 5.0)
}

func TestDispersionHasABoundAndNoOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var past []Deviation
		for i := range rapid.IntRange(0, 80).Draw(t, "minutes") {
			past = append(past, Deviation{
				At:       noon.Add(time.Duration(i) * time.Minute),
				Off:      rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), -1e300})).Draw(t, "off"),
				Variance: rapid.OneOf(rapid.Float64Range(0, 100), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), -1})).Draw(t, "variance"),
			})
		}
		d := Dispersion(past)
		if !(d >= 1 && d <= mostDispersed) {
			t.Fatalf("%v", d)
		}
		turned := slices.Clone(past)
		slices.Reverse(turned)
		if again := Dispersion(turned); math.Abs(again-d) > 1e-9*d {
			t.Fatalf("%v, and in another order %v", d, again)
		}
	})
}

// TestUnitsThatFluctuateOnTheirOwnAreNotTakenForHarm plays fleets in which each arm's
// rate wanders on its own, and looks every ten seconds for half an hour.
func TestUnitsThatFluctuateOnTheirOwnAreNotTakenForHarm(t *testing.T) {
	const trials, looks, keep, sd = 4000, 180, 0.9, 0.3
	for _, rps := range []float64{1, 10, 100} {
		t.Run(fmt.Sprint(rps), func(t *testing.T) {
			t.Parallel()
			hits := 0.0
			for seed := range uint64(trials) {
				w := &wandering{play: newPlay(traffic{rps: rps, share: 0.1, base: 0.01}, seed), keep: keep, sd: sd}
				w.mine, w.theirs = sd*w.rng.NormFloat64(), sd*w.rng.NormFloat64()
				var past []Deviation
				for i := range 60 {
					failed, others := 0.0, 0.0
					for range 6 {
						f, o := w.look()
						failed, others = failed+f, others+o
					}
					past = append(past, SplitDeviation(noon.Add(time.Duration(i)*time.Minute), 0.1, failed, others))
				}
				dispersion := Dispersion(past)
				var bets Bets
				for range looks {
					failed, others := w.look()
					if bets.Add(0.1, failed, others, 1); bets.Capital(dispersion) >= 20 {
						hits++
						break
					}
				}
			}
			t.Logf("%v of %d", hits, trials)
			require.LessOrEqual(t, wilsonAt(hits, trials, 1.645), 0.05, "%v of %d trials, with 95 %% confidence", hits, trials)
		})
	}
}

// wandering is a play whose arms' rates are AR(1) processes of their own, in logarithms.
type wandering struct {
	*play
	mine, theirs, keep, sd float64
}

func (w *wandering) look() (failed, others float64) {
	next := func(x float64) float64 { return w.keep*x + math.Sqrt(1-w.keep*w.keep)*w.sd*w.rng.NormFloat64() }
	w.mine, w.theirs = next(w.mine), next(w.theirs)
	rate := func(x float64) float64 { return w.base * math.Exp(x-w.sd*w.sd/2) }
	n := w.rps * 10
	return w.poisson(n * rate(w.mine)), w.poisson(n * 9 * rate(w.theirs))
}

// TestTheLastWaveIsComparedWithItsPastOnAnyMetric: there are no others any more.
func TestTheLastWaveIsComparedWithItsPastOnAnyMetric(t *testing.T) {
	s := spec(t, intent.AnalysisSpec{Metrics: []intent.Metric{{Name: "checkouts", Type: intent.MetricErrors, Prometheus: intent.Prometheus{Source: "main"}}}, For: "1m"})
	counter := func(from time.Time, n int, failures float64) (out []Point) {
		for i := range n {
			out = append(out, Point{At: from.Add(time.Duration(i) * 10 * time.Second), Requests: float64(i) * 100, Failures: float64(i) * failures})
		}
		return out
	}
	for name, tt := range map[string]struct {
		failures float64
		past     []Point
		want     Verdict
	}{
		"no worse":                      {1, counter(noon.Add(-time.Hour), 361, 1), Healthy},
		"ten times the failures":        {10, counter(noon.Add(-time.Hour), 361, 1), Harmful},
		"without a past":                {1, nil, Insufficient},
		"with a past that is no number": {1, []Point{{At: noon.Add(-time.Hour), Requests: math.NaN()}, {At: noon, Requests: math.Inf(1)}}, Insufficient},
		"with a past without requests":  {1, []Point{{At: noon.Add(-time.Hour)}, {At: noon}}, Insufficient},
	} {
		t.Run(name, func(t *testing.T) {
			x := MetricSeries{Name: "checkouts", Changed: counter(noon, 31, tt.failures), ChangedPast: tt.past}
			r := Compare(s, Arms{Changed: []string{"a"}}, "new", 3, 4, nil, []MetricSeries{x}, noon, noon.Add(5*time.Minute))
			require.Equal(t, tt.want, r.Verdict, r.Reason)
		})
	}
}
