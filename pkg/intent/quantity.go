package intent

import (
	"math"
	"strconv"
	"strings"
)

// Bytes returns the number of bytes that a quantity such as "512Mi" says, as the
// schemas allow it: a whole number, in bytes or with Ki, Mi or Gi. Empty means
// zero, and so does what is none.
func Bytes(s string) int64 {
	shift := 0
	for suffix, n := range map[string]int{"Ki": 10, "Mi": 20, "Gi": 30} {
		if head, ok := strings.CutSuffix(s, suffix); ok {
			s, shift = head, n
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return 0
	}
	return n << shift
}

// CPU returns the percent of one core that a quantity says: "0.5" is 50, "500m"
// (thousandths of a core) too. Empty means zero, and so does what is none.
func CPU(s string) float64 {
	scale := 100.0
	if head, ok := strings.CutSuffix(s, "m"); ok {
		s, scale = head, 0.1
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || !(n >= 0) || math.IsInf(n, 0) {
		return 0
	}
	return n * scale
}

// Fraction returns the share that a percentage such as "10%" says: 0.1. Empty
// means zero, and so does what is none.
func Fraction(s string) float64 {
	head, ok := strings.CutSuffix(s, "%")
	n, err := strconv.ParseFloat(head, 64)
	if !ok || err != nil || !(n >= 0) || math.IsInf(n, 0) {
		return 0
	}
	return n / 100
}
