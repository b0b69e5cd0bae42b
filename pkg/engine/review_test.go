package engine_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// gated is an intent whose only stage asks for a policy's approval.
func (w *world) gated() {
	w.push(map[string]string{
		"deployments/checkout.yaml": deployment("1.4.2"), "environments/qa.yaml": environment("qa"),
		"pipelines/straight.yaml": "apiVersion: hotswap.dev/v1\nkind: Pipeline\nmetadata: {name: straight}\nspec:\n  stages:\n" +
			"    - {name: qa, environment: qa, gates: {approval: leads}, strategy: {type: direct}}\n",
		"policies/leads.yaml": "apiVersion: hotswap.dev/v1\nkind: Policy\nmetadata: {name: leads}\nspec: {approvals: {writers: true}}\n",
	})
}

func TestAStageThatNobodyCanReviewSaysWhy(t *testing.T) {
	w := newWorld(t) // it has no forge
	w.gated()
	w.run()
	_, err := w.engine.Deliver(t.Context())
	require.NoError(t, err)
	w.run()
	rows, err := w.store.Promotions(t.Context(), tenant, 10)
	require.NoError(t, err)
	require.Len(t, rows, 1)
	require.Equal(t, "there is no forge for pull requests: repository deploy has none that HotSwap knows of", rows[0].Waiting.Evidence)
}

func TestAPolicyThatIsDeletedMovesThePlan(t *testing.T) {
	w := newWorld(t)
	w.gated()
	w.run()
	plan := w.ask("SELECT plan FROM promotions")
	w.git(w.work, "rm", "-q", "policies/leads.yaml")
	w.push(nil)
	w.run()
	require.NotEqual(t, plan, w.ask("SELECT plan FROM promotions"), "what was agreed to under it counts no more")
	require.Equal(t, "", w.ask("SELECT coalesce(document::text, '') FROM policies"))
}
