package analysis

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/target"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func spec(t require.TestingT, a intent.AnalysisSpec) Spec {
	s, err := NewSpec(a)
	require.NoError(t, err)
	return s
}

// A unit is a source of samples: what it does in each interval is given.
type unit struct {
	name, instance string
	now            Sample
	out            []Sample
}

func newUnit(name, instance string) *unit {
	return &unit{name: name, instance: instance, now: Sample{
		Unit: name, Instance: instance, At: noon, CPULimit: 400, CPU: 10, Memory: 100 << 20, MemoryLimit: 1 << 30,
		Latency: make([]int64, len(target.LatencyBounds)+1),
	}}
}

// runs lets the unit answer for a number of intervals of ten seconds: requests in
// each, failures among them, all in one bucket of the histogram.
func (u *unit) runs(intervals int, requests, failures int64, bucket int) *unit {
	if len(u.out) == 0 {
		u.out = append(u.out, u.copy())
	}
	for range intervals {
		u.now.At = u.now.At.Add(10 * time.Second)
		u.now.Requests += requests
		u.now.Errors += failures
		u.now.Latency[bucket] += requests
		u.now.LatencySum += float64(requests) * 0.01
		u.out = append(u.out, u.copy())
	}
	return u
}

func (u *unit) copy() Sample {
	s := u.now
	s.Latency = append([]int64(nil), u.now.Latency...)
	return s
}

func samples(units ...*unit) (out []Sample) {
	for _, u := range units {
		out = append(out, u.out...)
	}
	return out
}

func TestACanaryIsComparedWithTheOthers(t *testing.T) {
	arms := Arms{Changed: []string{"a"}, Others: []string{"b", "c"}}
	others := func() []*unit {
		return []*unit{newUnit("b", "old").runs(30, 100, 1, 3), newUnit("c", "old").runs(30, 100, 1, 3)}
	}
	tests := map[string]struct {
		changed *unit
		now     time.Duration
		want    Verdict
		says    string
	}{
		"no worse for long enough":      {newUnit("a", "new").runs(30, 100, 1, 3), 5 * time.Minute, Healthy, "errors 1 % of 3000 requests against 1 % of 6000 requests"},
		"no worse, not for long enough": {newUnit("a", "new").runs(20, 100, 1, 3), 200 * time.Second, Insufficient, "watched for 3m20s of at least 5m0s"},
		"five times the failures":       {newUnit("a", "new").runs(3, 100, 5, 3), 30 * time.Second, Harmful, "errors 5 % of 300 requests against 1 % of"},
		"much slower":                   {newUnit("a", "new").runs(6, 100, 1, 8), time.Minute, Harmful, "latency: slow answers 1e+02 % of 600 requests"},
		"faster":                        {newUnit("a", "new").runs(30, 100, 1, 0), 5 * time.Minute, Healthy, "latency"},
		"no traffic":                    {newUnit("a", "new").runs(30, 0, 0, 3), 5 * time.Minute, Insufficient, "errors of no requests"},
		"too little traffic":            {newUnit("a", "new").runs(30, 3, 0, 3), 5 * time.Minute, Insufficient, "at least 100 requests are needed"},
		"only what another version did": {newUnit("a", "other").runs(30, 100, 0, 3), 5 * time.Minute, Insufficient, "of no requests"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := Compare(spec(t, intent.AnalysisSpec{}), arms, "new", 0, 4, samples(append(others(), tt.changed)...), nil, noon, noon.Add(tt.now))
			require.Equal(t, tt.want, r.Verdict, r.Reason)
			require.Contains(t, r.Reason, tt.says)
		})
	}
}

func TestAResetIsNotRead(t *testing.T) {
	a := newUnit("a", "new").runs(10, 100, 0, 3)
	a.now.Requests, a.now.Errors, a.now.LatencySum, a.now.Restarts = 0, 0, 0, 1
	a.now.Latency = make([]int64, len(target.LatencyBounds)+1)
	a.now.At = a.now.At.Add(10 * time.Second)
	a.out = append(a.out, a.copy())
	a.runs(10, 100, 0, 3)
	require.InDelta(t, 2000, sum(spans(a.out)).requests, 0, "what happened across the restart is not known")
}

