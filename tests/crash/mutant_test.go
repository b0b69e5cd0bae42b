package crash_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A mutant is a build with a deliberate fault, and crash points that find it.
// The build without the fault passes all of them: they are among the points of
// TestCrashPointsOfTheDatabase.
type mutant struct {
	tag    string
	fault  string
	points string // pattern of -test.run
}

func mutants() []mutant {
	const points = "^TestCrashPointsOfTheDatabase$/^succeeds$/"
	return []mutant{
		{"mutant_nofence", "no fence and no unique key", points + "_(naps|sleeps)_before_UPDATE_(promotions|releases|repositories)_SET_"},
		{"mutant_locallock", "a lock in the process instead of a lease", points + "_(naps|sleeps)_before_UPDATE_(promotions|releases|repositories)_SET_"},
		{"mutant_ackfirst", "answer before the row", points + "_dies_before_.*INSERT_INTO_inbox"},
		{"mutant_auditoutside", "audit outside the transaction", points + "_dies_after_UPDATE_promotions_SET_status_.*commit"},
	}
}

var (
	pointFailed   = regexp.MustCompile(`(?m)^ {8}--- FAIL: `)
	pointEnded    = regexp.MustCompile(`(?m)^ {8}--- (?:PASS|FAIL): `)
	invariantFell = regexp.MustCompile(`invariants do not hold:\s+([^\n]+)`)
)

// A test that finds nothing may be a test that looks at nothing.
func TestMutantsAreCaught(t *testing.T) {
	if !full() {
		t.Skip("builds four programs; make test-crash runs it")
	}
	for _, m := range mutants() {
		t.Run(m.tag, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			program := filepath.Join(t.TempDir(), m.tag+".test")
			out, err := exec.CommandContext(ctx, "go", "test", "-c", "-tags", m.tag, "-o", program, ".").CombinedOutput()
			require.NoError(t, err, "%s", out)
			out, err = exec.CommandContext(ctx, program, "-test.v", "-test.parallel=2", "-test.run", m.points).CombinedOutput()
			require.Error(t, err, "%s was not caught", m.fault)
			fell := invariantFell.FindSubmatch(out)
			require.NotNil(t, fell, "no invariant is named: %s", out)
			failed, ended := len(pointFailed.FindAll(out, -1)), len(pointEnded.FindAll(out, -1))
			fmt.Printf("%s (%s): caught at %d of %d points, for example: %s\n", m.tag, m.fault, failed, ended, fell[1])
			require.Positive(t, failed)
		})
	}
}
