package engine_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/record"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/pkg/target"
)

var ann = audit.Actor{Kind: audit.Person, Name: "ann"}

// fleet is a world with a node in each environment and the given versions
// released one after the other.
func fleet(t *testing.T, versions ...string) *world {
	w := newWorld(t)
	w.join("qa-1", map[string]string{"environment": "qa"})
	w.join("prod-1", map[string]string{"environment": "production"})
	w.first(versions[0])
	w.settle(well, "qa-1", "prod-1")
	for _, v := range versions[1:] {
		w.push(at(v))
		w.settle(well, "qa-1", "prod-1")
	}
	return w
}

func (w *world) rollback(environments ...string) ([]string, error) {
	return w.engine.Rollback(w.t.Context(), engine.Rollback{
		Tenant: tenant, Deployment: "checkout", Environments: environments, By: ann, Reason: "it is slow", Kind: "rollback",
	})
}

// serves is the version that a node is ordered to serve.
func (w *world) serves(node string) string {
	w.t.Helper()
	orders, err := w.store.Orders(w.t.Context(), tenant, node)
	require.NoError(w.t, err)
	if len(orders) == 0 || orders[0].Active == nil {
		return ""
	}
	return orders[0].Active.Module.Version
}

func TestARollbackBringsBackWhatRanBefore(t *testing.T) {
	w := fleet(t, "1.0.0", "1.1.0", "1.2.0")
	_, err := w.rollback("nowhere")
	require.ErrorIs(t, err, store.ErrNotFound)

	ids, err := w.rollback("production", "qa")
	require.NoError(t, err)
	require.Equal(t, []string{"checkout-2/production/restore-1", "checkout-2/qa/restore-1"}, ids)
	_, err = w.rollback("production")
	require.ErrorIs(t, err, store.ErrConflict, "it is going back already")
	w.run()
	require.Equal(t, promotion.Gating, w.statuses()["checkout-2/qa/restore-1"], "production goes first")
	w.settle(well, "qa-1", "prod-1")
	require.Equal(t, promotion.Succeeded, w.statuses()["checkout-2/qa/restore-1"])
	require.Equal(t, "1.1.0", w.serves("prod-1"))

	_, err = w.rollback("production")
	require.NoError(t, err)
	w.settle(well, "qa-1", "prod-1")
	require.Equal(t, "1.0.0", w.serves("prod-1"), "asked again, it goes further back")
	_, err = w.rollback("production")
	require.ErrorIs(t, err, promotion.ErrNoFormer)

	w.push(at("1.3.0"))
	w.run()
	w.run()
	_, err = w.rollback("qa")
	require.ErrorIs(t, err, store.ErrConflict)
	require.ErrorContains(t, err, "hotswap abort checkout-4/qa/promote-1", "what runs there is stopped, which takes it back")
	w.settle(well, "qa-1", "prod-1")
	require.Equal(t, "1.3.0", w.serves("prod-1"))
	require.Len(t, w.rows("promotion.created"), 4*2+3)
	require.Contains(t, strings.Join(w.rows("promotion.created"), "\n"), "rollback to release checkout-2 (checkout 1.1.0), asked by ann: it is slow")
}

func TestADeletedIntentIsTakenAwayWhenAPersonAgrees(t *testing.T) {
	w := fleet(t, "1.0.0")
	w.commit(map[string]string{"deployments/checkout.yaml": ""})
	w.sendOff()
	w.settle(well, "qa-1", "prod-1")
	require.Equal(t, promotion.Gating, w.statuses()["checkout-2/qa/remove-1"])
	require.Equal(t, "1.0.0", w.serves("qa-1"))
	_, err := w.engine.Act(t.Context(), tenant, "checkout-2/qa/remove-1", promotion.Promoted, ann, "it is not used any more")
	require.NoError(t, err)
	w.settle(well, "qa-1", "prod-1")
	require.Equal(t, promotion.Succeeded, w.statuses()["checkout-2/qa/remove-1"])
	require.Empty(t, w.serves("qa-1"))
	require.Equal(t, "1.0.0", w.serves("prod-1"), "each environment when a person agrees")

	w.push(map[string]string{"deployments/checkout.yaml": deployment("1.1.0")})
	w.settle(well, "qa-1", "prod-1")
	require.Equal(t, "1.1.0", w.serves("prod-1"))
	require.Equal(t, promotion.Superseded, w.statuses()["checkout-2/production/remove-1"])
}