func TestTheLastWaveIsComparedWithItsOwnPast(t *testing.T) {
	arms := Arms{Changed: []string{"a"}}
	past := newUnit("a", "old").runs(30, 100, 1, 3)
	switched := past.now.At
	after := func(failures int64, intervals int) *unit {
		u := newUnit("a", "new")
		u.now.At = switched
		return u.runs(intervals, 100, failures, 3)
	}
	judge := func(now time.Duration, units ...*unit) Result {
		return Compare(spec(t, intent.AnalysisSpec{}), arms, "new", 3, 4, samples(units...), nil, switched, switched.Add(now))
	}
	r := judge(5*time.Minute, past, after(1, 30))
	require.Equal(t, Healthy, r.Verdict, r.Reason)
	require.Contains(t, r.Reason, "against its own past")
	r = judge(time.Minute, past, after(6, 6))
	require.Equal(t, Harmful, r.Verdict, r.Reason)
	r = judge(5*time.Minute, after(0, 30))
	require.Equal(t, Insufficient, r.Verdict, "without a past nothing is compared: "+r.Reason)
}

func TestAMetricThatIsReadElsewhere(t *testing.T) {
	s := spec(t, intent.AnalysisSpec{Metrics: []intent.Metric{{Name: "paid", Type: "errors", Prometheus: intent.Prometheus{Source: "main"}}}})
	series := func(failures float64, points int) (out []Point) {
		for i := range points {
			out = append(out, Point{At: noon.Add(time.Duration(i) * 10 * time.Second), Requests: float64(i) * 100, Failures: float64(i) * failures})
		}
		return out
	}
	judge := func(x ...MetricSeries) Result {
		return Compare(s, Arms{Changed: []string{"a"}, Others: []string{"b"}}, "new", 0, 4, nil, x, noon, noon.Add(5*time.Minute))
	}
	require.Equal(t, Healthy, judge(MetricSeries{Name: "paid", Changed: series(1, 31), Others: series(1, 31)}).Verdict)
	require.Equal(t, Harmful, judge(MetricSeries{Name: "paid", Changed: series(9, 31), Others: series(1, 31)}).Verdict)
	r := judge()
	require.Equal(t, Insufficient, r.Verdict)
	require.Contains(t, r.Reason, "paid could not be read from main")
	bad := series(0, 31)
	for i := range bad {
		bad[i].Requests = math.NaN()
	}
	require.Equal(t, Insufficient, judge(MetricSeries{Name: "paid", Changed: bad, Others: series(0, 31)}).Verdict)
}

// TestNothingPassesWithoutEnoughFiniteSamples plays series of every kind that a
// fleet can send.
func TestNothingPassesWithoutEnoughFiniteSamples(t *testing.T) {
	s := spec(t, intent.AnalysisSpec{})
	arms := Arms{Changed: []string{"a"}, Others: []string{"b"}}
	strange := []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 0, 1e308}
	rapid.Check(t, func(t *rapid.T) {
		var all []Sample
		good := map[string]int64{}
		for _, name := range []string{"a", "b"} {
			u := newUnit(name, map[string]string{"a": "new", "b": "old"}[name])
			u.runs(0, 0, 0, 0)
			for range rapid.IntRange(0, 40).Draw(t, "readings") {
				requests := rapid.Int64Range(0, 5).Draw(t, "requests")
				before := u.now
				u.runs(1, requests, rapid.Int64Range(0, requests).Draw(t, "failures"), rapid.IntRange(0, 13).Draw(t, "bucket"))
				last := &u.out[len(u.out)-1]
				switch rapid.IntRange(0, 5).Draw(t, "what") {
				case 0:
					last.LatencySum = rapid.SampledFrom(strange).Draw(t, "value")
				case 1:
					last.Requests, last.Errors = -1, rapid.Int64().Draw(t, "errors")
				case 2:
					u.out = u.out[:len(u.out)-1] // lost
					u.now = before
					u.now.Latency = append([]int64(nil), u.now.Latency...)
					u.now.At = u.now.At.Add(10 * time.Second)
				case 3:
					last.Restarts = rapid.IntRange(0, 2).Draw(t, "restarts")
				}
			}
			for i := 1; i < len(u.out); i++ {
				if n := u.out[i].Requests - u.out[i-1].Requests; n > 0 {
					good[name] += n
				}
			}
			all = append(all, u.out...)
		}
		r := Compare(s, arms, "new", 0, 1, all, nil, noon, noon.Add(time.Hour))
		if r.Verdict == Healthy && (good["a"] < s.MinRequests || good["b"] < s.MinRequests) {
			t.Fatalf("passed on %v requests: %s", good, r.Reason)
		}
		if Compare(s, arms, "new", 0, 1, nil, nil, noon, noon.Add(time.Hour)).Verdict == Healthy {
			t.Fatal("passed on nothing")
		}
	})
}
