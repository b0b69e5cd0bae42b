package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/tests/counted"
)

// restores makes n promotions that are there to bring back what runs nowhere: two looks
// take each from its gates through its start to its success.
func (b *base) restores(n int) {
	b.t.Helper()
	b.promotions(n)
	b.sql("UPDATE promotions SET kind = 'restore'")
}

// finish looks at every promotion of the claims twice. Who lost it to another looks on.
func finish(ctx context.Context, s *store.Store, claims []store.Claim) error {
	for range 2 {
		for _, c := range claims {
			if _, err := s.Advance(ctx, c, look); err != nil && !errors.Is(err, store.ErrLost) {
				return err
			}
		}
	}
	return nil
}

// numbers are the metrics in words, those that are zero left out.
func numbers(t *testing.T, s *store.Store) map[string]int64 {
	t.Helper()
	all, err := s.Metrics(t.Context())
	require.NoError(t, err)
	return words(all)
}

func words(all []store.Series) map[string]int64 {
	out := map[string]int64{}
	for _, m := range all {
		var labels []string
		for _, k := range slices.Sorted(maps.Keys(m.Labels)) {
			if m.Labels[k] != "" {
				labels = append(labels, m.Labels[k])
			}
		}
		key := strings.Join(append([]string{m.Tenant, m.Name}, labels...), " ")
		if m.Value != 0 && m.Name != store.DueLag {
			out[key] = m.Value
		}
		if m.Count != 0 {
			out[key+" count"] = int64(m.Count)
			for le, n := range m.Buckets {
				out[fmt.Sprintf("%s le %d", key, le)] = int64(n)
			}
		}
	}
	return out
}

// fallen are the counters of before that are less now.
func fallen(before, now map[string]int64) (out []string) {
	for k, n := range before {
		if !strings.Contains(k, store.PromotionsOpen) && !strings.Contains(k, store.AuditRowsUnsequenced) && now[k] < n {
			out = append(out, fmt.Sprintf("%s fell from %d to %d", k, n, now[k]))
		}
	}
	return out
}

// counters are the numbers that only rise.
func counters(all map[string]int64) map[string]int64 {
	out := maps.Clone(all)
	maps.DeleteFunc(out, func(k string, _ int64) bool {
		return strings.Contains(k, store.PromotionsOpen) || strings.Contains(k, store.AuditRowsUnsequenced) || strings.Contains(k, store.Holds)
	})
	return out
}

func (b *base) fold(n int) int {
	b.t.Helper()
	folded, err := b.store.FoldMetrics(b.t.Context(), n)
	require.NoError(b.t, err)
	return folded
}

func TestWhatWasCountedStaysWhenAllThatItWasCountedFromIsDeleted(t *testing.T) {
	b := newBase(t, 2)
	b.restores(6)
	claims := b.claim(b.store, 6, time.Hour, store.Promotion)
	require.NoError(t, finish(t.Context(), b.store, claims[:4]))
	before := counters(numbers(t, b.store))
	require.EqualValues(t, 4, before["acme deployments_started qa restore"])
	require.EqualValues(t, 4, before["acme deployments_completed qa restore"])
	require.EqualValues(t, 4, before["acme deployment_duration qa restore succeeded count"])
	require.Equal(t, 12, ask[int](b, "SELECT count(*)::int FROM metric_facts"), "a row for each, so that no step waits for another")

	left := 12
	for _, part := range []int{5, 3, 100} { // a part of the facts is folded, then another, then the rest
		require.Equal(t, min(part, left), b.fold(part))
		left -= min(part, left)
		require.Equal(t, before, counters(numbers(t, b.store)))
	}
	require.Zero(t, ask[int](b, "SELECT count(*)::int FROM metric_facts"))
	for _, table := range []string{"transitions", "checks", "effects", "approvals", "promotions", "releases", "audit_pending", "audit_leaves", "audit", "slots"} {
		b.sql("DELETE FROM " + table + " WHERE true" + map[string]string{
			"promotions": " AND status = 'succeeded'", "transitions": " AND promotion IN (SELECT id FROM promotions WHERE status = 'succeeded')",
			"releases": " AND id NOT IN (SELECT release FROM promotions)", "slots": " AND false",
		}[table])
		require.Equal(t, before, counters(numbers(t, b.store)), "without %s", table)
	}
	require.NoError(t, finish(t.Context(), b.store, claims[4:]))
	now := numbers(t, b.store)
	require.Empty(t, fallen(before, now))
	require.EqualValues(t, 6, now["acme deployments_completed qa restore"])
}

