package main

import (
	"math"
	"math/rand/v2"
	"time"

	"gonum.org/v1/gonum/stat/distuv"

	"hotswap.dev/hotswap/pkg/analysis"
)

// A mood is how the rate of failures moves: its logarithm is an AR(1) process.
type mood struct {
	name   string
	sd     float64 // of the logarithm, over long times
	memory float64 // share of itself that is left after a look
	shared bool    // both arms have the same, as with a database that they share
}

var moods = []mood{
	{"independent", 0, 0.9, true},
	{"in waves that both arms share", 0.7, 0.9, true},
	{"in waves of each arm's own", 0.3, 0.9, false},
	{"in higher waves of each arm's own", 0.6, 0.9, false},
	{"in slower waves of each arm's own", 0.3, 0.97, false},
}

// hour is how long the past is that is known of both arms before the change, in looks.
const hour = 3600 / interval

// A traffic is what two arms are sent, and how often they fail.
type traffic struct {
	mood
	rps   float64 // to the changed arm, on average
	ratio float64 // of the changed arm's rate of failures to the other's
}

// counts are what one arm did between two looks.
type counts struct{ requests, failures float64 }

// A stream is one trial's traffic.
type stream struct {
	traffic
	rng          *rand.Rand
	changed, all float64 // logarithms of how much more often than base each arm fails
}

func newStream(t traffic, seed uint64) *stream {
	s := &stream{traffic: t, rng: rand.New(rand.NewPCG(seed, 16))}
	s.changed, s.all = s.sd*s.rng.NormFloat64(), s.sd*s.rng.NormFloat64()
	return s
}

// past returns what both arms did in each minute of the hour before the change, as
// they are read while nothing is changed.
func (s *stream) past() []analysis.Deviation {
	var out []analysis.Deviation
	ratio := s.ratio
	s.ratio = 1
	var changed, others counts
	for look := 1; look <= hour; look++ {
		c, o := s.look()
		changed.add(c)
		others.add(o)
		if look%(60/interval) != 0 {
			continue
		}
		if all := changed.requests + others.requests; all > 0 {
			out = append(out, analysis.SplitDeviation(time.Unix(int64(look*interval), 0), changed.requests/all, changed.failures, others.failures))
		}
		changed, others = counts{}, counts{}
	}
	s.ratio = ratio
	return out
}

// look returns what both arms did since the look before.
func (s *stream) look() (changed, others counts) {
	s.all = s.next(s.all)
	s.changed = s.next(s.changed)
	if s.shared {
		s.changed = s.all
	}
	return s.arm(s.rps, s.changed, s.ratio), s.arm(s.rps/share*(1-share), s.all, 1)
}

func (s *stream) next(x float64) float64 {
	return s.memory*x + math.Sqrt(1-s.memory*s.memory)*s.sd*s.rng.NormFloat64()
}

// arm draws the requests of an arm (Poisson) and their failures (binomial). The mean
// of the rate is base times ratio in every mood.
func (s *stream) arm(rps, x, ratio float64) counts {
	n := distuv.Poisson{Lambda: rps * interval, Src: s.rng}.Rand()
	if n == 0 {
		return counts{}
	}
	p := min(1, base*ratio*math.Exp(x-s.sd*s.sd/2))
	return counts{requests: n, failures: distuv.Binomial{N: n, P: p, Src: s.rng}.Rand()}
}
