//go:build mutant_ackfirst

package crash_test

const answersEarly = true
