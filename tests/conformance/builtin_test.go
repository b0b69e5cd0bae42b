package conformance_test

import (
	"crypto/ed25519"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/tests/conformance"
	"hotswap.dev/hotswap/tests/conformance/builtinlab"
	"hotswap.dev/hotswap/tests/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m, store.Migrate) }

func TestBuiltin(t *testing.T) {
	key := ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", ed25519.SeedSize)))
	s, err := store.Open(t.Context(), store.Options{DSN: pgtest.New(t).DSN("hotswap_app"), MaxConns: 8}, audit.NewWriter(key))
	require.NoError(t, err)
	t.Cleanup(s.Close)
	lab := builtinlab.New(t, s)
	t.Run("conforms", func(t *testing.T) { conformance.Run(t, lab) })
}
