package simulation_test

import (
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/target"
)

// A quality is how a version does. It stands in the version's name, "7-crashes",
// so that who reads a story sees why.
type quality string

const (
	good     quality = "good"
	unfit    quality = "unfit"    // never starts
	unready  quality = "unready"  // its smoke test fails
	crashing quality = "crashing" // crashes soon after traffic came
	failing  quality = "failing"  // five times the errors
	slow     quality = "slow"     // ten times the answer time
)

func qualityOf(version string) quality {
	_, q, _ := strings.Cut(version, "-")
	return quality(q)
}

// Times of an instance.
const (
	fetchTime   = time.Second
	startTime   = 2 * time.Second // until healthy
	startWithin = 20 * time.Second
	crashAfter  = 3 * time.Second // of traffic
	crashPause  = 2 * time.Second
	crashes     = 3 // until it is given up
)

// An instance is a module that a node has, on its way or running.
type instance struct {
	number   uint64 // of all that its node ever made
	spec     *target.Instance
	position target.Position // of the order that made it
	made     time.Time
	healthy  time.Time // from when it is
	restarts int
	broken   target.Reason // it cannot be had
	crashed  time.Time     // at last
	served   time.Time     // since when it has traffic; zero: never had
	counted  time.Time     // up to when it was counted

	requests, errors, slow float64
	smoke                  *target.SmokeReport
	tested                 time.Time // when its smoke test began
}

func (n *node) newInstance(spec *target.Instance, at target.Position, now time.Time) *instance {
	n.made++
	return &instance{number: n.made, spec: spec, position: at, made: now, healthy: now.Add(fetchTime + startTime)}
}

// pass lets time go by for the instance.
func (i *instance) pass(now time.Time, serves bool) {
	if i.broken != "" {
		return
	}
	q := qualityOf(i.spec.Module.Version)
	if q == unfit {
		if !now.Before(i.made.Add(startWithin)) {
			i.broken = target.NeverHealthy
		}
		return
	}
	if !serves || i.phase(now) != target.Healthy {
		i.counted = now
		return
	}
	if i.served.IsZero() {
		i.served, i.counted = now, now
	}
	i.count(now, q)
	if q == crashing && !now.Before(i.served.Add(crashAfter)) {
		i.crash(now)
	}
}

// count counts what was asked of it: twenty requests a second, of which one in a
// hundred fails, and all but a few answers are quick.
func (i *instance) count(now time.Time, q quality) {
	n := 20 * now.Sub(i.counted).Seconds()
	fails, slowly := 0.01, 0.02
	if q == failing {
		fails = 0.05
	}
	if q == slow {
		slowly = 0.9
	}
	i.requests, i.errors, i.slow, i.counted = i.requests+n, i.errors+n*fails, i.slow+n*slowly, now
}

func (i *instance) crash(now time.Time) {
	i.crashed = now
	if i.restarts++; i.restarts > crashes {
		i.broken = target.StartFailed
		return
	}
	i.healthy, i.served = now.Add(crashPause), time.Time{}
	i.requests, i.errors, i.slow = 0, 0, 0
}

func (i *instance) phase(now time.Time) target.Phase {
	switch {
	case i.broken != "":
		return target.Failed
	case now.Before(i.made.Add(fetchTime)):
		return target.Fetching
	case qualityOf(i.spec.Module.Version) == unfit:
		return target.Starting
	case !now.Before(i.healthy):
		return target.Healthy
	case i.restarts > 0:
		return target.Unhealthy
	default:
		return target.Starting
	}
}

// next is when the instance will be otherwise by itself; zero: never.
func (i *instance) next(now time.Time) time.Time {
	q := qualityOf(i.spec.Module.Version)
	switch at := i.made.Add(startWithin); {
	case i.broken != "":
		return time.Time{}
	case q == unfit:
		return at
	case now.Before(i.healthy):
		return i.healthy
	case q == crashing && !i.served.IsZero():
		return i.served.Add(crashAfter)
	}
	return time.Time{}
}

// test asks the standby what the order asks. How long it has done so is measured, and
// not taken from the clock of its node, which jumps; in the mutant it is.
func (i *instance) test(s *target.Smoke, now, clock time.Time, wall bool) {
	if s == nil {
		i.smoke = nil
		return
	}
	if i.phase(now) != target.Healthy {
		return
	}
	if i.smoke == nil || i.smoke.Path != s.Path {
		i.smoke, i.tested = &target.SmokeReport{Path: s.Path, Since: clock}, now
	}
	if now.Sub(i.tested) < time.Duration(i.smoke.Passed+i.smoke.Failed)*time.Second { // once a second
		return
	}
	n := *i.smoke // the one before was told already
	if n.Last = n.Since.Add(now.Sub(i.tested)); wall {
		n.Last = clock
	}
	if qualityOf(i.spec.Module.Version) == unready {
		n.Failed, n.Detail = n.Failed+1, "answered 500"
	} else {
		n.Passed++
	}
	i.smoke = &n
}

// report is what its node tells of it.
func (i *instance) report(now time.Time) *target.InstanceReport {
	r := &target.InstanceReport{
		Digest: i.spec.Digest, Version: i.spec.Module.Version, Phase: i.phase(now), Reason: i.broken, Since: i.made,
		Restarts: i.restarts, CPU: 5, Memory: 64 << 20, CPULimit: 100, MemoryLimit: 1 << 30, Smoke: i.smoke,
		Requests: int64(i.requests), Errors: int64(i.errors),
	}
	r.Latency = make([]int64, len(target.LatencyBounds)+1)
	late := int64(i.slow)
	r.Latency[3], r.Latency[6] = r.Requests-late, late // 10 ms, 100 ms
	r.LatencySum = float64(r.Requests-late)*0.008 + float64(late)*0.08
	return r
}
