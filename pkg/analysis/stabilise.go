package analysis

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// maxGap is how many intervals apart two polls may be and still follow each other.
const maxGap = 3

// Stabilise judges whether every unit is stable since a time: so many polls in a
// row, by the time of the samples, each changed little against the one before and
// within the limits, for at least the minimum. Instance is what the units must
// run. It never finds harm: after the maximum the caller's policy follows.
func Stabilise(s Spec, units []string, instance string, samples []Sample, since, now time.Time) Result {
	st := s.Stabilization
	var open []string
	worst := st.Checks
	for _, u := range units {
		n, why := st.row(byUnit(samples, u, instance), since, now)
		worst = min(worst, n)
		if n < st.Checks {
			open = append(open, fmt.Sprintf("%s: %d of %d polls stable%s", u, n, st.Checks, why))
		}
	}
	switch {
	case len(units) == 0:
		return Result{Verdict: Insufficient, Reason: "no unit to be stable"}
	case len(open) > 0:
		return Result{Verdict: Insufficient, Reason: list(open)}
	case now.Sub(since) < st.Minimum:
		return Result{Verdict: Insufficient, Reason: fmt.Sprintf("stable for %s of at least %s", now.Sub(since).Round(time.Second), st.Minimum)}
	}
	return Result{Verdict: Healthy, Reason: fmt.Sprintf("%d polls in a row stable on every unit", st.Checks)}
}

// list joins what is said of units, at most five of them.
func list(parts []string) string {
	if len(parts) > 5 {
		parts = append(parts[:5:5], "…")
	}
	return strings.Join(parts, "; ")
}

// A poll is the reading that stands for one interval, with the mean answer time
// in seconds since the poll before; NaN when nothing was asked.
type poll struct {
	Sample
	mean float64
}

// row returns how many polls in a row are stable up to the newest, and why the
// row is not longer.
func (st Stabilization) row(samples []Sample, since, now time.Time) (n int, why string) {
	var before *poll
	for _, x := range samples {
		if x.At.Before(since) || x.At.After(now) {
			continue
		}
		if before != nil && x.At.Sub(before.At) < st.Interval {
			continue
		}
		p := poll{Sample: x, mean: math.NaN()}
		if before != nil {
			p.mean = mean(before.Sample, x)
		}
		switch bad := st.unstable(before, p); {
		case bad != "":
			n, why = 0, " ("+bad+")"
		case before != nil:
			n++
		}
		before = &p
	}
	switch {
	case before == nil:
		return 0, " (no sample of it)"
	case now.Sub(before.At) > maxGap*st.Interval:
		return 0, " (no sample since " + before.At.UTC().Format(time.TimeOnly) + ")"
	}
	return n, why
}

// mean is the mean answer time between two readings of one process.
func mean(a, b Sample) float64 {
	n := float64(b.Requests - a.Requests)
	if n <= 0 || a.Restarts != b.Restarts || b.LatencySum < a.LatencySum {
		return math.NaN()
	}
	return (b.LatencySum - a.LatencySum) / n
}

// unstable says why a poll does not follow the one before steadily; empty: it does.
func (st Stabilization) unstable(before *poll, p poll) string {
	switch {
	case !p.finite():
		return "a reading that is no number"
	case p.CPULimit > 0 && p.CPU > st.CPULimit*p.CPULimit:
		return fmt.Sprintf("CPU %.0f %% of what it may use", 100*p.CPU/p.CPULimit)
	case p.MemoryLimit > 0 && float64(p.Memory) > st.MemoryLimit*float64(p.MemoryLimit):
		return fmt.Sprintf("memory %.0f %% of what it may use", 100*float64(p.Memory)/float64(p.MemoryLimit))
	case before == nil:
		return ""
	case p.At.Sub(before.At) > maxGap*st.Interval:
		return "a gap in the samples"
	case p.Restarts != before.Restarts || p.Requests < before.Requests:
		return "it was restarted"
	case !before.finite():
		return "a reading that is no number"
	case rises(before.CPU, p.CPU, st.CPU, st.NoiseCPU):
		return fmt.Sprintf("CPU rose from %.1f %% to %.1f %% of a core", before.CPU, p.CPU)
	case rises(float64(before.Memory), float64(p.Memory), st.Memory, float64(st.NoiseMemory)):
		return fmt.Sprintf("memory rose from %d to %d MiB", before.Memory>>20, p.Memory>>20)
	case rises(before.mean, p.mean, st.Latency, st.NoiseLatency):
		return fmt.Sprintf("answers slowed from %.1f to %.1f ms", 1000*before.mean, 1000*p.mean)
	}
	return ""
}

// rises reports whether b is above a by more than a fraction and more than the
// noise. Less is never unstable; what is not known is not compared.
func rises(a, b, fraction, noise float64) bool { return b-a > noise && b-a > fraction*a }
