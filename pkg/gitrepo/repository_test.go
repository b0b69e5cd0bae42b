package gitrepo_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/gitrepo"
)

// source is a work tree of real git, with a bare repository that it pushes to.
type source struct {
	t          *testing.T
	work, bare string
}

func newSource(t *testing.T) *source {
	t.Helper()
	s := &source{t: t, work: filepath.Join(t.TempDir(), "work"), bare: filepath.Join(t.TempDir(), "bare.git")}
	s.run("", "init", "-q", "--bare", "-b", "main", s.bare)
	s.run("", "init", "-q", "-b", "main", s.work)
	s.git("remote", "add", "origin", s.bare)
	return s
}

func (s *source) git(args ...string) string { return s.run(s.work, args...) }

func (s *source) run(dir string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.t.TempDir(), "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.test", "GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.test",
	}
	out, err := cmd.CombinedOutput()
	require.NoError(s.t, err, "git %s: %s", strings.Join(args, " "), out)
	return strings.TrimSpace(string(out))
}

// commit writes files (path, content, …), commits, pushes and returns the new tip.
func (s *source) commit(message string, files ...string) string {
	s.t.Helper()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(s.work, files[i])
		require.NoError(s.t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(s.t, os.WriteFile(path, []byte(files[i+1]), 0o644))
	}
	s.git("add", "-A")
	s.git("commit", "-q", "--allow-empty", "-m", message)
	s.git("push", "-q", "--force", "origin", "HEAD")
	return s.git("rev-parse", "HEAD")
}

func (s *source) open() *gitrepo.Repository {
	s.t.Helper()
	r, err := gitrepo.Open(s.bare)
	require.NoError(s.t, err)
	return r
}

func subjects(commits []gitrepo.Commit) (out []string) {
	for _, c := range commits {
		out = append(out, c.Subject)
	}
	return out
}

func TestOnlyABareRepositoryIsOpened(t *testing.T) {
	_, err := gitrepo.Open(t.TempDir())
	require.ErrorIs(t, err, gitrepo.ErrNoRepository)
}

