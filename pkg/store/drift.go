package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/target"
)

// slotID is the id of a slot's due row. Both names are DNS labels.
func slotID(p target.Place) string { return p.Environment + "/" + p.Deployment }

// Drift reads a claimed slot with its units, lets decide say what follows, and
// stores all of it or nothing: [ErrLost] when the slot was taken meanwhile.
func (s *Store) Drift(ctx context.Context, c Claim, decide func(promotion.DriftFacts, time.Time) promotion.DriftDecision) error {
	err := s.within(ctx, c.Tenant, func(tx pgx.Tx) error {
		f, now, err := loadDrift(ctx, tx, c)
		if err != nil {
			return err
		}
		return s.commitDrift(ctx, tx, c, f, decide(f, now))
	})
	if err != nil {
		return fmt.Errorf("drift of slot %s: %w", c.ID, err)
	}
	return nil
}

func loadDrift(ctx context.Context, tx pgx.Tx, c Claim) (f promotion.DriftFacts, now time.Time, err error) {
	f.Tenant = c.Tenant
	f.Place.Environment, f.Place.Deployment, _ = strings.Cut(c.ID, "/")
	at := []any{c.Tenant, f.Place.Environment, f.Place.Deployment}
	b := &pgx.Batch{}
	b.Queue(driftSlotQuery, at...).QueryRow(func(row pgx.Row) error {
		err := row.Scan(&now, &f.Epoch, &f.Slot.Holder, &f.Slot.Token, &f.Slot.Started, &f.Slot.Dirty, &f.Slot.Live, &f.Instance)
		now = now.UTC()
		return missing(err)
	})
	b.Queue(residentsQuery, at...).Query(func(rows pgx.Rows) (err error) {
		f.Units, err = pgx.CollectRows(rows, scanResident)
		return err
	})
	b.Queue(`SELECT node, kind, detail, since FROM findings
		WHERE (tenant, environment, deployment) = ($1, $2, $3) AND closed_at IS NULL ORDER BY node, kind`, at...).Query(func(rows pgx.Rows) (err error) {
		f.Open, err = pgx.CollectRows(rows, pgx.RowToStructByPos[promotion.Finding])
		return err
	})
	return f, now, send(ctx, tx, b)
}

const driftSlotQuery = `SELECT now(), i.epoch, coalesce(s.holder, ''), s.token, s.started, s.dirty, s.live,
		CASE WHEN p.spec #>> '{instance,digest}' <> '' THEN p.spec -> 'instance' END
	FROM installation i, slots s LEFT JOIN promotions p ON (p.tenant, p.id) = (s.tenant, s.live)
	WHERE (s.tenant, s.environment, s.deployment) = ($1, $2, $3)`

// residentsQuery reads the units of a slot: those that the environment selects,
// and those that were ever ordered to run something there.
const residentsQuery = `SELECT n.name, n.left_at IS NULL AND e.selector IS NOT NULL AND n.labels @> e.selector, n.left_at IS NOT NULL,
		coalesce(r.seen, n.last_seen, n.joined_at), coalesce(w.epoch, 0), coalesce(w.token, 0), coalesce(w.generation, 0), w.active,
		coalesce(w.at, n.joined_at), r.report
	FROM nodes n
	LEFT JOIN environments e ON (e.tenant, e.name) = ($1, $2)
	LEFT JOIN wanted w ON (w.tenant, w.node, w.environment, w.deployment) = ($1, n.name, $2, $3)
	LEFT JOIN reports r ON (r.tenant, r.node, r.environment, r.deployment) = ($1, n.name, $2, $3)
	WHERE n.tenant = $1 AND (n.left_at IS NULL AND n.labels @> e.selector OR w.node IS NOT NULL)
	ORDER BY n.name`

func scanResident(row pgx.CollectableRow) (u promotion.Resident, err error) {
	err = row.Scan(&u.Node, &u.Selected, &u.Gone, &u.Seen, &u.Wanted.Epoch, &u.Wanted.Token, &u.Wanted.Generation, &u.Active, &u.Ordered, &u.Report)
	u.Seen, u.Ordered = u.Seen.UTC(), u.Ordered.UTC()
	return u, err
}

func (s *Store) commitDrift(ctx context.Context, tx pgx.Tx, c Claim, f promotion.DriftFacts, d promotion.DriftDecision) error {
	b := &pgx.Batch{}
	place := []any{c.Tenant, f.Place.Environment, f.Place.Deployment}
	if len(d.Orders) > 0 { // whoever takes the slot meanwhile waits for this, or this is lost
		b.Queue(`UPDATE slots SET live = live WHERE (tenant, environment, deployment) = ($1, $2, $3) AND token = $4 AND holder IS NULL AND live = $5`,
			append(place, f.Slot.Token, f.Slot.Live)...).Exec(changesOne)
	}
	queueOrders(b, c.Tenant, f.Slot.Live, d.Orders)
	queueLive(b, c.Tenant, f.Slot.Live, f.Place, d.Live)
	for _, x := range d.Opened {
		b.Queue(`INSERT INTO findings (tenant, environment, deployment, node, kind, since, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT DO NOTHING`, append(place, x.Node, x.Kind, x.Since, x.Detail)...)
	}
	for _, x := range d.Closed {
		b.Queue(`UPDATE findings SET closed_at = now() WHERE (tenant, environment, deployment) = ($1, $2, $3)
			AND (node, kind, since) = ($4, $5, $6)`, append(place, x.Node, x.Kind, x.Since)...)
	}
	b.Queue(pruneSamples, place...)
	if err := s.queueRows(b, d.Rows); err != nil {
		return err
	}
	c.rest(b, d.Wake)
	return send(ctx, tx, b)
}

// A FindingRow is an open finding as lists show it.
type FindingRow struct {
	Environment string                `json:"environment"`
	Deployment  string                `json:"deployment"`
	Node        string                `json:"node"`
	Kind        promotion.FindingKind `json:"kind"`
	Detail      string                `json:"detail"`
	Since       time.Time             `json:"since"`
}

// Findings returns the tenant's open findings, oldest first, at most limit.
func (s *Store) Findings(ctx context.Context, tenant string, limit int) ([]FindingRow, error) {
	var out []FindingRow
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT environment, deployment, node, kind, detail, since FROM findings
			WHERE tenant = $1 AND closed_at IS NULL ORDER BY since, environment, deployment, node LIMIT $2`, tenant, limit)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[FindingRow])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list findings: %w", err)
	}
	return out, nil
}
