package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrReused reports a key that came before with another request.
var ErrReused = errors.New("this key came with another request before")

// A Once is a request of somebody that may come again, because its answer was lost,
// and is to be done once. Key is the caller's own, Digest is over all that it asks for.
type Once struct{ Key, Digest string }

type onceKey struct{}

// WithOnce returns a context in which [Store.Restore], [Store.Retry] and [Store.Act] are
// done once for the request o: they answer again what they answered the first time.
func WithOnce(ctx context.Context, o Once) context.Context {
	return context.WithValue(ctx, onceKey{}, o)
}

// withinOnce is within for what a person asks for. The key is taken in the transaction
// that does it: whoever asks a second time waits for the first, and then gets its answer.
//
// A step may want rows that this has, while this wants rows of the step's. PostgreSQL then
// undoes one of the two. A step is tried again by its worker, and this is tried again here.
func (s *Store) withinOnce(ctx context.Context, tenant string, fn func(tx pgx.Tx) (answer []string, err error)) (answer []string, err error) {
	for range deadlocks {
		if answer, err = s.tryOnce(ctx, tenant, fn); !isDeadlock(err) {
			break
		}
	}
	return answer, err
}

// deadlocks is how often something that a person asks for is tried.
const deadlocks = 3

func isDeadlock(err error) bool {
	p, ok := errors.AsType[*pgconn.PgError](err)
	return ok && p.Code == "40P01"
}

func (s *Store) tryOnce(ctx context.Context, tenant string, fn func(tx pgx.Tx) (answer []string, err error)) (answer []string, err error) {
	o, _ := ctx.Value(onceKey{}).(Once)
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		if o.Key != "" {
			known, err := o.take(ctx, tx, tenant, &answer)
			if known || err != nil {
				return err
			}
		}
		if answer, err = fn(tx); err != nil || o.Key == "" {
			return err
		}
		_, err := tx.Exec(ctx, "UPDATE requests SET answer = $3 WHERE (tenant, key) = ($1, $2)", tenant, o.Key, answer)
		return err
	})
	return answer, err
}

// take takes the key, or reads the answer that it was given before. Keys of a week ago
// are forgotten on the way.
func (o Once) take(ctx context.Context, tx pgx.Tx, tenant string, answer *[]string) (known bool, err error) {
	tag, err := tx.Exec(ctx, "INSERT INTO requests (tenant, key, digest) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", tenant, o.Key, o.Digest)
	if err != nil {
		return false, err
	}
	if tag.RowsAffected() == 1 {
		_, err = tx.Exec(ctx, `DELETE FROM requests WHERE (tenant, key) IN (SELECT tenant, key FROM requests WHERE at < now() - interval '7 days'
			ORDER BY at LIMIT 20 FOR UPDATE SKIP LOCKED)`)
		return false, err
	}
	var digest string
	if err := tx.QueryRow(ctx, "SELECT digest, answer FROM requests WHERE (tenant, key) = ($1, $2)", tenant, o.Key).Scan(&digest, answer); err != nil {
		return true, err
	}
	if digest != o.Digest {
		return true, fmt.Errorf("key %.100q: %w", o.Key, ErrReused)
	}
	return true, nil
}
