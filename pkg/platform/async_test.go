package platform_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/platform"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/tests/pgtest"
)

// A queue is asynchronous calls on a real database, for the functions of a gateway.
type queue struct {
	*faas
	db    *pgtest.DB
	store *store.Store
	async *platform.Async
}

func newQueue(t *testing.T) *queue {
	t.Helper()
	q := &queue{faas: newFaas(t), db: pgtest.New(t)}
	var err error
	q.store, err = store.Open(t.Context(), store.Options{DSN: q.db.DSN("hotswap_app"), MaxConns: 6}, audit.NewWriter(ed25519.NewKeyFromSeed(bytes.Repeat([]byte("k"), ed25519.SeedSize))))
	require.NoError(t, err)
	t.Cleanup(q.store.Close)
	q.async = q.worker()
	return q
}

// worker is another worker on the same queue.
func (q *queue) worker() *platform.Async {
	loopback := platform.Callbacks{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	a := platform.NewAsync(q.functions, q.store, loopback.Client())
	a.SetRetries(3, time.Millisecond)
	return a
}

// work lets workers work until no call is open.
func (q *queue) work(workers ...*platform.Async) {
	q.t.Helper()
	ctx, cancel := context.WithCancel(q.t.Context())
	var wg sync.WaitGroup
	for _, a := range workers {
		wg.Go(func() { _ = a.Run(ctx) })
		a.Wake()
	}
	require.Eventually(q.t, func() bool {
		for _, a := range workers {
			a.Wake()
		}
		_, open, err := q.store.NextCall(q.t.Context())
		return err == nil && !open
	}, 30*time.Second, 5*time.Millisecond)
	cancel()
	wg.Wait()
}

func (q *queue) accept(id, path, callback string) {
	q.t.Helper()
	require.NoError(q.t, q.store.AcceptCall(q.t.Context(), store.AsyncCall{
		ID: id, Function: "own", Callback: callback, Body: []byte("body"),
		Request: store.AsyncRequest{Method: http.MethodPost, Path: path, Query: "x=1", Header: http.Header{"X-Mine": {"1"}}},
	}))
}

func (q *queue) state(id string) store.AsyncCall {
	q.t.Helper()
	all, err := q.store.Calls(q.t.Context(), id)
	require.NoError(q.t, err)
	require.Len(q.t, all, 1)
	return all[0]
}

// exec runs a statement as the superuser.
func (q *queue) exec(sql string) {
	q.t.Helper()
	conn, err := pgx.Connect(q.t.Context(), q.db.AdminDSN())
	require.NoError(q.t, err)
	defer conn.Close(q.t.Context())
	_, err = conn.Exec(q.t.Context(), sql)
	require.NoError(q.t, err)
}

// told is what a callback was told.
type told struct {
	header http.Header
	body   string
}

// callback is a server that is told answers; status says what it answers.
func (q *queue) callback(status func() int) (string, func() []told) {
	var mu sync.Mutex
	var all []told
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, told{r.Header, string(b)})
		w.WriteHeader(status())
	}))
	q.t.Cleanup(s.Close)
	return s.URL, func() []told {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

func TestAnAcceptedCallIsMadeAndItsAnswerIsTold(t *testing.T) {
	q := newQueue(t)
	at, all := q.callback(func() int { return http.StatusNoContent })
	q.accept("c-1", "/a%20b%2Fc", at)
	q.accept("c-2", "/status/404", at)
	q.accept("c-3", "/x", "")
	q.work(q.async)
	require.Len(t, all(), 2)
	for _, got := range all() {
		require.Equal(t, "own", got.header.Get("X-Function-Name"))
		require.NotEmpty(t, got.header.Get("X-Duration-Seconds"))
		switch got.header.Get("X-Call-Id") {
		case "c-1":
			require.Equal(t, "own POST /a%20b%2Fc?x=1 4", got.body)
			require.Equal(t, "200", got.header.Get("X-Function-Status"))
			require.Equal(t, "c-1", got.header.Get("X-Seen-Call-Id"))
		case "c-2":
			require.Equal(t, "404", got.header.Get("X-Function-Status"), "what a function refuses is its answer, and is not asked again")
		default:
			require.Fail(t, "told of", got.header.Get("X-Call-Id"))
		}
	}
	for _, id := range []string{"c-1", "c-2", "c-3"} {
		require.Equal(t, store.AsyncDone, q.state(id).State, id)
	}
}

func TestTheSameCallAgainIsTheSameCall(t *testing.T) {
	q := newQueue(t)
	at, all := q.callback(func() int { return http.StatusOK })
	q.accept("c", "/x", at)
	q.accept("c", "/x", at)
	q.work(q.async)
	q.accept("c", "/x", at)
	q.work(q.async)
	require.Len(t, all(), 1)
	require.ErrorIs(t, q.store.AcceptCall(t.Context(), store.AsyncCall{ID: "c", Function: "own", Request: store.AsyncRequest{Method: http.MethodPost, Path: "/other"}}), store.ErrConflict)
}

func TestACallThatFailsIsMadeAgainAndThenKeptDead(t *testing.T) {
	q := newQueue(t)
	for id, path := range map[string]string{"c-500": "/status/500", "c-429": "/status/429"} {
		q.accept(id, path, "")
	}
	q.work(q.async)
	q.accept("c-crash", "/crash", "")
	q.work(q.async)
	for id, why := range map[string]string{"c-500": "answered 500", "c-429": "answered 429", "c-crash": "answered 50"} {
		c := q.state(id)
		require.Equal(t, store.AsyncDead, c.State, id)
		require.Equal(t, 3, c.Attempts, id)
		require.Contains(t, c.Why, why, id)
	}
	all, err := q.store.Calls(t.Context(), "")
	require.NoError(t, err)
	require.Len(t, all, 3, "the dead are listed")
	require.ErrorIs(t, q.store.RetryCall(t.Context(), "none"), store.ErrNotFound)
	q.exec(`UPDATE async_calls SET request = jsonb_set(request, '{path}', '"/mended"') WHERE id = 'c-500'`)
	q.clock.add(time.Minute)
	require.NoError(t, q.store.RetryCall(t.Context(), "c-500"))
	q.work(q.async)
	require.Equal(t, store.AsyncDone, q.state("c-500").State)
}

func TestAnAnswerIsToldUntilTheCallbackTakesItAndTheFunctionIsNotCalledAgain(t *testing.T) {
	q := newQueue(t)
	answers := []int{http.StatusServiceUnavailable, http.StatusFound, http.StatusOK}
	at, all := q.callback(func() int { a := answers[0]; answers = answers[1:]; return a })
	q.accept("c", "/pid", at)
	q.work(q.async)
	require.Len(t, all(), 3)
	require.Equal(t, all()[0].body, all()[2].body)
	require.Equal(t, store.AsyncDone, q.state("c").State)
	status, err := q.sdk(faasPassword).GetFunction(t.Context(), "own", "")
	require.NoError(t, err)
	require.EqualValues(t, 1, status.InvocationCount)

	at, all = q.callback(func() int { return http.StatusInternalServerError })
	q.accept("d", "/pid", at)
	q.work(q.async)
	require.Len(t, all(), 3)
	require.Equal(t, store.AsyncDead, q.state("d").State)
	require.NoError(t, q.store.RetryCall(t.Context(), "d"))
	require.Equal(t, store.AsyncAnswered, q.state("d").State, "what is made again is the telling, not the call")
}

func TestEachCallIsTakenByOneWorkerAndThoseOfADeadWorkerByAnother(t *testing.T) {
	q := newQueue(t)
	at, all := q.callback(func() int { return http.StatusOK })
	for i := range 40 {
		q.accept("c-"+strings.Repeat("x", i+1), "/x", at)
	}
	dead, ok, err := q.store.ClaimCall(t.Context(), time.Minute) // and its worker is killed
	require.NoError(t, err)
	require.True(t, ok)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, a := range []*platform.Async{q.async, q.worker(), q.worker()} {
		wg.Go(func() { _ = a.Run(ctx) })
		a.Wake()
	}
	require.Eventually(t, func() bool {
		open, err := q.store.Calls(t.Context(), "")
		return err == nil && len(open) == 1
	}, 30*time.Second, 5*time.Millisecond, "those of the living are told and that is kept: a stop before would tell them again")
	cancel()
	wg.Wait()
	ids := map[string]int{}
	for _, got := range all() {
		ids[got.header.Get("X-Call-Id")]++
	}
	require.Len(t, ids, 39, "each once")
	q.exec("UPDATE async_calls SET lease_until = now() WHERE lease_until IS NOT NULL")
	q.work(q.async)
	require.Len(t, all(), 40, "what a dead worker had is made when its lease is over")
	require.ErrorIs(t, q.store.AnswerCall(t.Context(), dead), store.ErrLost, "who was taken for dead stores nothing")
}

func TestCallsThatAreDoneAreForgottenAndTheDeadLater(t *testing.T) {
	q := newQueue(t)
	q.accept("done", "/x", "")
	q.accept("dead", "/status/500", "")
	q.work(q.async)
	count := func() (n int) {
		for _, id := range []string{"done", "dead"} {
			all, err := q.store.Calls(t.Context(), id)
			require.NoError(t, err)
			n += len(all)
		}
		return n
	}
	forget := func(done, dead time.Duration) bool {
		more, err := q.store.ForgetCalls(t.Context(), done, dead)
		require.NoError(t, err)
		return more
	}
	forget(time.Hour, 2*time.Hour)
	require.Equal(t, 2, count())
	q.exec("UPDATE async_calls SET ended_at = now() - interval '90 minutes'")
	forget(time.Hour, 2*time.Hour)
	require.Equal(t, 1, count())
	require.False(t, forget(time.Hour, time.Hour))
	require.Zero(t, count())

	q.accept("many", "/x", "")
	q.work(q.async)
	q.exec("UPDATE async_calls SET ended_at = now() - interval '2 hours' WHERE id = 'many'")
	q.exec(`INSERT INTO async_calls SELECT (jsonb_populate_record(c, jsonb_build_object('id', 'many-' || n))).* FROM async_calls c, generate_series(1, 1000) n WHERE c.id = 'many'`)
	require.True(t, forget(time.Hour, time.Hour), "one is left")
	require.False(t, forget(time.Hour, time.Hour))
	calls, err := q.store.Calls(t.Context(), "many-1000")
	require.NoError(t, err)
	require.Empty(t, calls)
}

// TestOldCallsAreForgottenWhileNewOnesCome keeps every worker at work.
func TestOldCallsAreForgottenWhileNewOnesCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var claimed, forgotten atomic.Int64
		s := &endless{claimed: &claimed, forgotten: &forgotten}
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
		defer cancel()
		_ = platform.NewAsync(nil, s, nil).Run(ctx)
		require.Greater(t, claimed.Load(), int64(400))
		require.EqualValues(t, 2*3, forgotten.Load(), "every minute, until no more are left")
	})
}

