package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/store"
)

// tenantTables are the tables with a tenant column, partitions left out.
const tenantTables = `SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
	WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
	AND a.attname = 'tenant' AND NOT a.attisdropped ORDER BY 1`

func TestEveryTableWithATenantHasForcedRowSecurityAndAPolicyForReadingAndWriting(t *testing.T) {
	b := newBase(t, 1)
	require.Greater(t, len(list(b, tenantTables)), 15)
	require.Empty(t, list(b, `SELECT c.relname FROM pg_class c WHERE c.relname = ANY (ARRAY(`+tenantTables+`))
		AND c.relnamespace = 'public'::regnamespace AND NOT (c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (
			SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'tenant' AND p.polcmd = '*' AND p.polpermissive
			AND pg_get_expr(p.polqual, p.polrelid) = '(tenant = tenant())' AND pg_get_expr(p.polwithcheck, p.polrelid) = '(tenant = tenant())'))`),
		"a table with a tenant column needs ENABLE and FORCE ROW LEVEL SECURITY and the policy of the others")
	require.Empty(t, list(b, `SELECT c.relname || ': ' || p.polname FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
		WHERE p.polname <> 'tenant' AND p.polroles <> ARRAY['hotswap_claim'::regrole::oid] AND p.polroles <> ARRAY['hotswap_metrics'::regrole::oid]`),
		"any other policy widens what is seen, for the roles of the claim and of the metrics only")
	require.Empty(t, list(b, `SELECT c.relname FROM pg_class c WHERE c.relispartition AND EXISTS (
			SELECT FROM aclexplode(c.relacl) WHERE grantee <> c.relowner)`), "a partition is reached through its parent only")
	require.Empty(t, list(b, `SELECT c.relname FROM pg_class c WHERE c.relkind IN ('v', 'm') AND c.relnamespace = 'public'::regnamespace
		AND NOT coalesce(c.reloptions @> '{security_invoker=true}', false)`), "a view sees what its owner sees")
}

func TestEveryUniqueKeyOfATenantsTableHoldsTheTenant(t *testing.T) {
	b := newBase(t, 1)
	require.Empty(t, list(b, `SELECT i.indexrelid::regclass::text FROM pg_index i WHERE i.indisunique
		AND i.indrelid = ANY (SELECT ('public.' || t)::regclass FROM unnest(ARRAY(`+tenantTables+`)) t)
		AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attname = 'tenant' AND a.attnum = ANY (i.indkey))`),
		"one tenant could take a key from another, and learn that it exists")
}

func TestTheApplicationsRoleOwnsNothingAndCannotBypassAnything(t *testing.T) {
	b := newBase(t, 1)
	require.Equal(t, "f f f f f t", ask[string](b, `SELECT concat_ws(' ', rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication, rolcanlogin)
		FROM pg_roles WHERE rolname = 'hotswap_app'`))
	require.Equal(t, "f f f f", ask[string](b, `SELECT concat_ws(' ', rolsuper, rolbypassrls, rolcreaterole, rolcanlogin) FROM pg_roles WHERE rolname = 'hotswap_claim'`))
	require.Equal(t, "f f f f", ask[string](b, `SELECT concat_ws(' ', rolsuper, rolbypassrls, rolcreaterole, rolcanlogin) FROM pg_roles WHERE rolname = 'hotswap_owner'`))
	require.Equal(t, "f f f f", ask[string](b, `SELECT concat_ws(' ', rolsuper, rolbypassrls, rolcreaterole, rolcanlogin) FROM pg_roles WHERE rolname = 'hotswap_metrics'`))
	require.False(t, ask[bool](b, "SELECT has_schema_privilege('hotswap_metrics', 'public', 'CREATE')"))
	require.Zero(t, ask[int](b, "SELECT count(*)::int FROM pg_auth_members WHERE member = 'hotswap_app'::regrole"), "it is a member of no other role")
	require.Empty(t, list(b, "SELECT relname FROM pg_class WHERE relowner = 'hotswap_app'::regrole UNION ALL SELECT proname FROM pg_proc WHERE proowner = 'hotswap_app'::regrole"))
	require.False(t, ask[bool](b, "SELECT has_schema_privilege('hotswap_app', 'public', 'CREATE')"))
	require.Empty(t, list(b, `SELECT c.relname || ' ' || p FROM pg_class c, unnest(ARRAY['TRUNCATE', 'REFERENCES', 'TRIGGER']) p
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND has_table_privilege('hotswap_app', c.oid, p)`))
	for _, table := range []string{"transitions", "audit", "audit_leaves"} {
		for _, right := range []string{"UPDATE", "DELETE"} {
			require.False(t, ask[bool](b, "SELECT has_table_privilege('hotswap_app', $1, $2) OR has_any_column_privilege('hotswap_app', $1, 'UPDATE')", table, right), "%s %s", right, table)
		}
	}
	require.Equal(t, "t t f f", ask[string](b, `SELECT concat_ws(' ', has_table_privilege('hotswap_app', 'metric_facts', 'INSERT'), has_table_privilege('hotswap_app', 'metric_totals', 'SELECT'),
		has_table_privilege('hotswap_app', 'metric_facts', 'UPDATE, DELETE'), has_table_privilege('hotswap_app', 'metric_totals', 'INSERT, UPDATE, DELETE'))`),
		"what was counted only rises")
	require.ElementsMatch(t, []string{"due", "wanted", "reports", "audit_pending", "holds", "samples", "requests", "pull_checks", "function_calls", "async_calls"}, list(b, `SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
		AND c.relkind IN ('r', 'p') AND has_table_privilege('hotswap_app', c.oid, 'DELETE')`), "nothing but finished work, calls that have ended, a hold that was lifted, old readings, requests of a week ago, pull requests that have ended, and what a node was told that is another one now, is ever deleted")
}

