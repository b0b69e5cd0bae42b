package gitrepo_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/gitrepo"
)

func TestADiffTellsEveryFileThatIsNotTheSame(t *testing.T) {
	s := newSource(t)
	from := s.commit("before", "releases/qa/same.yaml", "s\n", "releases/qa/edited.yaml", "1\n", "releases/qa/gone.yaml", "g\n", "releases/old/a.yaml", "a\n",
		"releases/linked.yaml", "l\n", "releases/run.yaml", "r\n", "releases/turned", "t\n", "elsewhere/x.yaml", "1\n")
	for _, gone := range []string{"releases/qa/gone.yaml", "releases/old", "releases/linked.yaml", "releases/turned"} {
		require.NoError(t, os.RemoveAll(filepath.Join(s.work, gone)))
	}
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(s.work, "releases/linked.yaml")))
	require.NoError(t, os.Chmod(filepath.Join(s.work, "releases/run.yaml"), 0o755))
	to := s.commit("after", "releases/qa/edited.yaml", "2\n", "releases/qa/empty.yaml", "", "releases/turned/a.yaml", "in\n", "releases/large.yaml", strings.Repeat("x", 1001),
		"releases/odd \x1bname.yaml", "o\n", "elsewhere/x.yaml", "2\n")

	got, err := s.open().Diff(t.Context(), from, to, "releases", gitrepo.Limits{FileBytes: 1000})
	require.NoError(t, err)
	text := func(s string) []byte { return []byte(s) }
	require.Equal(t, []gitrepo.Changed{
		{Path: "releases/large.yaml", Odd: "it has 1001 bytes, and 1000 are allowed"},
		{Path: "releases/linked.yaml", Before: text("l\n"), Odd: "it is not a plain file (mode 120000)"},
		{Path: "releases/odd  name.yaml", Odd: "its name has other characters than letters, digits, dots, dashes and underscores"},
		{Path: "releases/old/a.yaml", Before: text("a\n")},
		{Path: "releases/qa/edited.yaml", Before: text("1\n"), After: text("2\n")},
		{Path: "releases/qa/empty.yaml", After: text("")},
		{Path: "releases/qa/gone.yaml", Before: text("g\n")},
		{Path: "releases/run.yaml", Before: text("r\n"), Odd: "it is not a plain file (mode 100755)"},
		{Path: "releases/turned", Before: text("t\n")},
		{Path: "releases/turned/a.yaml", After: text("in\n")},
	}, got)

	none, err := s.open().Diff(t.Context(), from, from, "releases", gitrepo.Limits{})
	require.NoError(t, err)
	require.Empty(t, none)
	created, err := s.open().Diff(t.Context(), "", from, "elsewhere", gitrepo.Limits{})
	require.NoError(t, err)
	require.Equal(t, []gitrepo.Changed{{Path: "elsewhere/x.yaml", After: text("1\n")}}, created)
	removed, err := s.open().Diff(t.Context(), from, "", "elsewhere", gitrepo.Limits{})
	require.NoError(t, err)
	require.Equal(t, []gitrepo.Changed{{Path: "elsewhere/x.yaml", Before: text("1\n")}}, removed)
}

func TestADiffIsBounded(t *testing.T) {
	s := newSource(t)
	deep := "releases/" + strings.Repeat("a/", 12)
	to := s.commit("x", "releases/one.yaml", "1\n", "releases/two.yaml", "2\n", deep+"x.yaml", "d\n")
	r := s.open()
	_, err := r.Diff(t.Context(), "", to, "releases", gitrepo.Limits{Files: 2})
	require.ErrorIs(t, err, gitrepo.ErrLimit)
	_, err = r.Diff(t.Context(), "", to, "releases", gitrepo.Limits{TotalBytes: 3})
	require.ErrorIs(t, err, gitrepo.ErrLimit)
	got, err := r.Diff(t.Context(), "", to, "releases", gitrepo.Limits{})
	require.NoError(t, err)
	require.Len(t, got, 3)
	require.Equal(t, gitrepo.Changed{Path: strings.TrimSuffix("releases/"+strings.Repeat("a/", 9), "/"), Odd: "it is nested too deeply"}, got[0])
	_, err = r.Diff(t.Context(), "", to, "../x", gitrepo.Limits{})
	require.ErrorIs(t, err, gitrepo.ErrBadName)
	_, err = r.Diff(t.Context(), strings.Repeat("1", 40), to, "releases", gitrepo.Limits{})
	require.ErrorIs(t, err, gitrepo.ErrNoCommit)
}
