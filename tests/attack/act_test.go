package attack_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/tests/conformance"
	"hotswap.dev/hotswap/tests/conformance/builtinlab"
	"hotswap.dev/hotswap/tests/conformance/gitealab"
	"hotswap.dev/hotswap/tests/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m, store.Migrate) }

// eachForge runs a test on every forge: on Gitea where it is asked for.
func eachForge(t *testing.T, run func(t *testing.T, lab conformance.Lab)) {
	t.Run("builtin", func(t *testing.T) {
		key := ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", ed25519.SeedSize)))
		s, err := store.Open(t.Context(), store.Options{DSN: pgtest.New(t).DSN("hotswap_app"), MaxConns: 8}, audit.NewWriter(key))
		require.NoError(t, err)
		t.Cleanup(s.Close)
		run(t, builtinlab.New(t, s))
	})
	t.Run("gitea", func(t *testing.T) {
		if os.Getenv("HOTSWAP_FORGE") != "gitea" {
			t.Skip("a real Gitea is built and asked by `make test-forge` (HOTSWAP_FORGE=gitea)")
		}
		server, err := gitealab.Start(t.Context(), "../tools")
		require.NoError(t, err)
		t.Cleanup(server.Stop)
		run(t, gitealab.NewLab(t, server))
	})
}

func (w *world) builtin() bool { return w.lab.Forge().Capabilities().Kind == "builtin" }

// named puts the names of this world into a policy.
func (w *world) named(policy string) string {
	return strings.NewReplacer("%s", w.team, "%bo", w.bo.Login).Replace(policy)
}

func (w *world) review(by approval.Account, v approval.Verdict) {
	w.t.Helper()
	p := w.pull()
	w.lab.Review(w.t, w.repo, p.Number, by, v, p.Head)
}

// branch writes files on a branch from main.
func (w *world) branch(name string, files map[string]string, by approval.Account) string {
	w.t.Helper()
	return w.branchFrom(name, "main", files, by)
}

func (w *world) branchFrom(name, from string, files map[string]string, by approval.Account) string {
	w.t.Helper()
	w.lab.Write(w.t, w.repo, name, from, files, by)
	return name
}

// tip of a branch where it lives.
func (w *world) tip(branch string) string {
	w.t.Helper()
	sha, err := w.git().Tip(w.t.Context(), branch)
	require.NoError(w.t, err)
	return sha
}

// atEffect does something when the merge is about to be tried: at the first look at the
// pull request once the slot is taken.
func (w *world) atEffect(do func()) {
	var wait func()
	wait = func() {
		if w.ask("SELECT count(*)::text FROM promotions WHERE phase = 'recording'") == "0" {
			w.when("Pull", wait)
			return
		}
		do()
	}
	w.when("Pull", wait)
}

// generation of the newest release.
func (w *world) generation() string {
	w.t.Helper()
	return w.ask("SELECT max(generation)::text FROM releases")
}

// give approves past the forge what the pull request shows.
func (w *world) give(source, login, role string) {
	w.t.Helper()
	w.lab.Protect(w.t, w.repo, releases, 0) // the forge has rules of its own, which know of no approvals by API
	require.NoError(w.t, w.store.GiveApproval(w.t.Context(), tenant, w.newest().ID, store.GivenApproval{
		Source: source, Actor: login, Role: role, Head: w.pull().Head, Plan: w.ask("SELECT plan FROM promotions ORDER BY created_at DESC LIMIT 1"), Reason: "checkout is down",
	}))
}

// deliver puts an authentic webhook into the inbox.
func (w *world) deliver(event string, body []byte) {
	w.t.Helper()
	w.deliverAs(fmt.Sprintf("delivery-%d", w.turns), event, body)
}

func (w *world) deliverAs(id, event string, body []byte) {
	w.t.Helper()
	sum := sha256.Sum256(body)
	require.NoError(w.t, w.store.Accept(w.t.Context(), store.Delivery{
		Tenant: tenant, Source: "gitea", ID: id, Repository: w.name, Event: event, Headers: map[string]string{}, Body: body, Digest: sum[:],
	}))
}

// mergeMore lets the forge merge what was approved together with something else, as a
// queue of merges may.
func (w *world) mergeMore() {
	path := "releases/production/checkout.yaml"
	proposed, err := w.git().File(w.t.Context(), w.pull().Head, path, 1<<20)
	require.NoError(w.t, err)
	head, made := w.pull().Head, ""
	w.forge.merge = func() (string, error) {
		if made == "" {
			made = w.lab.Write(w.t, w.repo, releases, "", map[string]string{path: string(proposed), "releases/production/other.yaml": "x: y\n"}, w.lab.Own(w.t))
		}
		return made, nil
	}
	w.forge.shown = func(p approval.Pull) approval.Pull {
		if made != "" && p.Head == head {
			p.State, p.Merge = approval.Merged, made
		}
		return p
	}
}

// git is the repository with everything that is where it lives.
func (w *world) git() *gitrepo.Repository {
	w.t.Helper()
	git, remote := w.lab.Git(w.t, w.repo)
	if remote != nil {
		require.NoError(w.t, git.Fetch(w.t.Context(), *remote, "main", releases, "hotswap/promote/"+slot))
	}
	return git
}

// foreign is how many files of people the records' branch has below releases/.
func (w *world) foreign() int {
	w.t.Helper()
	tree, err := w.git().Tree(w.t.Context(), w.tip(releases), []string{"releases/production"}, gitrepo.Limits{})
	require.NoError(w.t, err)
	return len(tree.Files) + len(tree.Skipped) - 1
}