func TestNoReadingEverFallsWhileStepsAndFoldsAndDeletionsRace(t *testing.T) {
	const workers, each = 4, 50
	b := newBase(t, 4)
	b.restores(workers * each)
	// An environment for each worker: the end of a restore wakes who waits in its environment, in no order.
	b.sql("INSERT INTO environments (tenant, name, repository, document, selector, commit) SELECT 'acme', 'e' || i, 'deploy', '{}', '{}', 'c' FROM generate_series(0, $1 - 1) i", workers)
	b.sql("UPDATE promotions SET environment = 'e' || substr(id, 2)::int % $1::int", workers)
	b.sql("UPDATE slots SET environment = 'e' || substr(deployment, 2)::int % $1::int", workers)
	claims := b.claim(b.store, workers*each, time.Hour, store.Promotion)
	require.Len(t, claims, workers*each)
	done, stop := make(chan struct{}), make(chan struct{})
	var working, around sync.WaitGroup
	for i := range workers {
		s := b.open(1)
		mine := slices.DeleteFunc(slices.Clone(claims), func(c store.Claim) bool {
			n, err := strconv.Atoi(c.ID[1:])
			return err != nil || n%workers != i
		})
		working.Go(func() { require.NoError(t, finish(t.Context(), s, mine)) })
	}
	loop := func(fn func()) {
		around.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					fn()
				}
			}
		})
	}
	folds, reads := 0, 0
	for i := range 3 {
		s := b.open(1)
		loop(func() {
			n, err := s.FoldMetrics(t.Context(), 1+7*i)
			require.NoError(t, err)
			if n > 0 && i == 0 {
				folds++
			}
		})
	}
	for i := range 2 {
		s := b.open(1)
		last := map[string]int64{}
		loop(func() {
			all, err := s.Metrics(t.Context())
			require.NoError(t, err)
			now := words(all)
			require.Empty(t, fallen(last, now))
			require.Equal(t, total(now, "deployments_completed", " restore"), total(now, "deployment_duration", " count"), "it is of one moment")
			if last = now; i == 0 {
				reads++
			}
		})
	}
	deleting := b.connect(b.db.AdminDSN())
	loop(func() {
		_, err := deleting.Exec(t.Context(), "DELETE FROM transitions WHERE promotion IN (SELECT id FROM promotions WHERE finished_at IS NOT NULL)")
		require.NoError(t, err)
	})
	go func() { working.Wait(); close(done) }()
	<-done
	close(stop)
	around.Wait()
	t.Logf("%d foldings of a row, %d readings", folds, reads)
	require.Positive(t, folds)
	require.Greater(t, reads, 3)
	b.fold(10 * workers * each)
	require.Zero(t, b.fold(1), "nothing is left to fold, and nothing is folded twice")
	now := numbers(t, b.store)
	require.EqualValues(t, workers*each, total(now, "deployments_started", " restore"))
	require.EqualValues(t, workers*each, total(now, "deployments_completed", " restore"))
	require.EqualValues(t, workers*each, total(now, "deployment_duration", " count"))
}

// total is the sum of a metric's numbers over all labels.
func total(all map[string]int64, name, end string) (sum int64) {
	for k, n := range all {
		if strings.Contains(k, " "+name+" ") && strings.HasSuffix(k, end) {
			sum += n
		}
	}
	return sum
}

func TestWhoDiesInTheMiddleOfAFoldLosesAndDoublesNothing(t *testing.T) {
	b := newBase(t, 2)
	b.restores(5)
	require.NoError(t, finish(t.Context(), b.store, b.claim(b.store, 5, time.Hour, store.Promotion)))
	before := numbers(t, b.store)
	for name, end := range map[string]string{"rolled back": "ROLLBACK", "killed": "SELECT pg_terminate_backend(pg_backend_pid())"} {
		t.Run(name, func(t *testing.T) {
			dying := b.connect(b.db.AdminDSN())
			_, err := dying.Exec(t.Context(), "BEGIN")
			require.NoError(t, err)
			var folded int
			require.NoError(t, dying.QueryRow(t.Context(), "SELECT fold_metrics(7)").Scan(&folded))
			require.Equal(t, 7, folded)
			require.Equal(t, before, numbers(t, b.store), "who reads meanwhile sees what was")
			require.Zero(t, b.fold(100), "and who folds meanwhile does not wait")
			_, err = dying.Exec(t.Context(), end)
			require.Equal(t, name == "killed", err != nil)
			require.Equal(t, before, numbers(t, b.store))
		})
	}
	require.Eventually(t, func() bool { return b.fold(100) == 15 }, 5*time.Second, 10*time.Millisecond, "every row is still there to fold")
	require.Equal(t, before, numbers(t, b.store))
}

