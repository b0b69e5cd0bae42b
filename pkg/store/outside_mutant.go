//go:build mutant_auditoutside

package store

import (
	"context"
	"sync"

	"hotswap.dev/hotswap/pkg/audit"
)

// later holds the rows of each store's open transaction.
var later = struct {
	mu   sync.Mutex
	rows map[*Store][]audit.Row
}{rows: map[*Store][]audit.Row{}}

// auditOutside keeps the rows for [afterwards].
func auditOutside(s *Store, rows []audit.Row) bool {
	later.mu.Lock()
	defer later.mu.Unlock()
	later.rows[s] = append(later.rows[s], rows...)
	return true
}

// afterwards writes the rows in a transaction of their own, right after their
// change was committed: the fault that tests/crash must catch.
func afterwards(ctx context.Context, s *Store, err error) error {
	later.mu.Lock()
	rows := later.rows[s]
	delete(later.rows, s)
	later.mu.Unlock()
	if err != nil {
		return err
	}
	for _, r := range rows {
		signed, err := s.writer.Sign(r)
		if err != nil {
			return err
		}
		tx, err := s.pool.Begin(ctx)
		if err != nil {
			return err
		}
		_, _ = tx.Exec(ctx, "SELECT set_config('hotswap.tenant', $1, true)", r.Tenant)
		_, _ = tx.Exec(ctx, insertRow(" ON CONFLICT DO NOTHING"), month(r), r.Tenant, r.ID, string(signed.Header), signed.Writer, signed.Signature)
		if err := tx.Commit(ctx); err != nil {
			return err
		}
	}
	return nil
}
