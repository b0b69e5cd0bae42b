package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
)

// MaxBroughtReleases is how many releases may lie between what runs in a slot and what
// is to run there: the people behind each of them are looked for.
const MaxBroughtReleases = 50

// A ReviewStep is what the reviews of a promotion pull request are judged by, but for
// what the forge knows.
type ReviewStep struct {
	Promotion  promotion.State
	Repository string         // of the intent
	Branch     string         // that is released from
	Policy     *intent.Policy // that the stage's gate names, as the branch has it now; nil: it has none
	Pull       Pull           // of the promotion's slot
	// Commits are of the releases that the promotion brings to the slot, newest first:
	// those after what runs there. One more than MaxBroughtReleases means that there are
	// more. Where nothing runs, only the newest are told.
	Commits []string
	Asker   audit.Actor // who began this attempt
	Given   []GivenApproval
	Now     time.Time
}

// A GivenApproval is an approval that somebody gave past the forge, as it is stored.
type GivenApproval struct {
	Source    string // "api" or "break-glass"
	Subject   string
	Actor     string // login
	Role      string
	Head      string
	Plan      string
	Reason    string
	Statement audit.Signed // that says the same, signed
	At        time.Time
}

// LoadReview returns what the reviews of a promotion are judged by. [ErrNotFound].
func (s *Store) LoadReview(ctx context.Context, tenant, id string) (ReviewStep, error) {
	var st ReviewStep
	at := []any{tenant, id}
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue(promotionQuery, at...).QueryRow(func(row pgx.Row) error {
			return missing(scanPromotion(row, &st.Promotion))
		})
		b.Queue(`SELECT r.repository, y.branch, o.document, coalesce(t.event -> 'actor', 'null'), now()
			FROM promotions p JOIN releases r ON (r.tenant, r.id) = (p.tenant, p.release)
			JOIN repositories y ON (y.tenant, y.name) = (r.tenant, r.repository)
			LEFT JOIN policies o ON (o.tenant, o.repository, o.name) = (r.tenant, r.repository, p.spec #>> '{stage,gates,approval}')
			LEFT JOIN transitions t ON (t.tenant, t.promotion, t.from_version) = (p.tenant, p.id, 0)
			WHERE (p.tenant, p.id) = ($1, $2)`, at...).QueryRow(func(row pgx.Row) error {
			err := row.Scan(&st.Repository, &st.Branch, &st.Policy, &st.Asker, &st.Now)
			st.Now = st.Now.UTC()
			return missing(err)
		})
		b.Queue(selectPull+` WHERE (tenant, environment, deployment) = ($1, (SELECT environment FROM promotions WHERE (tenant, id) = ($1, $2)),
			(SELECT deployment FROM promotions WHERE (tenant, id) = ($1, $2)))`, at...).Query(func(rows pgx.Rows) error {
			return maybe(rows, func() error { return scanPull(rows, &st.Pull) })
		})
		b.Queue(broughtQuery, tenant, id, MaxBroughtReleases).Query(func(rows pgx.Rows) (err error) {
			st.Commits, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
		b.Queue(`SELECT source, subject, actor, role, head, plan, reason, statement, at FROM approvals WHERE (tenant, promotion) = ($1, $2) ORDER BY at, subject`, at...).Query(func(rows pgx.Rows) (err error) {
			st.Given, err = pgx.CollectRows(rows, pgx.RowToStructByPos[GivenApproval])
			return err
		})
		return send(ctx, tx, b)
	})
	if err != nil {
		return st, fmt.Errorf("load reviews of %s: %w", id, err)
	}
	return st, nil
}

// broughtQuery lists the commits of the releases that a promotion brings to its slot.
// Where nothing runs there is no end to look for, so there is none more than the limit.
const broughtQuery = `SELECT q.commit FROM promotions p JOIN releases r ON (r.tenant, r.id) = (p.tenant, p.release)
	LEFT JOIN slots s ON (s.tenant, s.environment, s.deployment) = (p.tenant, p.environment, p.deployment)
	LEFT JOIN promotions l ON (l.tenant, l.id) = (s.tenant, s.live) AND l.kind <> 'remove'
	JOIN releases q ON (q.tenant, q.deployment) = (r.tenant, r.deployment) AND q.generation <= r.generation
		AND (q.generation > coalesce(l.generation, 0) OR q.id = r.id)
	WHERE (p.tenant, p.id) = ($1, $2) ORDER BY q.generation DESC
	LIMIT $3::int + CASE WHEN (SELECT l.id IS NULL FROM promotions p LEFT JOIN slots s ON (s.tenant, s.environment, s.deployment) = (p.tenant, p.environment, p.deployment)
		LEFT JOIN promotions l ON (l.tenant, l.id) = (s.tenant, s.live) AND l.kind <> 'remove' WHERE (p.tenant, p.id) = ($1, $2)) THEN 0 ELSE 1 END`
