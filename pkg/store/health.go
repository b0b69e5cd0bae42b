package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Health is what the database says of itself and of the work that waits in it.
type Health struct {
	Version  string    // of the server
	Now      time.Time // its clock
	ReadOnly bool      // it takes no writes: a standby, or set so
	Bypasses bool      // the role sees every tenant's rows: a superuser, or BYPASSRLS

	Overdue []OverdueWork // nobody has taken it for a while
	Failing []FailingWork // it was tried several times in a row

	Unsequenced int       // audit rows without a leaf
	OldestRow   time.Time // of them; zero: none
	Dead        int       // webhooks of the last day that could not be understood
	Uncertain   []string  // merges that were asked for and whose outcome is not known
}

// OverdueWork is work that is due and that nobody has taken.
type OverdueWork struct {
	Kind   Kind
	Count  int
	Oldest time.Duration // since it is due
}

// FailingWork is work that ends with an error again and again.
type FailingWork struct {
	Kind     Kind
	ID       string
	Attempts int // in a row
}

// Bounds of what counts as ill.
const (
	overdueAfter   = time.Minute
	failingAfter   = 5 // attempts in a row
	uncertainAfter = 5 * time.Minute
	maxIll         = 20 // listed of each kind
)

// Health asks the database how a tenant's work goes.
func (s *Store) Health(ctx context.Context, tenant string) (h Health, err error) {
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue(`SELECT current_setting('server_version'), clock_timestamp(), pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on',
			(SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user)`).QueryRow(func(row pgx.Row) error {
			return row.Scan(&h.Version, &h.Now, &h.ReadOnly, &h.Bypasses)
		})
		b.Queue(`SELECT kind, count(*)::int, extract(epoch FROM now() - min(wake_at))::float8 FROM due
			WHERE tenant = $1 AND wake_at < now() - $2::interval AND (lease_until IS NULL OR lease_until < now()) GROUP BY kind ORDER BY kind`, tenant, overdueAfter).Query(func(rows pgx.Rows) error {
			var w OverdueWork
			var seconds float64
			_, err := pgx.ForEachRow(rows, []any{&w.Kind, &w.Count, &seconds}, func() error {
				w.Oldest = time.Duration(seconds * float64(time.Second))
				h.Overdue = append(h.Overdue, w)
				return nil
			})
			return err
		})
		b.Queue("SELECT kind, id, attempts FROM due WHERE tenant = $1 AND attempts >= $2 ORDER BY attempts DESC, kind, id LIMIT $3", tenant, failingAfter, maxIll).Query(func(rows pgx.Rows) (err error) {
			h.Failing, err = pgx.CollectRows(rows, pgx.RowToStructByPos[FailingWork])
			return err
		})
		b.Queue("SELECT count(*)::int, coalesce(min((a.header::jsonb ->> 'at')::timestamptz), 'epoch') FROM audit_pending p JOIN audit a USING (tenant, month, id) WHERE p.tenant = $1", tenant).QueryRow(func(row pgx.Row) error {
			err := row.Scan(&h.Unsequenced, &h.OldestRow)
			if h.Unsequenced == 0 {
				h.OldestRow = time.Time{}
			}
			return err
		})
		b.Queue("SELECT count(*)::int FROM inbox WHERE tenant = $1 AND state = 'dead' AND received_at > now() - interval '1 day'", tenant).QueryRow(func(row pgx.Row) error {
			return row.Scan(&h.Dead)
		})
		b.Queue("SELECT key FROM effects WHERE tenant = $1 AND state = 'uncertain' AND at < now() - $2::interval ORDER BY at LIMIT $3", tenant, uncertainAfter, maxIll).Query(func(rows pgx.Rows) (err error) {
			h.Uncertain, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
		return send(ctx, tx, b)
	})
	if err != nil {
		return h, fmt.Errorf("health: %w", err)
	}
	return h, nil
}