func TestTheTipOfABranchFollowsPushesAndSaysWhenThereIsNone(t *testing.T) {
	s := newSource(t)
	r := s.open()
	_, err := r.Tip(t.Context(), "main")
	require.ErrorIs(t, err, gitrepo.ErrNoBranch)
	for range 3 {
		want := s.commit("one more")
		got, err := r.Tip(t.Context(), "main")
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, bad := range []string{"", "-x", "../main", "a b", "refs..x", "x\x00"} {
		_, err := r.Tip(t.Context(), bad)
		require.ErrorIs(t, err, gitrepo.ErrBadName, "%q", bad)
	}
}

func TestFirstParentsAreTheMergesOfABranchNotWhatWasMerged(t *testing.T) {
	s := newSource(t)
	root := s.commit("root")
	s.git("checkout", "-q", "-b", "feature")
	s.commit("on the feature")
	s.git("checkout", "-q", "main")
	s.commit("on main")
	s.git("merge", "-q", "--no-ff", "-m", "merge the feature", "feature")
	tip := s.commit("after")

	r := s.open()
	commits, forced, err := r.FirstParents(t.Context(), root, tip, 100)
	require.NoError(t, err)
	require.False(t, forced)
	require.Equal(t, []string{"on main", "merge the feature", "after"}, subjects(commits))
	require.Len(t, commits[1].Parents, 2)
	require.Equal(t, tip, commits[2].SHA)
	require.Equal(t, "Ann", commits[0].Author.Name)

	all, forced, err := r.FirstParents(t.Context(), "", tip, 100)
	require.NoError(t, err)
	require.False(t, forced)
	require.Equal(t, []string{"root", "on main", "merge the feature", "after"}, subjects(all))

	none, forced, err := r.FirstParents(t.Context(), tip, tip, 100)
	require.NoError(t, err)
	require.False(t, forced)
	require.Empty(t, none)
}

func TestALongLineIsReadInPiecesFromItsOldEnd(t *testing.T) {
	s := newSource(t)
	from := s.commit("0")
	var want, got []string
	for i := 1; i <= 11; i++ {
		s.git("commit", "-q", "--allow-empty", "-m", fmt.Sprint(i))
		want = append(want, fmt.Sprint(i))
	}
	tip := s.commit("12")
	want = append(want, "12")
	r := s.open()
	for {
		piece, forced, err := r.FirstParents(t.Context(), from, tip, 3)
		require.NoError(t, err)
		require.False(t, forced)
		if len(piece) == 0 {
			break
		}
		require.LessOrEqual(t, len(piece), 3)
		got = append(got, subjects(piece)...)
		from = piece[len(piece)-1].SHA
	}
	require.Equal(t, want, got)
}

func TestAForcedBranchIsToldApart(t *testing.T) {
	s := newSource(t)
	root := s.commit("root")
	old := s.commit("old")
	s.git("reset", "-q", "--hard", root)
	tip := s.commit("other")
	r := s.open()
	commits, forced, err := r.FirstParents(t.Context(), old, tip, 10)
	require.NoError(t, err)
	require.True(t, forced)
	require.Equal(t, []string{"other"}, subjects(commits))

	commits, forced, err = r.FirstParents(t.Context(), strings.Repeat("1", 40), tip, 10)
	require.NoError(t, err, "a commit that is gone is a forced branch too")
	require.True(t, forced)
	require.Len(t, commits, 1)

	back, forced, err := r.FirstParents(t.Context(), tip, root, 10)
	require.NoError(t, err)
	require.True(t, forced, "the branch was set back")
	require.Equal(t, []string{"root"}, subjects(back))
}

func TestPositionsCountFirstParents(t *testing.T) {
	s := newSource(t)
	r := s.open()
	var line []string
	for i := 1; i <= 5; i++ {
		line = append(line, s.commit(fmt.Sprint(i)))
		at, err := r.Position(t.Context(), line[i-1])
		require.NoError(t, err)
		require.Equal(t, i, at)
	}
	for i, sha := range line {
		at, err := s.open().Position(t.Context(), sha)
		require.NoError(t, err)
		require.Equal(t, i+1, at)
	}
	_, err := r.Position(t.Context(), strings.Repeat("1", 40))
	require.ErrorIs(t, err, gitrepo.ErrNoCommit)
	_, err = r.Position(t.Context(), line[0][:12])
	require.ErrorIs(t, err, gitrepo.ErrBadName, "an abbreviation may mean another commit tomorrow")
}

func TestARepackByRealGitIsNotNoticed(t *testing.T) {
	s := newSource(t)
	first := s.commit("first", "deployments/a.yaml", "a: 1\n")
	r := s.open()
	_, err := r.Position(t.Context(), first)
	require.NoError(t, err)
	s.run(s.bare, "gc", "-q", "--prune=now")
	second := s.commit("second", "deployments/a.yaml", "a: 2\n")
	s.run(s.bare, "repack", "-q", "-a", "-d", "-f")
	s.run(s.bare, "prune", "--expire=now")
	for sha, want := range map[string]string{first: "a: 1\n", second: "a: 2\n"} {
		got, err := r.Tree(t.Context(), sha, []string{"deployments"}, gitrepo.Limits{})
		require.NoError(t, err)
		require.Equal(t, want, string(got.Files["deployments/a.yaml"].Content))
	}
}

func TestEveryCallEndsWithItsContext(t *testing.T) {
	s := newSource(t)
	tip := s.commit("x", "deployments/a.yaml", "a: 1\n")
	r := s.open()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := r.FirstParents(ctx, "", tip, 1)
	require.ErrorIs(t, err, context.Canceled)
	_, err = r.Position(ctx, tip)
	require.ErrorIs(t, err, context.Canceled)
	_, err = r.Tree(ctx, tip, []string{"deployments"}, gitrepo.Limits{})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, r.Fetch(ctx, gitrepo.Remote{URL: "file://" + s.bare}, "main"), context.Canceled)
}

func TestWhatACommitSaysIsCleaned(t *testing.T) {
	s := newSource(t)
	tip := s.commit("red \x1b[31m\tand " + strings.Repeat("long ", 100))
	commits, _, err := s.open().FirstParents(t.Context(), "", tip, 1)
	require.NoError(t, err)
	require.NotContains(t, commits[0].Subject, "\x1b")
	require.LessOrEqual(t, len(commits[0].Subject), 200)
	require.True(t, strings.HasPrefix(commits[0].Subject, "red  [31m and long"))
}
