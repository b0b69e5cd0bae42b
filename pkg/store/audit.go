package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"hotswap.dev/hotswap/pkg/audit"
)

// insertRow returns the statement that stores a signed row, and with it that it
// has no leaf yet. A row's id is derived from what happened, so the same thing
// told twice is an error of the primary key, or nothing, and never a second row.
func insertRow(conflict string) string {
	return `WITH row AS (
			INSERT INTO audit (month, tenant, id, header, writer, signature) VALUES ($1, $2, $3, $4, $5, $6)` + conflict + `
			RETURNING tenant, month, id
		) INSERT INTO audit_pending (tenant, month, id) SELECT tenant, month, id FROM row`
}

// queueRows adds the audit rows of a change to the batch that makes it.
func (s *Store) queueRows(b *pgx.Batch, rows []audit.Row) error {
	return s.queueSigned(b, rows, transitionConflict)
}

// queueRowsOnce is queueRows for rows that an earlier, identical delivery may
// have written already.
func (s *Store) queueRowsOnce(b *pgx.Batch, rows []audit.Row) error {
	return s.queueSigned(b, rows, " ON CONFLICT DO NOTHING")
}

func (s *Store) queueSigned(b *pgx.Batch, rows []audit.Row, conflict string) error {
	if auditOutside(s, rows) {
		return nil
	}
	for _, r := range rows {
		signed, err := s.writer.Sign(r)
		if err != nil {
			return err
		}
		b.Queue(insertRow(conflict), month(r), r.Tenant, r.ID, string(signed.Header), signed.Writer, signed.Signature)
	}
	return nil
}

// month is the first day of the month that a row's log is named after.
func month(r audit.Row) time.Time {
	at := r.At.UTC()
	return time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// Record stores rows that belong to no other change, such as a refusal.
func (s *Store) Record(ctx context.Context, tenant string, rows func(now time.Time) []audit.Row) error {
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		at, err := now(ctx, tx)
		if err != nil {
			return err
		}
		b := &pgx.Batch{}
		if err := s.queueRowsOnce(b, rows(at)); err != nil {
			return err
		}
		return send(ctx, tx, b)
	})
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

// sequenceBatch is how many rows get their leaves in one transaction.
const sequenceBatch = 256

// The two ways of becoming a tenant's one sequencer: at once or not at all, and
// after whoever is at it now. Both answer whether the lock is held.
const (
	trySequencer  = "SELECT pg_try_advisory_xact_lock(hashtextextended('hotswap audit ' || $1, 0))"
	waitSequencer = "SELECT true FROM pg_advisory_xact_lock(hashtextextended('hotswap audit ' || $1, 0))"
)

// Sequence gives the tenant's rows that have no leaf yet their places, and
// signs the new head of each log. One sequencer works on a tenant at a time;
// another returns at once. It returns how many rows were sequenced.
func (s *Store) Sequence(ctx context.Context, tenant string) (int, error) {
	return s.sequenceAll(ctx, tenant, trySequencer)
}

// SequenceNow is [Store.Sequence] for somebody who must have the rows that are
// committed now: it waits for a sequencer that is at work.
func (s *Store) SequenceNow(ctx context.Context, tenant string) (int, error) {
	return s.sequenceAll(ctx, tenant, waitSequencer)
}

func (s *Store) sequenceAll(ctx context.Context, tenant, lock string) (int, error) {
	total := 0
	for {
		n, err := s.sequence(ctx, tenant, lock)
		total += n
		if err != nil {
			return total, fmt.Errorf("sequence audit of %s: %w", tenant, err)
		}
		if n < sequenceBatch {
			return total, nil
		}
	}
}

// Rows without a leaf are found by the note that was written with them: a
// cursor over ids or times would step over rows that commit late.
const unsequencedQuery = `SELECT a.month, a.id, a.header, a.writer, a.signature
	FROM audit_pending p JOIN audit a USING (tenant, month, id)
	WHERE p.tenant = $1 ORDER BY a.month, a.header::jsonb ->> 'at', a.id LIMIT $2`

type unsequenced struct {
	Month  time.Time
	ID     string
	Header string
	Writer string
	Sig    []byte
}

func (s *Store) sequence(ctx context.Context, tenant, lock string) (n int, err error) {
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, lock, tenant).Scan(&mine); err != nil || !mine {
			return err
		}
		rows, err := tx.Query(ctx, unsequencedQuery, tenant, sequenceBatch)
		if err != nil {
			return err
		}
		todo, err := pgx.CollectRows(rows, pgx.RowToStructByPos[unsequenced])
		if err != nil || len(todo) == 0 {
			return err
		}
		n = len(todo)
		return s.grow(ctx, tx, tenant, todo)
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// grow appends leaves to the logs of their months.
func (s *Store) grow(ctx context.Context, tx pgx.Tx, tenant string, todo []unsequenced) error {
	heads, err := loadHeads(ctx, tx, tenant)
	if err != nil {
		return err
	}
	b := &pgx.Batch{}
	touched := map[string]bool{}
	for _, u := range todo {
		log := audit.LogName(tenant, u.Month.Format("2006-01"))
		leaf := audit.Signed{Header: []byte(u.Header), Writer: u.Writer, Signature: u.Sig}.Leaf()
		b.Queue("INSERT INTO audit_leaves (tenant, log, position, month, id, hash) VALUES ($1, $2, $3, $4, $5, $6)",
			tenant, log, heads[log].Size, u.Month, u.ID, leaf[:])
		b.Queue("DELETE FROM audit_pending WHERE (tenant, month, id) = ($1, $2, $3)", tenant, u.Month, u.ID).Exec(changesOne)
		heads[log] = heads[log].Append(leaf)
		touched[log] = true
	}
	for log := range touched {
		t := heads[log]
		signed, err := s.writer.SignCheckpoint(audit.Checkpoint{Log: log, Size: t.Size, Root: t.Root()})
		if err != nil {
			return err
		}
		b.Queue(`INSERT INTO audit_heads (tenant, log, size, edge, checkpoint) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (tenant, log) DO UPDATE SET size = excluded.size, edge = excluded.edge, checkpoint = excluded.checkpoint`,
			tenant, log, t.Size, t.EdgeBytes(), signed)
	}
	return send(ctx, tx, b)
}

