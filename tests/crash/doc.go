// Package crash holds no code, only tests: a release is interrupted at every
// point where a process can die, and must end as if nothing had happened.
//
// A point is one PostgreSQL round trip of worker A, or one HTTP call to a worker.
// At a round trip A dies (before it is sent, or after the server acted), stands
// still until worker B has done everything or a little, and wakes up as a zombie,
// or loses its connection and does not know what was committed. A call is lost,
// or its answer is, or either comes when all is done. After each point the same
// list of invariants is checked. What two scenarios have in common is cut once.
//
// Time is given, not waited for: leases last an hour and end by an SQL statement.
//
// `go test` runs a sample. With HOTSWAP_CRASH=full (make test-crash) every point
// is run, a longer storm of killed processes, and the builds with a deliberate
// fault (mutant_nofence, mutant_locallock, mutant_ackfirst, mutant_auditoutside)
// must each be caught.
package crash
