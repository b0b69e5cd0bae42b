package gitrepo_test

import (
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/secret"
)

const promote = "hotswap/promote/production/checkout"

// receive offers the source's bare repository for fetching and pushing over smart HTTP.
// After is called with each push's answer, which it may swallow.
func receive(t *testing.T, s *source, password string, after func(w http.ResponseWriter, answer *httptest.ResponseRecorder)) gitrepo.Remote {
	t.Helper()
	git, err := exec.LookPath("git")
	require.NoError(t, err)
	s.run(s.bare, "config", "http.receivepack", "true")
	backend := &cgi.Handler{Path: git, Args: []string{"http-backend"}, Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(s.bare), "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=hotswap"}, Stderr: &strings.Builder{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, given, _ := r.BasicAuth(); given != password {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if after == nil || !strings.HasSuffix(r.URL.Path, "/git-receive-pack") {
			backend.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		backend.ServeHTTP(rec, r)
		after(w, rec)
	}))
	t.Cleanup(server.Close)
	return gitrepo.Remote{URL: server.URL + "/" + filepath.Base(s.bare), User: "hotswap", Password: secret.New([]byte(password))}
}

// at is where a branch of the bare repository is; empty: nowhere.
func (s *source) at(branch string) string {
	s.t.Helper()
	return s.run(s.bare, "for-each-ref", "--format=%(objectname)", "refs/heads/"+branch)
}

// proposal makes the commit of a promotion's branch in the mirror, on top of parent.
func proposal(t *testing.T, r *gitrepo.Repository, expect, parent, text string) string {
	t.Helper()
	sha, err := r.Commit(t.Context(), []gitrepo.Change{{Path: "releases/production/checkout.yaml", Content: []byte(text)}}, gitrepo.CommitOptions{
		Branch: promote, Expect: expect, Parent: parent, Name: "HotSwap", Email: "hotswap@example.com", At: time.Unix(1_700_000_000, 0), Message: text,
	})
	require.NoError(t, err)
	return sha
}

func TestABranchIsPushedMovedAndRemovedAtItsRemote(t *testing.T) {
	for _, scheme := range []string{"file", "http"} {
		t.Run(scheme, func(t *testing.T) {
			s := newSource(t)
			remote := gitrepo.Remote{URL: "file://" + s.bare}
			if scheme == "http" {
				remote = receive(t, s, "pass", nil)
			}
			base := s.commit("root", "deployments/a.yaml", "a: 1\n")
			r := mirror(t)
			require.NoError(t, r.Fetch(t.Context(), remote, "main", promote))

			first := proposal(t, r, "", base, "plan 1")
			require.NoError(t, r.Push(t.Context(), remote, promote, first, ""))
			require.Equal(t, first, s.at(promote))
			require.Equal(t, base, s.run(s.bare, "rev-parse", first+"^"), "it begins at the base")

			second := proposal(t, r, first, base, "plan 2")
			require.NotEqual(t, first, second)
			require.NoError(t, r.Push(t.Context(), remote, promote, second, first), "no fast-forward, and ours to force")
			require.Equal(t, second, s.at(promote))
			require.NoError(t, r.Push(t.Context(), remote, promote, second, first), "somebody who died did it")

			require.ErrorIs(t, r.Push(t.Context(), remote, promote, first, first), gitrepo.ErrMoved)
			require.ErrorIs(t, r.Push(t.Context(), remote, promote, "", first), gitrepo.ErrMoved)
			require.Equal(t, second, s.at(promote))
			require.NoError(t, r.Push(t.Context(), remote, promote, "", second))
			require.Empty(t, s.at(promote))
			s.run(s.bare, "fsck", "--strict")
		})
	}
}

func TestARemoteThatRefusesSaysWhy(t *testing.T) {
	s := newSource(t)
	base := s.commit("root", "deployments/a.yaml", "a: 1\n")
	r := mirror(t)
	remote := receive(t, s, "pass", nil)
	require.NoError(t, r.Fetch(t.Context(), remote, "main"))
	sha := proposal(t, r, "", base, "plan 1")

	wrong := remote
	wrong.Password = secret.New([]byte("hunter2"))
	err := r.Push(t.Context(), wrong, promote, sha, "")
	require.ErrorIs(t, err, gitrepo.ErrRefused)
	require.NotContains(t, err.Error(), "hunter2")

	hook := filepath.Join(s.bare, "hooks", "update")
	require.NoError(t, os.MkdirAll(filepath.Dir(hook), 0o755))
	require.NoError(t, os.WriteFile(hook, []byte("#!/bin/sh\necho 'branch is protected' >&2\nexit 1\n"), 0o755))
	err = r.Push(t.Context(), remote, promote, sha, "")
	require.ErrorIs(t, err, gitrepo.ErrRefused)
	require.ErrorContains(t, err, "hook declined")
	require.Empty(t, s.at(promote))
}