func TestAStepThatIsNotStoredCountsNothing(t *testing.T) {
	b := newBase(t, 1)
	b.restores(40)
	claims := b.claim(b.store, 40, time.Hour, store.Promotion)
	b.sql("UPDATE due SET fence = 1")
	var wg sync.WaitGroup
	for range 6 {
		s := b.open(1)
		wg.Go(func() {
			for _, c := range claims { // everybody believes to hold every claim
				err := finish(t.Context(), s, []store.Claim{c})
				if refused := new(pgconn.PgError); errors.As(err, &refused) { // their pokes met: one of the two is not stored
					require.Equal(t, "40P01", refused.Code)
					err = nil
				}
				require.NoError(t, err)
			}
		})
	}
	wg.Wait()
	require.Empty(t, differences(b))
	ended := ask[int](b, "SELECT count(*)::int FROM promotions WHERE status = 'succeeded'")
	require.Positive(t, ended)
	require.EqualValues(t, ended, numbers(t, b.store)["acme deployments_completed qa restore"])
}

func differences(b *base) []string {
	query, err := counted.Differences()
	require.NoError(b.t, err)
	return list(b, query)
}

func TestAnUpgradeByWhoIsNoSuperuserCountsWhatWasThereBefore(t *testing.T) {
	b := newBase(t, 1)
	b.restores(4)
	claims := b.claim(b.store, 4, time.Hour, store.Promotion)
	require.NoError(t, finish(t.Context(), b.store, claims[:3]))
	_, err := b.store.Act(t.Context(), tenant, claims[3].ID, func(s store.Step) (promotion.Decision, error) {
		return promotion.Decide(s.State, promotion.Event{Kind: promotion.Refused, Actor: ann, Reason: "no", Facts: s.Facts}, s.Now)
	})
	require.NoError(t, err)
	before := counters(numbers(t, b.store))
	require.EqualValues(t, 1, before["acme approvals_rejected qa"])
	require.EqualValues(t, 3, before["acme deployment_duration qa restore succeeded count"])
	require.Empty(t, differences(b))
	b.sql("DELETE FROM metric_facts")
	require.Len(t, differences(b), 4, "the oracle sees it")

	// The database as it was before, in the hands of a role as docs/how-to/existing-postgresql.md prepares it.
	b.sql(`DROP FUNCTION fold_metrics, scrape_metrics; DROP TABLE metric_facts, metric_totals`)
	for _, table := range list(b, "SELECT DISTINCT polrelid::regclass::text FROM pg_policy WHERE polname = 'metrics'") {
		b.sql("DROP POLICY metrics ON " + table)
	}
	upgrader := "upgrader_of_" + b.db.Name
	b.sql(strings.NewReplacer("UPGRADER", upgrader, "DATABASE_NAME", b.db.Name).Replace(`CREATE ROLE UPGRADER LOGIN CREATEROLE; GRANT hotswap_owner, hotswap_claim TO UPGRADER; ALTER DATABASE DATABASE_NAME OWNER TO UPGRADER`))
	migration, err := os.ReadFile("migrations/00015_metrics.sql")
	require.NoError(t, err)
	_, err = b.connect(b.db.DSN(upgrader)).Exec(t.Context(), string(migration)) // all of it is one transaction, as it is for goose
	require.NoError(t, err)
	require.Equal(t, before, counters(numbers(t, b.open(1))))
	require.True(t, ask[bool](b, "SELECT bool_and(relforcerowsecurity) FROM pg_class WHERE relname IN ('promotions', 'transitions', 'metric_facts', 'metric_totals')"))
}

