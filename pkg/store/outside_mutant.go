//go:build mutant_auditoutside

package store

import (
	"context"
	"time"

	"hotswap.dev/hotswap/pkg/audit"
)

// auditOutside writes the rows in a transaction of their own, a moment after
// the change was made: the fault that tests/crash must catch.
func auditOutside(s *Store, rows []audit.Row) bool {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		for _, r := range rows {
			signed, err := s.writer.Sign(r)
			if err != nil {
				return
			}
			tx, err := s.pool.Begin(ctx)
			if err != nil {
				return
			}
			_, _ = tx.Exec(ctx, "SELECT set_config('hotswap.tenant', $1, true)", r.Tenant)
			_, _ = tx.Exec(ctx, insertRow+" ON CONFLICT DO NOTHING", month(r), r.Tenant, r.ID, string(signed.Header), signed.Writer, signed.Signature)
			_ = tx.Commit(ctx)
		}
	}()
	return true
}
