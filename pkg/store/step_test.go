package store_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/store"
)

// history is what n deployments of three nodes each, in a hundred environments, leave
// behind: promotions that ended, orders, reports, samples, pull requests, effects, holds and
// checks. Each runs one promotion.
func (b *base) history(n int) {
	b.t.Helper()
	for _, statement := range []string{
		`INSERT INTO releases (tenant, id, deployment, generation, repository, commit, snapshot, digest)
			SELECT 'acme', 'd' || i || '-1', 'd' || i, 1, 'deploy', 'c', '{}', '' FROM generate_series(1, $1) i`,
		`INSERT INTO promotions (tenant, id, release, stage, kind, attempt, deployment, environment, generation, spec, status, phase, wave, version,
				token, plan, units, ending, reason, since, waiting_for, finished_at, progress)
			SELECT 'acme', 'p' || i || s, 'd' || i || '-1', 'stage' || s, 'promote', 1, 'd' || i, 'env' || i % 100, 1,
				'{"after": "p1done", "instance": {"module": {"digest": "sha256:1"}}, "stage": {"needs": ["stagedone"], "gates": {"approval": "two"}, "strategy": {"units": "exact"}}}',
				CASE s WHEN 'done' THEN 'succeeded' ELSE 'running' END, CASE s WHEN 'done' THEN '' ELSE 'analysing' END, 0, 1, 0, '',
				'[{"node": "n1"}, {"node": "n2"}, {"node": "n3"}]', '', '', now(), '{}', CASE s WHEN 'done' THEN now() END, jsonb_build_object('effect', 'e' || i)
			FROM generate_series(1, $1) i, unnest(ARRAY['done', 'open']) s`,
		`INSERT INTO slots (tenant, environment, deployment, live) SELECT 'acme', 'env' || i % 100, 'd' || i, 'p' || i || 'done' FROM generate_series(1, $1) i`,
		`INSERT INTO wanted (tenant, node, environment, deployment, epoch, token, generation, promotion, at)
			SELECT 'acme', 'n' || k, 'env' || i % 100, 'd' || i, 1, 1, 1, 'p' || i || 'done', now() FROM generate_series(1, $1) i, generate_series(1, 3) k`,
		`INSERT INTO reports (tenant, node, environment, deployment, report, seen)
			SELECT 'acme', 'n' || k, 'env' || i % 100, 'd' || i, '{}', now() FROM generate_series(1, $1) i, generate_series(1, 3) k`,
		`INSERT INTO samples (tenant, environment, deployment, node, instance, span, at, sample)
			SELECT 'acme', 'env' || i % 100, 'd' || i, 'n' || k, 'sha256:1', 1, now(), '{}' FROM generate_series(1, $1) i, generate_series(1, 3) k`,
		`INSERT INTO pulls (tenant, environment, deployment, repository, promotion, review)
			SELECT 'acme', 'env' || i % 100, 'd' || i, 'deploy', 'p' || i || 'open', '{}' FROM generate_series(1, $1) i`,
		`INSERT INTO effects (tenant, key, kind, promotion, pull, head, state, at)
			SELECT 'acme', 'e' || i, 'merge', 'p' || i || 'done', 1, 'c', 'done', now() FROM generate_series(1, $1) i`,
		`INSERT INTO holds (tenant, environment, deployment, artifact, reason, actor, since)
			SELECT 'acme', 'env' || i % 100, 'd' || i, 'sha256:2', '', '', now() FROM generate_series(1, $1) i`,
		`INSERT INTO checks (tenant, promotion, name, passed, detail, at)
			SELECT 'acme', 'p' || i || 'open', 'smoke', true, '', now() FROM generate_series(1, $1) i`,
	} {
		b.sql(statement, n)
	}
}

