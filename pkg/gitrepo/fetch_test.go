package gitrepo_test

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/secret"
)

// serve offers the source's bare repository over smart HTTP, and counts the bytes that it answered.
func serve(t *testing.T, s *source, password string) (url string, sent *int) {
	t.Helper()
	git, err := exec.LookPath("git")
	require.NoError(t, err)
	backend := &cgi.Handler{Path: git, Args: []string{"http-backend"}, Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(s.bare), "GIT_HTTP_EXPORT_ALL=1"}}
	sent = new(int)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, given, _ := r.BasicAuth(); given != password {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(counting{w, sent}, r)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/" + filepath.Base(s.bare), sent
}

type counting struct {
	http.ResponseWriter
	n *int
}

func (c counting) Write(b []byte) (int, error) {
	*c.n += len(b)
	return c.ResponseWriter.Write(b)
}

func mirror(t *testing.T) *gitrepo.Repository {
	t.Helper()
	r, err := gitrepo.Init(filepath.Join(t.TempDir(), "mirror.git"))
	require.NoError(t, err)
	return r
}

func TestAMirrorFollowsPushesForcesAndDeletionsAndTransfersOnlyWhatIsMissing(t *testing.T) {
	for _, scheme := range []string{"file", "http"} {
		t.Run(scheme, func(t *testing.T) {
			s := newSource(t)
			remote := gitrepo.Remote{URL: "file://" + s.bare}
			sent := new(int)
			if scheme == "http" {
				remote.Password = secret.New([]byte("pass"))
				remote.URL, sent = serve(t, s, "pass")
			}
			r := mirror(t)
			require.NoError(t, r.Fetch(t.Context(), remote, "main"), "an empty remote is no error")
			requireTip(t, r, "")

			root := s.commit("root", "deployments/a.yaml", "a: 1\n", "noise", noise(10_000))
			require.NoError(t, r.Fetch(t.Context(), remote, "main"))
			requireTip(t, r, root)
			whole := *sent

			tip := s.commit("more", "deployments/a.yaml", "a: 2\n")
			*sent = 0
			require.NoError(t, r.Fetch(t.Context(), remote, "main"))
			requireTip(t, r, tip)
			require.LessOrEqual(t, *sent, whole/4)
			got, err := r.Tree(t.Context(), tip, []string{"deployments"}, gitrepo.Limits{})
			require.NoError(t, err)
			require.Equal(t, "a: 2\n", string(got.Files["deployments/a.yaml"].Content))
			require.NoError(t, r.Fetch(t.Context(), remote, "main"), "nothing new is no error")

			s.git("reset", "-q", "--hard", root)
			other := s.commit("forced", "deployments/a.yaml", "a: 3\n")
			require.NoError(t, r.Fetch(t.Context(), remote, "main"))
			requireTip(t, r, other)
			at, err := r.Position(t.Context(), other)
			require.NoError(t, err)
			require.Equal(t, 2, at)

			s.git("push", "-q", "origin", "HEAD:refs/heads/elsewhere")
			s.run(s.bare, "update-ref", "-d", "refs/heads/main")
			require.NoError(t, r.Fetch(t.Context(), remote, "main"))
			requireTip(t, r, "")
		})
	}
}

// noise is text that does not compress.
func noise(n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return hex.EncodeToString(b)
}

func requireTip(t *testing.T, r *gitrepo.Repository, want string) {
	t.Helper()
	got, err := r.Tip(t.Context(), "main")
	if want == "" {
		require.ErrorIs(t, err, gitrepo.ErrNoBranch)
		return
	}
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestAPasswordIsNeitherInErrorsNorSentElsewhere(t *testing.T) {
	s := newSource(t)
	s.commit("x")
	var seen []string
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Authorization"))
	}))
	t.Cleanup(thief.Close)
	redirecting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, thief.URL+r.URL.Path, http.StatusFound)
	}))
	t.Cleanup(redirecting.Close)
	r := mirror(t)
	const password = "canary-password"
	err := r.Fetch(t.Context(), gitrepo.Remote{URL: redirecting.URL + "/x.git", User: "u", Password: secret.New([]byte(password))}, "main")
	require.Error(t, err)
	require.Empty(t, seen, "a redirect is not followed")
	require.NotContains(t, err.Error(), password)

	url, _ := serve(t, s, "right")
	err = r.Fetch(t.Context(), gitrepo.Remote{URL: url, User: "u", Password: secret.New([]byte(password))}, "main")
	require.ErrorContains(t, err, "auth")
	require.NotContains(t, err.Error(), password)
}

func TestBadURLsAreRefusedWithoutRepeatingWhatMayBeSecret(t *testing.T) {
	password := secret.New([]byte("p"))
	for name, remote := range map[string]gitrepo.Remote{
		"credentials in it":         {URL: "https://u:canary@example.test/x.git"},
		"another scheme":            {URL: "ssh://example.test/x.git"},
		"git's own remote helpers":  {URL: "ext::sh -c id"},
		"an option":                 {URL: "--upload-pack=id"},
		"a relative file":           {URL: "file://x/y"},
		"no host":                   {URL: "https:///x"},
		"a query":                   {URL: "https://example.test/x?token=canary"},
		"not a URL":                 {URL: "https://u:canary@exa mple/\x7f"},
		"a password over the air":   {URL: "http://example.test/x.git", Password: password},
		"a host that is an option":  {URL: "https://-oProxy/x"},
		"nothing":                   {},
		"a control character in it": {URL: "file:///x\n"},
	} {
		err := mirror(t).Fetch(t.Context(), remote, "main")
		require.ErrorIs(t, err, gitrepo.ErrBadName, name)
		require.NotContains(t, err.Error(), "canary", name)
	}
}

