package store_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/tests/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m, store.Migrate) }

const tenant = "acme"

// A base is one test's database with a store on it and a superuser beside it.
type base struct {
	t     *testing.T
	db    *pgtest.DB
	store *store.Store
	admin *pgx.Conn
	app   *pgx.Conn // of the application role, past the store
	keys  audit.Keys
}

func writer() *audit.Writer {
	return audit.NewWriter(ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", ed25519.SeedSize))))
}

func newBase(t *testing.T, conns int32) *base {
	t.Helper()
	b := &base{t: t, db: pgtest.New(t), keys: audit.Keys{writer().ID(): writer().Public()}}
	b.store = b.open(conns)
	b.admin = b.connect(b.db.AdminDSN())
	b.app = b.connect(b.db.DSN("hotswap_app"))
	return b
}

func (b *base) open(conns int32) *store.Store {
	b.t.Helper()
	s, err := store.Open(b.t.Context(), store.Options{DSN: b.db.DSN("hotswap_app"), MaxConns: conns}, writer())
	require.NoError(b.t, err)
	b.t.Cleanup(s.Close)
	return s
}

func (b *base) connect(dsn string) *pgx.Conn {
	b.t.Helper()
	c, err := pgx.Connect(b.t.Context(), dsn)
	require.NoError(b.t, err)
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = c.Close(ctx)
	})
	return c
}

// sql runs a statement as the superuser.
func (b *base) sql(statement string, args ...any) {
	b.t.Helper()
	_, err := b.admin.Exec(b.t.Context(), statement, args...)
	require.NoError(b.t, err, statement)
}

// as runs fn in a transaction of the application role that names a tenant ("": none), and rolls it back.
func (b *base) as(tenant string, fn func(tx pgx.Tx)) {
	b.t.Helper()
	tx, err := b.app.Begin(b.t.Context())
	require.NoError(b.t, err)
	defer func() { require.NoError(b.t, tx.Rollback(b.t.Context())) }()
	if tenant != "" {
		_, err = tx.Exec(b.t.Context(), "SELECT set_config('hotswap.tenant', $1, true)", tenant)
		require.NoError(b.t, err)
	}
	fn(tx)
}

// ask returns the one value that a query of the superuser gives.
func ask[T any](b *base, query string, args ...any) T {
	b.t.Helper()
	var v T
	require.NoError(b.t, b.admin.QueryRow(b.t.Context(), query, args...).Scan(&v), query)
	return v
}

// list returns the one column that a query of the superuser gives.
func list(b *base, query string, args ...any) []string {
	b.t.Helper()
	rows, err := b.admin.Query(b.t.Context(), query, args...)
	require.NoError(b.t, err, query)
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(b.t, err, query)
	return out
}

// due makes n rows of a tenant that are due since a minute, or in an hour.
func (b *base) due(tenant string, kind store.Kind, n int, when string) {
	b.t.Helper()
	b.sql(`INSERT INTO due (tenant, kind, id, wake_at) SELECT $1, $2, 'r' || i, now() + $4::interval + i * interval '1 microsecond'
		FROM generate_series(1, $3) AS i`, tenant, string(kind), n, when)
}

func (b *base) claim(s *store.Store, n int, lease time.Duration, kinds ...store.Kind) []store.Claim {
	b.t.Helper()
	c, err := s.Claim(b.t.Context(), kinds, n, lease)
	require.NoError(b.t, err)
	return c
}

func delivery(id, body string) store.Delivery {
	sum := sha256.Sum256([]byte(body))
	return store.Delivery{
		Tenant: tenant, Source: "gitea", ID: id, Repository: "deploy", Event: "push",
		Headers: map[string]string{"X-Gitea-Event": "push"}, Body: []byte(body), Digest: sum[:],
	}
}

// rows are n audit rows of a tenant, as of a time.
func rows(tenant, name string, n int) func(at time.Time) []audit.Row {
	return func(at time.Time) (out []audit.Row) {
		for i := range n {
			out = append(out, audit.Row{
				ID: fmt.Sprintf("%s/%d", name, i), Tenant: tenant, At: at, Actor: audit.Actor{Kind: audit.System, Name: "test"},
				Action: "test.done", Subject: "test " + name, Reason: "a test wants a row",
			})
		}
		return out
	}
}
