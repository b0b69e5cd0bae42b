package analysis

import (
	"math"
	"slices"
	"time"
)

// Bounds of a calibration.
const (
	fewestBlocks  = 5   // of the past, to tell chance from fluctuation
	mostDispersed = 100 // a past that is worse than this excuses nothing more
	// tailOfBlocks makes up for correlation that reaches beyond a block.
	tailOfBlocks = 1.5
)

// blockLengths are over how long deviations are added up: what fluctuates for minutes
// shows in sums over minutes only.
func blockLengths() []time.Duration { return []time.Duration{4 * time.Minute, 12 * time.Minute} }

// A Deviation is how far an arm was off what chance alone would have it, in one span of
// the past: Off failures more than expected, where chance has the given Variance.
type Deviation struct {
	At            time.Time // end of the span
	Off, Variance float64
}

// SplitDeviation is that of an arm that answered share of the requests and had failed
// of the failures, while the other arm had others.
func SplitDeviation(at time.Time, share, failed, others float64) Deviation {
	all := failed + others
	return Deviation{At: at, Off: failed - share*all, Variance: all * share * (1 - share)}
}

// Dispersion tells by how much more an arm fluctuated in the past than chance has it:
// the variance of its deviations over blocks of minutes, divided by that of chance. It
// is 1 where the past does not say more, and where there is too little of it.
//
// It is the dispersion parameter of a quasi-likelihood (Wedderburn, "Quasi-likelihood
// functions, generalized linear models, and the Gauss-Newton method", Biometrika 1974),
// estimated from batch means. What chance explains at the 2 % level counts as chance:
// the sum of squares is compared with the quantile of chi-squared, by Wilson and
// Hilferty's approximation.
func Dispersion(past []Deviation) float64 {
	most := 1.0
	for _, length := range blockLengths() {
		squares, blocks := 0.0, 0.0
		for _, b := range blocksOf(past, length) {
			if b.Variance > 0 {
				squares += b.Off * b.Off / b.Variance
				blocks++
			}
		}
		if blocks >= fewestBlocks && squares > chiSquared(blocks, 2.0537489106318225) {
			most = max(most, tailOfBlocks*squares/blocks)
		}
	}
	return min(most, mostDispersed)
}

// blocksOf adds up deviations in blocks of time.
func blocksOf(past []Deviation, length time.Duration) []Deviation {
	sums := map[int64]Deviation{}
	for _, d := range past {
		if math.IsNaN(d.Off) || math.IsInf(d.Off, 0) || !(d.Variance > 0) || math.IsInf(d.Variance, 0) {
			continue
		}
		key := d.At.UnixNano() / int64(length)
		s := sums[key]
		sums[key] = Deviation{Off: s.Off + d.Off, Variance: s.Variance + d.Variance}
	}
	keys := make([]int64, 0, len(sums))
	for k := range sums {
		keys = append(keys, k)
	}
	slices.Sort(keys) // sums of floats depend on their order
	out := make([]Deviation, 0, len(keys))
	for _, k := range keys {
		out = append(out, sums[k])
	}
	return out
}

// chiSquared is the quantile of the chi-squared distribution with n degrees of freedom
// at the normal quantile z (Wilson and Hilferty 1931).
func chiSquared(n, z float64) float64 {
	x := 1 - 2/(9*n) + z*math.Sqrt(2/(9*n))
	return n * x * x * x
}
