package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/record"
)

// queueRecord says what Git is to say of a slot. When a promotion ended, what its pull
// request proposed is past.
func queueRecord(b *pgx.Batch, tenant, repository string, r record.Record, ended bool) {
	b.Queue(`INSERT INTO records (tenant, environment, deployment, repository, document) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (tenant, environment, deployment) DO UPDATE SET document = excluded.document, proposal = CASE WHEN $6 THEN NULL ELSE records.proposal END,
			repository = excluded.repository, version = records.version + 1`,
		tenant, r.Environment, r.Deployment, repository, r, ended)
}

// queueProposal says that Git has what a promotion pull request proposed, until the
// promotion has ended.
func queueProposal(b *pgx.Batch, tenant, repository string, r record.Record) {
	nothing := record.Record{Environment: r.Environment, Deployment: r.Deployment, Tenant: r.Tenant}
	b.Queue(`INSERT INTO records (tenant, environment, deployment, repository, document, proposal) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (tenant, environment, deployment) DO UPDATE SET proposal = excluded.proposal, repository = excluded.repository, version = records.version + 1`,
		tenant, r.Environment, r.Deployment, repository, nothing, r)
}

// queueRecordDue makes the records of a repository due to be written. It is the
// last of a step's statements: who writes records locks nothing after its own row.
func queueRecordDue(b *pgx.Batch, tenant, repository string) {
	b.Queue(`INSERT INTO due (tenant, kind, id, wake_at) VALUES ($1, 'record', $2, now())
		ON CONFLICT (tenant, kind, id) DO UPDATE SET pokes = due.pokes + 1, wake_at = least(due.wake_at, now())`, tenant, repository)
}

// queueRecordedHolds brings the record of a slot up to date with its holds.
func queueRecordedHolds(ctx context.Context, tx pgx.Tx, b *pgx.Batch, tenant, environment, deployment string) error {
	at := []any{tenant, environment, deployment}
	var r record.Record
	var repository string
	rows, err := tx.Query(ctx, "SELECT document, repository FROM records WHERE (tenant, environment, deployment) = ($1, $2, $3) FOR UPDATE", at...)
	if err != nil {
		return err
	}
	n, err := pgx.ForEachRow(rows, []any{&r, &repository}, func() error { return nil })
	if err != nil || n.RowsAffected() == 0 { // nothing was ever recorded: the first promotion will be, with its holds
		return err
	}
	rows, err = tx.Query(ctx, "SELECT artifact, reason, since, actor FROM holds WHERE (tenant, environment, deployment) = ($1, $2, $3) ORDER BY artifact", at...)
	if err != nil {
		return err
	}
	if r.Holds, err = pgx.CollectRows(rows, pgx.RowToStructByPos[record.Hold]); err != nil {
		return err
	}
	queueRecord(b, tenant, repository, r, false)
	queueRecordDue(b, tenant, repository)
	return nil
}

// A Recorded is a record with what of it Git has.
type Recorded struct {
	Document record.Record
	Version  int64
	Written  int64  // version that Git has
	Commit   string // that brought it there
}

// Records are all records of a repository, and the newest commit of ours on
// their branch.
type Records struct {
	Tenant, Repository string
	Tip                string
	All                []Recorded
	Proposed           []Proposal
	Merges             []Merge
	Now                time.Time
}

// A Merge is the commit that a promotion pull request of a slot was merged as, for the
// newest of the slot.
type Merge struct{ Environment, Deployment, Commit string }

// A Proposal is what the living pull request of a slot proposes, as long as its
// promotion has not started: its merge by somebody is the record when the plan is
// approved, and undone when it is not.
type Proposal struct {
	Document  record.Record
	Promotion string
	Number    int64
	Approved  bool
}

