package analysis

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/target"
)

// Arms are the units that run the release, and the others.
type Arms struct{ Changed, Others []string }

// A MetricSeries is a metric that was read elsewhere: counters of the two arms, and of
// the same units before the change.
type MetricSeries struct {
	Name                    string
	Changed, Others         []Point
	ChangedPast, OthersPast []Point
}

// A Point is one reading of an arm's counters. It may be anything that a server
// answers, not numbers included.
type Point struct {
	At                 time.Time
	Requests, Failures float64
}

// slower is how much more often than the others an arm may answer slowly: the
// buckets of a histogram are coarse.
const slower = 1.25

// slowShare is the share of the others' answers that count as slow.
const slowShare = 0.1

// Compare judges one wave of a canary from what was seen since a time: the changed
// units, which run instance, against the others. Where there are no others, it is
// against what the same units did before since. Wave counts from 0.
//
// It is harmful as soon as the evidence of a metric reaches what it needs, and
// healthy when the wave was watched for long enough, the changed units answered
// enough requests, every metric was read, and none is harmful.
func Compare(s Spec, a Arms, instance string, wave, waves int, samples []Sample, extra []MetricSeries, since, now time.Time) Result {
	former := func(x string) bool { return x != instance }
	w := watched{
		changed:    armOf(samples, a.Changed, func(x string) bool { return x == instance }, since, now),
		others:     armOf(samples, a.Others, former, since, now),
		past:       armOf(samples, a.Changed, former, time.Time{}, since),
		othersPast: armOf(samples, a.Others, former, time.Time{}, since),
		alone:      len(a.Others) == 0,
	}
	var results []MetricResult
	for _, m := range s.Metrics {
		alpha := spend(s.Alpha, len(s.Metrics), wave, waves)
		seen := w
		if m.Prometheus.Source != "" {
			i := slices.IndexFunc(extra, func(x MetricSeries) bool { return x.Name == m.Name })
			if i < 0 {
				results = append(results, MetricResult{Name: m.Name, Verdict: Insufficient, Needed: 1 / alpha, Detail: m.Name + " could not be read from " + m.Prometheus.Source})
				continue
			}
			x := extra[i]
			seen = watched{
				changed: pointSpans(x.Changed), others: pointSpans(x.Others),
				past: pointSpans(x.ChangedPast), othersPast: pointSpans(x.OthersPast), alone: w.alone,
			}
		}
		results = append(results, seen.judge(s, m, alpha))
	}
	return s.conclude(results, now.Sub(since))
}

// conclude draws the verdict from what the metrics say.
func (s Spec) conclude(results []MetricResult, watchedFor time.Duration) Result {
	r := Result{Verdict: Healthy, Metrics: results}
	var details []string
	for _, m := range results {
		switch {
		case m.Verdict == Harmful:
			return Result{Verdict: Harmful, Reason: m.Detail, Metrics: results}
		case m.Verdict == Insufficient:
			r.Verdict = Insufficient
		}
		details = append(details, m.Detail)
	}
	r.Reason = strings.Join(details, "; ")
	if len(results) == 0 {
		r.Verdict, r.Reason = Insufficient, "no metric to judge by"
	}
	if watchedFor < s.For {
		r.Verdict = Insufficient
		r.Reason += fmt.Sprintf("; watched for %s of at least %s", max(watchedFor, 0).Round(time.Second), s.For)
	}
	return r
}

// watched is what was seen of the arms, and of the same units before the change.
type watched struct {
	changed, others, past, othersPast []span
	alone                             bool // there are no others
}

