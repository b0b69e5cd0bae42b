package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/store"
)

// everythingIll is all that a doctor can find without a database.
func everythingIll() []examination {
	now := time.Now()
	long := now.Add(-time.Hour)
	d := &doctor{}
	d.health(store.Health{
		Version: "15.18", Now: long, ReadOnly: true, Bypasses: true, Unsequenced: 3, OldestRow: long.Add(-time.Hour), Dead: 2,
		Overdue:   []store.OverdueWork{{Kind: store.Promotion, Count: 7, Oldest: 90 * time.Second}},
		Failing:   []store.FailingWork{{Kind: store.Repository, ID: "deploy", Attempts: 9}},
		Uncertain: []string{"checkout-1/production/promote-1/merge/1"},
	}, 3*time.Millisecond)
	d.part = "nodes"
	d.reports(nil, now)
	d.reports([]store.NodeRow{{Name: "prod-1", LastSeen: &long}, {Name: "prod-2"}}, now)
	d.closed("x", errors.New("there is none"))
	d.closed("x", exitError{exitAuth, errors.New("permission denied")})
	return d.found
}

func TestWhatADoctorFindsHasItsCauseItsRemedyAndItsPage(t *testing.T) {
	found := everythingIll()
	require.Len(t, found, 14)
	for _, x := range found {
		require.NotEmpty(t, x.Says)
		if x.State == well {
			require.Empty(t, x.Do)
			continue
		}
		require.NotEmpty(t, x.Why, x.Says)
		require.NotEmpty(t, x.Do, x.Says)
		page, anchor, _ := strings.Cut(x.See, "#")
		text, err := os.ReadFile(filepath.Join("..", "..", page))
		require.NoError(t, err, x.Says)
		if anchor != "" {
			require.Contains(t, strings.ToLower(string(text)), "\n## "+anchor+"\n", x.See)
		}
		for _, command := range commandsIn(x.Do) {
			_, rest, err := rootCommand().Find(strings.Fields(command)[1:])
			require.NoError(t, err, command)
			require.NotContains(t, rest, "list", command)
		}
	}
}

// commandsIn are the commands of ours that a remedy names.
func commandsIn(do string) []string {
	i := strings.Index(do, "hotswap ")
	if i < 0 || i > 0 && do[i-1] != ' ' {
		return nil
	}
	command, _, _ := strings.Cut(do[i:], ";")
	command, _, _ = strings.Cut(command, ",")
	return []string{command}
}

func TestADoctorFindsNothingWhereNothingIs(t *testing.T) {
	now := time.Now()
	d := &doctor{}
	d.health(store.Health{Version: "15.18", Now: now, Unsequenced: 1, OldestRow: now}, time.Millisecond)
	d.reports([]store.NodeRow{{Name: "prod-1", LastSeen: &now}}, now)
	for _, x := range d.found {
		require.Equal(t, well, x.State, x.Says)
	}
}

func TestAnExaminationIsReadFromTopToBottom(t *testing.T) {
	var b strings.Builder
	require.NoError(t, writeExamination(&b, []examination{
		{Part: "database", State: well, Says: "PostgreSQL 15.18 answers in 3 ms"},
		{Part: "nodes", State: ill, Says: "node prod-1 has not reported since 12:00:00", Why: "its units cannot be changed", Do: "on the node: systemctl status hotswap-node", See: "docs/runbooks/node-silent.md#diagnosis"},
	}))
	require.Equal(t, `database
  ok       PostgreSQL 15.18 answers in 3 ms
nodes
  failed   node prod-1 has not reported since 12:00:00
           why  its units cannot be changed
           do   on the node: systemctl status hotswap-node
           see  docs/runbooks/node-silent.md#diagnosis

1 ok, 0 warnings, 1 failed
`, b.String())
}