func TestAFetchNamesItsBranches(t *testing.T) {
	s := newSource(t)
	s.commit("x")
	require.ErrorIs(t, mirror(t).Fetch(t.Context(), gitrepo.Remote{URL: "file://" + s.bare}), gitrepo.ErrBadName)
	require.ErrorIs(t, mirror(t).Fetch(t.Context(), gitrepo.Remote{URL: "file://" + s.bare}, "--all"), gitrepo.ErrBadName)
}

func TestAnAnswerThatIsTooLargeIsCut(t *testing.T) {
	s := newSource(t)
	s.commit("x", "big", noise(10_000))
	url, _ := serve(t, s, "")
	r := mirror(t)
	err := r.Fetch(t.Context(), gitrepo.Remote{URL: url, MaxBytes: 2000}, "main")
	require.ErrorIs(t, err, gitrepo.ErrLimit)
	requireTip(t, r, "")
}

func TestARemoteThatDoesNotAnswerIsLeftAtTheDeadline(t *testing.T) {
	release := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(silent.Close)
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, mirror(t).Fetch(ctx, gitrepo.Remote{URL: silent.URL + "/x.git"}, "main"))
	require.Error(t, ctx.Err())
}

// What a fetch brought in a new pack is there for who has read before.
func TestWhatWasJustFetchedIsThere(t *testing.T) {
	s, r := newSource(t), mirror(t)
	remote := gitrepo.Remote{URL: "file://" + s.bare}
	root := s.commit("root", "a", "1")
	require.NoError(t, r.Fetch(t.Context(), remote, "main"))
	_, err := r.Ancestor(t.Context(), root, root) // lists the packs
	require.NoError(t, err)
	for range 2 {
		tip := s.commit("more", "a", noise(20))
		require.NoError(t, r.Fetch(t.Context(), remote, "main"))
		there, err := r.Ancestor(t.Context(), tip, tip)
		require.NoError(t, err)
		require.True(t, there)
		next := s.commit("again", "a", noise(20))
		require.NoError(t, r.Fetch(t.Context(), remote, "main"))
		commits, _, err := r.Between(t.Context(), next, next, 10)
		require.NoError(t, err)
		require.Empty(t, commits)
	}
}

func TestTheHeadOfAPullRequestIsFetched(t *testing.T) {
	s, r := newSource(t), mirror(t)
	remote := gitrepo.Remote{URL: "file://" + s.bare}
	head := s.commit("root", "a", "1")
	_, err := r.PullTip(t.Context(), 7)
	require.ErrorIs(t, err, gitrepo.ErrNoBranch)
	git(t, s.bare, "update-ref", "refs/pull/7/head", head)
	require.NoError(t, r.FetchPulls(t.Context(), remote, 7, 8))
	got, err := r.PullTip(t.Context(), 7)
	require.NoError(t, err)
	require.Equal(t, head, got)
	_, err = r.PullTip(t.Context(), 8)
	require.ErrorIs(t, err, gitrepo.ErrNoBranch)
	require.ErrorIs(t, r.FetchPulls(t.Context(), remote), gitrepo.ErrBadName)
}

func TestABranchThatBeginsWhereAnotherIsTransfersNothing(t *testing.T) {
	s, r := newSource(t), mirror(t)
	remote := gitrepo.Remote{Password: secret.New([]byte("pass"))}
	sent := new(int)
	remote.URL, sent = serve(t, s, "pass")
	s.commit("root", "a", noise(10_000))
	older := s.commit("older", "a", noise(100))
	newer := s.commit("newer", "a", noise(200))
	require.NoError(t, r.Fetch(t.Context(), remote, "main"))
	whole := *sent
	for branch, at := range map[string]string{"same": newer, "behind": older} {
		git(t, s.bare, "update-ref", "refs/heads/"+branch, at)
		*sent = 0
		require.NoError(t, r.Fetch(t.Context(), remote, branch))
		tip, err := r.Tip(t.Context(), branch)
		require.NoError(t, err)
		require.Equal(t, at, tip)
		require.LessOrEqual(t, *sent, whole/4)
	}
	git(t, s.bare, "update-ref", "refs/pull/7/head", s.commit("of a pull request", "b", noise(50)))
	*sent = 0
	require.NoError(t, r.FetchPulls(t.Context(), remote, 7))
	require.LessOrEqual(t, *sent, whole/4, "only what the branch does not have")
	head, err := r.PullTip(t.Context(), 7)
	require.NoError(t, err)
	_, err = r.Tree(t.Context(), head, []string{"a"}, gitrepo.Limits{})
	require.NoError(t, err)
}
