package engine_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/record"
)

func TestAPushThatTouchesNothingAsksForNothing(t *testing.T) {
	w := fleet(t, "1.0.0")
	w.records()
	w.push(at("1.1.0"))
	w.settle(well, "qa-1", "prod-1") // 1.1.0 runs, and Git does not say so yet
	person := t.TempDir()
	w.git(person, "clone", "-q", "-b", record.Branch, w.bare, ".")
	write(t, person+"/README.md", "hello\n")
	w.git(person, "add", "README.md")
	w.git(person, "commit", "-q", "-m", "readme")
	w.git(person, "push", "-q")
	w.records()
	require.Empty(t, w.rows("record.restore"))
	require.Empty(t, w.rows("record.repaired"))
	require.NotContains(t, w.statuses(), "checkout-1/production/restore-1")
}

func TestABranchThatIsSetBackIsForced(t *testing.T) {
	w := fleet(t, "1.0.0")
	w.records()
	old := w.git(w.bare, "rev-parse", record.Branch)
	w.push(at("1.1.0"))
	w.settle(well, "qa-1", "prod-1")
	w.records()
	w.git(w.bare, "update-ref", "refs/heads/"+record.Branch, old)
	w.records()
	require.Len(t, w.rows("records.forced"), 1)
	require.NotEmpty(t, w.rows("record.restore"))
}
