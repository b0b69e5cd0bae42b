package conformance

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/secret"
)

// hooked listens on loopback for the webhooks of a repository, proves them and
// returns the pull requests that they wake, by the event's name.
func hooked(t *testing.T, keys forge.Keys) (string, chan forge.Delivery) {
	t.Helper()
	told := make(chan forge.Delivery, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := forge.ReadDelivery(r, keys)
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, err.Error())
			return
		}
		told <- d
	}))
	t.Cleanup(server.Close)
	return server.URL + "/hooks/acme/deploy", told
}

// woken waits until a delivery is about a pull request.
func woken(t *testing.T, told chan forge.Delivery) forge.Wake {
	t.Helper()
	for {
		select {
		case d := <-told:
			if w, err := forge.ParsePull(d); err == nil {
				return w
			}
		case <-t.Context().Done():
			require.Fail(t, "no delivery")
		}
	}
}

func testHook(t *testing.T, lab Lab) {
	s := begin(t, lab)
	ctx := t.Context()
	old, current := secret.New([]byte("the old secret")), secret.New([]byte("the new secret"))
	address, told := hooked(t, forge.Keys{Current: current, Previous: old})
	require.ErrorIs(t, s.forge.Hook(ctx, s.repo, forge.Hook{URL: address}), forge.ErrInvalid)
	for range 2 {
		require.NoError(t, s.forge.Hook(ctx, s.repo, forge.Hook{URL: address, Secret: old}))
	}
	r, err := s.forge.Repository(ctx, s.repo)
	require.NoError(t, err)
	id := strconv.FormatInt(r.ID, 10)

	s.review(s.person("one", approval.Write), approval.Approved)
	want := forge.Wake{RepositoryID: id, Repository: s.repo, Number: s.number}
	require.Equal(t, want, woken(t, told), "signed with the previous secret")
	require.NoError(t, forge.HookID{RepositoryID: id, Repository: s.repo}.Match(id, s.repo))

	require.NoError(t, s.forge.Hook(ctx, s.repo, forge.Hook{URL: address, Secret: current}))
	s.review(s.person("two", approval.Write), approval.ChangesRequested)
	require.Equal(t, want, woken(t, told), "signed with the current one")
	require.Empty(t, told, "one webhook, however often it was asked for")

	other, err := s.forge.Repository(ctx, lab.Repository(t))
	require.NoError(t, err)
	elsewhere := forge.HookID{RepositoryID: strconv.FormatInt(other.ID, 10), Repository: other.Name}
	require.ErrorIs(t, elsewhere.Match(id, s.repo), forge.ErrOtherRepository)
}
