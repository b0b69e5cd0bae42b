package store_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/store"
)

func TestACallOfAFunctionIsSeenForTheFirstTimeOnceHoweverManyAskAtOnce(t *testing.T) {
	b := newBase(t, 8)
	other := b.open(8)
	for round := range 5 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		first := 0
		for i := range 12 {
			s := []*store.Store{b.store, other}[i%2]
			wg.Go(func() {
				ok, err := s.OnceCall(t.Context(), "key", fmt.Sprint("request-", round), time.Now().Add(-10*time.Minute))
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				if ok {
					first++
				}
			})
		}
		wg.Wait()
		require.Equal(t, 1, first)
	}
	ok, err := b.store.OnceCall(t.Context(), "another key", "request-0", time.Now().Add(-10*time.Minute))
	require.NoError(t, err)
	require.True(t, ok, "ids are each key's own")
}

func TestCallsOfFunctionsAreForgottenWhenACopyWouldBeTooOldAnyway(t *testing.T) {
	b := newBase(t, 2)
	b.sql("INSERT INTO function_calls (key, request, at) SELECT 'k', 'old-' || i, now() - interval '11 minutes' FROM generate_series(1, 50) i")
	b.sql("INSERT INTO function_calls (key, request, at) VALUES ('k', 'young', now() - interval '9 minutes')")
	for i := range 3 { // some with each call, so that none takes long
		_, err := b.store.OnceCall(t.Context(), "k", fmt.Sprint(i), time.Now().Add(-10*time.Minute))
		require.NoError(t, err)
	}
	ok, err := b.store.OnceCall(t.Context(), "k", "young", time.Now().Add(-10*time.Minute))
	require.NoError(t, err)
	require.False(t, ok)
	var left int
	require.NoError(t, b.admin.QueryRow(t.Context(), "SELECT count(*) FROM function_calls").Scan(&left))
	require.Equal(t, 4, left)
}

// asked is an asynchronous call that was not accepted yet.
func asked(id string) store.AsyncCall {
	return store.AsyncCall{
		ID: id, Function: "f", Body: []byte{0, 1, 0xff}, Callback: "https://example.com/x",
		Request: store.AsyncRequest{Method: http.MethodPost, Path: "/a%2Fb/%00", Query: "x=%ff;y", Header: http.Header{"X-A": {"1", "2"}}},
	}
}

func TestAnAsynchronousCallIsClaimedAsItWasAsked(t *testing.T) {
	b := newBase(t, 2)
	want := asked("c")
	require.NoError(t, b.store.AcceptCall(t.Context(), want))
	got, ok, err := b.store.ClaimCall(t.Context(), time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, want.Request, got.Request)
	require.Equal(t, want.Body, got.Body)
	require.Equal(t, want.Callback, got.Callback)
	require.Equal(t, store.AsyncWaiting, got.State)
	_, ok, err = b.store.ClaimCall(t.Context(), time.Minute)
	require.NoError(t, err)
	require.False(t, ok, "it is somebody's")
}

func TestAnotherCallOfAnIdIsAConflictWhateverDiffers(t *testing.T) {
	b := newBase(t, 2)
	require.NoError(t, b.store.AcceptCall(t.Context(), asked("c")))
	require.NoError(t, b.store.AcceptCall(t.Context(), asked("c")), "the same again is the same")
	for name, change := range map[string]func(c *store.AsyncCall){
		"function": func(c *store.AsyncCall) { c.Function = "g" }, "method": func(c *store.AsyncCall) { c.Request.Method = "PUT" },
		"path": func(c *store.AsyncCall) { c.Request.Path = "/a/b/%00" }, "query": func(c *store.AsyncCall) { c.Request.Query = "" },
		"body": func(c *store.AsyncCall) { c.Body = nil }, "callback": func(c *store.AsyncCall) { c.Callback = "" },
	} {
		c := asked("c")
		change(&c)
		require.ErrorIs(t, b.store.AcceptCall(t.Context(), c), store.ErrConflict, name)
	}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			if err := b.store.AcceptCall(t.Context(), asked(fmt.Sprint("at-once-", i%2))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	all, err := b.store.Calls(t.Context(), "")
	require.NoError(t, err)
	require.Len(t, all, 3)
}

func TestManyWorkersAtOnceClaimEachCallOnce(t *testing.T) {
	b := newBase(t, 8)
	other := b.open(8)
	for i := range 60 {
		require.NoError(t, b.store.AcceptCall(t.Context(), asked(fmt.Sprint(i))))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	claimed := map[string]int{}
	for i := range 8 {
		s := []*store.Store{b.store, other}[i%2]
		wg.Go(func() {
			for {
				c, ok, err := s.ClaimCall(t.Context(), time.Minute)
				if err != nil {
					t.Error(err)
				}
				if err != nil || !ok {
					return
				}
				mu.Lock()
				claimed[c.ID]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for id, n := range claimed {
		require.Equal(t, 1, n, id)
	}
	require.GreaterOrEqual(t, len(claimed), 52, "one that is locked is left for the next look, of each worker at most one")
}

func TestWhoLostACallStoresNothing(t *testing.T) {
	b := newBase(t, 2)
	require.NoError(t, b.store.AcceptCall(t.Context(), asked("c")))
	dead, _, err := b.store.ClaimCall(t.Context(), time.Minute)
	require.NoError(t, err)
	b.sql("UPDATE async_calls SET lease_until = now()")
	alive, ok, err := b.store.ClaimCall(t.Context(), time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
	require.Greater(t, alive.Fence, dead.Fence)
	for name, err := range map[string]error{
		"answered": b.store.AnswerCall(t.Context(), dead), "told": b.store.ToldCall(t.Context(), dead), "failed": b.store.FailCall(t.Context(), dead, "x", 0, true),
	} {
		require.ErrorIs(t, err, store.ErrLost, name)
	}
	require.NoError(t, b.store.AnswerCall(t.Context(), alive))
}

func TestAFailureWaitsAndTheLastOneIsDead(t *testing.T) {
	b := newBase(t, 2)
	require.NoError(t, b.store.AcceptCall(t.Context(), asked("c")))
	c, _, err := b.store.ClaimCall(t.Context(), time.Minute)
	require.NoError(t, err)
	require.NoError(t, b.store.FailCall(t.Context(), c, "no\x00t UTF-8: \xff"+strings.Repeat("ä", 5000), time.Hour, false), "whatever a function answers can be kept")
	_, ok, err := b.store.ClaimCall(t.Context(), time.Minute)
	require.NoError(t, err)
	require.False(t, ok)
	in, open, err := b.store.NextCall(t.Context())
	require.NoError(t, err)
	require.True(t, open)
	require.InDelta(t, time.Hour.Seconds(), in.Seconds(), 30)
	b.sql("UPDATE async_calls SET wake_at = now()")
	c, ok, err = b.store.ClaimCall(t.Context(), time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, 1, c.Attempts)
	require.NoError(t, b.store.FailCall(t.Context(), c, "again", 0, true))
	_, open, err = b.store.NextCall(t.Context())
	require.NoError(t, err)
	require.False(t, open)
	require.NoError(t, b.store.RetryCall(t.Context(), "c"))
	require.ErrorIs(t, b.store.RetryCall(t.Context(), "c"), store.ErrNotFound, "it is not dead any more")
	c, ok, err = b.store.ClaimCall(t.Context(), time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
	require.Zero(t, c.Attempts)
	require.Equal(t, asked("c").Body, c.Body)
}