func TestAPushWhoseAnswerIsLostIsAskedAbout(t *testing.T) {
	s := newSource(t)
	base := s.commit("root", "deployments/a.yaml", "a: 1\n")
	var lost atomic.Int64
	remote := receive(t, s, "pass", func(w http.ResponseWriter, _ *httptest.ResponseRecorder) {
		lost.Add(1)
		conn, _, err := http.NewResponseController(w).Hijack()
		require.NoError(t, err)
		_ = conn.Close()
	})
	r := mirror(t)
	require.NoError(t, r.Fetch(t.Context(), remote, "main"))
	sha := proposal(t, r, "", base, "plan 1")
	require.NoError(t, r.Push(t.Context(), remote, promote, sha, ""))
	require.EqualValues(t, 1, lost.Load())
	require.Equal(t, sha, s.at(promote))
}

// TestOfTwoWhoPushExactlyOneIsFirst: the remote compares, nobody is written over.
func TestOfTwoWhoPushExactlyOneIsFirst(t *testing.T) {
	s := newSource(t)
	base := s.commit("root", "deployments/a.yaml", "a: 1\n")
	remote := receive(t, s, "pass", nil)
	at := ""
	for round := range 10 {
		shas, errs := make([]string, 2), make([]error, 2)
		mirrors := []*gitrepo.Repository{mirror(t), mirror(t)}
		for i, r := range mirrors {
			require.NoError(t, r.Fetch(t.Context(), remote, "main", promote))
			shas[i] = proposal(t, r, at, base, fmt.Sprintf("plan %d of %d", round, i))
		}
		var group sync.WaitGroup
		for i, r := range mirrors {
			group.Go(func() { errs[i] = r.Push(t.Context(), remote, promote, shas[i], at) })
		}
		group.Wait()
		won := 0
		if errs[0] != nil {
			won = 1
		}
		require.NoError(t, errs[won])
		require.ErrorIs(t, errs[1-won], gitrepo.ErrMoved)
		require.Equal(t, shas[won], s.at(promote))
		at = shas[won]
	}
}

func TestWhatAMergeReallyBroughtIsToldOfTheWholeTree(t *testing.T) {
	s := newSource(t)
	s.commit("root", "deployments/a.yaml", "a: 1\n", "releases/about.md", "about\n")
	const path = "releases/production/checkout.yaml"
	for name, c := range map[string]struct {
		files []string
		want  map[string]string // path → why it is odd, or what is in it
	}{
		"exactly one record":            {[]string{path, "plan 1\n"}, map[string]string{path: "plan 1\n"}},
		"a record and another":          {[]string{path, "plan 2\n", "releases/qa/checkout.yaml", "x\n"}, map[string]string{path: "plan 2\n", "releases/qa/checkout.yaml": "x\n"}},
		"a record and a workflow":       {[]string{path, "plan 3\n", ".github/x.yaml", "x\n"}, map[string]string{path: "plan 3\n", ".github": "outside of releases"}},
		"a record and an intent":        {[]string{path, "plan 4\n", "deployments/a.yaml", "a: 2\n"}, map[string]string{path: "plan 4\n", "deployments": "outside of releases"}},
		"nothing of the records at all": {[]string{"README.md", fmt.Sprint(time.Now().UnixNano())}, map[string]string{"README.md": "outside of releases"}},
	} {
		t.Run(name, func(t *testing.T) {
			sha := s.commit(name, c.files...)
			r, err := gitrepo.Open(s.bare)
			require.NoError(t, err)
			got, err := r.Brought(t.Context(), sha, "releases")
			require.NoError(t, err)
			have := map[string]string{}
			for _, x := range got {
				have[x.Path] = x.Odd + string(x.After)
			}
			require.Equal(t, c.want, have)
		})
	}
}

func TestTheCommitsBetweenTwoVersions(t *testing.T) {
	s := newSource(t)
	var shas []string
	for i := range 5 {
		shas = append(shas, s.commit(fmt.Sprintf("change %d", i), "deployments/a.yaml", fmt.Sprintf("a: %d\n", i)))
	}
	r, err := gitrepo.Open(s.bare)
	require.NoError(t, err)
	between := func(from, to string, limit int) (out []string, more bool) {
		commits, more, err := r.Between(t.Context(), from, to, limit)
		require.NoError(t, err)
		return subjects(commits), more
	}
	got, more := between(shas[1], shas[4], 10)
	require.Equal(t, []string{"change 4", "change 3", "change 2"}, got)
	require.False(t, more)
	got, more = between(shas[1], shas[4], 2)
	require.Equal(t, []string{"change 4", "change 3"}, got)
	require.True(t, more)
	got, _ = between(shas[4], shas[1], 10)
	require.Empty(t, got, "what is older brings nothing")
	got, _ = between(strings.Repeat("0", 39)+"1", shas[4], 2)
	require.Len(t, got, 2, "a commit that nobody has excludes nothing")
	parents, err := r.Parents(t.Context(), shas[1])
	require.NoError(t, err)
	require.Equal(t, shas[:1], parents)
}