func TestADurationIsCountedInEveryBucketThatItFits(t *testing.T) {
	b := newBase(t, 1)
	for le, micros := range map[string]int64{"1": 400_000, "60": 45_000_000, "+Inf": 90_000_000_000, "7": 6_000_000, "100000": 99_000_000_000} { // 7 and 100000 are bounds of another build
		b.sql("INSERT INTO metric_totals VALUES ('acme', 'deployment_duration', jsonb_build_object('environment', 'qa', 'kind', 'promote', 'state', 'succeeded', 'le', $1::text), 1, $2)", le, micros)
	}
	all, err := b.store.Metrics(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.EqualValues(t, 5, all[0].Count)
	require.InDelta(t, 189_051.4, all[0].Seconds(), 1e-6)
	require.Equal(t, map[string]string{"environment": "qa", "kind": "promote", "state": "succeeded"}, all[0].Labels)
	for _, le := range promotion.DurationBuckets {
		want := uint64(1)
		if le >= 10 {
			want = 2
		}
		if le >= 60 {
			want = 3
		}
		require.Equal(t, want, all[0].Buckets[le], "%d", le)
	}
}

func TestADurationIsFromTheFirstOrderToTheEnd(t *testing.T) {
	b := newBase(t, 1)
	b.restores(1)
	c := b.claim(b.store, 1, time.Hour, store.Promotion)
	b.sql(`INSERT INTO transitions (tenant, promotion, from_version, at, event, outcome) VALUES
		('acme', 'p1', -3, now() - interval '2 days', '{}', '{"status": "gating"}'),
		('acme', 'p1', -2, now() - interval '1 day', '{}', '{"status": "running", "phase": "recording"}'),
		('acme', 'p1', -1, now() - interval '100 seconds', '{}', '{"status": "running", "phase": "preparing"}')`)
	require.NoError(t, finish(t.Context(), b.store, c))
	now := numbers(t, b.store)
	require.InDelta(t, 100e6, now["acme deployment_duration qa restore succeeded"], 20e6)
	require.EqualValues(t, 0, now["acme deployment_duration qa restore succeeded le 60"])
	require.EqualValues(t, 1, now["acme deployment_duration qa restore succeeded le 120"])
}

func TestHowThingsStandIsToldForEveryTenant(t *testing.T) {
	b := newBase(t, 1)
	b.promotions(3)
	b.sql("UPDATE promotions SET status = 'running', phase = 'paused' WHERE id = 'p1'")
	b.sql("UPDATE promotions SET finished_at = now(), status = 'failed' WHERE id = 'p2'")
	b.sql(`INSERT INTO holds SELECT t, 'qa', 'd', 'sha256:' || i, 'harm', 'advance', now() FROM generate_series(1, 2) i, unnest(ARRAY['acme', 'globex']) t`)
	b.sql("DELETE FROM due")
	b.due("acme", store.Promotion, 2, "-90 seconds")
	b.due("globex", store.Promotion, 1, "1 hour")
	b.sql("UPDATE due SET wake_at = now() - interval '1 hour', lease_until = now() + interval '1 minute' WHERE tenant = 'acme' AND id = 'r1'")
	require.NoError(t, b.store.Record(t.Context(), "globex", rows("globex", "x", 3)))
	got := numbers(t, b.store)
	require.Equal(t, map[string]int64{
		"acme promotions_open qa paused running": 1, "acme promotions_open qa gating": 1,
		"acme holds qa": 2, "globex holds qa": 2, "globex audit_rows_unsequenced": 3,
	}, got)
	lag := map[string]float64{}
	all, err := b.store.Metrics(t.Context())
	require.NoError(t, err)
	zeros := 0
	for _, s := range all {
		if s.Name == store.DueLag {
			lag[s.Tenant] = s.Seconds()
		}
		if s.Tenant == "acme" && s.Labels["environment"] == "qa" && s.Value == 0 {
			zeros++
		}
	}
	require.InDelta(t, 90, lag["acme"], 30, "what somebody works on does not wait")
	require.Zero(t, lag["globex"])
	require.Equal(t, len(promotion.Zeros("qa")), zeros, "what was never counted is known to be zero")
}

func TestMoreSeriesThanAnAnswerMayHaveAreNoAnswer(t *testing.T) {
	b := newBase(t, 1)
	b.sql("INSERT INTO metric_totals SELECT 'acme', 'holds', jsonb_build_object('environment', i::text), 1, 1 FROM generate_series(1, $1) i", store.MaxSeries)
	all, err := b.store.Metrics(t.Context())
	require.NoError(t, err)
	require.Len(t, all, store.MaxSeries)
	b.sql("INSERT INTO metric_totals VALUES ('acme', 'holds', '{}', 1, 1)")
	_, err = b.store.Metrics(t.Context())
	require.ErrorIs(t, err, store.ErrTooMany)
}

func TestCountsAreOfTheTransactionOfTheirTransition(t *testing.T) {
	b := newBase(t, 1)
	b.restores(1)
	c := b.claim(b.store, 1, time.Hour, store.Promotion)
	require.NoError(t, finish(t.Context(), b.store, c))
	require.Equal(t, 3, ask[int](b, "SELECT count(*)::int FROM metric_facts"))
	require.Equal(t, 3, ask[int](b, "SELECT count(*)::int FROM metric_facts f WHERE xmin IN (SELECT xmin FROM transitions)"))
}
