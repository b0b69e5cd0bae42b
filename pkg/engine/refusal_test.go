package engine_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/store"
)

// status is what was said about a commit.
func (w *world) status(sha string) store.CommitStatus {
	w.t.Helper()
	all, err := w.store.Statuses(w.t.Context(), tenant, "deploy", 100)
	require.NoError(w.t, err)
	for _, s := range all {
		if s.Commit == sha {
			return s
		}
	}
	require.Fail(w.t, "nothing was said about "+sha)
	return store.CommitStatus{}
}

func TestAnInvalidIntentIsRefusedWhileItsValidSiblingIsReleasedAndWhatRunsStays(t *testing.T) {
	w := newWorld(t)
	w.join("qa-1", map[string]string{"environment": "qa"})
	w.join("prod-1", map[string]string{"environment": "production"})
	w.first("1.0.0")
	w.settle(well, "qa-1", "prod-1")
	before, err := w.store.Orders(t.Context(), tenant, "prod-1")
	require.NoError(t, err)

	sha := w.push(map[string]string{
		"deployments/checkout.yaml": strings.Replace(deployment("1.1.0"), "pipeline: straight", "pipeline: straigth", 1),
		"deployments/cart.yaml":     named("cart", "0.1.0"),
	})
	w.run()
	require.Equal(t, []string{"cart-2 0.1.0", "checkout-1 1.0.0"}, w.releases())
	s := w.status(sha)
	require.False(t, s.OK)
	require.Equal(t, "1 problem; refused: checkout; released: cart; what runs is untouched by what was refused", s.Description)
	require.Contains(t, s.Detail, `deployments/checkout.yaml:11:13: unknown pipeline "straigth"`, "the text that lint shows")
	refused := w.rows("intent.refused")
	require.Len(t, refused, 1)
	require.Contains(t, refused[0], "straigth")
	after, err := w.store.Orders(t.Context(), tenant, "prod-1")
	require.NoError(t, err)
	require.Equal(t, before, after)

	// Its own file does not change; the pipeline that it names appears.
	sha = w.push(map[string]string{"pipelines/straigth.yaml": strings.Replace(pipeline, "name: straight", "name: straigth", 1)})
	w.run()
	require.Equal(t, []string{"cart-2 0.1.0", "checkout-1 1.0.0", "checkout-3 1.1.0"}, w.releases())
	require.True(t, w.status(sha).OK)
	w.verify()
}

func TestARemovedIntentIsARowAndNothingIsUndeployed(t *testing.T) {
	w := newWorld(t)
	w.join("qa-1", map[string]string{"environment": "qa"})
	w.join("prod-1", map[string]string{"environment": "production"})
	w.first("1.0.0")
	w.settle(well, "qa-1", "prod-1")
	w.commit(map[string]string{"deployments/checkout.yaml": "", "environments/production.yaml": "", "environments/qa.yaml": "", "pipelines/straight.yaml": ""})
	w.sendOff()
	w.settle(well, "qa-1", "prod-1")
	require.Equal(t, []string{"intent checkout: the intent was deleted; what runs is untouched until an operator agrees"}, w.rows("intent.removed"))
	orders, err := w.store.Orders(t.Context(), tenant, "prod-1")
	require.NoError(t, err)
	require.Equal(t, "1.0.0", orders[0].Active.Module.Version)
}

func TestAReleaseHasTheEnvironmentsOfItsOwnCommitThoughALaterOneOfThePushBreaksThem(t *testing.T) {
	w := newWorld(t)
	w.commit(map[string]string{"README.md": "the branch begins\n"})
	w.sendOff()
	w.run()
	w.commit(map[string]string{
		"deployments/checkout.yaml": deployment("1.0.0"), "pipelines/straight.yaml": pipeline,
		"environments/qa.yaml": environment("qa"), "environments/production.yaml": environment("production"),
	})
	w.commit(map[string]string{"environments/qa.yaml": "broken: ["})
	w.sendOff()
	w.run()
	require.Contains(t, w.statuses(), "checkout-2/qa/promote-1", "the release has begun its first stage")
}

func TestFilesThatAreNotPlainAreRefusedWithTheirReason(t *testing.T) {
	w := newWorld(t)
	w.first("1.0.0")
	w.run()
	require.NoError(t, os.Symlink("../../../etc/passwd", filepath.Join(w.work, "deployments", "link.yaml")))
	sha := w.commit(map[string]string{"deployments/odd name.yaml": "x: y\n"})
	w.sendOff()
	w.run()
	require.Equal(t, []string{
		"intent link: deployments/link.yaml is not read: it is not a plain file (mode 120000)",
		"intent odd name: deployments/odd name.yaml is not read: its name has other characters than letters, digits, dots, dashes and underscores",
	}, w.rows("intent.refused"))
	require.False(t, w.status(sha).OK)
	require.Contains(t, w.status(sha).Detail, "not a plain file")
	require.Equal(t, []string{"checkout-1 1.0.0"}, w.releases())
}

func TestAFileBesideAnIntentIsNotTheIntent(t *testing.T) {
	w := newWorld(t)
	w.first("1.0.0")
	w.run()
	for _, version := range []string{"1", "2", "3", "4", "5"} { // a map's order decided once
		w.push(map[string]string{"deployments/checkout.old.yaml": deployment("0." + version)})
		w.run()
	}
	require.Equal(t, []string{"checkout-1 1.0.0"}, w.releases())
}

func TestADeploymentsNameBelongsToTheRepositoryThatReleasedItFirst(t *testing.T) {
	w := newWorld(t)
	w.first("1.0.0")
	w.run()
	other := t.TempDir()
	w.git(other, "init", "-q", "--bare", "-b", "main")
	mine := w.open
	w.open = func(name string) (*gitrepo.Repository, error) {
		if name == "other" {
			return gitrepo.Open(other)
		}
		return mine(name)
	}
	require.NoError(t, w.store.AddRepository(t.Context(), tenant, "other", "main"))
	sha := w.commit(map[string]string{"deployments/checkout.yaml": deployment("6.6.6"), "deployments/theirs.yaml": named("theirs", "0.1.0")})
	w.git(w.work, "push", "-q", other, "HEAD:main")
	w.run()
	require.Equal(t, []string{"checkout-1 1.0.0", "theirs-2 0.1.0"}, w.releases())
	require.Equal(t, []string{"intent checkout: deployment checkout belongs to repository deploy"}, w.rows("intent.refused"))
	require.Equal(t, []string{"refused checkout: deployment checkout belongs to repository deploy\n"},
		w.query("SELECT detail FROM statuses WHERE repository = 'other' AND commit = $1 AND state = 'failure'", sha), "and its committer is told why")
}
