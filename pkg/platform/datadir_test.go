package platform_test

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/platform"
)

func openDataDir(t *testing.T) platform.DataDir {
	t.Helper()
	d, err := platform.OpenDataDir(filepath.Join(t.TempDir(), "data"))
	require.NoError(t, err)
	return d
}

func TestSecretsAreRandomPerDataFolderAndKept(t *testing.T) {
	d := openDataDir(t)
	first, err := d.LoadSecrets()
	require.NoError(t, err)
	again, err := d.LoadSecrets()
	require.NoError(t, err)
	require.True(t, first.Webhook.Equal(again.Webhook))
	require.True(t, first.Audit.Private().Equal(again.Audit.Private()))
	require.False(t, first.Audit.Private().Equal(again.FunctionCall.Private()))
	require.True(t, first.WebhookPrevious.IsZero())
	require.True(t, ed25519.Verify(first.Audit.Public(), []byte("x"), ed25519.Sign(again.Audit.Private(), []byte("x"))))

	other, err := openDataDir(t).LoadSecrets()
	require.NoError(t, err)
	require.False(t, first.Webhook.Equal(other.Webhook))
	printed := fmt.Sprintf("%v %+v %#v", first, first, first)
	require.NotContains(t, printed, first.Webhook.RevealString())
	require.NotContains(t, printed, strings.Trim(fmt.Sprint(first.Audit.Private().Seed()), "[]"))
}

func TestProcessesThatStartTogetherGetTheSameSecret(t *testing.T) {
	d := openDataDir(t)
	values := make([]string, 16)
	var wait sync.WaitGroup
	for i := range values {
		wait.Go(func() {
			s, err := d.Token("shared")
			if err == nil {
				values[i] = s.RevealString()
			}
		})
	}
	wait.Wait()
	require.Len(t, values[0], 64)
	for _, v := range values {
		require.Equal(t, values[0], v)
	}
	left, err := os.ReadDir(d.Path("secrets"))
	require.NoError(t, err)
	require.Len(t, left, 1, "no temporary file is left")
}

func TestTheDataFolderIsClosedToOthers(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	d, err := platform.OpenDataDir(dir)
	require.NoError(t, err)
	for _, path := range []string{d.Path(), d.Path("secrets")} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	_, err = platform.OpenDataDir(filepath.Join(dir, "file"))
	require.ErrorContains(t, err, "not a directory")
}

func TestASecretFileThatIsNotPrivateIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, file string){
		"others can read it": func(t *testing.T, file string) { require.NoError(t, os.Chmod(file, 0o644)) },
		"a link to another file": func(t *testing.T, file string) {
			require.NoError(t, os.Rename(file, file+"-moved"))
			require.NoError(t, os.Symlink(file+"-moved", file))
		},
		"it is empty":    func(t *testing.T, file string) { require.NoError(t, os.Truncate(file, 0)) },
		"it is too long": func(t *testing.T, file string) { require.NoError(t, os.WriteFile(file, make([]byte, 5000), 0o600)) },
		"it belongs to somebody else": func(t *testing.T, file string) {
			if os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			require.NoError(t, os.Chown(file, 65534, 65534))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := openDataDir(t)
			_, err := d.LoadSecrets()
			require.NoError(t, err)
			content, err := os.ReadFile(d.Path("secrets", "webhook"))
			require.NoError(t, err)
			spoil(t, d.Path("secrets", "webhook"))
			_, err = d.LoadSecrets()
			require.Error(t, err)
			require.ErrorContains(t, err, "webhook")
			require.NotContains(t, err.Error(), string(content))
		})
	}
}

func TestASecretsNameIsNotAPath(t *testing.T) {
	d := openDataDir(t)
	for _, name := range []string{"", "../x", "a/b", ".hidden", "A", "a--b"} {
		_, err := d.Token(name)
		require.ErrorContains(t, err, "secret name", name)
	}
}
