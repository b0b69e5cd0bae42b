package store

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// send carries out a batch in one round trip and returns the first error, of a
// statement or of what was asked of its answer.
func send(ctx context.Context, tx pgx.Tx, b *pgx.Batch) error {
	if b.Len() == 0 {
		return nil
	}
	return tx.SendBatch(ctx, b).Close()
}

// changesOne is [ErrLost] for a statement that did not change exactly one row.
func changesOne(tag pgconn.CommandTag) error {
	return one(tag, nil, ErrLost)
}
