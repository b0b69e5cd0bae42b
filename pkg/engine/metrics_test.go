package engine_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/pkg/target"
)

// counts are the counters of the tenant that are not zero, in words.
func (w *world) counts() map[string]int64 {
	w.t.Helper()
	all, err := w.store.Metrics(w.t.Context())
	require.NoError(w.t, err)
	out := map[string]int64{}
	for _, s := range all {
		require.Equal(w.t, tenant, s.Tenant)
		var labels []string
		for _, k := range slices.Sorted(maps.Keys(s.Labels)) {
			labels = append(labels, s.Labels[k])
		}
		key := strings.Join(append([]string{s.Name}, labels...), " ")
		switch {
		case s.Count > 0:
			out[key] = int64(s.Count)
		case s.Value > 0 && s.Name != store.AuditRowsUnsequenced && s.Name != store.DueLag:
			out[key] = s.Value
		}
	}
	return out
}

func TestTheMetricsAreExactlyWhatHappened(t *testing.T) {
	w := newWorld(t)
	for _, n := range []string{"qa-1", "prod-1", "prod-2"} {
		env, _, _ := strings.Cut(n, "-")
		w.join(n, map[string]string{"environment": map[string]string{"qa": "qa", "prod": "production"}[env]})
	}
	w.first("1.0.0")
	w.settle(well, "qa-1", "prod-1", "prod-2")
	once := map[string]int64{
		"deployments_started qa promote": 1, "deployments_completed qa promote": 1, "deployment_duration qa promote succeeded": 1, "modules_deployed qa": 1, "nodes_updated forward qa": 1,
		"deployments_started production promote": 1, "deployments_completed production promote": 1, "deployment_duration production promote succeeded": 1, "modules_deployed production": 1, "nodes_updated forward production": 2,
	}
	require.Equal(t, once, w.counts())

	w.push(at("1.1.0")) // does badly after the switch in qa, and never comes to production
	bad := func(o target.Order) target.PlaceReport {
		r := well(o)
		if r.Active != nil && r.Active.Version == "1.1.0" {
			r.Active.Phase, r.Active.Reason = target.Failed, target.StartFailed
		}
		return r
	}
	w.settle(bad, "qa-1", "prod-1", "prod-2")
	require.Equal(t, promotion.RolledBack, w.statuses()["checkout-2/qa/promote-1"])
	again := maps.Clone(once)
	maps.Copy(again, map[string]int64{"deployments_started qa promote": 2, "deployments_rolled_back qa promote": 1, "deployment_duration qa promote rolled_back": 1, "nodes_updated back qa": 1})
	require.Equal(t, again, w.counts())

	w.push(at("1.2.0"))
	w.settle(well, "qa-1", "prod-1", "prod-2")
	_, err := w.rollback("production")
	require.NoError(t, err)
	w.settle(well, "qa-1", "prod-1", "prod-2")
	maps.Copy(again, map[string]int64{
		"deployments_started qa promote": 3, "deployments_completed qa promote": 2, "deployment_duration qa promote succeeded": 2, "modules_deployed qa": 2, "nodes_updated forward qa": 2,
		"deployments_started production promote": 2, "deployments_completed production promote": 2, "deployment_duration production promote succeeded": 2,
		"deployments_started production restore": 1, "deployments_completed production restore": 1, "deployment_duration production restore succeeded": 1,
		"modules_deployed production": 3, "nodes_updated forward production": 6,
	})
	require.Equal(t, again, w.counts())

	w.git(w.work, "rm", "-q", "deployments/checkout.yaml")
	w.push(nil)
	w.settle(well, "qa-1", "prod-1", "prod-2")
	removal := w.query("SELECT id FROM promotions WHERE kind = 'remove'")
	require.Len(t, removal, 1)
	_, err = w.engine.Act(t.Context(), tenant, removal[0], promotion.Refused, ann, "it is needed")
	require.NoError(t, err)
	maps.Copy(again, map[string]int64{"approvals_requested qa": 1, "approvals_rejected qa": 1})
	require.Equal(t, again, w.counts())
	w.verify()

	require.NoError(t, w.engine.Backstop(t.Context()))
	require.Equal(t, "0", w.ask("SELECT count(*)::text FROM metric_facts"), "the backstop folds")
	w.exec(`UPDATE slots SET live = ''; DELETE FROM checks; DELETE FROM transitions; DELETE FROM promotions; DELETE FROM audit_leaves; DELETE FROM audit; DELETE FROM due WHERE kind = 'promotion'`)
	require.Equal(t, again, w.counts(), "what is gone was counted")
}
