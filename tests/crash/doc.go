// Package crash holds no code, only a test: a release is interrupted at every
// point where a process can die, and must end as if nothing had happened.
//
// A point is one PostgreSQL round trip of worker A or one HTTP call to it. A
// round trip is cut before it is sent or after the server acted, which is the
// death of A, or held until worker B has finished everything, which makes A a
// zombie. A call is lost, or answered and the answer lost, or delayed until all
// is done. After each point the same list of invariants is checked.
//
// Time is given, not waited for: leases last an hour and end by an SQL statement.
//
// `go test` runs a sample. With HOTSWAP_CRASH=full every point is run, and the builds
// with a deliberate fault (mutant_nofence, mutant_locallock, mutant_ackfirst,
// mutant_auditoutside) must each be caught.
package crash
