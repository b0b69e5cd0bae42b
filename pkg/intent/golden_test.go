package intent_test

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/intent"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// wantFile is the section of a case that holds the expected text.
const wantFile = "want"

// baseTree is a valid repository of tenant "shop".
func baseTree(t testing.TB) intent.Tree {
	t.Helper()
	archive, err := txtar.ParseFile("testdata/base.txtar")
	require.NoError(t, err)
	tree := intent.Tree{}
	for _, f := range archive.Files {
		tree[f.Name] = f.Data
	}
	return tree
}

func text(problems []intent.Problem) string {
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(p.Text() + "\n")
	}
	return b.String()
}

func TestTheBaseOfTheCasesIsValid(t *testing.T) {
	_, problems := intent.CheckTree(baseTree(t), "shop")
	require.Empty(t, text(problems))
}

func TestEveryBadInputGetsTheTextThatItsCaseShows(t *testing.T) {
	cases, err := filepath.Glob("testdata/problems/*.txtar")
	require.NoError(t, err)
	require.Greater(t, len(cases), 25)
	for _, file := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			require.NoError(t, err)
			tree, want := baseTree(t), ""
			var files []txtar.File
			for _, f := range archive.Files {
				if f.Name == wantFile {
					want = string(f.Data)
					continue
				}
				tree[f.Name] = f.Data
				files = append(files, f)
			}
			_, problems := intent.CheckTree(maps.Clone(tree), "shop")
			got := text(problems)
			requireInside(t, tree, problems)
			if *update {
				archive.Files = append(files, txtar.File{Name: wantFile, Data: []byte(got)})
				require.NoError(t, os.WriteFile(file, txtar.Format(archive), 0o644))
				return
			}
			require.NotEmpty(t, got)
			require.Equal(t, want, got)
		})
	}
}

// requireInside says that every problem points into its file, and has a rule
// that is documented.
func requireInside(t testing.TB, tree intent.Tree, problems []intent.Problem) {
	t.Helper()
	known := map[string]bool{}
	for _, r := range intent.Rules() {
		known[r.ID] = true
	}
	for _, p := range problems {
		require.True(t, known[p.Rule], "rule %q is not documented", p.Rule)
		require.NotEmpty(t, p.Message)
		if p.File == "" {
			continue
		}
		data, ok := tree[p.File]
		require.True(t, ok, "a problem of %q, which is no file", p.File)
		body := strings.ReplaceAll(strings.ReplaceAll(string(data), "\r\n", "\n"), "\r", "\n")
		lines := strings.Split(strings.TrimPrefix(body, "\uFEFF"), "\n")
		require.True(t, 1 <= p.Line && p.Line <= len(lines), "%s: line outside of %d", p, len(lines))
		width := utf8.RuneCountInString(lines[p.Line-1])
		require.True(t, 1 <= p.Column && p.Column <= width+1, "%s: column outside of %d", p, width)
		require.Greater(t, p.EndColumn, p.Column)
		require.NotContains(t, p.Text(), "\x1b")
	}
}