func TestAStageThatFailedIsTriedAgainWhenAPersonAsks(t *testing.T) {
	w := fleet(t, "1.0.0")
	w.push(at("1.1.0"))
	w.settle(func(o target.Order) target.PlaceReport {
		r := well(o)
		if r.Standby != nil {
			r.Standby.Phase, r.Standby.Reason = target.Failed, target.NeverHealthy
		}
		return r
	}, "qa-1", "prod-1")
	require.Equal(t, promotion.Failed, w.statuses()["checkout-2/qa/promote-1"])
	_, err := w.engine.Retry(t.Context(), tenant, "checkout-2", "production", ann, "no")
	require.ErrorIs(t, err, promotion.ErrNotNow, "it never came there")
	_, err = w.engine.Retry(t.Context(), tenant, "checkout-2", "prod", ann, "no")
	require.ErrorIs(t, err, store.ErrNotFound)
	id, err := w.engine.Retry(t.Context(), tenant, "checkout-2", "qa", ann, "the disk was full")
	require.NoError(t, err)
	require.Equal(t, "checkout-2/qa/promote-2", id)
	w.settle(well, "qa-1", "prod-1")
	require.Equal(t, promotion.Succeeded, w.statuses()["checkout-2/production/promote-1"], "the release goes on")
	require.Len(t, w.rows("release.succeeded"), 2)
}

func TestAHeldArtifactWaitsUntilAPersonLiftsTheHold(t *testing.T) {
	w := fleet(t, "1.0.0")
	hold := store.HoldRow{Environment: "production", Deployment: "checkout", Artifact: "sha256:" + strings.Repeat("ab", 32), Reason: "leaks"}
	require.NoError(t, w.store.SetHold(t.Context(), tenant, hold, ann))
	require.ErrorIs(t, w.store.SetHold(t.Context(), tenant, hold, ann), store.ErrConflict)
	w.push(at("1.1.0"))
	w.settle(well, "qa-1", "prod-1")
	require.Equal(t, promotion.Gating, w.statuses()["checkout-2/production/promote-1"])
	rows, err := w.store.Promotions(t.Context(), tenant, 1)
	require.NoError(t, err)
	require.Contains(t, rows[0].Waiting.What, "the hold on checkout 1.1.0 to be lifted")
	require.Equal(t, "leaks", rows[0].Waiting.Evidence)
	require.NoError(t, w.store.LiftHold(t.Context(), tenant, hold, ann))
	w.settle(well, "qa-1", "prod-1")
	require.Equal(t, "1.1.0", w.serves("prod-1"))
}

func TestLateAndReinstalledNodesConvergeAndEverythingElseIsAFinding(t *testing.T) {
	w := fleet(t, "1.0.0")
	w.join("prod-2", map[string]string{"environment": "production"})
	w.settle(well, "qa-1", "prod-1", "prod-2")
	require.Equal(t, "1.0.0", w.serves("prod-2"))
	require.Len(t, w.rows("unit.converged"), 1)

	w.exec("UPDATE wanted SET at = now() - interval '1 hour'")
	w.obey("prod-1", func(o target.Order) target.PlaceReport {
		r := well(o)
		r.Active.Digest, r.Active.Version = "sha256:other", "6.6.6"
		return r
	})
	w.run()
	findings, err := w.store.Findings(t.Context(), tenant, 10)
	require.NoError(t, err)
	require.Len(t, findings, 1)
	require.Equal(t, promotion.Unexpected, findings[0].Kind)
	require.Equal(t, "it runs 6.6.6, not 1.0.0", findings[0].Detail)
	w.obey("prod-1", well)
	w.run()
	findings, err = w.store.Findings(t.Context(), tenant, 10)
	require.NoError(t, err)
	require.Empty(t, findings, "it is as it should be again")
	require.Len(t, w.rows("drift.gone"), 1)
	w.verify()
}

