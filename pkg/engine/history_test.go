package engine_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/store"
)

// query returns the one column that a query of the superuser gives.
func (w *world) query(sql string, args ...any) []string {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.db.AdminDSN())
	require.NoError(w.t, err)
	defer conn.Close(w.t.Context())
	rows, err := conn.Query(w.t.Context(), sql, args...)
	require.NoError(w.t, err, sql)
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(w.t, err, sql)
	return out
}

// releases are the ids of all releases with the version that each is of.
func (w *world) releases() []string {
	w.t.Helper()
	return w.query(`SELECT id || ' ' || (snapshot #>> '{module,version}') FROM releases ORDER BY deployment, generation`)
}

// rows are the subjects of the audit rows of an action, with their reasons.
func (w *world) rows(action string) []string {
	w.t.Helper()
	return w.query(`SELECT (header::jsonb ->> 'subject') || ': ' || (header::jsonb ->> 'reason') FROM audit
		WHERE action = $1 ORDER BY header::jsonb ->> 'at', id`, action)
}

func (w *world) synced() string {
	w.t.Helper()
	return w.query("SELECT synced FROM repositories WHERE name = 'deploy'")[0]
}

// commit commits files ("" removes one) and does not push.
func (w *world) commit(files map[string]string) string {
	w.t.Helper()
	for path, text := range files {
		p := filepath.Join(w.work, path)
		if text == "" {
			require.NoError(w.t, os.Remove(p))
			continue
		}
		require.NoError(w.t, os.MkdirAll(filepath.Dir(p), 0o755))
		require.NoError(w.t, os.WriteFile(p, []byte(text), 0o644))
	}
	w.git(w.work, "add", "-A")
	w.git(w.work, "commit", "-q", "--allow-empty", "-m", "change")
	return w.git(w.work, "rev-parse", "HEAD")
}

// forceTo makes a commit the tip.
func (w *world) forceTo(sha string) {
	w.t.Helper()
	w.git(w.work, "reset", "-q", "--hard", sha)
	w.sendOff()
}

func (w *world) sendOff() {
	w.t.Helper()
	w.git(w.work, "push", "-q", "-f", "origin", "HEAD:main")
}

func at(version string) map[string]string {
	return map[string]string{"deployments/checkout.yaml": deployment(version)}
}

// named is the same deployment under another name.
func named(name, version string) string {
	return strings.Replace(deployment(version), "metadata: {name: checkout}", "metadata: {name: "+name+"}", 1)
}

func TestCommitsGiveTheSameReleasesWhetherSyncedOneByOneOrAllAtOnce(t *testing.T) {
	steps := []map[string]string{
		at("1.1.0"),
		{"pipelines/straight.yaml": "broken: ["}, // what is released already is not released again by …
		{"pipelines/straight.yaml": pipeline},    // … the pipeline's repair
		at(""),                                   // refused
		{"deployments/cart.yaml": named("cart", "0.1.0")},
		at("1.2.0"),
		{"README.md": "nothing to release\n"},
		{"environments/qa.yaml": "broken: ["},
		{"deployments/cart.yaml": named("cart", "0.2.0")}, // refused: its environment is broken
		{"environments/qa.yaml": environment("qa")},       // cart can be released now, checkout was
		{"deployments/cart.yaml": ""},
	}
	want := []string{"cart-6 0.1.0", "cart-11 0.2.0", "cart-12 0.2.0", "checkout-1 1.0.0", "checkout-2 1.1.0", "checkout-7 1.2.0"}
	for name, each := range map[string]bool{"one by one": true, "all at once, every webhook lost": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.first("1.0.0")
			w.run()
			for _, files := range steps {
				w.commit(files)
				if each {
					w.sendOff()
					w.run()
				}
			}
			w.sendOff()
			w.run()
			require.Equal(t, want, w.releases())
			require.Len(t, w.rows("intent.refused"), 2)
			require.Equal(t, []string{"intent cart: the intent was deleted; what runs is untouched until an operator agrees"}, w.rows("intent.removed"))
			w.verify()
		})
	}
}