// armOf returns the spans of an arm's units that lie between two times.
func armOf(samples []Sample, units []string, is func(instance string) bool, from, to time.Time) []span {
	var out []span
	for _, u := range units {
		instances := map[string]bool{}
		for _, x := range samples {
			if x.Unit == u && is(x.Instance) && !instances[x.Instance] {
				instances[x.Instance] = true
				for _, sp := range spans(byUnit(samples, u, x.Instance)) {
					if !sp.from.Before(from) && !sp.to.After(to) {
						out = append(out, sp)
					}
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b span) int { return a.to.Compare(b.to) })
	return out
}

// pointSpans returns the increments of counters that were read elsewhere.
func pointSpans(points []Point) []span {
	points = slices.Clone(points)
	slices.SortFunc(points, func(a, b Point) int { return a.At.Compare(b.At) })
	var out []span
	for i := 1; i < len(points); i++ {
		a, b := points[i-1], points[i]
		requests, failures := b.Requests-a.Requests, b.Failures-a.Failures
		if !(requests >= 0) || !(failures >= 0) || failures > requests || math.IsInf(requests, 0) || !b.At.After(a.At) {
			continue // not a number, a reset, or no sense: what happened is not known
		}
		out = append(out, span{from: a.At, to: b.At, counts: counts{requests: requests, failures: failures}})
	}
	return out
}

// judge plays the bets of one metric.
func (w watched) judge(s Spec, m intent.Metric, alpha float64) MetricResult {
	r := MetricResult{Name: m.Name, Needed: 1 / alpha, Verdict: Insufficient}
	total, others := sum(w.changed), sum(w.others)
	if w.alone {
		others = sum(w.past)
	}
	fails, tolerated := func(c counts) float64 { return c.failures }, 1.0
	if m.Type == intent.MetricLatency {
		fails, tolerated = slow(s, others), slower
	}
	dispersion := Dispersion(w.deviations(s, m))
	switch {
	case w.alone && others.requests > 0:
		bound := upperRate(others.requests, fails(others), alpha/2)
		r.Evidence, r.Needed = pastCapital(total.requests, fails(total), bound, tolerated, dispersion), 2/alpha
	case !w.alone:
		r.Evidence = w.play(s, m, tolerated, dispersion)
	}
	r.Detail = detail(m, total, others, fails, w.alone)
	if dispersion > 1 {
		r.Detail += fmt.Sprintf(" (before the change these units fluctuated %.2g times as much as chance does)", dispersion)
	}
	switch {
	case r.Evidence >= r.Needed:
		r.Verdict = Harmful
	case total.readable(m) < float64(s.MinRequests):
		r.Detail += fmt.Sprintf(" (at least %d requests are needed)", s.MinRequests)
	case others.readable(m) < float64(s.MinRequests):
		r.Detail += fmt.Sprintf(" (at least %d requests to compare with are needed)", s.MinRequests)
	default:
		r.Verdict = Healthy
	}
	return r
}

// readable is how many of the requests the metric could be read of.
func (c counts) readable(m intent.Metric) float64 {
	if m.Type != intent.MetricLatency {
		return c.requests
	}
	n := 0.0
	for _, x := range c.buckets {
		n += x
	}
	return n
}

// play bets span by span. What counts as slow in a span is fixed by what the
// others answered before it.
func (w watched) play(s Spec, m intent.Metric, tolerated, dispersion float64) float64 {
	var bets Bets
	var before counts
	for _, round := range rounds(w.changed, w.others, s.Interval) {
		fails := func(c counts) float64 { return c.failures }
		if m.Type == intent.MetricLatency {
			fails = slow(s, before)
		}
		if all := round.changed.requests + round.others.requests; all > 0 {
			bets.Add(round.changed.requests/all, fails(round.changed), fails(round.others), tolerated)
		}
		before.add(round.others)
	}
	return bets.Capital(dispersion)
}

// deviations are how far the units were off what chance has them, before they were
// changed: against the others, or where there are none against their own rate.
func (w watched) deviations(s Spec, m intent.Metric) []Deviation {
	fails := func(c counts) float64 { return c.failures }
	if m.Type == intent.MetricLatency {
		fails = slow(s, sum(w.othersPast))
		if w.alone {
			fails = slow(s, sum(w.past))
		}
	}
	var out []Deviation
	if w.alone {
		all := sum(w.past)
		rate := fails(all) / all.requests
		for _, x := range w.past {
			expected := x.requests * rate
			out = append(out, Deviation{At: x.to, Off: fails(x.counts) - expected, Variance: expected})
		}
		return out
	}
	for _, r := range rounds(w.past, w.othersPast, pastInterval) {
		if all := r.changed.requests + r.others.requests; all > 0 {
			out = append(out, SplitDeviation(r.at, r.changed.requests/all, fails(r.changed), fails(r.others)))
		}
	}
	return out
}

// pastInterval is how long the spans are in which the past is put together: units are
// read once in a minute while nothing is changed.
const pastInterval = time.Minute

// A round is what both arms did in one interval.
type round struct {
	at              time.Time // beginning of the interval
	changed, others counts
}

// rounds puts the spans of both arms into intervals by the time of their end. An
// interval in which one of the arms answered nothing says nothing.
func rounds(changed, others []span, interval time.Duration) []round {
	at := map[int64]*round{}
	put := func(spans []span, arm func(*round) *counts) {
		for _, x := range spans {
			key := x.to.UnixNano() / int64(interval)
			if at[key] == nil {
				at[key] = &round{at: time.Unix(0, key*int64(interval)).UTC()}
			}
			arm(at[key]).add(x.counts)
		}
	}
	put(changed, func(r *round) *counts { return &r.changed })
	put(others, func(r *round) *counts { return &r.others })
	keys := make([]int64, 0, len(at))
	for k := range at {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var out []round
	for _, k := range keys {
		out = append(out, *at[k])
	}
	return out
}

func sum(spans []span) counts {
	var c counts
	for _, x := range spans {
		c.add(x.counts)
	}
	return c
}

// slow returns how to count slow answers: those above the bucket that holds all
// but slowShare of the answers so far, and never those below the noise. With no
// answers so far nothing counts as slow.
func slow(s Spec, before counts) func(counts) float64 {
	total := before.readable(intent.Metric{Type: intent.MetricLatency})
	if total == 0 {
		return func(counts) float64 { return 0 }
	}
	bucket, below := 0, 0.0
	for bucket < len(before.buckets)-1 {
		below += before.buckets[bucket]
		if below >= (1-slowShare)*total && target.LatencyBounds[bucket] >= s.Stabilization.NoiseLatency {
			break
		}
		bucket++
	}
	return func(c counts) float64 {
		n := 0.0
		for i := bucket + 1; i < len(c.buckets); i++ {
			n += c.buckets[i]
		}
		return n
	}
}

// detail is what a metric says, with its numbers.
func detail(m intent.Metric, changed, others counts, fails func(counts) float64, alone bool) string {
	rate := func(c counts) string {
		if c.requests == 0 {
			return "of no requests"
		}
		return fmt.Sprintf("%.2g %% of %.0f requests", 100*fails(c)/c.requests, c.requests)
	}
	against := "against"
	if alone {
		against = "against its own past,"
	}
	what := m.Name
	if m.Type == intent.MetricLatency {
		what += ": slow answers"
	}
	return fmt.Sprintf("%s %s %s %s", what, rate(changed), against, rate(others))
}
