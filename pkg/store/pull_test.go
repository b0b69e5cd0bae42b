package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/record"
	"hotswap.dev/hotswap/pkg/store"
)

const headSHA = "7f3a9c0011223344556677889900aabbccddeeff"

// reviewed makes n promotions that wait for the reviews that policy sre asks for, of
// one slot each, and takes their plan to be "".
func (b *base) reviewed(n int) {
	b.t.Helper()
	b.promotions(n)
	b.sql(`UPDATE promotions SET spec = jsonb_set(spec, '{instance,digest}', '"sha256:1"') || '{"stage": {"name": "qa", "environment": "qa", "gates": {"approval": "sre"}}}',
		progress = jsonb_build_object('asked', now())`)
}

// step decides on a claimed promotion whose reviews say what they say.
func (b *base) step(id string, r *promotion.ReviewFact) promotion.Decision {
	b.t.Helper()
	b.sql("UPDATE due SET wake_at = now() - interval '1 hour' WHERE kind = 'promotion' AND id = $1", id)
	c := b.claim(b.store, 1, time.Minute, store.Promotion)[0]
	require.Equal(b.t, id, c.ID)
	d, err := b.store.Advance(b.t.Context(), c, func(s store.Step) (promotion.Decision, error) {
		if s.Facts.Gates.Review = r; r != nil {
			r.At = s.Now
		}
		if len(s.Facts.Candidates) == 0 && s.State.Status == promotion.Queued {
			s.Facts.Candidates = []promotion.Candidate{{Node: "a"}}
		}
		return promotion.Decide(s.State, promotion.Event{Kind: promotion.Looked, Facts: s.Facts}, s.Now)
	})
	require.NoError(b.t, err)
	return d
}

func approved() *promotion.ReviewFact {
	return &promotion.ReviewFact{State: promotion.ReviewApproved, Says: "bo", By: []string{"bo"}, Pull: 3, Head: headSHA}
}

// recording takes promotion p1 until its merge is due.
func (b *base) recording() {
	b.t.Helper()
	b.reviewed(1)
	b.step("p1", approved())
	b.step("p1", approved())
	require.Equal(b.t, promotion.Recording, b.step("p1", approved()).State.Phase)
}

func TestAnEffectIsDueWithTheTransitionThatAsksForItAndWakesItsPromotion(t *testing.T) {
	b := newBase(t, 2)
	b.recording()
	c := b.claim(b.store, 9, time.Minute, store.Effect)
	require.Len(t, c, 1)
	e, err := b.store.LoadEffect(t.Context(), c[0])
	require.NoError(t, err)
	require.True(t, e.Wanted)
	require.Equal(t, promotion.EffectDue, e.State)
	require.Equal(t, promotion.Effect{Key: c[0].ID, Kind: promotion.Merge, Promotion: "p1", Pull: 3, Head: headSHA}, e.Effect)
	require.Equal(t, "deploy", e.Repository)

	require.NoError(t, b.store.AskEffect(t.Context(), c[0]))
	require.NoError(t, b.store.DoubtEffect(t.Context(), c[0], "no answer in 5s", time.Now().Add(-time.Second)))
	require.ErrorIs(t, b.store.AskEffect(t.Context(), store.Claim{Tenant: tenant, Kind: store.Effect, ID: c[0].ID, Fence: 99}), store.ErrLost)
	d := b.step("p1", approved())
	require.Equal(t, "no answer in 5s", d.Waiting.Evidence)

	c = b.claim(b.store, 9, time.Minute, store.Effect)
	e, err = b.store.LoadEffect(t.Context(), c[0])
	require.NoError(t, err)
	require.Equal(t, promotion.EffectUncertain, e.State)
	require.Equal(t, 1, e.Asked)
	pokes := ask[int](b, "SELECT pokes::int FROM due WHERE kind = 'promotion'")
	require.NoError(t, b.store.EndEffect(t.Context(), c[0], promotion.EffectFact{State: promotion.EffectDone, Commit: "abc"}, nil))
	require.Equal(t, pokes+1, ask[int](b, "SELECT pokes::int FROM due WHERE kind = 'promotion'"))
	require.Zero(t, ask[int](b, "SELECT count(*)::int FROM due WHERE kind = 'effect'"))

	require.Equal(t, promotion.Preparing, b.step("p1", nil).State.Phase)
	require.Equal(t, "running", ask[string](b, "SELECT proposal ->> 'state' FROM records"), "Git has what was merged")
}

func TestAnEffectOfAPromotionThatWasStoppedIsNotWanted(t *testing.T) {
	b := newBase(t, 2)
	b.recording()
	_, err := b.store.Act(t.Context(), tenant, "p1", func(s store.Step) (promotion.Decision, error) {
		return promotion.Decide(s.State, promotion.Event{Kind: promotion.Stopped, Actor: ann, Reason: "no", Facts: s.Facts}, s.Now)
	})
	require.NoError(t, err)
	e, err := b.store.LoadEffect(t.Context(), b.claim(b.store, 1, time.Minute, store.Effect)[0])
	require.NoError(t, err)
	require.False(t, e.Wanted)
}

