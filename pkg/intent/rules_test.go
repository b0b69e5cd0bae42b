package intent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/intent"
)

func TestRulesAreOrderedAndHaveKebabCaseIDs(t *testing.T) {
	var ids []string
	for _, r := range intent.Rules() {
		require.Regexp(t, `^[a-z0-9]+(-[a-z0-9]+)*$`, r.ID)
		ids = append(ids, r.ID)
	}
	require.True(t, slices.IsSorted(ids))
	require.Len(t, slices.Compact(slices.Clone(ids)), len(ids))
}

// demonstrated are the rules whose input is too large, or no text, for a case.
var demonstrated = []string{intent.RuleTooLarge, intent.RuleTooMany, intent.RuleNotUTF8}

func TestEveryRuleHasACaseThatShowsIt(t *testing.T) {
	shown := "[" + strings.Join(demonstrated, "] [") + "]"
	files, err := filepath.Glob("testdata/problems/*.txtar")
	require.NoError(t, err)
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		require.NoError(t, err)
		shown += string(archive.Files[len(archive.Files)-1].Data)
	}
	for _, r := range intent.Rules() {
		require.True(t, strings.Contains(shown, "["+r.ID+"]"), r.ID)
	}
}

func TestTheReferenceOfTheRulesIsCurrent(t *testing.T) {
	const file = "../../docs/reference/rules.md"
	var b strings.Builder
	b.WriteString("# Rules of `hotswap lint`\n\nMade from `pkg/intent` by `go test ./pkg/intent -update`. The ids are stable.\n" +
		"An *error* refuses the document, and the deployments that depend on it; a *warning* refuses nothing.\n\n" +
		"| Rule | | What it finds | Why |\n|---|---|---|---|\n")
	for _, r := range intent.Rules() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.ID, r.Severity, r.Summary, r.Why)
	}
	fmt.Fprintf(&b, "\n## Limits\n\nA file: %d KiB, %d values, %d levels, one document. A repository: %d files, %d MiB.\n"+
		"Of one file the first %d problems are reported.\n",
		intent.MaxFileBytes>>10, intent.MaxNodes, intent.MaxDepth, intent.MaxFiles, intent.MaxTreeBytes>>20, intent.MaxProblems)
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(b.String()), 0o644))
	}
	got, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, b.String(), string(got))
}
