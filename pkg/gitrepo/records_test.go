package gitrepo_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/record"
)

// robot is what writes records: it knows what is to stand in Git, and remembers
// its last commit.
type robot struct {
	t      *testing.T
	repo   *gitrepo.Repository
	last   string
	slots  map[string]record.Record // by path
	former []record.Pair
}

// step looks at what others did, and writes what is to stand there. It answers what
// others did, and what that means by path.
func (b *robot) step() (gitrepo.Push, map[string]record.Judgement) {
	b.t.Helper()
	ctx, o := b.t.Context(), options(b.t, "")
	tip, err := b.repo.Tip(ctx, record.Branch)
	if !errors.Is(err, gitrepo.ErrNoBranch) {
		require.NoError(b.t, err)
	}
	push, err := b.repo.Pushed(ctx, b.last, tip, o.Sign)
	require.NoError(b.t, err)
	meanings := map[string]record.Judgement{}
	if push.Moved {
		edits, err := b.repo.Diff(ctx, b.last, push.Tip, record.Folder, gitrepo.Limits{})
		require.NoError(b.t, err)
		for _, e := range edits {
			if _, ours := b.slots[e.Path]; ours {
				meanings[e.Path] = record.JudgeEdit(e.Path, e.Before, e.After, b.former)
			}
		}
	}
	b.last = b.write(tip)
	return push, meanings
}

// write commits all records on top of tip; what is there already changes nothing.
func (b *robot) write(tip string) string {
	b.t.Helper()
	o := options(b.t, tip)
	var changes []gitrepo.Change
	for path, r := range b.slots {
		text, err := r.Render()
		require.NoError(b.t, err)
		changes = append(changes, gitrepo.Change{Path: path, Content: text})
		if r.At.After(o.At) {
			o.At = r.At
		}
	}
	sha, err := b.repo.Commit(b.t.Context(), changes, o)
	require.NoError(b.t, err)
	return sha
}

// runs says that a slot runs the nth release.
func (b *robot) runs(environment, n string) string {
	pair := record.Pair{Release: "checkout-" + n, ReleaseDigest: "sha256:r" + n, PlanDigest: "sha256:p" + n + environment}
	r := record.Record{
		Environment: environment, Deployment: "checkout", Tenant: "shop", Release: pair.Release, ReleaseDigest: pair.ReleaseDigest, PlanDigest: pair.PlanDigest,
		Module: intent.Module{Name: "checkout", Version: "1." + n, Artifact: "file:///a.tar.gz", Digest: "sha256:d" + n},
		At:     time.Date(2026, 1, 2, 12, 0, int(n[0]-'0'), 0, time.UTC),
	}
	b.slots[r.Path()] = r
	b.former = slices.Insert(b.former, 0, pair)
	return r.Path()
}

// shown is what Git says about a slot.
func (b *robot) shown(bare, path string) record.Record {
	b.t.Helper()
	r, err := record.Parse(path, []byte(git(b.t, bare, "show", record.Branch+":"+path)+"\n"))
	require.NoError(b.t, err)
	return r
}

