package store_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
)

// promotions makes n promotions that wait at their gates, each with its due row.
func (b *base) promotions(n int) {
	b.t.Helper()
	b.sql(`INSERT INTO environments (tenant, name, repository, document, selector, commit) VALUES ('acme', 'qa', 'deploy', '{}', '{}', 'c')`)
	b.sql(`INSERT INTO releases (tenant, id, deployment, generation, repository, commit, snapshot, digest)
		SELECT 'acme', 'd' || i || '-1', 'd' || i, 1, 'deploy', 'c', '{}', '' FROM generate_series(1, $1) i`, n)
	b.sql(`INSERT INTO promotions (tenant, id, release, stage, kind, attempt, deployment, environment, generation, spec,
			status, phase, wave, version, token, plan, units, ending, reason, since, waiting_for)
		SELECT 'acme', 'p' || i, 'd' || i || '-1', 'qa', 'promote', 1, 'd' || i, 'qa', 1, '{"instance":{"module":{"name":"m","version":"1"}}}', 'gating', '', 0, 1, 0, '', '[]', '', '', now(), '{}'
		FROM generate_series(1, $1) i`, n)
	b.sql("INSERT INTO slots (tenant, environment, deployment) SELECT 'acme', 'qa', 'd' || i FROM generate_series(1, $1) i", n)
	b.sql("INSERT INTO due (tenant, kind, id, wake_at) SELECT 'acme', 'promotion', 'p' || i, now() FROM generate_series(1, $1) i", n)
}

// look is the decision of a worker that looks at a promotion.
func look(s store.Step) (promotion.Decision, error) {
	return promotion.Decide(s.State, promotion.Event{Kind: promotion.Looked, Facts: s.Facts}, s.Now)
}

func TestEightWorkersThatRaceOverTwoHundredPromotionsMakeTwoHundredTransitions(t *testing.T) {
	b := newBase(t, 1)
	b.promotions(200)
	claims := b.claim(b.store, 200, time.Hour, store.Promotion)
	require.Len(t, claims, 200)
	b.sql("UPDATE due SET fence = 1")
	var wins, lost atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		s := b.open(1) // a process of its own shares nothing but the database
		wg.Go(func() {
			for _, c := range claims { // everybody believes to hold every claim
				switch _, err := s.Advance(t.Context(), c, look); {
				case err == nil:
					wins.Add(1)
				case errors.Is(err, store.ErrLost):
					lost.Add(1)
				default:
					require.NoError(t, err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d wins, %d lost", wins.Load(), lost.Load())
	require.Positive(t, lost.Load(), "there was a race")
	require.Equal(t, "200 200", ask[string](b, "SELECT count(*) || ' ' || count(DISTINCT promotion) FROM transitions WHERE from_version = 1"))
	require.Equal(t, ask[int](b, "SELECT count(*)::int FROM transitions"), ask[int](b, "SELECT count(*)::int FROM audit"), "each with its row")
	require.Equal(t, ask[int](b, "SELECT sum(version - 1)::int FROM promotions"), ask[int](b, "SELECT count(*)::int FROM transitions"))
}

func TestStoppingAPromotionWhileAWorkerStoresItsStepDoesNotBlockEither(t *testing.T) {
	b := newBase(t, 4)
	b.promotions(1)
	c := b.claim(b.store, 1, time.Hour, store.Promotion)[0]
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stopping := make(chan struct{})
	advanced := make(chan error, 1)
	decided := make(chan struct{})
	go func() {
		_, err := b.store.Advance(ctx, c, func(s store.Step) (promotion.Decision, error) {
			d, err := look(s)
			close(decided)
			<-stopping // the person comes between the decision and its storing
			return d, err
		})
		advanced <- err
	}()
	<-decided
	_, err := b.store.Act(ctx, tenant, "p1", func(s store.Step) (promotion.Decision, error) {
		close(stopping)
		require.Eventually(t, func() bool { // until the worker waits for this transaction
			return ask[bool](b, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')")
		}, 10*time.Second, 5*time.Millisecond)
		return promotion.Decide(s.State, promotion.Event{Kind: promotion.Stopped, Actor: ann, Reason: "wrong version", Facts: s.Facts}, s.Now)
	})
	require.NoError(t, err)
	require.ErrorIs(t, <-advanced, store.ErrLost)
	require.Equal(t, "cancelled", ask[string](b, "SELECT status FROM promotions"))
}

func TestWhatAPersonAsksForIsDoneThoughAStepWantsTheSameRowsTheOtherWayRound(t *testing.T) {
	b := newBase(t, 4)
	b.promotions(2)
	b.sql("UPDATE promotions SET deployment = 'd1', generation = substr(id, 2)::int")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	step, err := b.admin.Begin(ctx)
	require.NoError(t, err)
	lock := func(id string) {
		_, err := step.Exec(ctx, "SELECT FROM due WHERE (tenant, kind, id) = ('acme', 'promotion', $1) FOR UPDATE", id)
		require.NoError(t, err)
	}
	lock("p2")
	tries, asked := 0, make(chan error, 1)
	go func() {
		_, err := b.store.Act(ctx, tenant, "p1", func(s store.Step) (promotion.Decision, error) { // which pokes p2
			tries++
			return promotion.Decide(s.State, promotion.Event{Kind: promotion.Stopped, Actor: ann, Reason: "wrong version", Facts: s.Facts}, s.Now)
		})
		asked <- err
	}()
	watch := b.connect(b.db.AdminDSN())
	require.Eventually(t, func() bool {
		var waits bool
		err := watch.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')").Scan(&waits)
		return err == nil && waits
	}, 10*time.Second, 5*time.Millisecond)
	lock("p1") // who waited first, the person, is undone
	require.NoError(t, step.Commit(ctx))
	require.NoError(t, <-asked)
	require.Equal(t, 2, tries)
	require.Equal(t, "cancelled gating", ask[string](b, "SELECT string_agg(status, ' ' ORDER BY id) FROM promotions"))
	require.Equal(t, 1, ask[int](b, "SELECT count(*)::int FROM audit"), "once")
}

func TestWhyAPromotionsStepFailsIsWhatItSaysItWaitsFor(t *testing.T) {
	b := newBase(t, 1)
	b.promotions(1)
	c := b.claim(b.store, 1, time.Hour, store.Promotion)[0]
	require.NoError(t, b.store.Fail(t.Context(), c, errors.New("the plan cannot be rendered")))
	rows, err := b.store.Promotions(t.Context(), tenant, 1)
	require.NoError(t, err)
	require.Equal(t, "the plan cannot be rendered", rows[0].Waiting.Evidence)
	require.False(t, rows[0].Waiting.Next.IsZero())
}
