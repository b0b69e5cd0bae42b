package gitrepo_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/gitrepo"
)

// line is a branch of three commits of ours, and a person's clone of it.
type line struct {
	t          *testing.T
	bare, work string
	repo       *gitrepo.Repository
	ours       []string
}

func newLine(t *testing.T) *line {
	t.Helper()
	l := &line{t: t, work: t.TempDir()}
	l.bare, l.repo = newBare(t)
	tip := ""
	for i := range 3 {
		tip = l.commit(tip, i)
		l.ours = append(l.ours, tip)
	}
	git(t, l.work, "clone", "-q", "-b", recordsBranch, l.bare, ".")
	return l
}

// commit is one of ours on any tip; it is where the branch is afterwards.
func (l *line) commit(on string, n int) string {
	l.t.Helper()
	sha, err := l.repo.Commit(l.t.Context(), []gitrepo.Change{file("releases/qa/checkout.yaml", fmt.Sprintf("a: %d\n", n))}, options(l.t, on))
	require.NoError(l.t, err)
	return sha
}

// person commits on top of a commit, and forces the branch there.
func (l *line) person(on string) string {
	l.t.Helper()
	git(l.t, l.work, "fetch", "-q", "origin", "+refs/heads/*:refs/remotes/origin/*")
	git(l.t, l.work, "reset", "-q", "--hard", on)
	require.NoError(l.t, os.WriteFile(filepath.Join(l.work, "releases/qa/checkout.yaml"), []byte("a: person\n"), 0o644))
	git(l.t, l.work, "commit", "-q", "-a", "-m", "a person's")
	git(l.t, l.work, "push", "-q", "--force")
	return git(l.t, l.work, "rev-parse", "HEAD")
}

func TestWhatOthersDidIsToldApartFromWhatWeForgotThatWeDid(t *testing.T) {
	tests := map[string]struct {
		last func(l *line) string // nil: our third commit
		do   func(l *line) (tip string, want gitrepo.Push)
	}{
		"nobody did anything": {do: func(l *line) (string, gitrepo.Push) {
			return l.ours[2], gitrepo.Push{Tip: l.ours[2]}
		}},
		"we wrote and died before we said so": {last: func(l *line) string { return l.ours[0] }, do: func(l *line) (string, gitrepo.Push) {
			return l.ours[2], gitrepo.Push{Tip: l.ours[0]}
		}},
		"we wrote the first commit and died": {last: func(*line) string { return "" }, do: func(l *line) (string, gitrepo.Push) {
			return l.ours[0], gitrepo.Push{}
		}},
		"there never was a branch": {last: func(*line) string { return "" }, do: func(*line) (string, gitrepo.Push) {
			return "", gitrepo.Push{}
		}},
		"a person pushed": {do: func(l *line) (string, gitrepo.Push) {
			p := l.person(l.ours[2])
			return p, gitrepo.Push{Moved: true, Tip: p}
		}},
		"a person pushed on a commit that we forgot": {last: func(l *line) string { return l.ours[1] }, do: func(l *line) (string, gitrepo.Push) {
			p := l.person(l.ours[2])
			return p, gitrepo.Push{Moved: true, Tip: p}
		}},
		"a person pushed, we wrote above it and died": {do: func(l *line) (string, gitrepo.Push) {
			p := l.person(l.ours[2])
			return l.commit(l.commit(p, 7), 8), gitrepo.Push{Moved: true, Tip: p}
		}},
		"a person set the branch back to an older one of ours": {do: func(l *line) (string, gitrepo.Push) {
			git(l.t, l.work, "push", "-q", "--force", "origin", l.ours[0]+":"+recordsBranch)
			return l.ours[0], gitrepo.Push{Moved: true, Tip: l.ours[0], Forced: true}
		}},
		"a person forced something else": {do: func(l *line) (string, gitrepo.Push) {
			p := l.person(l.ours[0])
			return p, gitrepo.Push{Moved: true, Tip: p, Forced: true}
		}},
		"a person forced something else, and what we wrote is gone for good": {do: func(l *line) (string, gitrepo.Push) {
			p := l.person(l.ours[0])
			git(l.t, l.bare, "gc", "-q", "--prune=now")
			return p, gitrepo.Push{Moved: true, Tip: p, Forced: true}
		}},
		"a person set the branch back, and what we wrote is gone for good": {do: func(l *line) (string, gitrepo.Push) {
			git(l.t, l.work, "push", "-q", "--force", "origin", l.ours[0]+":"+recordsBranch)
			git(l.t, l.bare, "gc", "-q", "--prune=now")
			return l.ours[0], gitrepo.Push{Moved: true, Tip: l.ours[0], Forced: true}
		}},
		"a person deleted the branch": {do: func(*line) (string, gitrepo.Push) {
			return "", gitrepo.Push{Moved: true}
		}},
		"a person deleted the branch, we wrote it anew and died": {do: func(l *line) (string, gitrepo.Push) {
			git(l.t, l.work, "push", "-q", "--force", "origin", ":"+recordsBranch)
			return l.commit("", 9), gitrepo.Push{Moved: true}
		}},
		"somebody had the branch before we ever wrote": {last: func(*line) string { return "" }, do: func(l *line) (string, gitrepo.Push) {
			p := l.person(l.ours[2])
			return l.commit(p, 9), gitrepo.Push{Moved: true, Tip: p}
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLine(t)
			last := l.ours[2]
			if tt.last != nil {
				last = tt.last(l)
			}
			tip, want := tt.do(l)
			got, err := l.repo.Pushed(t.Context(), last, tip, options(t, "").Sign)
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

func TestACommitThatIsNotThereIsInNoHistory(t *testing.T) {
	l := newLine(t)
	gone := "1111111111111111111111111111111111111111"
	found, err := l.repo.Ancestor(t.Context(), gone, l.ours[2])
	require.NoError(t, err)
	require.False(t, found)
	_, err = l.repo.Ancestor(t.Context(), l.ours[0], gone)
	require.ErrorIs(t, err, gitrepo.ErrNoCommit)
	_, err = l.repo.Ancestor(t.Context(), "main~1", l.ours[0])
	require.ErrorIs(t, err, gitrepo.ErrBadName)
	found, err = l.repo.Ancestor(t.Context(), l.ours[1], l.ours[1])
	require.NoError(t, err)
	require.True(t, found, "a commit is in its own history")
	_, err = l.repo.SignedBy(t.Context(), gone, options(t, "").Sign)
	require.ErrorIs(t, err, gitrepo.ErrNoCommit)
}
