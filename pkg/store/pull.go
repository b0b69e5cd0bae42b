package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/record"
	"hotswap.dev/hotswap/pkg/target"
)

// queuePullDue makes the pull request of the promotion's slot due: it shows the
// promotion as it is now. It locks nothing that a step locks later.
func queuePullDue(b *pgx.Batch, p promotion.State) {
	if !p.ByReview() {
		return
	}
	b.Queue(`INSERT INTO due (tenant, kind, id, wake_at) VALUES ($1, 'pull', $2, now())
		ON CONFLICT (tenant, kind, id) DO UPDATE SET pokes = due.pokes + 1, wake_at = least(due.wake_at, now())`, p.Tenant, slotID(p.Place()))
}

// A Pull is the promotion pull request of a slot: the living one, and what is left
// to tell on the one that was merged last.
type Pull struct {
	Repository string
	Promotion  string                // that it is for; empty: there is no living one
	Plan       string                // digest that its head shows
	Number     int64                 // 0: not opened yet
	URL        string                // for people
	Head       string                // commit of ours that holds Proposal
	Proposal   *record.Record        // what it proposes
	Review     *promotion.ReviewFact // what its reviews came to; nil: not read since it is so
	Asked      string                // head that reviewers were asked for

	MergedPromotion string // whose pull request was merged last
	MergedNumber    int64

	version int64
}

// A PullStep is what one look at the pull request of a slot is done on.
type PullStep struct {
	Tenant   string
	Place    target.Place
	Pull     Pull
	Next     *promotion.State // that waits for reviews, or is being recorded; nil: none
	Waiting  *promotion.Waiting
	Snapshot intent.Snapshot
	Release  promotion.Source
	Former   *FormerRelease     // that the units run now; nil: nothing
	Before   []StageEnd         // stages of the release that have ended, in order
	Record   *record.Record     // what Git says of the slot, of what ended
	Living   *promotion.State   // that the living pull request is for
	Merged   *promotion.State   // that the merged pull request was for
	Then     *promotion.Waiting // that Merged waits for
	Now      time.Time
}

// reviewQuery reads what the reviews of a promotion's pull request came to.
const reviewQuery = `SELECT u.review FROM ` + onePromotion + `
	CROSS JOIN LATERAL (SELECT u.review FROM pulls u
		WHERE (u.tenant, u.environment, u.deployment, u.promotion) = (p.tenant, p.environment, p.deployment, p.id) AND u.review IS NOT NULL OFFSET 0) u
	WHERE p.status IN ('gating', 'queued') OR p.phase = 'recording'`

// A FormerRelease is the release that the units of a slot run.
type FormerRelease struct {
	ID         string
	Commit     string // of its intent
	Generation int64
	Snapshot   intent.Snapshot
}

// A StageEnd is how a release went through a stage.
type StageEnd struct {
	Stage  string
	Status promotion.Status
	Reason string
	At     time.Time
}

const selectPull = `SELECT repository, promotion, plan, number, url, head, proposal, review, asked, merged_promotion, merged_number, version FROM pulls`

func scanPull(row pgx.Row, p *Pull) error {
	return row.Scan(&p.Repository, &p.Promotion, &p.Plan, &p.Number, &p.URL, &p.Head, &p.Proposal, &p.Review, &p.Asked, &p.MergedPromotion, &p.MergedNumber, &p.version)
}

// nextQuery finds the promotion that a slot's pull request is for: the one that is
// being recorded, else the newest that waits under supersede, the oldest under queue.
const nextQuery = `SELECT p.id FROM promotions p
	WHERE (p.tenant, p.environment, p.deployment) = ($1, $2, $3) AND p.finished_at IS NULL AND p.kind <> 'restore'
	AND coalesce(p.spec #>> '{stage,gates,approval}', '') NOT IN ('', 'operator')
	AND (p.status IN ('gating', 'queued') OR p.phase = 'recording')
	ORDER BY p.phase = 'recording' DESC, CASE WHEN p.spec ->> 'concurrency' = 'queue' THEN p.generation ELSE -p.generation END LIMIT 1`

// formerReleaseQuery reads the release whose outcome the units of a slot run.
const formerReleaseQuery = `SELECT r.id, r.commit, r.generation, r.snapshot FROM slots s
	JOIN promotions p ON (p.tenant, p.id) = (s.tenant, s.live) AND p.kind <> 'remove' JOIN releases r ON (r.tenant, r.id) = (p.tenant, p.release)
	WHERE (s.tenant, s.environment, s.deployment) = ($1, $2, $3)`

