package intent_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/intent"
)

func TestQuantitiesAreReadAsTheyAreWritten(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "1024": 1024, "1Ki": 1 << 10, "512Mi": 512 << 20, "2Gi": 2 << 30, "x": 0, "-1": 0, "9223372036854775807Gi": 0} {
		require.Equal(t, want, intent.Bytes(text), text)
	}
	for text, want := range map[string]float64{"": 0, "1": 100, "0.5": 50, "500m": 50, "NaN": 0, "Inf": 0, "-1": 0} {
		require.InDelta(t, want, intent.CPU(text), 1e-9, text)
	}
	for text, want := range map[string]float64{"": 0, "10%": 0.1, "100%": 1, "10": 0, "NaN%": 0} {
		require.InDelta(t, want, intent.Fraction(text), 1e-9, text)
	}
}

func TestUnitsThatMayBeMissing(t *testing.T) {
	strategy := func(typ, n string) intent.Strategy { return intent.Strategy{Type: typ, MaxUnavailable: n} }
	require.Equal(t, 0, strategy("canary", "").Tolerates(10))
	require.Equal(t, 2, strategy("canary", "20%").Tolerates(10))
	require.Equal(t, 1, strategy("rolling", "").Tolerates(10))
	require.Equal(t, 3, strategy("rolling", "25%").Tolerates(10), "a share is rounded up")
	require.Equal(t, 3, strategy("rolling", "25%").Batch(10))
	require.Equal(t, 2, strategy("rolling", "2").Batch(10))
	require.Equal(t, 1, strategy("rolling", "0").Batch(10), "a batch of nothing would never end")
}