func TestFunctionsThatSeeAllTenantsTellNoBusinessDataAndCannotBeLedAstray(t *testing.T) {
	b := newBase(t, 1)
	require.Equal(t, []string{"audit_partition hotswap_owner", "claim_due hotswap_claim", "fold_metrics hotswap_metrics", "next_due hotswap_claim", "raise_epoch hotswap_owner", "scrape_metrics hotswap_metrics", "unsequenced hotswap_claim"},
		list(b, "SELECT proname || ' ' || proowner::regrole FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef ORDER BY 1"))
	require.Empty(t, list(b, `SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef
		AND NOT coalesce(proconfig @> '{"search_path=public, pg_temp"}', false)`), "a SECURITY DEFINER function needs a fixed search_path that ends with pg_temp")
	require.Empty(t, list(b, `SELECT proname FROM pg_proc p WHERE pronamespace = 'public'::regnamespace AND prosecdef
		AND EXISTS (SELECT FROM aclexplode(p.proacl) WHERE grantee = 0)`), "and nobody else may call it")
	require.Equal(t, "TABLE(tenant text, kind text, id text, fence bigint, pokes bigint, attempts integer)",
		ask[string](b, "SELECT pg_get_function_result(oid) FROM pg_proc WHERE proname = 'claim_due'"))
	require.Equal(t, []string{"attempts", "fence", "id", "kind", "lease_until", "pokes", "tenant", "wake_at"},
		list(b, "SELECT attname::text FROM pg_attribute WHERE attrelid = 'due'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY 1"))
	require.Equal(t, []string{"audit_pending", "due"}, list(b, `SELECT DISTINCT c.relname::text FROM pg_class c, aclexplode(c.relacl) a
		WHERE a.grantee = 'hotswap_claim'::regrole ORDER BY 1`), "the claim's role reads these and nothing else")
	require.Equal(t, []string{"metric_facts", "metric_totals"}, list(b, `SELECT c.relname::text FROM pg_class c, aclexplode(c.relacl) a
		WHERE a.grantee = 'hotswap_metrics'::regrole GROUP BY 1 ORDER BY 1`), "the metrics' role reads what was counted")
	require.Equal(t, []string{
		"audit_pending.tenant", "due.lease_until", "due.tenant", "due.wake_at", "environments.name", "environments.tenant", "holds.environment", "holds.tenant",
		"promotions.environment", "promotions.finished_at", "promotions.phase", "promotions.status", "promotions.tenant",
	}, list(b, `SELECT c.relname || '.' || t.attname FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid, aclexplode(t.attacl) a
		WHERE a.grantee = 'hotswap_metrics'::regrole AND a.privilege_type = 'SELECT' ORDER BY 1`), "and of the rest where things are, and how they stand")
	require.Equal(t, "TABLE(tenant text, name text, labels jsonb, count bigint, value bigint)",
		ask[string](b, "SELECT pg_get_function_result(oid) FROM pg_proc WHERE proname = 'scrape_metrics'"))
}

func TestATenantNeitherSeesNorTouchesARowOfAnotherInAnyTable(t *testing.T) {
	b := newBase(t, 1)
	fill(b, "acme")
	fill(b, "globex")
	for _, table := range list(b, tenantTables) {
		t.Run(table, func(t *testing.T) {
			require.Equal(t, 1, ask[int](b, "SELECT count(*)::int FROM "+table+" WHERE tenant = 'globex'"), "the test put a row there")
			b.as("acme", func(tx pgx.Tx) {
				require.Equal(t, "1 acme", scalar[string](t, tx, "SELECT count(*) || ' ' || max(tenant) FROM "+table))
			})
			b.as("", func(tx pgx.Tx) { require.Zero(t, scalar[int](t, tx, "SELECT count(*)::int FROM "+table)) })
			b.as("acme", func(tx pgx.Tx) {
				columns := insertable(b, table)
				_, err := tx.Exec(t.Context(), fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM json_populate_record(NULL::%s, $1)", table, columns, columns, table),
					ask[string](b, "SELECT row_to_json(x)::text FROM (SELECT * FROM "+table+" WHERE tenant = 'globex') x"))
				if ask[bool](b, "SELECT has_table_privilege('hotswap_app', $1, 'INSERT')", table) {
					require.ErrorContains(t, err, "row-level security")
				} else {
					require.ErrorContains(t, err, "permission denied")
				}
			})
			if !ask[bool](b, "SELECT has_table_privilege('hotswap_app', $1, 'UPDATE')", table) {
				return
			}
			b.as("acme", func(tx pgx.Tx) {
				tag, err := tx.Exec(t.Context(), "UPDATE "+table+" SET tenant = tenant WHERE tenant = 'globex'")
				require.NoError(t, err)
				require.Zero(t, tag.RowsAffected())
			})
			b.as("acme", func(tx pgx.Tx) {
				_, err := tx.Exec(t.Context(), "UPDATE "+table+" SET tenant = 'initech'")
				require.Error(t, err, "a row cannot be given away either")
			})
		})
	}
}