// TestAPersonAndTheRecords is the life of a records' branch, with real git as the person.
func TestAPersonAndTheRecords(t *testing.T) {
	bare, repo := newBare(t)
	b := &robot{t: t, repo: repo, slots: map[string]record.Record{}}
	production, qa := b.runs("production", "1"), b.runs("qa", "1")
	push, meanings := b.step()
	require.False(t, push.Moved)
	require.Empty(t, meanings)
	first := b.last
	b.runs("production", "2")
	push, _ = b.step()
	require.False(t, push.Moved, "what we wrote is not what others did")
	second := b.last
	require.Equal(t, "1.2", b.shown(bare, production).Module.Version)

	work := t.TempDir()
	git(t, work, "clone", "-q", "-b", record.Branch, bare, ".")
	pull := func() { git(t, work, "pull", "-q", "--rebase") }
	edit := func(path string, pairs ...string) {
		at := filepath.Join(work, path)
		text, err := os.ReadFile(at)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(at, []byte(strings.NewReplacer(pairs...).Replace(string(text))), 0o644))
		git(t, work, "commit", "-q", "-a", "-m", "an edit")
		git(t, work, "push", "-q")
	}

	// A revert asks for the release before, and is undone until that runs.
	git(t, work, "revert", "--no-edit", "HEAD")
	git(t, work, "push", "-q")
	push, meanings = b.step()
	require.True(t, push.Moved)
	require.Equal(t, map[string]record.Judgement{production: {Kind: record.Restore, Release: "checkout-1", Why: "release checkout-1 ran here before"}}, meanings)
	require.Equal(t, "1.2", b.shown(bare, production).Module.Version)
	b.runs("production", "1")
	push, _ = b.step()
	require.False(t, push.Moved)
	require.Equal(t, "1.1", b.shown(bare, production).Module.Version)

	// Three lines are enough, and the file of a slot that nobody touched asks for
	// nothing, although it is older than what is to be written there.
	pull()
	edit(production, "checkout-1", "checkout-2", "sha256:r1", "sha256:r2", "sha256:p1production", "sha256:p2production")
	b.runs("qa", "2")
	_, meanings = b.step()
	require.Len(t, meanings, 1)
	require.Equal(t, record.Restore, meanings[production].Kind)
	require.Equal(t, "1.2", b.shown(bare, qa).Module.Version)

	// Anything else is undone, and what is no record stays.
	pull()
	require.NoError(t, os.WriteFile(filepath.Join(work, "README.md"), []byte("ours\n"), 0o644))
	git(t, work, "add", "README.md")
	edit(qa, "version: \"1.2\"", "version: \"6.6\"")
	_, meanings = b.step()
	require.Equal(t, map[string]record.Judgement{qa: {Kind: record.Drift, Why: "the edit changes something else than the release"}}, meanings)
	require.Equal(t, "1.2", b.shown(bare, qa).Module.Version)
	require.Equal(t, "ours", git(t, bare, "show", record.Branch+":README.md"))

	// A removed file comes back.
	pull()
	git(t, work, "rm", "-q", qa)
	git(t, work, "commit", "-q", "-m", "away")
	git(t, work, "push", "-q")
	_, meanings = b.step()
	require.Equal(t, record.Judgement{Kind: record.Drift, Why: "the file was removed"}, meanings[qa])
	require.Equal(t, "1.2", b.shown(bare, qa).Module.Version)

	// Setting the branch back asks for what ran then, of each slot that it changes.
	git(t, work, "push", "-q", "--force", "origin", second+":"+record.Branch)
	push, meanings = b.step()
	require.Equal(t, gitrepo.Push{Moved: true, Tip: second, Forced: true}, push)
	require.Equal(t, record.Restore, meanings[production].Kind)
	require.Equal(t, "checkout-1", meanings[qa].Release)
	require.Equal(t, second, git(t, bare, "rev-parse", record.Branch+"~1"), "we write on top of what is there")

	// We die after the branch moved, with an edit below that nobody was told of.
	git(t, work, "fetch", "-q")
	git(t, work, "reset", "-q", "--hard", "origin/"+record.Branch)
	edit(qa, "tenant: shop", "tenant: other")
	b.write(git(t, bare, "rev-parse", record.Branch))
	push, meanings = b.step()
	require.Equal(t, git(t, work, "rev-parse", "HEAD"), push.Tip)
	require.Equal(t, record.Drift, meanings[qa].Kind)
	require.Equal(t, "shop", b.shown(bare, qa).Tenant)

	// A deleted branch is written anew.
	git(t, work, "push", "-q", "origin", ":"+record.Branch)
	push, meanings = b.step()
	require.Equal(t, gitrepo.Push{Moved: true}, push)
	require.Len(t, meanings, 2)
	require.Equal(t, "1.1", b.shown(bare, production).Module.Version)
	require.Equal(t, "1", git(t, bare, "rev-list", "--count", record.Branch))
	tip := b.last
	push, _ = b.step()
	require.False(t, push.Moved)
	require.Equal(t, tip, b.last, "nothing to say, nothing is written")
	require.NotEqual(t, first, tip)
	git(t, bare, "fsck", "--strict")
}
