package pgtest_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/tests/pgtest"
)

func TestMain(m *testing.M) {
	pgtest.Main(m, func(ctx context.Context, adminDSN string) error {
		conn, err := pgx.Connect(ctx, adminDSN)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, `CREATE ROLE app LOGIN; CREATE TABLE t (n int); GRANT INSERT, SELECT ON t TO app`)
		return err
	})
}

func TestEachTestHasAMigratedDatabaseOfItsOwn(t *testing.T) {
	a, b := pgtest.New(t), pgtest.New(t)
	require.NotEqual(t, a.Name, b.Name)
	require.Equal(t, 1, insertAndCount(t, a))
	require.Equal(t, 1, insertAndCount(t, b))
	require.Equal(t, 2, insertAndCount(t, a))
}

func TestDatabasesAreMadeInParallel(t *testing.T) {
	for range 4 {
		t.Run("one of four", func(t *testing.T) {
			t.Parallel()
			require.Equal(t, 1, insertAndCount(t, pgtest.New(t)))
		})
	}
}

func TestADatabaseIsDroppedWithItsConnections(t *testing.T) {
	var db *pgtest.DB
	t.Run("leaves a connection open", func(t *testing.T) {
		db = pgtest.New(t)
		_, err := pgx.Connect(t.Context(), db.AdminDSN())
		require.NoError(t, err)
	})
	_, err := pgx.Connect(t.Context(), db.AdminDSN())
	require.ErrorContains(t, err, "does not exist")
}

func insertAndCount(t *testing.T, db *pgtest.DB) (n int) {
	t.Helper()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, db.DSN("app"))
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, "INSERT INTO t VALUES (1)")
	require.NoError(t, err)
	require.NoError(t, conn.QueryRow(ctx, "SELECT count(*) FROM t").Scan(&n))
	return n
}