func scalar[T any](t *testing.T, tx pgx.Tx, query string) (v T) {
	t.Helper()
	require.NoError(t, tx.QueryRow(t.Context(), query).Scan(&v), query)
	return v
}

// insertable are the columns of a table that are not generated.
func insertable(b *base, table string) string {
	return ask[string](b, `SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
		WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''`, table)
}

// fill puts one row of a tenant into every table, whatever its columns are: each gets a value of its type.
func fill(b *base, tenant string) {
	b.t.Helper()
	b.sql("SET session_replication_role = replica") // no foreign keys: every table stands for itself
	for _, table := range list(b, tenantTables) {
		values := ask[string](b, `SELECT string_agg(CASE
				WHEN attname = 'tenant' THEN quote_literal($2::text)
				WHEN attname = 'header' THEN quote_literal('{"action":"a","actor":{"name":"n"}}')
				WHEN table_check IS NOT NULL THEN quote_literal(table_check)
				WHEN atttypid IN ('text'::regtype) THEN quote_literal('x')
				WHEN atttypid IN ('bigint'::regtype, 'int'::regtype) THEN '1'
				WHEN atttypid = 'boolean'::regtype THEN 'true'
				WHEN atttypid = 'bytea'::regtype THEN quote_literal('x') || '::bytea'
				WHEN atttypid IN ('timestamptz'::regtype, 'date'::regtype) THEN 'now()'
				WHEN atttypid = 'jsonb'::regtype THEN quote_literal('{}') || '::jsonb'
				ELSE 'NULL' END, ', ' ORDER BY attnum)
			FROM pg_attribute LEFT JOIN LATERAL (SELECT substring(pg_get_constraintdef(c.oid) FROM '''([a-z_]+)''::text') AS table_check
				FROM pg_constraint c WHERE c.conrelid = attrelid AND c.contype = 'c' AND c.conkey = ARRAY[attnum]) k ON true
			WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''`, table, tenant)
		b.sql("INSERT INTO " + table + " (" + insertable(b, table) + ") VALUES (" + values + ")")
	}
	b.sql("RESET session_replication_role")
}

func TestNothingLivesInTheSessionSoThatEveryTransactionMayHaveAnotherConnection(t *testing.T) {
	b := newBase(t, 1)
	// What a transaction-pooling bouncer does: every transaction gets another of the server's connections.
	var turn int
	stores := []*store.Store{b.open(1), b.open(1), b.open(1)}
	next := func() *store.Store { turn++; return stores[turn%len(stores)] }
	for i := range 6 {
		id := fmt.Sprintf("d-%d", i)
		require.NoError(t, next().Accept(t.Context(), delivery(id, "{}")))
		c := b.claim(next(), 1, 15*time.Second, store.Inbox)
		require.Len(t, c, 1)
		d, pending, err := next().LoadDelivery(t.Context(), c[0])
		require.NoError(t, err)
		require.True(t, pending)
		require.Equal(t, id, d.ID)
		require.NoError(t, next().Settle(t.Context(), c[0], d, store.Settlement{Dead: true, Rows: rows(tenant, id, 1)}))
		n, err := next().Sequence(t.Context(), tenant)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Zero(t, ask[int](b, "SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory'"), "a session's lock would outlive its transaction")
	}
}

func TestATenantsNameIsTextAndNeverPartOfAStatement(t *testing.T) {
	b := newBase(t, 1)
	for _, name := range []string{
		`a'; SELECT set_config('hotswap.tenant', 'acme', true); --`, `a\'`, `\`, `'`, `''`, `a' || 'b`, "a\nb", "$1", "ä€", `E'\047'`, `'); COMMIT; --`,
	} {
		require.NoError(t, b.store.Record(t.Context(), name, rows(name, "x", 1)), name)
		got, err := b.store.AuditRows(t.Context(), name, "", "", 10)
		require.NoError(t, err)
		require.Len(t, got, 1, name)
		require.Equal(t, name, ask[string](b, "SELECT tenant FROM audit WHERE tenant = $1", name))
	}
	for _, name := range []string{"ac\x00me", "a\xff"} {
		require.Error(t, b.store.Record(t.Context(), name, rows(name, "x", 1)))
	}
}
