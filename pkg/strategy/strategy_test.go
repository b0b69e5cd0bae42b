package strategy

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hotswap.dev/hotswap/pkg/intent"
)

func TestDirectIsOneWaveOfAllUnits(t *testing.T) {
	waves, err := Waves(intent.Strategy{Type: "direct"})
	require.NoError(t, err)
	require.Equal(t, []Wave{{100}}, waves)
}

func TestUnknownStrategyIsAnError(t *testing.T) {
	_, err := Waves(intent.Strategy{Type: "yolo"})
	require.ErrorContains(t, err, `unknown strategy "yolo"`)
}

func TestSizeRoundsUpAndStaysWithinTheUnits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		percent, n := rapid.IntRange(1, 100).Draw(t, "percent"), rapid.IntRange(1, 10000).Draw(t, "n")
		got := Size(percent, n)
		if got < 1 || got > n || got*100 < percent*n || (got-1)*100 >= percent*n {
			t.Fatalf("Size(%d, %d) = %d", percent, n, got)
		}
	})
	require.Equal(t, 0, Size(50, 0))
	require.Equal(t, 3, Size(25, 10))
}
