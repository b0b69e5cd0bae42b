package attack_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/tests/conformance"
)

// Reviews of a head that HotSwap itself is about to move are reviews for nothing.
func TestThePullRequestOfTheNextReleaseIsOpenedOnARecordThatStays(t *testing.T) {
	eachForge(t, opensOnWhatStays)
}

func opensOnWhatStays(t *testing.T, lab conformance.Lab) {
	w := newWorld(t, lab)
	w.first("")
	w.approve(w.bo, w.chris)
	w.endsUnwritten()
	w.change(w.ann, map[string]string{"deployments/checkout.yaml": deployment("1.5.0")})
	later := "UPDATE due SET wake_at = CASE kind WHEN 'record' THEN now() + interval '1 hour' ELSE now() END, lease_until = NULL"
	for range 5 {
		w.exec(later)
		_, err := w.engine.Validate(t.Context())
		require.NoError(t, err)
		_, err = w.engine.Advance(t.Context())
		require.NoError(t, err)
		w.exec(later)
		_, err = w.engine.Deliver(t.Context())
		require.NoError(t, err)
	}
	require.Equal(t, promotion.Gating, w.newest().Status)
	require.Equal(t, "0", w.ask("SELECT number::text FROM pulls"), "Git does not say yet how 1.4.2 ended")

	w.settle()
	shown := w.pull()
	w.approve(w.bo, w.chris)
	w.settle()
	require.Equal(t, promotion.Succeeded, w.newest().Status, w.newest().Says)
	require.Equal(t, "1.5.0", w.runs())
	merged, err := lab.Forge().Pull(t.Context(), w.repo, shown.Number)
	require.NoError(t, err)
	require.Equal(t, shown.Head, merged.Head, "what was reviewed is what was merged")
	w.noEdits()
}

// endsUnwritten lets everybody work until the newest promotion has succeeded, but not who
// writes records.
func (w *world) endsUnwritten() {
	w.t.Helper()
	for range 50 {
		if w.newest().Status == promotion.Succeeded {
			return
		}
		w.exec("UPDATE due SET wake_at = CASE kind WHEN 'record' THEN now() + interval '1 hour' ELSE now() END, lease_until = NULL")
		w.obey()
		_, err := w.engine.Advance(w.t.Context())
		require.NoError(w.t, err)
		w.exec("UPDATE due SET wake_at = now() + interval '1 hour' WHERE kind = 'record'")
		if w.newest().Status != promotion.Succeeded {
			_, err = w.engine.Deliver(w.t.Context())
			require.NoError(w.t, err)
		}
	}
	require.Fail(w.t, "it does not succeed", w.stand())
}

// noEdits requires that nothing was taken for a person's edit of a record.
func (w *world) noEdits() {
	w.t.Helper()
	for _, action := range []string{"record.restore", "record.refused", "record.repaired"} {
		require.Zero(w.t, w.rows(action), action)
	}
}

// A merge of ours that is seen late, when its promotion has ended and was taken back, is not
// a person's wish to have it again.
func TestAMergeOfOursThatIsSeenLateBringsNothingBack(t *testing.T) { eachForge(t, seenLate) }

func seenLate(t *testing.T, lab conformance.Lab) {
	w := newWorld(t, lab)
	w.first("")
	w.approve(w.bo, w.chris)
	w.settle()
	require.Equal(t, "1.4.2", w.runs())
	w.change(w.ann, map[string]string{"deployments/checkout.yaml": deployment("1.5.0")})
	w.settle()
	w.approve(w.bo, w.chris)
	w.endsUnwritten()
	require.Equal(t, "1.5.0", w.runs())
	_, err := w.engine.Rollback(t.Context(), engine.Rollback{
		Tenant: tenant, Deployment: "checkout", Environments: []string{"production"}, By: audit.Actor{Kind: audit.Person, Name: "dana"}, Reason: "it is slow", Kind: "rollback",
	})
	require.NoError(t, err)
	w.endsUnwritten()
	require.Equal(t, "1.4.2", w.runs())
	w.settle()
	require.Equal(t, "1.4.2", w.runs(), "it comes back although it was taken back")
	require.Equal(t, promotion.Succeeded, w.newest().Status)
	require.Equal(t, "3", w.ask("SELECT count(*)::text FROM promotions"))
	w.noEdits()
}
