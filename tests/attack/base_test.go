package attack_test

import (
	"testing"

	"github.com/stretchr/testify/require"

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
	for w.newest().Status != promotion.Succeeded { // everybody works but who writes records, once it is merged
		w.exec("UPDATE due SET wake_at = now(), lease_until = NULL WHERE kind <> 'record'")
		w.obey()
		_, err := w.engine.Advance(t.Context())
		require.NoError(t, err)
		if w.newest().Status != promotion.Succeeded {
			_, err = w.engine.Deliver(t.Context())
			require.NoError(t, err)
		}
	}
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
}
