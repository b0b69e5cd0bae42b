// Package analysis judges from samples whether a version does well: whether its
// units are stable, and whether it fails more or is slower than what ran before.
//
// No data is never good news: a verdict is [Healthy] only when enough finite
// readings say so. The package is pure: no clock, no I/O, no randomness, and the
// same samples give the same verdict whatever their order.
//
// # How harm is found
//
// Failures are counted per span between readings in two arms, the changed units
// and the others. Given how many failed in a span in both arms together, and how
// the requests were split, a version that is no worse takes at most its share of
// them. Each failure is a bet against that, at several strengths of harm at once;
// the capital of the bets is an e-process, whose chance of ever reaching 1/alpha is
// at most alpha, however often one looks (Ville's inequality). This is the test of
// rates under an observed, varying split of Lindon and Malek, "Anytime-Valid
// Inference for Multinomial Count Data", NeurIPS 2022, with a finite mixture and
// one side. Incidents that both arms share change nothing in it. How much the arms
// fluctuate on their own is learned from the hour before the change, see [Dispersion],
// and divides the evidence. One unit that suffers alone for the first time is taken
// for harm: bigger first waves are the remedy.
//
// Slowness is the same test on another event: an answer slower than nine in ten of
// the others' so far.
package analysis

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/target"
)

// A Verdict is what samples say.
type Verdict string

// The verdicts. There is no silent pass: who cannot tell says [Insufficient].
const (
	Healthy      Verdict = "healthy"
	Harmful      Verdict = "harmful"
	Insufficient Verdict = "insufficient"
)

// A Sample is one reading of one instance on one unit. Counters run from the
// start of the instance's process; Restarts tells processes apart.
type Sample struct {
	Unit        string    `json:"unit"`
	At          time.Time `json:"at"`
	Instance    string    `json:"instance"` // digest
	Restarts    int       `json:"restarts"`
	CPU         float64   `json:"cpu"`      // percent of one core
	CPULimit    float64   `json:"cpuLimit"` // 0: not known
	Memory      int64     `json:"memory"`   // bytes
	MemoryLimit int64     `json:"memoryLimit"`
	Requests    int64     `json:"requests"`
	Errors      int64     `json:"errors"`
	Latency     []int64   `json:"latency"`    // counts per bucket of target.LatencyBounds, last is the rest
	LatencySum  float64   `json:"latencySum"` // seconds
}

// A Result is a verdict with what led to it.
type Result struct {
	Verdict Verdict        `json:"verdict"`
	Reason  string         `json:"reason"` // one sentence for a person, with the numbers
	Metrics []MetricResult `json:"metrics,omitempty"`
}

// A MetricResult is what one metric says.
type MetricResult struct {
	Name     string  `json:"name"`
	Verdict  Verdict `json:"verdict"`
	Detail   string  `json:"detail"`
	Evidence float64 `json:"evidence"` // against "no worse": the capital of the bets
	Needed   float64 `json:"needed"`   // evidence that is called harm
}

// ErrSpec reports an analysis that a schema would have refused.
var ErrSpec = errors.New("not an analysis")

// A Spec is an intent.AnalysisSpec with its values read and its defaults filled in.
type Spec struct {
	Stabilization Stabilization
	Metrics       []intent.Metric
	Alpha         float64
	Interval      time.Duration
	For           time.Duration
	Maximum       time.Duration
	MinRequests   int64
	Insufficient  string
}

// A Stabilization is an intent.Stabilization with its values read. Changes and
// limits are fractions, noise is in percent of one core, bytes and seconds.
type Stabilization struct {
	Interval              time.Duration
	Checks                int
	Minimum, Maximum      time.Duration
	CPU, Memory, Latency  float64
	CPULimit, MemoryLimit float64
	NoiseCPU              float64
	NoiseMemory           int64
	NoiseLatency          float64
}

