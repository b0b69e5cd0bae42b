package gitrepo_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/gitrepo"
)

func TestATreeIsThePlainYAMLFilesOfTheFoldersAskedFor(t *testing.T) {
	s := newSource(t)
	tip := s.commit("x",
		"deployments/a.yaml", "a: 1\n", "deployments/b.yml", "b: 1\n", "deployments/README.md", "text",
		"deployments/sub/c.yaml", "c: 1\n", "environments/e.yaml", "e: 1\n", "other/o.yaml", "o: 1\n")
	s.commit("later", "deployments/a.yaml", "a: 2\n")
	got, err := s.open().Tree(t.Context(), tip, []string{"deployments", "environments", "missing", "deployments/sub"}, gitrepo.Limits{})
	require.NoError(t, err)
	contents := map[string]string{}
	for path, file := range got.Files {
		contents[path] = string(file.Content)
		require.Equal(t, s.git("rev-parse", tip+":"+path), file.Blob)
	}
	require.Equal(t, map[string]string{
		"deployments/a.yaml": "a: 1\n", "deployments/b.yml": "b: 1\n",
		"environments/e.yaml": "e: 1\n", "deployments/sub/c.yaml": "c: 1\n",
	}, contents)
	require.Empty(t, got.Skipped)
}

func TestWhatIsNoPlainFileIsSkippedWithAReasonAndNotTakenForDeleted(t *testing.T) {
	s := newSource(t)
	s.commit("x", "deployments/good.yaml", "a: 1\n", "deployments/large.yaml", strings.Repeat("#", 1001),
		"deployments/run.yaml", "a: 1\n", "deployments/odd name.yaml", "a: 1\n", "deployments/.hidden.yaml", "a: 1\n")
	require.NoError(t, os.Chmod(filepath.Join(s.work, "deployments/run.yaml"), 0o755))
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(s.work, "deployments/link.yaml")))
	tip := s.commit("links and programs")
	got, err := s.open().Tree(t.Context(), tip, []string{"deployments"}, gitrepo.Limits{FileBytes: 1000})
	require.NoError(t, err)
	require.Len(t, got.Files, 1)
	require.Contains(t, got.Files, "deployments/good.yaml")
	reasons := map[string]string{}
	for _, skipped := range got.Skipped {
		reasons[skipped.Path] = skipped.Reason
	}
	require.Len(t, reasons, 5)
	require.Contains(t, reasons["deployments/link.yaml"], "mode 120000")
	require.Contains(t, reasons["deployments/run.yaml"], "mode 100755")
	require.Contains(t, reasons["deployments/large.yaml"], "1001 bytes, and 1000")
	require.Contains(t, reasons["deployments/odd name.yaml"], "name")
	require.Contains(t, reasons["deployments/.hidden.yaml"], "name")
}

func TestMoreThanTheLimitsIsAnErrorNotAShorterList(t *testing.T) {
	s := newSource(t)
	tip := s.commit("x", "deployments/a.yaml", "12345", "deployments/b.yaml", "12345")
	r := s.open()
	for name, limits := range map[string]gitrepo.Limits{"files": {Files: 1}, "bytes": {TotalBytes: 9}} {
		_, err := r.Tree(t.Context(), tip, []string{"deployments"}, limits)
		require.ErrorIs(t, err, gitrepo.ErrLimit, name)
	}
	_, err := r.Tree(t.Context(), tip, []string{"deployments"}, gitrepo.Limits{Files: 2, TotalBytes: 10})
	require.NoError(t, err)
}

func TestAFolderIsANameNotAWayOut(t *testing.T) {
	s := newSource(t)
	tip := s.commit("x", "deployments/a.yaml", "a: 1\n")
	for _, bad := range []string{"", "/deployments", "../x", "a//b", "deployments/..", ".git", "-x"} {
		_, err := s.open().Tree(t.Context(), tip, []string{bad}, gitrepo.Limits{})
		require.ErrorIs(t, err, gitrepo.ErrBadName, "%q", bad)
	}
}
