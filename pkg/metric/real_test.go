package metric

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/analysis"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promql"
)

// within is how long a real server may take to know what an exporter says.
const within = time.Minute

func payments(requests, failures string) intent.Metric {
	return intent.Metric{Name: "payments", Type: intent.MetricErrors, Prometheus: intent.Prometheus{Source: "main", Requests: requests, Failures: failures}}
}

var refusals = payments(`sum(payments_total{node=~"{{units}}"})`, `sum(payments_total{node=~"{{units}}",result="refused"})`)

// TestAPrometheusNobodyHereWrote reads from the real server what an exporter counts.
func TestAPrometheusNobodyHereWrote(t *testing.T) {
	nodes := []string{"node-1", "node-2", "node-10", "node.3"}
	shop, address := export(t, "127.0.0.1:0", nodes...)
	since := time.Now()
	p, err := New("main", prometheus(t, address))
	require.NoError(t, err)
	read := func(m intent.Metric, v Vars) (analysis.MetricSeries, error) {
		return p.Read(t.Context(), m, v, since, time.Now(), time.Second)
	}
	// until reads until the newest points of both arms are as they should be.
	until := func(t *testing.T, v Vars, changed, others analysis.Point) (got analysis.MetricSeries) {
		t.Helper()
		newest := func(points []analysis.Point) (last analysis.Point) {
			if len(points) > 0 {
				last = points[len(points)-1]
				last.At = time.Time{}
			}
			return last
		}
		require.Eventually(t, func() bool {
			s, err := read(refusals, v)
			got = s
			return err == nil && len(s.Changed) > 1 && newest(s.Changed) == changed && newest(s.Others) == others
		}, within, 100*time.Millisecond)
		return got
	}
	arms := Vars{Changed: []string{"node-1"}, Others: []string{"node-2", "node.3"}}

	until(t, arms, analysis.Point{}, analysis.Point{})
	shop.count("node-1", 100, 7)
	shop.count("node-2", 40, 1)
	shop.count("node.3", 2, 1)
	shop.count("node-10", 5000, 5000)
	got := until(t, arms, analysis.Point{Requests: 100, Failures: 7}, analysis.Point{Requests: 42, Failures: 2})
	require.Equal(t, analysis.Point{At: got.Changed[0].At}, got.Changed[0], "the counters rose")

	t.Run("a name is the name of one node", func(t *testing.T) {
		for _, hostile := range []string{"node", "node-.", ".*", "node-3", `node-1"}) or vector(7) or sum(x{a=~"`, `\`, "node-1|node-2", "(", "'", "{{version}}"} {
			s, err := read(refusals, Vars{Changed: []string{hostile}, Others: []string{"node-1"}})
			require.NoError(t, err, hostile)
			require.Empty(t, s.Changed, hostile)
			require.NotEmpty(t, s.Others)
		}
	})
	t.Run("each kind of quotes, and a value of another", func(t *testing.T) {
		for _, q := range []string{`"`, `'`, "`"} {
			query := "sum(payments_total{node=~" + q + "{{units}}" + q + ",result=~" + q + "{{environment}}" + q + "})"
			s, err := read(payments(query, query), Vars{Vars: promql.Vars{Environment: "refused"}, Changed: []string{"node.3"}})
			require.NoError(t, err)
			require.EqualValues(t, 1, s.Changed[len(s.Changed)-1].Failures)
		}
	})
	t.Run("more than one series is an error that says so", func(t *testing.T) {
		_, err := read(payments(`payments_total{node=~"{{units}}"}`, `payments_total{node=~"{{units}}"}`), arms)
		require.ErrorIs(t, err, ErrAnswer)
		require.ErrorContains(t, err, "2 series where one is needed")
	})
	t.Run("what nobody counts is no data", func(t *testing.T) {
		s, err := read(payments(`sum(payments_total{node=~"{{units}}"})`, `sum(never{node=~"{{units}}"})`), arms)
		require.NoError(t, err)
		require.Empty(t, s.Changed)
	})
	t.Run("what is no number stays none", func(t *testing.T) {
		s, err := read(payments(`0 * sum(payments_total{node=~"{{units}}"}) / 0`, `sum(payments_total{node=~"{{units}}"}) / 0`), arms)
		require.NoError(t, err)
		last := s.Changed[len(s.Changed)-1]
		require.True(t, math.IsNaN(last.Requests) && math.IsInf(last.Failures, 1), "%v", last)
	})
	t.Run("a query that it refuses is its author's to mend", func(t *testing.T) {
		for _, q := range []string{`sum(payments_total{node=~"{{units}}"}`, `payments_total{node=~"{{units}}"} * on(node) payments_total`, `rate(payments_total{node=~"{{units}}"})`} {
			_, err := read(payments(q, q), arms)
			require.ErrorIs(t, err, ErrQuery, q)
		}
	})

	shop.stop()
	shop, _ = export(t, address, nodes...)
	shop.count("node-1", 3, 1)
	shop.count("node-2", 1, 0)
	got = until(t, arms, analysis.Point{Requests: 3, Failures: 1}, analysis.Point{Requests: 1})
	fell := false
	for i := 1; i < len(got.Changed); i++ {
		fell = fell || got.Changed[i].Requests < got.Changed[i-1].Requests
	}
	require.True(t, fell, "a restart of the exporter is seen as counters that fell")
}