// endless is a store whose queue is never empty.
type endless struct {
	platform.AsyncStore
	claimed, forgotten *atomic.Int64
}

func (e *endless) ClaimCall(ctx context.Context, _ time.Duration) (store.AsyncCall, bool, error) {
	e.claimed.Add(1)
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	return store.AsyncCall{State: store.AsyncAnswered, Callback: "http://[ is no URL"}, true, ctx.Err()
}

func (e *endless) FailCall(context.Context, store.AsyncCall, string, time.Duration, bool) error {
	return nil
}

func (e *endless) ForgetCalls(context.Context, time.Duration, time.Duration) (bool, error) {
	return e.forgotten.Add(1)%3 != 0, nil
}

func TestAnswersAreToldToPublicAddressesAndToThoseThatWereAllowed(t *testing.T) {
	local := httptest.NewServer(http.NotFoundHandler())
	defer local.Close()
	none := platform.Callbacks{}
	_, err := none.Client().Get(local.URL)
	require.ErrorContains(t, err, "not a public one", "a name that resolves to a private address is refused when it is connected to")
	u, err := url.Parse(local.URL)
	require.NoError(t, err)
	require.Error(t, none.Check(u))
	some := platform.Callbacks{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	require.NoError(t, some.Check(u))
	answer, err := some.Client().Get(local.URL)
	require.NoError(t, err)
	answer.Body.Close()
	for _, public := range []string{"https://example.com/x", "http://93.184.216.34/", "http://[2606:2800:220:1::1]/"} {
		u, err := url.Parse(public)
		require.NoError(t, err)
		require.NoError(t, none.Check(u), public)
	}
}

// A stoppedStore is the store of a platform that is told to stop just when there is something to keep.
type stoppedStore struct {
	*store.Store
	stop context.CancelFunc
}

func (s *stoppedStore) AnswerCall(ctx context.Context, c store.AsyncCall) error {
	s.stop()
	return s.Store.AnswerCall(ctx, c)
}

func (s *stoppedStore) ToldCall(ctx context.Context, c store.AsyncCall) error {
	s.stop()
	return s.Store.ToldCall(ctx, c)
}

func TestAStopBetweenAnAnswerAndItsRowMakesNoCallTwice(t *testing.T) {
	q := newQueue(t)
	at, all := q.callback(func() int { return http.StatusOK })
	q.accept("c", "/pid", at)
	for _, want := range []store.AsyncState{store.AsyncAnswered, store.AsyncDone} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		a := platform.NewAsync(q.functions, &stoppedStore{q.store, cancel}, (&platform.Callbacks{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}).Client())
		require.NoError(t, a.Run(ctx))
		require.Equal(t, want, q.state("c").State)
	}
	require.Len(t, all(), 1)
}
