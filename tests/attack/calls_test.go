package attack_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/tests/conformance"
)

// An ill is what becomes of one call to the forge.
type ill string

// The ills.
const (
	lostBefore ill = "is lost before it is done"
	lostAfter  ill = "is done and its answer is lost"
	held       ill = "is held until others have gone on without it" // its lease is over by then
	moved      ill = "comes when refs and reviews have moved"
)

// A fragile forge loses its call number at, in one of the ways; 0: none. It counts all calls.
type fragile struct {
	forge.Forge
	at    int
	how   ill
	calls []string
	// meanwhile is what happens before a call that is held, or comes too late.
	meanwhile func()
}

// call does one call, or loses it.
func call[T any](f *fragile, what string, do func() (T, error)) (T, error) {
	f.calls = append(f.calls, what)
	var none T
	if len(f.calls) != f.at {
		return do()
	}
	switch f.how {
	case held, moved:
		f.meanwhile()
		return do()
	case lostAfter:
		_, _ = do()
	}
	return none, fmt.Errorf("%w: the answer to %s is lost", forge.ErrUnavailable, what)
}

func nothing(err error) (struct{}, error) { return struct{}{}, err }

func (f *fragile) Pull(ctx context.Context, repo string, n int64) (approval.Pull, error) {
	return call(f, "Pull", func() (approval.Pull, error) { return f.Forge.Pull(ctx, repo, n) })
}

func (f *fragile) Members(ctx context.Context, repo string, ask forge.Ask) (approval.Members, error) {
	return call(f, "Members", func() (approval.Members, error) { return f.Forge.Members(ctx, repo, ask) })
}

func (f *fragile) Origin(ctx context.Context, repo, commit string) ([]approval.Account, error) {
	return call(f, "Origin", func() ([]approval.Account, error) { return f.Forge.Origin(ctx, repo, commit) })
}

func (f *fragile) Ensure(ctx context.Context, repo string, want forge.PullRequest) (forge.Listed, error) {
	return call(f, "Ensure", func() (forge.Listed, error) { return f.Forge.Ensure(ctx, repo, want) })
}

func (f *fragile) Merge(ctx context.Context, repo string, n int64, m forge.Merge) (string, error) {
	return call(f, "Merge", func() (string, error) { return f.Forge.Merge(ctx, repo, n, m) })
}

func (f *fragile) Close(ctx context.Context, repo string, n int64) error {
	_, err := call(f, "Close", func() (struct{}, error) { return nothing(f.Forge.Close(ctx, repo, n)) })
	return err
}

func (f *fragile) Comment(ctx context.Context, repo string, n int64, marker, text string) error {
	_, err := call(f, "Comment", func() (struct{}, error) { return nothing(f.Forge.Comment(ctx, repo, n, marker, text)) })
	return err
}

func (f *fragile) RequestReviews(ctx context.Context, repo string, n int64, logins, teams []string) error {
	_, err := call(f, "RequestReviews", func() (struct{}, error) { return nothing(f.Forge.RequestReviews(ctx, repo, n, logins, teams)) })
	return err
}

// Whichever call to the forge is lost, or its answer, or comes when another has gone on or when refs and reviews have
// moved: the version that was approved runs, once, the records have it once, and there is one merge.
func TestAnyCallToTheForgeMayBeLost(t *testing.T) { eachForge(t, anyCallLost) }

func anyCallLost(t *testing.T, lab conformance.Lab) {
	calls := reviewed(t, lab, 0, "")
	require.Greater(t, len(calls), 20)
	for _, what := range []string{"Pull", "Members", "Origin", "Ensure", "Merge", "Comment", "RequestReviews"} {
		require.Contains(t, calls, what)
	}
	stride := 7 // a sample of them all; HOTSWAP_CRASH=full: all
	if os.Getenv("HOTSWAP_CRASH") == "full" {
		stride = 1
	}
	for i, what := range calls {
		for j, how := range []ill{lostBefore, lostAfter, held, moved} {
			if (4*i+j)%stride != 0 && what != "Merge" {
				continue
			}
			t.Run(fmt.Sprintf("%d of %d %s %s", i+1, len(calls), what, how), func(t *testing.T) {
				t.Parallel()
				reviewed(t, lab, i+1, how)
			})
		}
	}
}

// meddle lets somebody who may write put other bytes where ours are, and a reviewer think again.
func (w *world) meddle() {
	w.t.Helper()
	open, err := w.lab.Forge().Pulls(w.t.Context(), w.repo, forge.Filter{Base: releases, State: approval.Open})
	require.NoError(w.t, err)
	for _, l := range open {
		p, err := w.lab.Forge().Pull(w.t.Context(), w.repo, l.Number)
		require.NoError(w.t, err)
		if slices.ContainsFunc(p.Reviews, func(r approval.Review) bool { return r.By.ID == w.bo.ID && !r.Dismissed }) {
			w.lab.Dismiss(w.t, w.repo, l.Number, w.bo)
		}
		w.lab.Write(w.t, w.repo, l.HeadRef, "", map[string]string{"releases/production/checkout.yaml": "module: {name: evil, version: '6'}\n"}, w.dana)
	}
}

// reviewed takes a version through its reviews and answers the calls that it took.
func reviewed(t *testing.T, lab conformance.Lab, at int, how ill) []string {
	w := newWorld(t, lab)
	f := &fragile{Forge: w.forge.Forge, at: at, how: how}
	f.meanwhile = func() {
		if how == moved {
			w.meddle()
			return
		}
		for range 6 { // enough to merge, and to end
			w.turnOf(w.beside)
		}
	}
	w.forge.Forge = f
	w.first("")
	w.approve(w.bo, w.chris)
	w.settle()
	if how == moved && w.newest().Status == promotion.Gating { // what was taken back is given again, for what is shown now
		require.Empty(t, w.runs())
		w.approve(w.bo, w.chris)
		w.settle()
	}
	require.Equal(t, promotion.Succeeded, w.newest().Status, w.newest().Says)
	require.Equal(t, "1.4.2", w.runs())
	require.Zero(t, w.foreign())
	require.Equal(t, "1", w.ask("SELECT count(*)::text FROM effects WHERE state = 'done'"))
	require.Equal(t, 1, w.rows("promotion.recorded"))
	all, err := lab.Forge().Pulls(t.Context(), w.repo, forge.Filter{Base: releases})
	require.NoError(t, err)
	merged := slices.DeleteFunc(slices.Clone(all), func(l forge.Listed) bool { return l.State != approval.Merged })
	require.Len(t, merged, 1, "one merge")
	if how == held && len(all) > 1 { // opened late, when nobody waited for it any more
		require.NoError(t, w.store.KeepChecks(t.Context(), tenant, w.name))
		w.settle()
		all, err = lab.Forge().Pulls(t.Context(), w.repo, forge.Filter{Base: releases, State: approval.Open})
		require.NoError(t, err)
		require.Empty(t, all, "one that nobody keeps is closed")
	} else {
		require.Len(t, all, 1, "one pull request")
	}
	comments := lab.Comments(t, w.repo, merged[0].Number)
	require.Len(t, comments, 1, "one comment")
	require.Contains(t, comments[0], "**Deployed**")
	return f.calls
}
