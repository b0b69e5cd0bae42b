package analysis

import "math"

// strengths are the rate ratios that are bet on, with equal stakes. They span what
// is worth finding: less is lost to chance, more is found by the last one as well.
var strengths = [...]float64{1.5, 2, 3, 5, 8, 16}

// Bets is the capital of bets that one arm takes more of the failures than its
// share of the requests, at each strength. Its zero value is the beginning: a
// capital of 1. If the true ratio of rates is at most the tolerated one, the capital
// has an expectation of at most 1 at any time that one may stop at.
type Bets struct {
	log   [len(strengths)]float64
	begun bool
}

// Add plays one span: in it the arm answered share of all requests (0 < share < 1)
// and had failed of the failures, the other arm had others. Tolerated is the ratio
// of rates up to which the arm counts as no worse, at least 1.
//
// Given failed+others, a version whose ratio is at most the tolerated one takes
// each failure with a chance of at most q; the bet on a higher ratio pays r/q for
// it and (1-r)/(1-q) for one of the other arm, whose mean is at most 1.
func (b *Bets) Add(share, failed, others, tolerated float64) {
	if !(share > 0 && share < 1) || !(failed >= 0) || !(others >= 0) || failed+others == 0 || math.IsInf(failed+others, 0) {
		return
	}
	b.begun = true
	of := func(ratio float64) float64 { return share * ratio / (share*ratio + 1 - share) }
	q := of(tolerated)
	for i, strength := range strengths {
		r := of(tolerated * strength)
		b.log[i] += failed*math.Log(r/q) + others*math.Log((1-r)/(1-q))
	}
}

// pastCapital is the capital of bets on the whole of what was seen against a rate of failures from the
// past that was bounded above: n requests, failed of them failures. Unlike Add it
// is told the totals so far, each time anew.
func pastCapital(n, failed, rate, tolerated, dispersion float64) float64 {
	var total float64
	for _, strength := range strengths {
		expected := n * rate * tolerated
		total += math.Exp(min((failed*math.Log(strength)-expected*(strength-1))/dispersion, 700))
	}
	return total / float64(len(strengths))
}

// Capital returns what the bets are worth: the evidence against "no worse".
// Dispersion, at least 1, is by how much more the arms fluctuate on their own than
// chance has it, see [Dispersion]: so many times as much says as little.
func (b *Bets) Capital(dispersion float64) float64 {
	var total float64
	for _, l := range b.log {
		total += math.Exp(min(l/dispersion, 700))
	}
	return total / float64(len(strengths))
}

// upperRate bounds the rate of failures of the past from above: with a chance of at
// most alpha the true rate is higher. It is Chernoff's bound for a Poisson count,
// n·r - k + k·log(k/(n·r)) = log(1/alpha), solved for r ≥ k/n.
func upperRate(n, failed, alpha float64) float64 {
	need := math.Log(1 / alpha)
	gap := func(m float64) float64 {
		if failed == 0 {
			return m
		}
		return m - failed + failed*math.Log(failed/m)
	}
	low, high := failed, 2*failed+4*need+4
	for range 60 {
		mid := (low + high) / 2
		if gap(mid) < need {
			low = mid
		} else {
			high = mid
		}
	}
	return high / n
}

// spend returns the alpha of one metric in one wave: metrics share equally, and
// each wave takes half of what is left, the last one all of it. Together it is
// never more than alpha.
func spend(alpha float64, metrics, wave, waves int) float64 {
	half := min(wave+1, max(waves-1, 0))
	return alpha / float64(max(metrics, 1)) / math.Pow(2, float64(half))
}
