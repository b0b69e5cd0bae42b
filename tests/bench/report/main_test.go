package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// canary is a table as tests/bench/canary prints it.
const canary = `| Failures | Requests | ours | z-test | Mann-Whitney |
|---|---|---|---|---|
| independent | 1/s | 2.5 %, 29 | 38.1 %, 10 | 0.1 %, > 180 |
| independent | 10/s | 1.5 %, 3 | 37.3 %, 2 | 15.5 %, 4 |
`

// measured are two rounds in which everything that the table needs was measured.
func measured(t *testing.T, change map[string]string) measures {
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
	m, err := read(strings.NewReader("# a machine\n# River v0\n" + lines.String()))
	require.NoError(t, err)
	return m
}

func TestTheTableSaysPlainlyWhetherAGoalIsMet(t *testing.T) {
	var out strings.Builder
	require.NoError(t, write(&out, measured(t, map[string]string{
		"Swaps failed-requests": "0", "Proxy/nginx ns/op": "50", "Events/accept events/s": "400",
	}), canary))
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

	require.Contains(t, out.String(), "a machine; River v0.\nMedians of 2 rounds")
	require.Contains(t, out.String(), "**Not met: 2, 6, 11, 12, 16.** Not measured here: 3, 5, 9, 14, 15, 17, 18, 19, 20.")
	require.Contains(t, out.String(), "| 16 | versions that are no worse and are taken back | 1.5–2.5 % | z-test: 37.3–38.1 %; Mann-Whitney: 0.1–15.5 % | – | ≤ 5 % in each kind of traffic; so in 2 of 2 | met |")
	require.Contains(t, out.String(), "are taken back | 3–29 | z-test: 2–10; Mann-Whitney: 4–181 | – | ≤ 3 in each kind of traffic; so in 1 of 2 | **not met** |")

	out.Reset()
	require.NoError(t, write(&out, measured(t, map[string]string{"Swaps failed-requests": "1"}), canary))
	require.Contains(t, out.String(), "| 0 | **not met** |", "one failed request in one round is one too many")
}

func TestAMeasurementThatIsMissingIsAnError(t *testing.T) {
	m := measured(t, nil)
	delete(m.seen, "Tick p50-µs")
	require.ErrorContains(t, write(&strings.Builder{}, m, canary), "no measurement of Tick")
	m = measured(t, nil)
	m.seen["River steps/s"] = m.seen["River steps/s"][:1]
	require.ErrorContains(t, write(&strings.Builder{}, m, canary), "River has 1")
	require.ErrorContains(t, write(&strings.Builder{}, measured(t, nil), "nothing"), "canary: no measurement")
	require.ErrorContains(t, write(&strings.Builder{}, measured(t, nil), strings.Replace(canary, "1.5 %", "?", 1)), "not understood")
}
