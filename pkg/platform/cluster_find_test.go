package platform

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheProgramsThatWroteTheDataAreTakenOrElseTheNewest(t *testing.T) {
	root := t.TempDir()
	for _, major := range []string{"9", "15", "18"} {
		bin := filepath.Join(root, major, "bin")
		require.NoError(t, os.MkdirAll(bin, 0o755))
		for _, program := range []string{"initdb", "postgres"} {
			require.NoError(t, os.WriteFile(filepath.Join(bin, program), nil, 0o755))
		}
	}
	t.Setenv("PATH", "")
	dirs := installedBinDirs(root)
	newest, err := pickBinDir(dirs, "")
	require.NoError(t, err)
	require.Equal(t, filepath.Join(root, "18", "bin"), newest)
	same, err := pickBinDir(dirs, "15")
	require.NoError(t, err)
	require.Equal(t, filepath.Join(root, "15", "bin"), same)
	_, err = pickBinDir(dirs, "16")
	require.ErrorIs(t, err, ErrClusterVersion)
	require.ErrorContains(t, err, "apt-get install -y postgresql-16")
	_, err = pickBinDir(nil, "")
	require.ErrorIs(t, err, ErrPostgresMissing)
	require.ErrorContains(t, err, "apt-get install -y postgresql")
}

func TestTheFolderThatBlocksTheWayIsNamed(t *testing.T) {
	root := t.TempDir()
	closed := filepath.Join(root, "closed")
	deep := filepath.Join(closed, "a", "b")
	require.NoError(t, os.MkdirAll(deep, 0o755))
	const somebody = 60123
	require.Empty(t, blockedBy("/usr/bin", somebody, somebody))
	require.NoError(t, os.Chmod(closed, 0o750))
	found := blockedBy(deep, somebody, somebody)
	require.NotEmpty(t, found)
	require.Contains(t, deep, found)
	require.Empty(t, blockedBy(deep, os.Geteuid(), os.Getegid()), "the owner can enter")
}
