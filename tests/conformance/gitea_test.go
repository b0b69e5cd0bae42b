package conformance_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/tests/conformance"
	"hotswap.dev/hotswap/tests/conformance/gitealab"
)

// startGitea starts a real one, when that is asked for: building it takes minutes.
func startGitea(t *testing.T) *gitealab.Lab {
	t.Helper()
	if os.Getenv("HOTSWAP_FORGE") != "gitea" {
		t.Skip("a real Gitea is built and asked by `make test-forge` (HOTSWAP_FORGE=gitea)")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	server, err := gitealab.Start(ctx, "../tools")
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	return gitealab.NewLab(t, server)
}

func TestGitea(t *testing.T) {
	lab := startGitea(t)
	t.Run("conforms", func(t *testing.T) { conformance.Run(t, lab) })
}
