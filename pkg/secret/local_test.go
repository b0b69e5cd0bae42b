package secret_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/secret"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func TestALocalSecretIsKeptEncryptedInVersions(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "local")
	l, err := secret.OpenLocal(folder)
	require.NoError(t, err)
	_, err = l.Get(t.Context(), "acme", "checkout/db")
	require.ErrorIs(t, err, secret.ErrNotFound)
	for i := range 12 {
		n, err := l.Set("checkout/db", secret.New(fmt.Appendf(nil, "hunter-%d", i)), noon)
		require.NoError(t, err)
		require.Equal(t, i+1, n)
	}
	again, err := secret.OpenLocal(folder)
	require.NoError(t, err)
	got, err := again.Get(t.Context(), "acme", "checkout/db")
	require.NoError(t, err)
	require.Equal(t, "hunter-11", got.RevealString())
	list, err := again.List()
	require.NoError(t, err)
	require.Equal(t, []secret.Entry{{Name: "checkout/db", Version: 12, At: noon}}, list)

	require.NoError(t, filepath.Walk(folder, func(path string, info os.FileInfo, err error) error {
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, "%s is for its owner only", path)
		if !info.IsDir() {
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			require.False(t, bytes.Contains(b, []byte("hunter")), path)
		}
		return nil
	}))
	require.NoError(t, again.Remove("checkout/db"))
	require.ErrorIs(t, again.Remove("checkout/db"), secret.ErrNotFound)
}

func TestWhatIsNoSecretIsRefused(t *testing.T) {
	folder := t.TempDir()
	l, err := secret.OpenLocal(folder)
	require.NoError(t, err)
	for _, name := range []string{"", "../key", "A", "a//b", "a/b/c/d/e", "a b", "a+b"} {
		_, err := l.Set(name, secret.New([]byte("x")), noon)
		require.ErrorIs(t, err, secret.ErrName, name)
		_, err = l.Get(t.Context(), "acme", name)
		require.ErrorIs(t, err, secret.ErrName, name)
	}
	_, err = l.Set("big", secret.New(make([]byte, secret.MaxValue+1)), noon)
	require.ErrorIs(t, err, secret.ErrTooLarge)

	_, err = l.Set("a", secret.New([]byte("x")), noon)
	require.NoError(t, err)
	path := filepath.Join(folder, "values", "a.age")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[len(b)-1] ^= 1
	require.NoError(t, os.WriteFile(path, b, 0o600))
	_, err = l.Get(t.Context(), "acme", "a")
	require.ErrorContains(t, err, "changed or cut")
}
