package store

import (
	"context"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Kind says what a due row is about.
type Kind string

// The kinds of work.
const (
	Inbox      Kind = "inbox"      // a delivery to be looked at
	Repository Kind = "repository" // a branch to be synced
	Release    Kind = "release"    // stages to be started
	Promotion  Kind = "promotion"  // a state to be advanced
	Slot       Kind = "slot"       // units to be compared with what is recorded
	Record     Kind = "record"     // records of a repository to be written to Git
	Effect     Kind = "effect"     // something to be done to the outside
	PullDue    Kind = "pull"       // the promotion pull request of a slot to be brought up to date
	CheckDue   Kind = "check"      // pull requests of people to be checked
)

// A Claim is a leased due row. Fence is what every write of the work that was
// claimed must still find.
type Claim struct {
	Tenant   string
	Kind     Kind
	ID       string
	Fence    int64
	Pokes    int64
	Attempts int
}

// Claim leases up to n rows that are due, fair across tenants. What is not
// finished when the lease ends is claimed again by somebody else.
func (s *Store) Claim(ctx context.Context, kinds []Kind, n int, lease time.Duration) ([]Claim, error) {
	rows, err := s.pool.Query(ctx, claimQuery, kinds, n, lease)
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	claims, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Claim])
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	return claims, nil
}

// NextDue returns how long until the next row of these kinds is due, by the
// database's clock; false when there is none.
func (s *Store) NextDue(ctx context.Context, kinds []Kind) (time.Duration, bool, error) {
	var in *float64
	err := s.pool.QueryRow(ctx, "SELECT extract(epoch FROM next_due($1) - clock_timestamp())::float8", kinds).Scan(&in)
	if err != nil {
		return 0, false, fmt.Errorf("next due: %w", err)
	}
	if in == nil {
		return 0, false, nil
	}
	return max(0, time.Duration(*in*float64(time.Second))), true, nil
}

// Backoff bounds for work that ends with an error.
const (
	minBackoff = 200 * time.Millisecond
	maxBackoff = 5 * time.Minute
)

// Fail gives a claim back after an error: it is due again after a backoff that
// doubles with each attempt in a row, with jitter. Why is shown with what waits,
// see [Store.Repositories] and [Store.Promotions]. A claim that was lost
// meanwhile is [ErrLost].
func (s *Store) Fail(ctx context.Context, c Claim, why error) error {
	wait := min(maxBackoff, time.Duration(float64(minBackoff)*math.Pow(2, float64(min(c.Attempts, 12)))))
	wait = wait/2 + mathrand.N(wait/2+1)
	return s.within(ctx, c.Tenant, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		c.queueWhy(b, wait, why)
		b.Queue(`UPDATE due SET lease_until = NULL, attempts = attempts + 1, wake_at = now() + $5
			WHERE (tenant, kind, id, fence) = ($1, $2, $3, $4)`, c.Tenant, c.Kind, c.ID, c.Fence, wait).Exec(changesOne)
		return send(ctx, tx, b)
	})
}

// maxWhy bounds the text of an error that is kept, in bytes.
const maxWhy = 500

// queueWhy says what a repository, release or promotion that cannot go on waits for. It
// comes before the due row is touched: the order in which a step locks them.
func (c Claim) queueWhy(b *pgx.Batch, wait time.Duration, why error) {
	text := strings.ReplaceAll(why.Error(), "\x00", "")
	text = strings.ToValidUTF8(text[:min(len(text), maxWhy)], "")
	what := fmt.Sprintf("attempt %d failed; it is tried again", c.Attempts+1)
	switch c.Kind {
	case Repository:
		b.Queue(`UPDATE repositories SET waiting = jsonb_build_object('what', $3::text, 'evidence', $4::text,
				'since', coalesce(waiting -> 'since', to_jsonb(now())), 'next', to_jsonb(now() + $5::interval))
			WHERE (tenant, name) = ($1, $2)`, c.Tenant, c.ID, what, text, wait)
	case Release:
		b.Queue(`UPDATE releases SET waiting_for = jsonb_build_object('what', $3::text, 'evidence', $4::text,
				'since', coalesce(waiting_for -> 'since', to_jsonb(now())), 'next', to_jsonb(now() + $5::interval))
			WHERE (tenant, id) = ($1, $2) AND state = 'open'`, c.Tenant, c.ID, what, text, wait)
	case Promotion:
		b.Queue(`UPDATE promotions SET waiting_for = jsonb_build_object('what', $3::text, 'evidence', $4::text,
				'since', to_jsonb(since), 'next', to_jsonb(now() + $5::interval))
			WHERE (tenant, id) = ($1, $2) AND finished_at IS NULL`, c.Tenant, c.ID, what, text, wait)
	}
}

