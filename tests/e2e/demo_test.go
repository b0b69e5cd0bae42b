package e2e

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// demo runs the demo as the Makefile does and returns its transcript.
func demo(t *testing.T, data string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, built.hotswap, append([]string{"demo", "--data", data}, args...)...)
	cmd.Dir = root
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

var lastLine = regexp.MustCompile(`^Done: (\d+) audit rows verified, (\d+) promotions replayed, (\d+) of (\d+) requests failed\.$`)

// done returns the numbers of the last line.
func done(t *testing.T, transcript string) []string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(transcript), "\n")
	m := lastLine.FindStringSubmatch(lines[len(lines)-1])
	require.NotNil(t, m, "%s", transcript)
	return m[1:]
}

func TestDemoOnceAndAgain(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	out := demo(t, data, "--once")
	got := done(t, out)
	require.Equal(t, "8", got[1], "two releases through four stages")
	require.Equal(t, "0", got[2], "no request fails")
	for _, says := range []string{
		"postgres ", "functions ", "people ", "nodes ", `Pull request #3 "checkout 1.4.2 → 1.5.0"`, "development", "production", "stabilising", "analysing",
		"promotion pull request #4", "says Waiting for approval: checkout-2/staging/promote-1", "bo approves", "chris approves", "says Deployed", "done",
	} {
		require.Contains(t, out, says)
	}
	out = demo(t, data, "--once", "--break") // a second run keeps the data
	require.Contains(t, out, "\"checkout 1.5.0 → 1.6.0\"")
	require.Contains(t, out, "the artifact is held")
	require.Contains(t, out, "is rolled_back, its artifact is held, the record says 1.5.0.")
	require.Equal(t, "12", done(t, out)[1])
}

func TestDemoSurvivesChaos(t *testing.T) {
	out := demo(t, filepath.Join(t.TempDir(), "data"), "--once", "--chaos")
	require.Equal(t, "12", done(t, out)[1], "three releases through four stages")
	require.Contains(t, out, "Killed meanwhile: ")
}

func TestDemoEndsItsChildrenWhenInterrupted(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	cmd := exec.Command(built.hotswap, "demo", "--data", data)
	cmd.Dir = root
	out := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	end := time.Now().Add(4 * time.Minute)
	for !strings.Contains(out.String(), "Ctrl-C ends everything") {
		require.True(t, time.Now().Before(end), out.String())
		select {
		case err := <-ended:
			t.Fatalf("the demo ended by itself: %v\n%s", err, out.String())
		case <-time.After(100 * time.Millisecond):
		}
	}
	began := time.Now()
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.NoError(t, <-ended, out.String())
	require.Less(t, time.Since(began), 5*time.Second)
	left, _ := exec.Command("pgrep", "-f", data).Output()
	require.Empty(t, string(bytes.TrimSpace(left)), "processes are left")
}
