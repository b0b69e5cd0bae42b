//go:build mutant_nofence || mutant_locallock

package store

import "github.com/jackc/pgx/v5/pgconn"

// A store without its fences, for tests/crash: it must be caught. The
// conditions hold for every row, and the parameters keep their types.
const (
	fenceCondition     = "$4::bigint IS NOT NULL"
	versionCondition   = "$3::bigint IS NOT NULL"
	slotCondition      = "$4::bigint IS NOT NULL AND coalesce($5::text, '') IS NOT NULL"
	transitionConflict = " ON CONFLICT DO NOTHING"
)

// changesOne lets everything pass: without a condition nobody counts.
func changesOne(pgconn.CommandTag) error { return nil }
