package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// measured are two rounds in which everything that the table needs was measured.
func measured(t *testing.T, change map[string]string) map[string][]float64 {
	t.Helper()
	var lines strings.Builder
	for round := range 2 {
		for _, r := range rows {
			for _, name := range []string{r.name, r.peer} {
				value := fmt.Sprint(100 * (round + 1))
				if v, ok := change[name+" "+r.metric]; ok {
					value = v
				}
				if name != "" && !strings.Contains(lines.String(), fmt.Sprintf("Benchmark%s-2 %d %s %s\n", name, round, value, r.metric)) {
					fmt.Fprintf(&lines, "Benchmark%s-2 %d %s %s\n", name, round, value, r.metric)
				}
			}
		}
	}
	seen, err := read(strings.NewReader(lines.String()))
	require.NoError(t, err)
	return seen
}

func TestTheTableSaysPlainlyWhetherAGoalIsMet(t *testing.T) {
	var out strings.Builder
	require.NoError(t, write(&out, measured(t, map[string]string{
		"Swaps failed-requests": "0", "Proxy/nginx ns/op": "50", "Events/accept events/s": "400",
	})))
	says := map[string]string{}
	for line := range strings.Lines(out.String()) {
		if f := strings.Split(line, "|"); len(f) == 9 {
			says[strings.TrimSpace(f[2])+" "+strings.Split(strings.TrimSpace(f[4]), ":")[0]] = strings.TrimSpace(f[7])
		}
	}
	require.Equal(t, "met", says["requests that fail while versions are swapped 1 000 times under load the limit"])
	require.Equal(t, "met", says["request through the node's proxy Proxy/reverse-proxy"])
	require.Equal(t, "**not met**", says["request through the node's proxy Proxy/nginx"])
	require.Equal(t, "met", says["durable events, 256 callers Events/pgbench"])
	require.Equal(t, "**not met**", says["the same DBOS"])

	out.Reset()
	require.NoError(t, write(&out, measured(t, map[string]string{"Swaps failed-requests": "1"})))
	require.Contains(t, out.String(), "| 0 | **not met** |", "one failed request in one round is one too many")
}

func TestAMeasurementThatIsMissingIsAnError(t *testing.T) {
	seen := measured(t, nil)
	delete(seen, "Tick p50-µs")
	require.ErrorContains(t, write(&strings.Builder{}, seen), "no measurement of Tick")
	seen = measured(t, nil)
	seen["River steps/s"] = seen["River steps/s"][:1]
	require.ErrorContains(t, write(&strings.Builder{}, seen), "River has 1")
}
