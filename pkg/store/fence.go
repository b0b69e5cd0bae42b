//go:build !mutant_nofence && !mutant_locallock

package store

import "github.com/jackc/pgx/v5/pgconn"

// claimQuery leases by the database: across processes and machines.
const claimQuery = "SELECT * FROM claim_due($1, $2, $3)"

// fenceCondition is part of every statement that gives a claim back.
const fenceCondition = "fence = $4"

// versionCondition is part of every statement that moves a promotion or a release.
const versionCondition = "version = $3"

// slotCondition is part of the statement that takes or frees a slot.
const slotCondition = "token = $4 AND holder IS NOT DISTINCT FROM $5"

// transitionConflict keeps a second transition from one version an error.
const transitionConflict = ""

// changesOne is [ErrLost] for a statement that did not change exactly one row.
func changesOne(tag pgconn.CommandTag) error {
	return one(tag, nil, ErrLost)
}
