package analysis

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/intent"
)

// steady returns samples of one unit every ten seconds for a time.
func steady(change func(i int, s *Sample), d time.Duration) []Sample {
	u := newUnit("a", "new").runs(int(d/(10*time.Second)), 50, 0, 3)
	for i := range u.out {
		if change != nil {
			change(i, &u.out[i])
		}
	}
	return u.out
}

func TestAUnitIsStable(t *testing.T) {
	tests := map[string]struct {
		samples []Sample
		after   time.Duration
		want    Verdict
		says    string
	}{
		"three polls in a row and two minutes":                    {steady(nil, 2*time.Minute), 2 * time.Minute, Healthy, "3 polls in a row"},
		"three polls, not two minutes":                            {steady(nil, 100*time.Second), 100 * time.Second, Insufficient, "stable for 1m40s of at least 2m0s"},
		"no samples":                                              {nil, 10 * time.Minute, Insufficient, "no sample of it"},
		"samples that ended":                                      {steady(nil, 2*time.Minute), 10 * time.Minute, Insufficient, "no sample since 12:02:00"},
		"memory that grows without end":                           {steady(func(i int, s *Sample) { s.Memory += int64(i) * 20 << 20 }, 5*time.Minute), 5 * time.Minute, Insufficient, "memory rose from"},
		"an idle process that does a bit more is below the noise": {steady(func(i int, s *Sample) { s.CPU = 0.1 * float64(1+i%2) }, 2*time.Minute), 2 * time.Minute, Healthy, ""},
		"use that falls is not unstable":                          {steady(func(i int, s *Sample) { s.CPU = 90 - 5*float64(i); s.Memory = 900<<20 - int64(i)*70<<20 }, 2*time.Minute), 2 * time.Minute, Healthy, ""},
		"over the limit of the processor":                         {steady(func(_ int, s *Sample) { s.CPU = 390 }, 2*time.Minute), 2 * time.Minute, Insufficient, "CPU 98 % of what it may use"},
		"over the limit of memory":                                {steady(func(_ int, s *Sample) { s.Memory = 900 << 20 }, 2*time.Minute), 2 * time.Minute, Insufficient, "memory 88 % of what it may use"},
		"no limit is known":                                       {steady(func(_ int, s *Sample) { s.CPU, s.CPULimit = 390, 0 }, 2*time.Minute), 2 * time.Minute, Healthy, ""},
		"a restart begins anew":                                   {steady(func(i int, s *Sample) { s.Restarts = i / 9 }, 2*time.Minute), 2 * time.Minute, Insufficient, "(it was restarted)"},
		"a reading that is no number": {steady(func(i int, s *Sample) {
			if i == 12 {
				s.CPU = math.NaN()
			}
		}, 2*time.Minute), 2 * time.Minute, Insufficient, "a reading that is no number"},
		"answers that slow down": {steady(func(i int, s *Sample) { s.LatencySum *= float64(1 + i) }, 2*time.Minute), 2 * time.Minute, Insufficient, "answers slowed from"},
		"another version":        {steady(func(_ int, s *Sample) { s.Instance = "old" }, 2*time.Minute), 2 * time.Minute, Insufficient, "no sample of it"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := Stabilise(spec(t, intent.AnalysisSpec{}), []string{"a"}, "new", tt.samples, noon, noon.Add(tt.after))
			require.Equal(t, tt.want, r.Verdict, r.Reason)
			require.Contains(t, r.Reason, tt.says)
		})
	}
	t.Run("every unit must be", func(t *testing.T) {
		r := Stabilise(spec(t, intent.AnalysisSpec{}), []string{"a", "b"}, "new", steady(nil, 2*time.Minute), noon, noon.Add(2*time.Minute))
		require.Equal(t, Insufficient, r.Verdict)
		require.Contains(t, r.Reason, "b: 0 of 3 polls stable (no sample of it)")
	})
	t.Run("no units are not stable", func(t *testing.T) {
		require.Equal(t, Insufficient, Stabilise(spec(t, intent.AnalysisSpec{}), nil, "new", nil, noon, noon.Add(time.Hour)).Verdict)
	})
}

func TestTheBuiltInAnalysisSaysTheDefaults(t *testing.T) {
	set, problems := intent.CheckTree(intent.Tree{}, "shop")
	require.Empty(t, problems)
	require.Equal(t, spec(t, intent.AnalysisSpec{}), spec(t, set.Analyses["standard"].Spec))
}

func TestAnAnalysisThatIsNoneIsRefused(t *testing.T) {
	for _, a := range []intent.AnalysisSpec{{Alpha: 1.5}, {Alpha: math.NaN()}, {Interval: "0s"}, {MinRequests: -1}, {Stabilization: intent.Stabilization{Checks: -1}}} {
		_, err := NewSpec(a)
		require.ErrorIs(t, err, ErrSpec)
	}
}
