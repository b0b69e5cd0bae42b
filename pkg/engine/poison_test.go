package engine_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestACommitWithAnEndlessMessageStopsNobody(t *testing.T) {
	w := newWorld(t)
	w.first("1.0.0")
	w.run()
	message := filepath.Join(t.TempDir(), "message")
	require.NoError(t, os.WriteFile(message, []byte("change\n\n"+strings.Repeat("all work and no play\n", 100_000)), 0o600))
	w.git(w.work, "commit", "-q", "--allow-empty", "-F", message)
	w.git(w.work, "push", "-q", "origin", "main")
	large := w.git(w.work, "rev-parse", "HEAD")
	w.run()
	require.Equal(t, large, w.synced())
	require.Contains(t, w.status(large).Description, "nothing was read")

	w.push(map[string]string{"deployments/checkout.yaml": deployment("1.1.0")})
	w.run()
	require.Equal(t, []string{"checkout-1 1.0.0", "checkout-2 1.1.0"}, w.releases())

	w.push(map[string]string{"deployments/checkout.yaml": deployment("1.2.0")})
	w.run()
	require.Equal(t, []string{"checkout-1 1.0.0", "checkout-2 1.1.0", "checkout-3 1.2.0"}, w.releases())
	w.verify()
}
