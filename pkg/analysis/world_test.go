package analysis

import (
	"math"
	"math/rand/v2"
)

// A traffic is a pair of arms under test: requests per second of the changed one,
// its share of all requests, the base rate of failures, and the ratio of the
// changed arm's rate to it. Every look is ten seconds.
type traffic struct {
	rps, share, base, ratio float64
	incidents               bool // failures of both arms come in bursts that last for minutes
}

// A play is a stream of looks with a seed of its own.
type play struct {
	traffic
	rng *rand.Rand
	bad bool // an incident is on
}

func newPlay(t traffic, seed uint64) *play {
	return &play{traffic: t, rng: rand.New(rand.NewPCG(seed, 7))}
}

// look returns the failures of ten seconds in both arms.
func (p *play) look() (failed, others float64) {
	rate := p.base
	if p.incidents { // half a minute to a few minutes of five times the failures
		if p.rng.Float64() < 0.05 {
			p.bad = !p.bad
		}
		if p.bad {
			rate *= 5
		}
	}
	mine := p.rps * 10
	return p.poisson(mine * rate * p.ratio), p.poisson(mine / p.share * (1 - p.share) * rate)
}

// poisson draws a count, by Knuth's product of uniforms.
func (p *play) poisson(mean float64) float64 {
	n, product, limit := 0.0, p.rng.Float64(), math.Exp(-min(mean, 500))
	for product > limit {
		n++
		product *= p.rng.Float64()
	}
	return n
}

// found returns at which look the bets reach what is needed, 0 if at none.
func (p *play) found(looks int, needed float64) int {
	var bets Bets
	for i := range looks {
		failed, others := p.look()
		bets.Add(p.share, failed, others, 1)
		if bets.Capital(1) >= needed {
			return i + 1
		}
	}
	return 0
}
