//go:build mutant_nofence && !mutant_locallock

package store

const claimQuery = "SELECT * FROM claim_due($1, $2, $3)"