func TestGitSaysWhatRunsAndAnEditIsARestoreOrIsUndone(t *testing.T) {
	w := fleet(t, "1.0.0", "1.1.0")
	w.records()
	show := func() record.Record {
		text := w.git(w.bare, "show", record.Branch+":releases/production/checkout.yaml")
		r, err := record.Parse("releases/production/checkout.yaml", []byte(text+"\n"))
		require.NoError(t, err)
		return r
	}
	require.Equal(t, "1.1.0", show().Module.Version)
	require.Equal(t, "checkout-2/production/promote-1", show().Promotion)
	require.Equal(t, []string{"0"}, w.query("SELECT count(*)::text FROM records WHERE recorded < version"))
	one := w.git(w.bare, "rev-parse", record.Branch)
	w.records()
	require.Equal(t, one, w.git(w.bare, "rev-parse", record.Branch), "what Git has is not written again")

	person := t.TempDir()
	w.git(person, "clone", "-q", "-b", record.Branch, w.bare, ".")
	edit := func(change func(text string) string) {
		w.git(person, "fetch", "-q")
		w.git(person, "reset", "-q", "--hard", "origin/"+record.Branch)
		path := person + "/releases/production/checkout.yaml"
		write(t, path, change(read(t, path)))
		w.git(person, "commit", "-q", "-a", "-m", "edit")
		w.git(person, "push", "-q")
	}
	edit(func(text string) string { return strings.Replace(text, "1.1.0", "6.6.6", 1) })
	w.records()
	require.Equal(t, "1.1.0", show().Module.Version, "the edit is undone")
	require.Len(t, w.rows("record.repaired"), 1)

	former := w.query("SELECT digest || ' ' || plan FROM releases r JOIN promotions p ON p.release = r.id WHERE p.id = 'checkout-1/production/promote-1'")[0]
	digest, plan, _ := strings.Cut(former, " ")
	now := show()
	edit(func(text string) string {
		return strings.NewReplacer("release: checkout-2", "release: checkout-1", now.ReleaseDigest, digest, now.PlanDigest, plan).Replace(text)
	})
	w.records()
	w.settle(well, "qa-1", "prod-1")
	require.Equal(t, promotion.Succeeded, w.statuses()["checkout-1/production/restore-1"])
	w.records()
	require.Equal(t, "1.0.0", show().Module.Version)
	require.Equal(t, "restore", show().PromotionKind)

	w.git(w.bare, "update-ref", "-d", "refs/heads/"+record.Branch)
	w.records()
	require.Equal(t, "1.0.0", show().Module.Version, "a deleted branch is written anew")
	require.Len(t, w.rows("records.deleted"), 1)
	w.verify()
}

func TestAClusterChangesAsManyDeploymentsAtOnceAsItMay(t *testing.T) {
	w := newWorld(t)
	w.join("qa-1", map[string]string{"environment": "qa", "region": "west"})
	files := map[string]string{
		"environments/qa.yaml":    "apiVersion: hotswap.dev/v1\nkind: Environment\nmetadata: {name: qa}\nspec: {selector: {environment: qa}, clusterLabel: region, limits: {promotionsPerCluster: 1}}\n",
		"pipelines/straight.yaml": "apiVersion: hotswap.dev/v1\nkind: Pipeline\nmetadata: {name: straight}\nspec: {stages: [{name: qa, environment: qa, strategy: {type: direct}}]}\n",
	}
	for _, name := range []string{"a", "b", "c"} {
		files["deployments/"+name+".yaml"] = named(name, "1.0.0")
	}
	w.push(files)
	for range 3 {
		w.exec("UPDATE due SET lease_until = NULL, wake_at = now() WHERE kind = 'promotion'") // time passes
		w.run()
	}
	running := func() string {
		return strings.Join(w.query("SELECT count(*)::text FROM promotions WHERE status = 'running'"), "")
	}
	require.Equal(t, "1", running())
	require.Contains(t, w.query("SELECT waiting_for ->> 'what' FROM promotions WHERE status = 'queued'")[0], "a turn in cluster west: 1 of 1 promotions are running there")
	w.settle(well, "qa-1")
	require.Equal(t, []string{"succeeded 3"}, w.query("SELECT status || ' ' || count(*) FROM promotions GROUP BY status"))
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
}
