package node

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAnAgentIsNewerThanTheOneBeforeThoughTheClockWentBack(t *testing.T) {
	folder := t.TempDir()
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	var last int64
	for _, now := range []time.Time{noon, noon.Add(time.Hour), noon.Add(time.Minute), noon.Add(time.Minute), noon.AddDate(0, 0, 1)} {
		boot, err := nextBoot(folder, now)
		require.NoError(t, err)
		require.Greater(t, boot.UnixNano(), last)
		require.False(t, boot.Before(now))
		last = boot.UnixNano()
	}
	require.Equal(t, noon.AddDate(0, 0, 1).UnixNano(), last, "the clock again, once it is ahead")
	require.NoError(t, os.WriteFile(filepath.Join(folder, bootFile), []byte("?"), 0o600))
	boot, err := nextBoot(folder, noon)
	require.NoError(t, err, "a damaged file does not stop the agent")
	require.Equal(t, noon.UnixNano(), boot.UnixNano())
}

func TestAnAgentDoesNotReportSoSeldomThatItCountsAsSilent(t *testing.T) {
	o := Options{Server: "http://127.0.0.1:1", Name: "node-1", State: t.TempDir(), AllowUnsigned: true, ReportInterval: LongestReportInterval}
	_, err := New(o)
	require.NoError(t, err)
	o.ReportInterval++
	_, err = New(o)
	require.ErrorIs(t, err, ErrOptions)
}
