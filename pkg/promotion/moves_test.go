package promotion

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write docs/reference/states.md instead of comparing with it")

// statesPage is docs/reference/states.md as the moves say it.
func statesPage() string {
	var b strings.Builder
	b.WriteString("# States of a promotion\n\nMade from `pkg/promotion` by `go test ./pkg/promotion -run States -update`. A test holds every decision to this list.\n\n" +
		"```mermaid\nstateDiagram-v2\n")
	seen := map[string]bool{}
	id := func(s string) string {
		if s == "" {
			return "[*]"
		}
		return strings.ReplaceAll(s, "/", "_")
	}
	for _, m := range Moves() {
		if m.From == m.To || m.From == "running" {
			continue
		}
		line := fmt.Sprintf("    %s --> %s\n", id(m.From), id(m.To))
		if !seen[line] {
			seen[line] = true
			b.WriteString(line)
		}
	}
	b.WriteString("```\n\nFrom every phase of `running` a promotion can also go to `failed`, `cancelled` and `rolling_back`, see below. A final state never changes.\n\n" +
		"| From | To | When |\n|---|---|---|\n")
	for _, m := range Moves() {
		from := m.From
		if from == "" {
			from = "–"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", from, m.To, m.When)
	}
	return b.String()
}

func TestThePageOfTheStatesIsCurrent(t *testing.T) {
	const file = "../../docs/reference/states.md"
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(statesPage()), 0o644))
	}
	got, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, statesPage(), string(got))
}

// TestEveryStateIsReachedAndEveryFinalStateIsFinal is about the list itself.
func TestEveryStateIsReachedAndEveryFinalStateIsFinal(t *testing.T) {
	reached, left := map[string]bool{}, map[string]bool{}
	for _, m := range Moves() {
		reached[m.To], left[m.From] = true, true
	}
	for _, s := range []Status{Gating, Queued, RollingBack, Succeeded, Failed, Errored, RolledBack, RollbackFailed, Rejected, Expired, Superseded, Cancelled} {
		require.True(t, reached[string(s)], s)
		require.Equal(t, !s.Final(), left[string(s)], s)
	}
	for _, p := range []Phase{Preparing, Activating, Stabilising, Analysing, Paused} {
		require.True(t, reached["running/"+string(p)], p)
	}
}
