package store

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hotswap.dev/hotswap/pkg/audit"
)

// A Delivery is one authentic webhook as the inbox keeps it.
type Delivery struct {
	Tenant     string
	Source     string // the forge's kind: "builtin", "gitea", …
	ID         string // unique per source
	Repository string // by the hook that it came through
	Event      string
	Headers    map[string]string
	Body       []byte // nil when it was too large to keep
	Digest     []byte // SHA-256 of the body as it was sent

	// What the repository is at the forge, see [Store.BindRepository]; set by [Store.LoadDelivery].
	ForgeID, ForgeName string
}

// workID is the id of a delivery in due. A source holds no slash.
func (d Delivery) workID() string { return d.Source + "/" + d.ID }

// Accept returns once d is durable. A delivery that is there already is no
// error and changes nothing. One with a known id and another body is recorded
// as a security event and reported as [ErrConflict]: it will not be run.
func (s *Store) Accept(ctx context.Context, d Delivery) error {
	fresh, err := s.accept(ctx, d)
	if err == nil && !fresh {
		var conflict bool
		err = s.within(ctx, d.Tenant, func(tx pgx.Tx) (err error) {
			conflict, err = s.acceptAgain(ctx, tx, d)
			return err
		})
		if err == nil && conflict {
			err = ErrConflict
		}
	}
	if err != nil {
		return fmt.Errorf("accept delivery %s: %w", d.ID, err)
	}
	return nil
}

// accept stores a delivery that is new, with its due row, and reports whether
// it was. One round trip: the statements of a pipeline are one transaction
// (PostgreSQL's manual, "Pipelining" in the extended query protocol).
func (s *Store) accept(ctx context.Context, d Delivery) (fresh bool, err error) {
	b := &pgx.Batch{}
	b.Queue("SELECT set_config('hotswap.tenant', $1, true)", d.Tenant)
	b.Queue(`WITH fresh AS (
			INSERT INTO inbox (tenant, source, delivery, repository, event, headers, body, digest)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING tenant
		) INSERT INTO due (tenant, kind, id, wake_at) SELECT tenant, 'inbox', $9, now() FROM fresh`,
		d.Tenant, d.Source, d.ID, d.Repository, d.Event, d.Headers, d.Body, d.Digest, d.workID()).Exec(func(tag pgconn.CommandTag) error {
		fresh = tag.RowsAffected() == 1
		return nil
	})
	err = s.pool.SendBatch(ctx, b).Close()
	return fresh, err
}

// acceptAgain handles a delivery whose id is known: it reports whether the
// bodies differ, and records that they do.
func (s *Store) acceptAgain(ctx context.Context, tx pgx.Tx, d Delivery) (conflict bool, err error) {
	var digest []byte
	err = tx.QueryRow(ctx, "SELECT digest FROM inbox WHERE (tenant, source, delivery) = ($1, $2, $3)", d.Tenant, d.Source, d.ID).Scan(&digest)
	if err != nil || bytes.Equal(digest, d.Digest) {
		return false, err
	}
	at, err := now(ctx, tx)
	if err != nil {
		return true, err
	}
	b := &pgx.Batch{}
	err = s.queueRowsOnce(b, []audit.Row{{
		ID: "delivery/" + d.workID() + "/" + hex.EncodeToString(d.Digest[:8]), Tenant: d.Tenant, At: at,
		Actor: audit.Actor{Kind: audit.System, Name: "forge-webhook"}, Action: "delivery.conflicted", Subject: "delivery " + d.workID(),
		Reason:     "a delivery with this id and another body was accepted before; this one is not run",
		Attributes: map[string]string{"repository": d.Repository, "event": d.Event, "sha256": hex.EncodeToString(d.Digest)},
	}})
	if err != nil {
		return true, err
	}
	return true, send(ctx, tx, b)
}

// LoadDelivery returns a claimed delivery, and whether it still has to be looked at.
func (s *Store) LoadDelivery(ctx context.Context, c Claim) (d Delivery, pending bool, err error) {
	source, id, _ := strings.Cut(c.ID, "/")
	err = s.within(ctx, c.Tenant, func(tx pgx.Tx) error {
		row := tx.QueryRow(ctx, `SELECT i.tenant, i.source, i.delivery, i.repository, i.event, i.headers, i.body, i.digest, i.state = 'pending',
				coalesce(r.forge_id, ''), coalesce(r.forge_name, '')
			FROM inbox i LEFT JOIN repositories r ON (r.tenant, r.name) = (i.tenant, i.repository)
			WHERE (i.tenant, i.source, i.delivery) = ($1, $2, $3)`, c.Tenant, source, id)
		return missing(row.Scan(&d.Tenant, &d.Source, &d.ID, &d.Repository, &d.Event, &d.Headers, &d.Body, &d.Digest, &pending, &d.ForgeID, &d.ForgeName))
	})
	if err != nil {
		return d, false, fmt.Errorf("load delivery %s: %w", c.ID, err)
	}
	return d, pending, nil
}

// A Settlement is what became of a delivery.
type Settlement struct {
	Dead bool                            // it cannot be understood, and never will
	Note string                          // what was done with it
	Sync string                          // repository that must be looked at, if any
	Pull PullAt                          // pull request that must be looked at, if any
	Rows func(now time.Time) []audit.Row // nil: none
}

// Settle ends a claimed delivery and wakes the repository that it is about.
func (s *Store) Settle(ctx context.Context, c Claim, d Delivery, to Settlement) error {
	err := s.within(ctx, c.Tenant, func(tx pgx.Tx) error {
		at, err := now(ctx, tx)
		if err != nil {
			return err
		}
		b := &pgx.Batch{}
		state := "done"
		if to.Dead {
			state = "dead"
		}
		b.Queue("UPDATE inbox SET state = $4, note = $5 WHERE (tenant, source, delivery) = ($1, $2, $3)", d.Tenant, d.Source, d.ID, state, to.Note)
		if to.Sync != "" {
			b.Queue(pokeOne, d.Tenant, Repository, to.Sync)
			b.Queue(pokeOne, d.Tenant, Record, to.Sync)   // it may have been the records' branch
			b.Queue(pokeOne, d.Tenant, CheckDue, to.Sync) // or that of a pull request
		}
		if to.Pull.Number != 0 {
			b.Queue(pokePull, d.Tenant, to.Pull.Repository, to.Pull.Number)
			b.Queue(pokeOne, d.Tenant, CheckDue, to.Pull.Repository)
		}
		if to.Rows != nil {
			if err := s.queueRowsOnce(b, to.Rows(at)); err != nil {
				return err
			}
		}
		c.end(b)
		return send(ctx, tx, b)
	})
	if err != nil {
		return fmt.Errorf("settle delivery %s: %w", c.ID, err)
	}
	return nil
}
