package function_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/function"
)

func put(t *testing.T, dir, name, value string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600))
}

// get reads a secret; its value, or why there is none.
func get(t *testing.T, c *function.Credentials, name string) (string, error) {
	t.Helper()
	s, err := c.Get(t.Context(), name)
	return s.RevealString(), err
}

func TestSecretsAreReadFromTheFoldersOfTheHostInTheirOrder(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	c := &function.Credentials{}
	c.SetFolders(first, second)
	put(t, first, "both", "first\n")
	put(t, second, "both", "second")
	put(t, second, "only", "two\r\n")
	got, err := get(t, c, "both")
	require.NoError(t, err)
	require.Equal(t, "first", got)
	got, err = get(t, c, "only")
	require.NoError(t, err)
	require.Equal(t, "two", got, "without the end of the line")
	put(t, first, "only", "changed")
	got, err = get(t, c, "only")
	require.NoError(t, err)
	require.Equal(t, "changed", got, "as it is now")
	_, err = get(t, c, "none")
	require.ErrorIs(t, err, function.ErrNoSecret)
	require.ErrorContains(t, err, first)

	put(t, first, "both", "")
	_, err = get(t, c, "both")
	require.ErrorContains(t, err, "empty", "what the first folder has wrongly is not looked for in the next")
	require.NotErrorIs(t, err, function.ErrNoSecret)
}

func TestTheFolderOfTheEnvironmentIsLookedIntoFirst(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", "of the folder")
	c := function.HostCredentials(function.Embedded, env("CREDENTIALS_DIRECTORY", dir))
	got, err := get(t, c, "a")
	require.NoError(t, err)
	require.Equal(t, "of the folder", got)
	_, err = get(t, c, "b")
	require.ErrorContains(t, err, dir+" or /var/openfaas/secrets")
	_, err = get(t, function.HostCredentials(function.OpenFaaS, env()), "hotswap-test-none")
	require.ErrorIs(t, err, function.ErrNoSecret)
}

func TestLinksThatAHostSwapsAreFollowed(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"..v1", "..v2"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, version), 0o700))
		put(t, filepath.Join(dir, version), "token", "of "+version)
	}
	swap := func(to string) {
		require.NoError(t, os.Symlink(to, filepath.Join(dir, "..new")))
		require.NoError(t, os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")))
	}
	swap("..v1")
	require.NoError(t, os.Symlink("..data/token", filepath.Join(dir, "token")))
	c := &function.Credentials{}
	c.SetFolders(dir)
	for _, version := range []string{"..v1", "..v2", "..v1"} {
		swap(version)
		got, err := get(t, c, "token")
		require.NoError(t, err)
		require.Equal(t, "of "+version, got)
	}
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "..v1")))
	_, err := get(t, c, "token")
	require.ErrorIs(t, err, function.ErrNoSecret, "a link that leads nowhere is no secret")
}

func TestAFileThatIsNoSecretIsRefusedWithoutItsContent(t *testing.T) {
	dir := t.TempDir()
	c := &function.Credentials{}
	c.SetFolders(dir)
	put(t, dir, "large", strings.Repeat("s", 64<<10+1))
	put(t, dir, "largest", strings.Repeat("s", 64<<10))
	put(t, dir, "empty", "")
	put(t, dir, "lines", "\r\n\n")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	require.NoError(t, os.Symlink("circle", filepath.Join(dir, "circle")))
	for name, want := range map[string]string{
		"large": "larger than", "empty": "is empty", "lines": "is empty",
		"folder": "not a plain file", "fifo": "not a plain file", "circle": "too many",
	} {
		ended := make(chan error, 1)
		go func() { _, err := c.Get(t.Context(), name); ended <- err }()
		select {
		case err := <-ended:
			require.ErrorContains(t, err, want, name)
			require.NotContains(t, err.Error(), "ssss")
			require.NotErrorIs(t, err, function.ErrNoSecret, name)
		case <-time.After(10 * time.Second):
			require.Fail(t, "it hangs", name)
		}
	}
	_, err := get(t, c, "largest")
	require.NoError(t, err)
}

func TestANameLeadsNowhereElse(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "outside", "x")
	inside := filepath.Join(dir, "in")
	require.NoError(t, os.Mkdir(inside, 0o700))
	c := &function.Credentials{}
	c.SetFolders(inside)
	for _, name := range []string{"", ".", "..", "../outside", "a/../../outside", "/etc/passwd", "a..b", "A", "a b", "a\x00", "a\n", "-a", ".a", "a.", strings.Repeat("a", 254), "ä"} {
		_, err := get(t, c, name)
		require.ErrorContains(t, err, "secret name", "%q", name)
		require.NotErrorIs(t, err, function.ErrNoSecret, "%q", name)
	}
}
