//go:build !mutant_ackfirst

package crash_test

// answersEarly says that the build answers a delivery before it keeps it, so
// that the round trips of a release have no order that two runs share.
const answersEarly = false
