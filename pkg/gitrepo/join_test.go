package gitrepo_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/gitrepo"
)

// fork is a repository with a first commit, one after it on main, and one on feature.
type fork struct {
	t                    *testing.T
	work                 string
	first, main, feature string
	r                    *gitrepo.Repository
}

func newFork(t *testing.T, onMain, onFeature string) *fork {
	t.Helper()
	f := &fork{t: t, work: t.TempDir()}
	git(t, f.work, "init", "-q", "-b", "main")
	f.first = f.commit("shared", "one\n")
	git(t, f.work, "checkout", "-q", "-b", "feature")
	f.feature = f.commit(onFeature, "feature\n")
	git(t, f.work, "checkout", "-q", "main")
	f.main = f.commit(onMain, "main\n")
	bare := filepath.Join(t.TempDir(), "bare.git")
	git(t, f.work, "clone", "-q", "--bare", f.work, bare)
	r, err := gitrepo.Open(bare)
	require.NoError(t, err)
	f.r = r
	return f
}

func (f *fork) commit(name, text string) string {
	f.t.Helper()
	require.NoError(f.t, os.WriteFile(filepath.Join(f.work, name), []byte(text), 0o600))
	git(f.t, f.work, "add", name)
	git(f.t, f.work, "commit", "-q", "-m", name)
	return git(f.t, f.work, "rev-parse", "HEAD")
}

func (f *fork) join() gitrepo.Join {
	return gitrepo.Join{Base: f.main, Head: f.feature, Name: "ann", Email: "ann@example.com", Message: "Merge feature\n", At: time.Unix(1_700_000_000, 0)}
}

func TestAMergeHasTheBaseFirstAndIsTheSameEachTime(t *testing.T) {
	f := newFork(t, "a", "b")
	sha, err := f.r.Join(t.Context(), f.join())
	require.NoError(t, err)
	again, err := f.r.Join(t.Context(), f.join())
	require.NoError(t, err)
	require.Equal(t, sha, again)
	parents, err := f.r.Parents(t.Context(), sha)
	require.NoError(t, err)
	require.Equal(t, []string{f.main, f.feature}, parents)
	brought, err := f.r.Brings(t.Context(), sha, []string{f.main}, 10)
	require.NoError(t, err)
	require.Equal(t, []string{f.feature, sha}, brought, "oldest first")
	said, err := f.r.Commits(t.Context(), brought)
	require.NoError(t, err)
	require.Equal(t, "ann@example.com", said[1].Committer.Email)
	_, err = f.r.Brings(t.Context(), sha, []string{f.main}, 1)
	require.ErrorIs(t, err, gitrepo.ErrLimit)
	tips, err := f.r.Branches(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string]string{"main": f.main, "feature": f.feature}, tips, "no branch moved")
	patch, err := f.r.Patch(t.Context(), f.main, f.feature, 1<<20)
	require.NoError(t, err)
	require.Contains(t, patch, "+feature\n")
	require.NotContains(t, patch, "main", "what the base did since is no change of the head")
	_, err = f.r.Patch(t.Context(), f.main, f.feature, 10)
	require.ErrorIs(t, err, gitrepo.ErrLimit)
}

func TestWhatConflictsIsNotJoined(t *testing.T) {
	f := newFork(t, "same", "same")
	_, err := f.r.Join(t.Context(), f.join())
	require.ErrorIs(t, err, gitrepo.ErrMergeConflict)
	j := f.join()
	j.Base = "main"
	_, err = f.r.Join(t.Context(), j)
	require.ErrorIs(t, err, gitrepo.ErrBadName)
}

func TestASquashHasOneParent(t *testing.T) {
	f := newFork(t, "a", "b")
	j := f.join()
	j.Squash = true
	sha, err := f.r.Join(t.Context(), j)
	require.NoError(t, err)
	parents, err := f.r.Parents(t.Context(), sha)
	require.NoError(t, err)
	require.Equal(t, []string{f.main}, parents)
}

func TestABranchIsMovedFromWhereItIsExpectedOnly(t *testing.T) {
	f := newFork(t, "a", "b")
	require.ErrorIs(t, f.r.Move(t.Context(), "main", f.first, f.feature), gitrepo.ErrMoved)
	require.NoError(t, f.r.Move(t.Context(), "main", f.main, f.feature))
	require.NoError(t, f.r.Move(t.Context(), "main", f.main, f.feature), "it is there already")
	require.ErrorIs(t, f.r.Move(t.Context(), "--x", f.main, f.feature), gitrepo.ErrBadName)
}
