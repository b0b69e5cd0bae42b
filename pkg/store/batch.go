package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// send carries out a batch in one round trip and returns the first error, of a
// statement or of what was asked of its answer.
func send(ctx context.Context, tx pgx.Tx, b *pgx.Batch) error {
	if b.Len() == 0 {
		return nil
	}
	return tx.SendBatch(ctx, b).Close()
}
