//go:build mutant_locallock

package store

// claimQuery leases nothing: pkg/engine's own lock, in the process, stands in
// for it, which is the fault to be caught.
const claimQuery = `SELECT tenant, kind, id, fence, pokes, attempts FROM claim_due($1, $2, make_interval(secs => 0 * extract(epoch FROM $3::interval)))`
