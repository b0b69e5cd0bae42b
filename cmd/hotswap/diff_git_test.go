package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/intent"
)

func TestABlobThatIsTooLargeIsReadUpToOneByteMoreAndTheNextOneWhole(t *testing.T) {
	large := strings.Repeat("x", intent.MaxFileBytes+100)
	r := bufio.NewReader(strings.NewReader(fmt.Sprintf("1 blob %d\n%s\n2 blob 3\nabc\n", len(large), large)))
	data, err := readBlob(r)
	require.NoError(t, err)
	require.Len(t, data, intent.MaxFileBytes+1)
	data, err = readBlob(r)
	require.NoError(t, err)
	require.Equal(t, "abc", string(data))
}

func TestAnAnswerOfGitThatIsCutOrOtherIsAnError(t *testing.T) {
	for name, answer := range map[string]string{
		"the object is missing":   "8ab6 missing\n",
		"it is no blob":           "8ab6 tree 3\nabc\n",
		"the bytes are cut":       "8ab6 blob 4\nabc",
		"the line end is missing": "8ab6 blob 3\nabc",
		"the size is below zero":  "8ab6 blob -1\nabc\n",
		"there is nothing":        "",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readBlob(bufio.NewReader(strings.NewReader(answer)))
			require.Error(t, err)
		})
	}
}

func TestGitThatTakesTooLongIsEndedAndSaysSo(t *testing.T) {
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	_, err := readRevision(ctx, t.TempDir(), "HEAD")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	err = runDiff(ctx, "testdata", diffQuestion{}, "text", &bytes.Buffer{}, &bytes.Buffer{})
	require.NotEqual(t, exitDiffers, exitCode(&bytes.Buffer{}, err))
}

func FuzzReadingWhatGitSays(f *testing.F) {
	f.Add([]byte("100644 blob 8ab6\tdeployments/shop.yaml\x00120000 blob 8ab7\tdeployments/link.yaml\x00"))
	f.Add([]byte("8ab6 blob 3\nabc\n"))
	f.Add([]byte("8ab6 blob 9223372036854775807\nabc\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		files, _, err := readEntries(bufio.NewReader(bytes.NewReader(said)))
		require.LessOrEqual(t, len(files), intent.MaxFiles+1)
		for _, e := range files {
			require.NoError(t, err)
			require.True(t, intent.Reads(e.path))
		}
		data, err := readBlob(bufio.NewReader(bytes.NewReader(said)))
		if err == nil {
			require.LessOrEqual(t, len(data), intent.MaxFileBytes+1)
			require.Less(t, len(data), len(said))
		}
	})
}