func loadHeads(ctx context.Context, tx pgx.Tx, tenant string) (map[string]audit.Tree, error) {
	rows, err := tx.Query(ctx, "SELECT log, size, edge FROM audit_heads WHERE tenant = $1", tenant)
	if err != nil {
		return nil, err
	}
	heads := map[string]audit.Tree{}
	var log string
	var size int64
	var edge []byte
	_, err = pgx.ForEachRow(rows, []any{&log, &size, &edge}, func() error {
		t, err := audit.TreeFrom(size, edge)
		heads[log] = t
		return err
	})
	return heads, err
}

// Unsequenced returns the tenants that have rows without a leaf, for the tick.
func (s *Store) Unsequenced(ctx context.Context) ([]string, error) {
	rows, err := s.pool.Query(ctx, "SELECT * FROM unsequenced()")
	if err != nil {
		return nil, fmt.Errorf("unsequenced: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// KeepPartitions makes the audit partitions of this month and the next.
func (s *Store) KeepPartitions(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, "SELECT audit_partition(now()::date), audit_partition((now() + interval '1 month')::date)")
	if err != nil {
		return fmt.Errorf("audit partitions: %w", err)
	}
	return nil
}

// VerifyAudit feeds everything that the tenant's audit trail consists of to v,
// from one snapshot of the database.
func (s *Store) VerifyAudit(ctx context.Context, tenant string, v *audit.Verifier) error {
	err := s.snapshot(ctx, tenant, func(tx pgx.Tx) error {
		if err := feedLeaves(ctx, tx, tenant, v); err != nil {
			return err
		}
		if err := feedCheckpoints(ctx, tx, tenant, v); err != nil {
			return err
		}
		if err := feedLoose(ctx, tx, tenant, v); err != nil {
			return err
		}
		return feedTransitions(ctx, tx, tenant, v)
	})
	if err != nil {
		return fmt.Errorf("read audit of %s: %w", tenant, err)
	}
	return nil
}

// snapshot is within, read-only and of one moment.
func (s *Store) snapshot(ctx context.Context, tenant string, fn func(tx pgx.Tx) error) error {
	begin := "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; " + nameTenant(tenant)
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{BeginQuery: begin}, fn)
}

func feedLeaves(ctx context.Context, tx pgx.Tx, tenant string, v *audit.Verifier) error {
	rows, err := tx.Query(ctx, `SELECT l.log, l.position, l.hash, a.header, a.writer, a.signature FROM audit_leaves l
		LEFT JOIN audit a ON (a.month, a.tenant, a.id) = (l.month, l.tenant, l.id)
		WHERE l.tenant = $1 ORDER BY l.log, l.position`, tenant)
	if err != nil {
		return err
	}
	var leaf audit.Leaf
	var hash, sig []byte
	var header, writer *string
	_, err = pgx.ForEachRow(rows, []any{&leaf.Log, &leaf.Position, &hash, &header, &writer, &sig}, func() error {
		leaf.Row = nil
		if header != nil {
			leaf.Row = &audit.Signed{Header: []byte(*header), Writer: *writer, Signature: sig}
		}
		leaf.Hash = tlog.Hash{}
		copy(leaf.Hash[:], hash)
		v.Leaf(leaf)
		return nil
	})
	return err
}

// feedLoose feeds the rows that have no leaf yet.
func feedLoose(ctx context.Context, tx pgx.Tx, tenant string, v *audit.Verifier) error {
	rows, err := tx.Query(ctx, `SELECT a.header, a.writer, a.signature, clock_timestamp() - (a.header::jsonb ->> 'at')::timestamptz FROM audit a
		WHERE a.tenant = $1 AND NOT EXISTS (SELECT FROM audit_leaves l WHERE (l.tenant, l.month, l.id) = (a.tenant, a.month, a.id))`, tenant)
	if err != nil {
		return err
	}
	var header, writer string
	var sig []byte
	var age time.Duration
	_, err = pgx.ForEachRow(rows, []any{&header, &writer, &sig, &age}, func() error {
		v.Loose(audit.Signed{Header: []byte(header), Writer: writer, Signature: sig}, age)
		return nil
	})
	return err
}

func feedCheckpoints(ctx context.Context, tx pgx.Tx, tenant string, v *audit.Verifier) error {
	rows, err := tx.Query(ctx, "SELECT log, checkpoint FROM audit_heads WHERE tenant = $1 ORDER BY log", tenant)
	if err != nil {
		return err
	}
	var log, signed string
	_, err = pgx.ForEachRow(rows, []any{&log, &signed}, func() error {
		v.Checkpoint(log, signed)
		return nil
	})
	return err
}

func feedTransitions(ctx context.Context, tx pgx.Tx, tenant string, v *audit.Verifier) error {
	rows, err := tx.Query(ctx, "SELECT promotion, from_version + 1 FROM transitions WHERE tenant = $1 ORDER BY promotion, from_version", tenant)
	if err != nil {
		return err
	}
	var promotion string
	var version int64
	_, err = pgx.ForEachRow(rows, []any{&promotion, &version}, func() error {
		v.Transition(promotion, version)
		return nil
	})
	return err
}