// LoadRecords returns what Git is to say for a claimed repository.
func (s *Store) LoadRecords(ctx context.Context, c Claim) (Records, error) {
	r := Records{Tenant: c.Tenant, Repository: c.ID}
	err := s.within(ctx, c.Tenant, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue("SELECT records_tip, now() FROM repositories WHERE (tenant, name) = ($1, $2)", c.Tenant, c.ID).QueryRow(func(row pgx.Row) error {
			return missing(row.Scan(&r.Tip, &r.Now))
		})
		b.Queue(`SELECT u.proposal, p.id, u.number, p.phase = 'recording' OR p.progress ? 'approval' FROM pulls u
			JOIN promotions p ON (p.tenant, p.id) = (u.tenant, u.promotion)
			WHERE (u.tenant, u.repository) = ($1, $2) AND u.proposal IS NOT NULL AND u.number <> 0 AND p.finished_at IS NULL
			ORDER BY u.environment, u.deployment`, c.Tenant, c.ID).Query(func(rows pgx.Rows) (err error) {
			r.Proposed, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Proposal])
			return err
		})
		b.Queue(`SELECT u.environment, u.deployment, p.progress ->> 'recorded' FROM pulls u
			JOIN promotions p ON p.tenant = u.tenant AND p.id IN (u.promotion, u.merged_promotion)
			WHERE (u.tenant, u.repository) = ($1, $2) AND coalesce(p.progress ->> 'recorded', '') <> ''`, c.Tenant, c.ID).Query(func(rows pgx.Rows) (err error) {
			r.Merges, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Merge])
			return err
		})
		b.Queue(`SELECT coalesce(proposal, document), version, recorded, commit FROM records WHERE (tenant, repository) = ($1, $2)
			ORDER BY environment, deployment`, c.Tenant, c.ID).Query(func(rows pgx.Rows) (err error) {
			r.All, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (x Recorded, err error) {
				return x, row.Scan(&x.Document, &x.Version, &x.Written, &x.Commit)
			})
			return err
		})
		return send(ctx, tx, b)
	})
	if err != nil {
		return r, fmt.Errorf("load records of %s: %w", c.ID, err)
	}
	r.Now = r.Now.UTC()
	return r, nil
}

// Formers returns what ran in a slot, newest first.
func (s *Store) Formers(ctx context.Context, tenant, environment, deployment string) ([]promotion.Former, error) {
	var out []promotion.Former
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, formersQuery, tenant, environment, deployment)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[promotion.Former])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("former releases of %s/%s: %w", environment, deployment, err)
	}
	return out, nil
}

// RecordsWritten stores that Git has the given versions of records by commit tip,
// which is the newest of ours now. A record that was changed since stays open, and
// is written after a pause.
func (s *Store) RecordsWritten(ctx context.Context, c Claim, before Records, tip string, written []Recorded, rows []audit.Row, wake time.Time, pause time.Duration) error {
	err := s.within(ctx, c.Tenant, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue("UPDATE repositories SET records_tip = $4 WHERE (tenant, name) = ($1, $2) AND records_tip = $3", c.Tenant, c.ID, before.Tip, tip).Exec(changesOne)
		for _, w := range written {
			if w.Written == w.Version {
				continue
			}
			b.Queue(`UPDATE records SET recorded = greatest(recorded, $4), commit = $5
				WHERE (tenant, environment, deployment) = ($1, $2, $3)`, c.Tenant, w.Document.Environment, w.Document.Deployment, w.Version, tip)
		}
		if err := s.queueRowsOnce(b, rows); err != nil {
			return err
		}
		c.rest(b, wake)
		// The lease that is left is the pause: many ends in a row become one commit.
		b.Queue("UPDATE due SET lease_until = now() + $5 WHERE (tenant, kind, id) = ($1, $2, $3) AND "+fenceCondition, c.Tenant, c.Kind, c.ID, c.Fence, pause).Exec(changesOne)
		return send(ctx, tx, b)
	})
	if err != nil {
		return fmt.Errorf("records of %s: %w", c.ID, err)
	}
	return nil
}