// poke is how every hint is given: the row is due now, and a step that has it
// claimed sees by the count that it must look again, see [Claim.rest].
const poke = "UPDATE due SET pokes = pokes + 1, wake_at = least(wake_at, now())"

// pokeOne pokes the row (tenant, kind, id).
const pokeOne = poke + " WHERE (tenant, kind, id) = ($1, $2, $3)"

// pokeAll pokes the rows of a kind and of the tenant $1 that a query names. They are looked
// up one by one, however many others are due, and locked in one order: two steps that poke
// the same rows never wait for each other.
func pokeAll(kind Kind, ids string) string { return pokeBut(kind, ids, "") }

// pokeBut is pokeAll but for one id, a parameter. The step of that one touches its own row
// last, so that is locked in its turn here, before those that come after it.
func pokeBut(kind Kind, ids, but string) string {
	which, not := " WHERE tenant = $1 AND kind = '"+string(kind)+"' AND id = ANY (ARRAY(", ""
	if but != "" {
		ids, not = ids+" UNION ALL SELECT "+but+"::text", " AND id <> "+but
	}
	return poke + which + "SELECT id FROM due" + which + ids + ")) ORDER BY id FOR UPDATE))" + not
}

var (
	// pokeSlot pokes everybody who waits for the slot ($1, $2, $3), but for the promotion $4.
	pokeSlot = pokeBut(Promotion, `SELECT q.id FROM promotions q
		WHERE (q.tenant, q.environment, q.deployment) = ($1, $2, $3) AND q.finished_at IS NULL`, "$4")
	// pokeWaiting pokes everybody who waits in the environment $2, and the restores
	// that wait for one elsewhere, but for the promotion $3.
	pokeWaiting = pokeBut(Promotion, `SELECT q.id FROM promotions q WHERE q.tenant = $1 AND q.finished_at IS NULL
		AND (q.environment = $2 AND q.status IN ('gating', 'queued') OR q.spec ->> 'after' = $3)`, "$3")
)

// Poke makes the row due now. It is the only write to due from outside the
// engine, and it is a hint: a row that does not exist is no error.
func (s *Store) Poke(ctx context.Context, tenant string, kind Kind, id string) error {
	return s.within(ctx, tenant, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, pokeOne, tenant, kind, id)
		return err
	})
}

// rest gives a claim back: the row is due at wake, or now when it was poked
// since it was claimed. It queues on b; a fence that moved is [ErrLost].
func (c Claim) rest(b *pgx.Batch, wake time.Time) {
	b.Queue(`UPDATE due SET lease_until = NULL, attempts = 0,
			wake_at = CASE WHEN pokes > $5 THEN now() ELSE $6 END
		WHERE (tenant, kind, id) = ($1, $2, $3) AND `+fenceCondition,
		c.Tenant, c.Kind, c.ID, c.Fence, c.Pokes, wake).Exec(changesOne)
}

// end removes the row of a claim whose work is done for ever.
func (c Claim) end(b *pgx.Batch) {
	b.Queue("DELETE FROM due WHERE (tenant, kind, id) = ($1, $2, $3) AND "+fenceCondition,
		c.Tenant, c.Kind, c.ID, c.Fence).Exec(changesOne)
}

// Lease takes or renews a named lease for a time. False: somebody else has it.
func (s *Store) Lease(ctx context.Context, name, holder string, d time.Duration) (bool, error) {
	tag, err := s.pool.Exec(ctx, `INSERT INTO leases (name, holder, until) VALUES ($1, $2, now() + $3)
		ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
		WHERE leases.holder = excluded.holder OR leases.until <= now()`, name, holder, d)
	if err != nil {
		return false, fmt.Errorf("lease %s: %w", name, err)
	}
	return tag.RowsAffected() == 1, nil
}