func TestThePullRequestOfASlotIsForTheOneThatIsNext(t *testing.T) {
	b := newBase(t, 2)
	b.reviewed(1)
	b.sql(`INSERT INTO promotions SELECT (jsonb_populate_record(p, '{"id": "p2", "generation": 2, "attempt": 2}')).* FROM promotions p`)
	b.sql("INSERT INTO due (tenant, kind, id, wake_at) VALUES ('acme', 'pull', 'qa/d1', now())")
	next := func() string {
		b.sql("UPDATE due SET wake_at = now(), lease_until = NULL WHERE kind = 'pull'")
		st, err := b.store.LoadPull(t.Context(), b.claim(b.store, 1, time.Minute, store.PullDue)[0])
		require.NoError(t, err)
		if st.Next == nil {
			return ""
		}
		return st.Next.ID
	}
	require.Equal(t, "p2", next(), "supersede: the newest")
	b.sql(`UPDATE promotions SET spec = jsonb_set(spec, '{instance,digest}', '"sha256:1"') || '{"concurrency": "queue"}'`)
	require.Equal(t, "p1", next(), "queue: the oldest")
	b.sql("UPDATE promotions SET status = 'running', phase = 'recording' WHERE id = 'p2'")
	require.Equal(t, "p2", next(), "what is being recorded")
	b.sql("UPDATE promotions SET status = 'running', phase = 'preparing'")
	require.Empty(t, next())
}

func TestReviewsThatWereReadLongAgoAreAskedForAgain(t *testing.T) {
	b := newBase(t, 2)
	b.reviewed(1)
	look := func() promotion.Decision {
		b.sql("UPDATE due SET wake_at = now(), lease_until = NULL WHERE kind = 'promotion'")
		d, err := b.store.Advance(t.Context(), b.claim(b.store, 1, time.Minute, store.Promotion)[0], look)
		require.NoError(t, err)
		return d
	}
	require.True(t, look().Ask)
	require.Equal(t, 1, ask[int](b, "SELECT count(*)::int FROM due WHERE kind = 'pull'"))
	b.sql("UPDATE due SET wake_at = now() + interval '1 hour' WHERE kind = 'pull'")
	b.sql(`INSERT INTO pulls (tenant, environment, deployment, repository, promotion, review)
		SELECT 'acme', 'qa', 'd1', 'deploy', 'p1', jsonb_build_object('state', 'pending', 'says', 'bo is missing', 'at', now())`)
	d := look()
	require.False(t, d.Ask)
	require.Equal(t, "bo is missing", d.Waiting.Evidence)
	b.sql(`UPDATE pulls SET review = review || jsonb_build_object('at', now() - interval '16 seconds')`)
	require.True(t, look().Ask)
	require.Equal(t, 1, ask[int](b, "SELECT count(*)::int FROM due WHERE kind = 'pull' AND wake_at <= now()"))
	b.sql(`UPDATE pulls SET promotion = 'p9', review = review || jsonb_build_object('at', now())`)
	require.True(t, look().Ask, "those are of another promotion's pull request")
}

func TestThePullRequestOfASlotIsStoredOnceAndWakesItsPromotion(t *testing.T) {
	b := newBase(t, 2)
	b.reviewed(1)
	b.sql("INSERT INTO due (tenant, kind, id, wake_at) VALUES ('acme', 'pull', 'qa/d1', now())")
	c := b.claim(b.store, 1, time.Minute, store.PullDue)[0]
	st, err := b.store.LoadPull(t.Context(), c)
	require.NoError(t, err)
	require.Zero(t, st.Pull)
	p := store.Pull{Repository: "deploy", Promotion: "p1", Plan: "plan-1", Number: 3, URL: "http://x/3", Head: headSHA, Proposal: &record.Record{Environment: "qa", Deployment: "d1"}}
	require.NoError(t, b.store.SavePull(t.Context(), c, st, p, time.Now().Add(time.Hour)))
	require.Equal(t, 1, ask[int](b, "SELECT pokes::int FROM due WHERE kind = 'promotion'"))
	require.ErrorIs(t, b.store.SavePull(t.Context(), c, st, p, time.Now()), store.ErrLost, "somebody stored it meanwhile")

	for i, number := range []int64{3, 4} {
		d := store.Delivery{Tenant: tenant, Source: "gitea", ID: fmt.Sprint("d", i), Repository: "deploy", Event: "pull_request", Headers: map[string]string{}, Body: []byte("{}"), Digest: []byte{byte(i)}}
		require.NoError(t, b.store.Accept(t.Context(), d))
		c := b.claim(b.store, 1, time.Minute, store.Inbox)[0]
		require.NoError(t, b.store.Settle(t.Context(), c, d, store.Settlement{Pull: store.PullAt{Repository: "deploy", Number: number}}))
	}
	require.Equal(t, "pull 1, promotion 1", ask[string](b, "SELECT string_agg(kind || ' ' || pokes, ', ' ORDER BY kind DESC) FROM due WHERE kind IN ('pull', 'promotion')"))
	b.sql("INSERT INTO repositories (tenant, name, branch) VALUES ('acme', 'deploy', 'main')")
	rs, err := b.store.LoadRecords(t.Context(), b.claim(b.store, 1, time.Minute, store.Record)[0])
	require.NoError(t, err)
	require.Len(t, rs.Proposed, 1)
	require.False(t, rs.Proposed[0].Approved)
}