// LoadPull returns what the pull request of a claimed slot is to show.
func (s *Store) LoadPull(ctx context.Context, c Claim) (PullStep, error) {
	st := PullStep{Tenant: c.Tenant}
	st.Place.Environment, st.Place.Deployment, _ = strings.Cut(c.ID, "/")
	at := []any{c.Tenant, st.Place.Environment, st.Place.Deployment}
	err := s.within(ctx, c.Tenant, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue("SELECT now(), (SELECT document FROM records WHERE (tenant, environment, deployment) = ($1, $2, $3))", at...).QueryRow(func(row pgx.Row) error {
			err := row.Scan(&st.Now, &st.Record)
			st.Now = st.Now.UTC()
			return err
		})
		b.Queue(selectPull+" WHERE (tenant, environment, deployment) = ($1, $2, $3)", at...).Query(func(rows pgx.Rows) error {
			return maybe(rows, func() error { return scanPull(rows, &st.Pull) })
		})
		b.Queue(selectPromotion+" WHERE (p.tenant, p.id) = ($1, ("+nextQuery+"))", at...).Query(func(rows pgx.Rows) error {
			return maybe(rows, func() error { st.Next = &promotion.State{}; return scanPromotion(rows, st.Next) })
		})
		b.Queue(`SELECT r.snapshot, r.digest, r.commit, r.repository, p.waiting_for FROM promotions p JOIN releases r ON (r.tenant, r.id) = (p.tenant, p.release)
			WHERE (p.tenant, p.id) = ($1, (`+nextQuery+"))", at...).Query(func(rows pgx.Rows) error {
			return maybe(rows, func() error {
				return rows.Scan(&st.Snapshot, &st.Release.Digest, &st.Release.Commit, &st.Release.Repository, &st.Waiting)
			})
		})
		b.Queue(formerReleaseQuery, at...).Query(func(rows pgx.Rows) error {
			return maybe(rows, func() error {
				st.Former = &FormerRelease{}
				return rows.Scan(&st.Former.ID, &st.Former.Commit, &st.Former.Generation, &st.Former.Snapshot)
			})
		})
		b.Queue(`SELECT DISTINCT ON (b.stage) b.stage, b.status, b.reason, b.finished_at FROM promotions p
			JOIN promotions b ON (b.tenant, b.release) = (p.tenant, p.release) AND b.kind <> 'restore' AND b.finished_at IS NOT NULL
			WHERE (p.tenant, p.id) = ($1, (`+nextQuery+")) ORDER BY b.stage, b.attempt DESC", at...).Query(func(rows pgx.Rows) (err error) {
			st.Before, err = pgx.CollectRows(rows, pgx.RowToStructByPos[StageEnd])
			slices.SortStableFunc(st.Before, func(a, b StageEnd) int { return a.At.Compare(b.At) })
			return err
		})
		b.Queue(selectPromotion+" WHERE (p.tenant, p.id) = ($1, (SELECT promotion FROM pulls WHERE (tenant, environment, deployment) = ($1, $2, $3)))", at...).Query(func(rows pgx.Rows) error {
			return maybe(rows, func() error { st.Living = &promotion.State{}; return scanPromotion(rows, st.Living) })
		})
		merged := " WHERE (p.tenant, p.id) = ($1, (SELECT merged_promotion FROM pulls WHERE (tenant, environment, deployment) = ($1, $2, $3)))"
		b.Queue(selectPromotion+merged, at...).Query(func(rows pgx.Rows) error {
			return maybe(rows, func() error { st.Merged = &promotion.State{}; return scanPromotion(rows, st.Merged) })
		})
		b.Queue("SELECT p.waiting_for FROM promotions p"+merged, at...).Query(func(rows pgx.Rows) error {
			return maybe(rows, func() error { return rows.Scan(&st.Then) })
		})
		return send(ctx, tx, b)
	})
	if err != nil {
		return st, fmt.Errorf("load pull request of %s: %w", c.ID, err)
	}
	return st, nil
}

// maybe scans the only row of an answer, if there is one.
func maybe(rows pgx.Rows, scan func() error) error {
	if rows.Next() {
		if err := scan(); err != nil {
			return err
		}
	}
	rows.Close()
	return rows.Err()
}

// SavePull stores the pull request of a slot, and wakes the promotion that it is for: what
// the reviews come to was read just now. [ErrLost] when somebody else stored it meanwhile.
func (s *Store) SavePull(ctx context.Context, c Claim, st PullStep, p Pull, wake time.Time) error {
	err := s.within(ctx, c.Tenant, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue("INSERT INTO pulls (tenant, environment, deployment, repository) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
			c.Tenant, st.Place.Environment, st.Place.Deployment, p.Repository)
		b.Queue(`UPDATE pulls SET repository = $5, promotion = $6, plan = $7, number = $8, url = $9, head = $10, proposal = $11, asked = $12,
				merged_promotion = $13, merged_number = $14, review = $15, version = version + 1
			WHERE (tenant, environment, deployment) = ($1, $2, $3) AND version = $4`,
			c.Tenant, st.Place.Environment, st.Place.Deployment, st.Pull.version, p.Repository, p.Promotion, p.Plan, p.Number, p.URL, p.Head,
			orNull(p.Proposal), p.Asked, p.MergedPromotion, p.MergedNumber, orNull(p.Review)).Exec(changesOne)
		if p.Promotion != "" {
			b.Queue(pokeOne, c.Tenant, Promotion, p.Promotion)
		}
		c.rest(b, wake)
		switch {
		case p.Review != nil && p.Review.Merged != "" && p.Review.State != promotion.ReviewApproved: // to be undone
			queueRecordDue(b, c.Tenant, p.Repository)
		case p.Proposal != nil: // from now on somebody may merge it
			b.Queue(addDue, c.Tenant, Record, p.Repository)
		}
		return send(ctx, tx, b)
	})
	if err != nil {
		return fmt.Errorf("pull request of %s: %w", c.ID, err)
	}
	return nil
}

// A PullAt is a pull request that somebody says has changed.
type PullAt struct {
	Repository string
	Number     int64
}

// pokePull wakes a pull request of ours, which wakes its promotion. It is a hint; a
// number that nobody knows is no error.
const pokePull = poke + ` FROM pulls u WHERE (u.tenant, u.repository, u.number) = ($1, $2, $3)
	AND (due.tenant, due.kind, due.id) = ($1, 'pull', u.environment || '/' || u.deployment)`