// blocks is how many blocks of 8 KiB each of these queries reads.
func (b *base) blocks(queries map[string]string, args ...string) map[string]int {
	b.t.Helper()
	types := strings.TrimSuffix(strings.Repeat("text, ", len(args)), ", ")
	out := map[string]int{}
	for name, query := range queries {
		b.as("acme", func(tx pgx.Tx) {
			for _, statement := range []string{"SET LOCAL plan_cache_mode = force_generic_plan", "PREPARE step (" + types + ") AS " + query} {
				_, err := tx.Exec(b.t.Context(), statement)
				require.NoError(b.t, err, name)
			}
			var raw []byte
			require.NoError(b.t, tx.QueryRow(b.t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE step('"+strings.Join(args, "', '")+"')").Scan(&raw), name)
			var plans []struct {
				Plan struct {
					Hit  int `json:"Shared Hit Blocks"`
					Read int `json:"Shared Read Blocks"`
				}
			}
			require.NoError(b.t, json.Unmarshal(raw, &plans))
			out[name] = plans[0].Plan.Hit + plans[0].Plan.Read
			_, err := tx.Exec(b.t.Context(), "DEALLOCATE step")
			require.NoError(b.t, err)
		})
	}
	return out
}

// TestAStepReadsNoMoreWhereMuchHasHappened looks at the plans of a database that nobody
// has analysed yet, as after a restore, and of one that was.
func TestAStepReadsNoMoreWhereMuchHasHappened(t *testing.T) {
	statuses := map[string]string{"gating": "", "queued": "", "running": "analysing"}
	for _, analysed := range []bool{false, true} {
		b := newBase(t, 1)
		for _, table := range list(b, "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace") {
			b.sql("ALTER TABLE " + pgx.Identifier{table}.Sanitize() + " SET (autovacuum_enabled = false)")
		}
		b.sql(`INSERT INTO environments (tenant, name, repository, document, selector, commit)
			SELECT 'acme', 'env' || i, 'deploy', '{"spec": {"limits": {"promotionsPerCluster": 9}}}', '{}', 'c' FROM generate_series(0, 99) i`)
		b.sql("INSERT INTO nodes (tenant, name, labels, public_key) SELECT 'acme', 'n' || k, '{}', '' FROM generate_series(1, 3) k")
		b.history(1000)
		if analysed {
			b.sql("ANALYZE")
		}
		for _, status := range slices.Sorted(maps.Keys(statuses)) {
			b.sql("UPDATE promotions SET status = $1, phase = $2 WHERE id = 'p500open'", status, statuses[status])
			for name, n := range b.blocks(store.StepQueries, "acme", "p500open") {
				require.Less(t, n, 60, "analysed: %t, %s: %s reads %d blocks", analysed, status, name, n)
			}
		}
		b.sql("UPDATE slots SET holder = 'p500open' WHERE deployment = 'd500'")
		b.sql(`INSERT INTO wanted (tenant, node, environment, deployment, epoch, token, generation, promotion, at) VALUES ('acme', 'n4', 'env1', 'd1', 1, 1, 1, 'p1done', now())`)
		b.sql("INSERT INTO reports (tenant, node, environment, deployment, report, seen) VALUES ('acme', 'n4', 'env1', 'd1', '{\"active\": {\"digest\": \"x\"}}', now())")
		b.sql("INSERT INTO due (tenant, kind, id, wake_at) SELECT tenant, 'slot', environment || '/' || deployment, now() FROM slots")
		b.sql("INSERT INTO due (tenant, kind, id, wake_at) SELECT tenant, 'promotion', id, now() FROM promotions")
		for name, n := range b.blocks(store.DriftQueries, "acme", "env0", "d500") {
			require.Less(t, n, 60, "analysed: %t: %s reads %d blocks", analysed, name, n)
		}
		if !analysed {
			continue // that few rows have one tenant and kind is then taken for granted
		}
		b.sql("ANALYZE")
		holders := strings.ReplaceAll(strings.ReplaceAll(store.PokeHolders, "$2::text[]", "ARRAY[$2::text]"), "$3::text[]", "ARRAY[$3::text]")
		for name, n := range map[string]int{
			"pokeSlot":    b.blocks(map[string]string{"": store.PokeSlot}, "acme", "env0", "d500", "another")[""],
			"pokeHolders": b.blocks(map[string]string{"": holders}, "acme", "env0", "d500")[""],
			"pokeDrift":   b.blocks(map[string]string{"": store.PokeDrift}, "acme", "n4")[""],
		} {
			require.Less(t, n, 60, "%s reads %d blocks", name, n)
		}
	}
}
