package store_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/store"
)

func TestADeliveryThatComesAgainChangesNothing(t *testing.T) {
	b := newBase(t, 4)
	var wg sync.WaitGroup
	for range 8 { // at once too
		wg.Go(func() { require.NoError(t, b.store.Accept(t.Context(), delivery("d", "{}"))) })
	}
	wg.Wait()
	state := "SELECT (SELECT json_agg(i)::text FROM inbox i) || (SELECT json_agg(d)::text FROM due d)"
	before := ask[string](b, state)
	require.NoError(t, b.store.Accept(t.Context(), delivery("d", "{}")))
	require.Equal(t, before, ask[string](b, state))
	require.Equal(t, "1 1", ask[string](b, "SELECT (SELECT count(*) FROM inbox) || ' ' || (SELECT count(*) FROM due)"))

	c := b.claim(b.store, 1, time.Minute, store.Inbox)[0]
	d, _, err := b.store.LoadDelivery(t.Context(), c)
	require.NoError(t, err)
	require.NoError(t, b.store.Settle(t.Context(), c, d, store.Settlement{}))
	require.NoError(t, b.store.Accept(t.Context(), delivery("d", "{}")), "nor when it was settled long ago")
	require.Empty(t, b.claim(b.store, 1, time.Minute, store.Inbox))
}

func TestAKnownIdWithAnotherBodyIsOneSecurityEventAndNeverRun(t *testing.T) {
	b := newBase(t, 1)
	require.NoError(t, b.store.Accept(t.Context(), delivery("d", "{}")))
	for range 5 {
		require.ErrorIs(t, b.store.Accept(t.Context(), delivery("d", `{"ref":"evil"}`)), store.ErrConflict)
	}
	require.Equal(t, 1, ask[int](b, "SELECT count(*)::int FROM audit WHERE action = 'delivery.conflicted'"))
	require.Equal(t, 1, ask[int](b, "SELECT count(*)::int FROM inbox WHERE body = '{}'"))
	require.Len(t, b.claim(b.store, 9, time.Minute, store.Inbox), 1)
	require.NoError(t, b.store.Accept(t.Context(), store.Delivery{
		Tenant: "globex", Source: "gitea", ID: "d", Repository: "deploy", Event: "push", Headers: map[string]string{}, Digest: []byte("another tenant's"),
	}), "ids are a tenant's own")
}

func TestADeliveryIsReadAsItWasSent(t *testing.T) {
	b := newBase(t, 1)
	large := delivery("large", strings.Repeat("x", 100))
	large.Body = nil
	for _, want := range []store.Delivery{delivery("plain", `{"a":"\u0000 \\u0000"}`), delivery("empty", ""), large} {
		require.NoError(t, b.store.Accept(t.Context(), want))
		c := b.claim(b.store, 1, time.Minute, store.Inbox)[0]
		got, pending, err := b.store.LoadDelivery(t.Context(), c)
		require.NoError(t, err)
		require.True(t, pending)
		require.Equal(t, want, got)
		require.Equal(t, want.Body == nil, got.Body == nil, "an empty body is not one that was too large")
	}
}
