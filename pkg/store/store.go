// Package store keeps everything in PostgreSQL. It is the only package that
// imports pgx, and every query of HotSwap is here.
//
// Each method is one transaction that names its tenant, so row-level security
// shows and takes that tenant's rows only. Nothing lives in the session: the
// package works behind a transaction-pooling PgBouncer. All times are the
// database's.
package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"hotswap.dev/hotswap/pkg/audit"
)

// Errors that callers decide on.
var (
	// ErrLost reports that somebody else has taken over what was being worked
	// on: forget it, nothing was stored.
	ErrLost = errors.New("taken over by another worker")
	// ErrNotFound reports that there is no such row for this tenant.
	ErrNotFound = errors.New("not found")
	// ErrConflict reports that the row exists with another content.
	ErrConflict = errors.New("exists with another content")
	// ErrToken reports a join token that is unknown, used or expired.
	ErrToken = errors.New("join token is unknown, used or expired")
)

// Options configure a [Store].
type Options struct {
	// DSN is of the application role; password by passfile. Statements are prepared by
	// name, which halves what a step costs, unless it says default_query_exec_mode=cache_describe.
	DSN            string
	MaxConns       int32         // 2 for a function process, 8 for api
	ConnectTimeout time.Duration // of one attempt; default 5 s
}

// A Store is a bounded, lazy pool of connections. It is safe for concurrent use.
type Store struct {
	pool   *pgxpool.Pool
	writer *audit.Writer
}

// Open returns a store that signs its audit rows with writer. It connects when
// the first method is called, not now.
func Open(ctx context.Context, o Options, writer *audit.Writer) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(o.DSN)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = 5 * time.Second
	}
	cfg.MaxConns, cfg.MinConns = max(o.MaxConns, 1), 0
	cfg.ConnConfig.ConnectTimeout = o.ConnectTimeout
	cfg.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	cfg.ConnConfig.RuntimeParams["timezone"] = "UTC"
	cfg.ConnConfig.RuntimeParams["standard_conforming_strings"] = "on"
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return &Store{pool: pool, writer: writer}, nil
}

// Close waits for the connections that are in use and closes them all.
func (s *Store) Close() { s.pool.Close() }

// Ready returns nil when the database answers and accepts writes.
func (s *Store) Ready(ctx context.Context) error {
	var readOnly string
	if err := s.pool.QueryRow(ctx, "SHOW transaction_read_only").Scan(&readOnly); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	if readOnly != "off" {
		return errors.New("database: read-only")
	}
	return nil
}

// within runs fn in one transaction of the tenant. The context's deadline holds
// for all of it. fn must use tx and nothing else.
func (s *Store) within(ctx context.Context, tenant string, fn func(tx pgx.Tx) error) error {
	if tenant == "" || strings.ContainsRune(tenant, 0) {
		return fmt.Errorf("tenant %q: %w", tenant, ErrNotFound)
	}
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{BeginQuery: "BEGIN; " + nameTenant(tenant)}, fn)
	return afterwards(ctx, s, err)
}

// nameTenant is the statement with which a transaction names its tenant. It
// goes with BEGIN in one round trip, which takes no parameters; the name is
// quoted by the rules of standard_conforming_strings.
func nameTenant(tenant string) string {
	return "SELECT set_config('hotswap.tenant', '" + strings.ReplaceAll(tenant, "'", "''") + "', true)"
}

// now returns the transaction's time, UTC, in microseconds.
func now(ctx context.Context, tx pgx.Tx) (time.Time, error) {
	var t time.Time
	err := tx.QueryRow(ctx, "SELECT now()").Scan(&t)
	return t.UTC(), err
}

// one turns "no row was changed" into err.
func one(tag pgconn.CommandTag, failed, err error) error {
	if failed != nil {
		return failed
	}
	if tag.RowsAffected() != 1 {
		return err
	}
	return nil
}

// missing turns pgx's "no rows" into [ErrNotFound].
func missing(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotFound
	}
	return err
}