func TestAChangeMadeByAMergeIsReleasedWithTheMergeAndNotWithTheCommitsBehindIt(t *testing.T) {
	w := newWorld(t)
	w.first("1.0.0")
	w.run()
	w.git(w.work, "checkout", "-q", "-b", "topic")
	w.commit(at("1.1.0-topic"))
	w.commit(at("1.1.0"))
	w.git(w.work, "checkout", "-q", "main")
	w.commit(map[string]string{"README.md": "meanwhile\n"})
	w.git(w.work, "merge", "-q", "--no-ff", "--no-commit", "topic")
	w.commit(map[string]string{"deployments/cart.yaml": named("cart", "0.1.0")}) // and one that only the merge itself has
	w.sendOff()
	w.run()
	require.Equal(t, []string{"cart-3 0.1.0", "checkout-1 1.0.0", "checkout-3 1.1.0"}, w.releases())
}

func TestTheFirstSyncOfALongHistoryReleasesTheTipOnly(t *testing.T) {
	w := newWorld(t)
	w.first("1.0.0")
	w.commit(at("1.1.0"))
	w.commit(at("1.2.0"))
	w.sendOff()
	w.run()
	require.Equal(t, []string{"checkout-3 1.2.0"}, w.releases())
}

func TestAManyCommitsPushIsSyncedInSeveralBoundedTransactions(t *testing.T) {
	w := newWorld(t)
	w.first("1.0.0")
	w.run()
	for i := range 45 {
		w.commit(at(fmt.Sprintf("1.1.%d", i)))
	}
	w.sendOff()
	w.run()
	require.Len(t, w.releases(), 46)
	require.Equal(t, []string{"20", "20", "5"}, w.query(`SELECT count(*)::text FROM statuses WHERE commit <> (SELECT commit FROM releases WHERE generation = 1) GROUP BY at ORDER BY at`))
	w.verify()
}

func TestAForcedBranchKeepsGenerationsRisingAndReleasesWhatDiffers(t *testing.T) {
	w := newWorld(t)
	first := w.first("1.0.0")
	w.run()
	w.commit(at("1.1.0"))
	w.commit(map[string]string{"deployments/cart.yaml": named("cart", "0.1.0")})
	w.sendOff()
	w.run()
	w.forceTo(first) // shorter by two commits
	w.run()
	require.Equal(t, []string{"cart-3 0.1.0", "cart-4 0.1.0", "checkout-1 1.0.0", "checkout-2 1.1.0", "checkout-3 1.0.0"}, w.releases(), "cart-4 takes cart away, when an operator agrees")
	require.Len(t, w.rows("intent.removed"), 1)
	require.Len(t, w.rows("repository.forced"), 1)
	w.forceTo(w.commit(map[string]string{"README.md": "no intent changed\n"}))
	w.git(w.work, "commit", "-q", "--amend", "-m", "the same under another id")
	w.sendOff()
	w.run()
	require.Len(t, w.releases(), 5)
}

func TestAfterTheOldCommitWasPrunedTheNewestReleasesAreWhatIsComparedWith(t *testing.T) {
	w := newWorld(t)
	first := w.first("1.0.0")
	w.run()
	w.commit(map[string]string{"deployments/cart.yaml": named("cart", "0.1.0")})
	w.sendOff()
	w.run()
	w.git(w.work, "reset", "-q", "--hard", first)
	w.commit(map[string]string{"deployments/cart.yaml": named("cart", "0.2.0"), "README.md": "x\n"})
	w.sendOff()
	w.git(w.bare, "reflog", "expire", "--expire=now", "--all")
	w.git(w.bare, "gc", "-q", "--prune=now")
	repo, err := gitrepo.Open(w.bare)
	require.NoError(t, err)
	_, err = repo.Tree(t.Context(), w.synced(), []string{"deployments"}, gitrepo.Limits{})
	require.ErrorIs(t, err, gitrepo.ErrNoCommit, "the test pruned it")
	w.run()
	require.Equal(t, []string{"cart-2 0.1.0", "cart-3 0.2.0", "checkout-1 1.0.0"}, w.releases(), "checkout is as it was")
}

