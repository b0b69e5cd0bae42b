package store_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"hotswap.dev/hotswap/pkg/store"
)

var errStep = errors.New("the step failed")

func TestTwoThatClaimAtOnceNeverGetTheSameRow(t *testing.T) {
	b := newBase(t, 8)
	b.due(tenant, store.Promotion, 500, "-1 minute")
	var mu sync.Mutex
	var wg sync.WaitGroup
	got := map[string]int{}
	for range 8 {
		wg.Go(func() {
			for {
				claims, err := b.store.Claim(t.Context(), []store.Kind{store.Promotion}, 7, time.Hour)
				if err != nil || len(claims) == 0 {
					require.NoError(t, err)
					return
				}
				mu.Lock()
				for _, c := range claims {
					got[c.ID]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Len(t, got, 500)
	for id, n := range got {
		require.Equal(t, 1, n, id)
	}
}

func TestALeaseThatEndedIsClaimedWithAHigherFenceAndItsFormerHolderStoresNothing(t *testing.T) {
	b := newBase(t, 2)
	require.NoError(t, b.store.Accept(t.Context(), delivery("d", "{}")))
	require.NoError(t, b.store.AddRepository(t.Context(), tenant, "deploy", "main"))
	old := b.claim(b.store, 9, time.Hour, store.Inbox, store.Repository)
	require.Len(t, old, 2)
	require.Empty(t, b.claim(b.store, 9, time.Hour, store.Inbox, store.Repository), "the lease holds")
	b.sql("UPDATE due SET lease_until = now()")
	for _, c := range b.claim(b.store, 9, time.Hour, store.Inbox, store.Repository) {
		require.EqualValues(t, 2, c.Fence)
	}
	before := ask[string](b, "SELECT json_agg(d ORDER BY kind)::text || (SELECT json_agg(i)::text FROM inbox i) || (SELECT json_agg(r)::text FROM repositories r) FROM due d")
	for _, c := range old {
		require.ErrorIs(t, b.store.Fail(t.Context(), c, errStep), store.ErrLost)
		require.ErrorIs(t, b.store.Rest(t.Context(), c, time.Now()), store.ErrLost)
		if c.Kind == store.Inbox {
			d, _, err := b.store.LoadDelivery(t.Context(), c)
			require.NoError(t, err)
			require.ErrorIs(t, b.store.Settle(t.Context(), c, d, store.Settlement{Sync: "deploy", Rows: rows(tenant, "zombie", 1)}), store.ErrLost)
			continue
		}
		r, err := b.store.LoadRepository(t.Context(), c.Tenant, c.ID)
		require.NoError(t, err)
		require.ErrorIs(t, b.store.CommitSync(t.Context(), c, r, store.Sync{To: "abc", Rows: rows(tenant, "zombie", 1)(time.Now()), Wake: time.Now()}), store.ErrLost)
	}
	require.Equal(t, before, ask[string](b, "SELECT json_agg(d ORDER BY kind)::text || (SELECT json_agg(i)::text FROM inbox i) || (SELECT json_agg(r)::text FROM repositories r) FROM due d"))
	require.Zero(t, ask[int](b, "SELECT count(*)::int FROM audit"))
}

func TestATenantWithOneRowIsInTheFirstClaimBesideOneWithTenThousand(t *testing.T) {
	b := newBase(t, 1)
	b.due("noisy", store.Promotion, 10_000, "-1 hour")
	b.due("quiet", store.Promotion, 1, "-1 second") // and it came last
	var tenants []string
	for _, c := range b.claim(b.store, 8, time.Minute, store.Promotion) {
		tenants = append(tenants, c.Tenant)
	}
	require.Contains(t, tenants, "quiet")
	require.Len(t, tenants, 8, "the rest of the batch is the noisy one's")
}

func TestAClaimDoesNotReadTheRowsThatAreNotDue(t *testing.T) {
	b := newBase(t, 1)
	b.due("acme", store.Promotion, 60_000, "1 hour")
	b.due("globex", store.Promotion, 40_000, "1 hour")
	b.due("globex", store.Release, 3, "-1 minute")
	b.sql("ANALYZE due")
	_, err := b.app.Exec(t.Context(), "SET statement_timeout = '5s'")
	require.NoError(t, err)
	reads := func() (scans, tuples int64) {
		b.sql("SELECT pg_stat_force_next_flush()")
		require.NoError(t, b.admin.QueryRow(t.Context(), `SELECT seq_scan, seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'due'`).Scan(&scans, &tuples))
		return scans, tuples
	}
	scans, tuples := reads()
	start := time.Now()
	rows, err := b.app.Query(t.Context(), "SELECT id FROM claim_due($1, 8, '1 minute')", []string{"release", "promotion"})
	require.NoError(t, err)
	claimed := 0
	for rows.Next() {
		claimed++
	}
	require.NoError(t, rows.Err())
	took := time.Since(start)
	_, err = b.app.Exec(t.Context(), "SELECT pg_stat_force_next_flush()")
	require.NoError(t, err)
	scansAfter, tuplesAfter := reads()
	require.Equal(t, 3, claimed)
	require.Equal(t, scans, scansAfter, "no sequential scan")
	require.Less(t, tuplesAfter-tuples, int64(100), "rows that were looked at")
	start = time.Now()
	_, _, err = b.store.NextDue(t.Context(), []store.Kind{store.Release, store.Promotion})
	require.NoError(t, err)
	t.Logf("asking for the next due row beside them took %s", time.Since(start))
	t.Logf("a claim beside 100 000 idle rows took %s and looked at %d rows", took, tuplesAfter-tuples)
}

func TestAPokeDuringAStepIsNotLost(t *testing.T) {
	b := newBase(t, 1)
	require.NoError(t, b.store.AddRepository(t.Context(), tenant, "deploy", "main"))
	c := b.claim(b.store, 1, time.Minute, store.Repository)[0]
	require.NoError(t, b.store.Poke(t.Context(), tenant, store.Repository, "deploy"))
	require.Empty(t, b.claim(b.store, 1, time.Minute, store.Repository), "a poke takes no lease away")
	require.NoError(t, b.store.Rest(t.Context(), c, time.Now().Add(time.Hour)))
	again := b.claim(b.store, 1, time.Minute, store.Repository)
	require.Len(t, again, 1, "it is due at once")
	require.NoError(t, b.store.Rest(t.Context(), again[0], time.Now().Add(time.Hour)))
	require.Empty(t, b.claim(b.store, 1, time.Minute, store.Repository), "and then rests")
	require.NoError(t, b.store.Poke(t.Context(), tenant, store.Repository, "unknown"), "a hint for nobody is no error")
}

func TestAFailingRowWaitsLongerEachTimeWithJitterAndAtMostFiveMinutes(t *testing.T) {
	b := newBase(t, 1)
	require.NoError(t, b.store.AddRepository(t.Context(), tenant, "deploy", "main"))
	waits := map[float64]bool{}
	for attempt := range 16 {
		b.sql("UPDATE due SET wake_at = now()")
		c := b.claim(b.store, 1, time.Minute, store.Repository)
		require.Len(t, c, 1)
		require.Equal(t, attempt, c[0].Attempts)
		before := ask[float64](b, "SELECT extract(epoch FROM now())::float8")
		require.NoError(t, b.store.Fail(t.Context(), c[0], errStep))
		wait := ask[float64](b, "SELECT extract(epoch FROM wake_at - now())::float8 FROM due")
		least := ask[float64](b, "SELECT extract(epoch FROM wake_at)::float8 - $1 FROM due", before)
		full := min(300, 0.2*float64(int(1)<<min(attempt, 12)))
		require.LessOrEqual(t, wait, full)
		require.GreaterOrEqual(t, least, full/2-1e-5, "to the microsecond")
		if attempt >= 11 {
			waits[wait] = true
		}
	}
	require.Len(t, waits, 5, "no two wait the same time")
	b.sql("UPDATE due SET wake_at = now()")
	require.NoError(t, b.store.Rest(t.Context(), b.claim(b.store, 1, time.Minute, store.Repository)[0], time.Now()))
	require.Zero(t, ask[int](b, "SELECT attempts FROM due"), "success begins anew")
}

func TestALeaseHasOneHolderUntilItEnds(t *testing.T) {
	b := newBase(t, 1)
	mine := func(holder string) bool {
		ok, err := b.store.Lease(t.Context(), "advance", holder, time.Minute)
		require.NoError(t, err)
		return ok
	}
	require.True(t, mine("a"))
	require.True(t, mine("a"), "renewed")
	require.False(t, mine("b"))
	b.sql("UPDATE leases SET until = now()")
	require.True(t, mine("b"))
	require.False(t, mine("a"))
}

func TestTheNextDueRowIsTheFirstThatCanBeClaimed(t *testing.T) {
	b := newBase(t, 1)
	_, open, err := b.store.NextDue(t.Context(), []store.Kind{store.Promotion})
	require.NoError(t, err)
	require.False(t, open)
	b.due(tenant, store.Promotion, 1, "-1 minute")
	b.due("globex", store.Promotion, 1, "30 minutes")
	next := func() time.Duration {
		d, open, err := b.store.NextDue(t.Context(), []store.Kind{store.Promotion})
		require.NoError(t, err)
		require.True(t, open)
		return d
	}
	require.Zero(t, next())
	b.claim(b.store, 1, 10*time.Minute, store.Promotion)
	require.InDelta(t, 10*time.Minute, next(), float64(time.Minute), "when its lease ends")
}

func TestStepsThatPokeTheSameRowsNeverWaitForEachOther(t *testing.T) {
	b := newBase(t, 1)
	b.promotions(60)
	b.sql("UPDATE promotions SET deployment = 'one', generation = substr(id, 2)::int")
	step := func(conn *pgx.Conn, own, query string, args ...any) error {
		return pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), "SELECT set_config('hotswap.tenant', 'acme', true)"); err != nil {
				return err
			}
			if _, err := tx.Exec(t.Context(), "UPDATE promotions SET finished_at = now() WHERE id = $1", own); err != nil {
				return err
			}
			if _, err := tx.Exec(t.Context(), query, append(args, own)...); err != nil {
				return err
			}
			if _, err := tx.Exec(t.Context(), "UPDATE due SET attempts = 0 WHERE (tenant, kind, id) = ('acme', 'promotion', $1)", own); err != nil { // as it gives its claim back
				return err
			}
			_, err := tx.Exec(t.Context(), "UPDATE promotions SET finished_at = NULL WHERE id = $1", own) // for the next round
			return err
		})
	}
	var all errgroup.Group
	for i := range 4 {
		conn, own := b.connect(b.db.DSN("hotswap_app")), fmt.Sprintf("p%d", 10*i+1)
		if i%2 == 1 { // which sees the rows in another order
			_, err := conn.Exec(t.Context(), "SET enable_indexscan = off; SET enable_bitmapscan = off")
			require.NoError(t, err)
		}
		all.Go(func() error {
			for range 150 {
				if err := step(conn, own, store.PokeWaiting, "acme", "qa"); err != nil {
					return err
				}
				if err := step(conn, own, store.PokeSlot, "acme", "qa", "one"); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, all.Wait())
	require.Equal(t, "4 of 900 and 56 of 1200", ask[string](b, `SELECT string_agg(n || ' of ' || pokes, ' and ' ORDER BY pokes)
		FROM (SELECT pokes, count(*) AS n FROM due GROUP BY pokes) x`), "no poke is lost, and nobody poked themselves")
}