// NewSpec reads an analysis as a release froze it.
func NewSpec(a intent.AnalysisSpec) (Spec, error) {
	st := a.Stabilization
	s := Spec{
		Stabilization: Stabilization{
			Interval: duration(st.Interval, "30s"), Checks: cmp.Or(st.Checks, 3),
			Minimum: duration(st.Minimum, "2m"), Maximum: duration(st.Maximum, "30m"),
			CPU: fraction(st.CPU, "10%"), Memory: fraction(st.Memory, "10%"), Latency: fraction(st.Latency, "15%"),
			CPULimit: fraction(st.CPULimit, "80%"), MemoryLimit: fraction(st.MemoryLimit, "80%"),
			NoiseCPU: 100 * fraction(st.Noise.CPU, "2%"), NoiseMemory: intent.Bytes(cmp.Or(st.Noise.Memory, "16Mi")),
			NoiseLatency: duration(st.Noise.Latency, "5ms").Seconds(),
		},
		Metrics: a.Metrics, Alpha: cmp.Or(a.Alpha, 0.05),
		Interval: duration(a.Interval, "10s"), For: duration(a.For, "5m"), Maximum: duration(a.Maximum, "30m"),
		MinRequests: cmp.Or(a.MinRequests, 100), Insufficient: cmp.Or(a.Insufficient, "pause"),
	}
	if len(s.Metrics) == 0 {
		s.Metrics = []intent.Metric{{Name: "errors", Type: intent.MetricErrors}, {Name: "latency", Type: intent.MetricLatency}}
	}
	switch {
	case !(s.Alpha > 0 && s.Alpha < 1):
		return Spec{}, fmt.Errorf("%w: alpha %v is not between 0 and 1", ErrSpec, a.Alpha)
	case s.Interval <= 0 || s.Stabilization.Interval <= 0:
		return Spec{}, fmt.Errorf("%w: an interval of nothing", ErrSpec)
	case s.Stabilization.Checks < 1 || s.MinRequests < 1:
		return Spec{}, fmt.Errorf("%w: checks and minRequests are at least 1", ErrSpec)
	}
	return s, nil
}

func duration(s, otherwise string) time.Duration { return intent.Duration(cmp.Or(s, otherwise)) }

func fraction(s, otherwise string) float64 { return intent.Fraction(cmp.Or(s, otherwise)) }

// finite reports whether a reading can be counted with.
func (s Sample) finite() bool {
	for _, x := range []float64{s.CPU, s.CPULimit, s.LatencySum} {
		if math.IsNaN(x) || math.IsInf(x, 0) || x < 0 {
			return false
		}
	}
	for _, n := range s.Latency {
		if n < 0 {
			return false
		}
	}
	return s.Memory >= 0 && s.Requests >= 0 && s.Errors >= 0 && s.Errors <= s.Requests
}

// byUnit returns the samples of a unit and an instance in the order of their
// times, each time once.
func byUnit(samples []Sample, unit, instance string) []Sample {
	var out []Sample
	for _, s := range samples {
		if s.Unit == unit && s.Instance == instance {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b Sample) int { return a.At.Compare(b.At) })
	return slices.CompactFunc(out, func(a, b Sample) bool { return a.At.Equal(b.At) })
}

// A span is what happened on one arm between two readings.
type span struct {
	from, to time.Time
	counts
}

// counts are requests, and how many of them failed or fell into each bucket.
type counts struct {
	requests, failures float64
	buckets            []float64
}

func (c *counts) add(o counts) {
	c.requests += o.requests
	c.failures += o.failures
	if c.buckets == nil && len(o.buckets) > 0 {
		c.buckets = make([]float64, len(target.LatencyBounds)+1)
	}
	for i, n := range o.buckets {
		if i < len(c.buckets) {
			c.buckets[i] += n
		}
	}
}

// spans returns the increments between the readings of one process. Across a
// restart, a counter that fell or a reading that is none, what happened is not
// known, and it is left out.
func spans(samples []Sample) []span {
	var out []span
	for i := 1; i < len(samples); i++ {
		a, b := samples[i-1], samples[i]
		if !a.finite() || !b.finite() || a.Restarts != b.Restarts || b.Requests < a.Requests || b.Errors < a.Errors {
			continue
		}
		x := span{from: a.At, to: b.At, counts: counts{requests: float64(b.Requests - a.Requests), failures: float64(b.Errors - a.Errors)}}
		if x.failures > x.requests {
			continue
		}
		if len(a.Latency) == len(b.Latency) && len(b.Latency) == len(target.LatencyBounds)+1 {
			x.buckets = make([]float64, len(b.Latency))
			for j := range b.Latency {
				x.buckets[j] = max(0, float64(b.Latency[j]-a.Latency[j]))
			}
		}
		out = append(out, x)
	}
	return out
}