func TestABranchThatIsForcedBackAndForthIsToldEachTimeAndNeverStuck(t *testing.T) {
	w := newWorld(t)
	good := w.first("1.0.0")
	w.run()
	bad := w.commit(map[string]string{"deployments/checkout.yaml": deployment(""), "deployments/cart.yaml": named("cart", "")})
	for _, sha := range []string{bad, good, bad, good, bad} {
		w.forceTo(sha)
		w.run()
		require.Equal(t, sha, w.synced())
	}
	require.Len(t, w.rows("intent.refused"), 6)
	w.verify()
}

func TestACommitThatIsTooLargeToReadIsPassedOverAndSaid(t *testing.T) {
	w := newWorld(t)
	w.first("1.0.0")
	w.run()
	many := map[string]string{}
	for i := range 2100 {
		many[fmt.Sprintf("pipelines/p%d.yaml", i)] = "x: y\n"
	}
	huge := w.commit(many)
	w.sendOff()
	w.run()
	require.Equal(t, huge, w.synced())
	require.Equal(t, []string{"failure"}, w.query("SELECT state FROM statuses WHERE commit = $1", huge))

	for path := range maps.Keys(many) {
		many[path] = ""
	}
	w.commit(many)
	w.commit(at("1.1.0"))
	w.sendOff()
	w.run()
	require.Equal(t, []string{"checkout-1 1.0.0", "checkout-4 1.1.0"}, w.releases(), "the repository goes on, and nothing is released twice")
}

func TestARepositoryThatCannotBeOpenedBacksOffSaysWhyAndStopsNobody(t *testing.T) {
	w := newWorld(t)
	good := w.open
	require.NoError(t, w.store.AddRepository(t.Context(), tenant, "broken", "main"))
	w.open = func(name string) (*gitrepo.Repository, error) {
		if name == "broken" {
			return nil, errors.New("the disk is \x00 gone")
		}
		return good(name)
	}
	w.first("1.0.0")
	for range 3 {
		require.NoError(t, w.store.Poke(t.Context(), tenant, store.Repository, "broken"))
		w.run()
	}
	require.Equal(t, []string{"checkout-1 1.0.0"}, w.releases())
	require.Equal(t, []string{"t"}, w.query("SELECT left((attempts >= 3 AND lease_until IS NULL)::text, 1) FROM due WHERE id = 'broken'"), "tried each time, and given back")
	rows, err := w.store.Repositories(t.Context(), tenant)
	require.NoError(t, err)
	require.Len(t, rows, 2)
	require.Equal(t, w.query("SELECT format('attempt %s failed; it is tried again', attempts) FROM due WHERE id = 'broken'"), []string{rows[0].Waiting.What})
	require.Equal(t, "the disk is  gone", rows[0].Waiting.Evidence)
	require.True(t, rows[0].Waiting.Since.Before(rows[0].Waiting.Next))
	require.Nil(t, rows[1].Waiting)

	w.open = good // it is back: whoever looks sees that too
	require.NoError(t, w.store.Poke(t.Context(), tenant, store.Repository, "broken"))
	w.run()
	rows, err = w.store.Repositories(t.Context(), tenant)
	require.NoError(t, err)
	require.Nil(t, rows[0].Waiting)
}

func TestAPanicOverOneRepositoryIsAFailedStepAndNothingElse(t *testing.T) {
	w := newWorld(t)
	w.open = func(string) (*gitrepo.Repository, error) { panic("hostile pack") }
	w.run()
	rows, err := w.store.Repositories(t.Context(), tenant)
	require.NoError(t, err)
	require.Equal(t, "step panicked: hostile pack", rows[0].Waiting.Evidence)
}
