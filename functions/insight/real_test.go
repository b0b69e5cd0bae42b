package insight_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/functions/insight"
	"hotswap.dev/hotswap/pkg/secret"
	"hotswap.dev/hotswap/tests/promserver"
)

// scrapeFile is deploy/prometheus/scrape.yml with the file of the token beside it.
func scrapeFile(t *testing.T, changes ...string) string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/prometheus/scrape.yml")
	require.NoError(t, err)
	for i := 0; i < len(changes); i += 2 {
		require.Contains(t, string(text), changes[i])
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "scrape.yml"), []byte(strings.NewReplacer(changes...).Replace(string(text))), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "hotswap-metrics"), []byte(token+"\n"), 0o600))
	return filepath.Join(dir, "scrape.yml")
}

func TestPromtoolFindsNothingInTheScrapeConfiguration(t *testing.T) {
	program, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed; it comes with: sudo apt-get install -y --no-install-recommends prometheus")
	}
	file := scrapeFile(t)
	out, err := exec.CommandContext(t.Context(), program, "check", "config", file).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.Remove(filepath.Join(filepath.Dir(file), "hotswap-metrics")))
	out, err = exec.CommandContext(t.Context(), program, "check", "config", file).CombinedOutput()
	require.Error(t, err, "it looks at the file of the token")
	require.Contains(t, string(out), "hotswap-metrics")
}

// TestARealPrometheusCountsWhatHappened scrapes with the configuration that is delivered, as
// replicas come and go and what was counted is deleted.
func TestARealPrometheusCountsWhatHappened(t *testing.T) {
	b := newBase(t)
	var replica atomic.Pointer[http.Handler]
	start := func(config insight.Config) {
		h := http.StripPrefix("/function/insight", insight.New(config))
		replica.Store(&h)
	}
	start(b.config())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*replica.Load()).ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	prometheus := promserver.Start(t, scrapeFile(t, "127.0.0.1:7080", strings.TrimPrefix(server.URL, "http://"), "15s", "200ms", "scrape_timeout: 10s", "scrape_timeout: 200ms"))
	until := func(query string, want ...string) {
		t.Helper()
		require.Eventually(t, func() bool {
			got := values(t, prometheus, query)
			return len(got) == len(want) && strings.Join(got, " ") == strings.Join(want, " ")
		}, time.Minute, 100*time.Millisecond, "%s is %v, want %v", query, values(t, prometheus, query), want)
	}
	until(`up{job="hotswap"}`, "1")
	until(`sum(hotswap_deployments_completed_total{tenant="acme",environment="qa"})`, "0")
	b.deploy("d1", "d2")
	until(`sum(hotswap_deployments_completed_total{tenant="acme",environment="qa",kind="restore"})`, "2")
	until(`hotswap_deployment_duration_seconds_count{state="succeeded"}`, "2")
	until(`histogram_quantile(0.5, hotswap_deployment_duration_seconds_bucket) <= bool 1`, "1")

	for b.fold() {
		continue
	}
	b.sql("DELETE FROM audit_pending; DELETE FROM audit; DELETE FROM transitions; DELETE FROM promotions; DELETE FROM releases")
	start(b.config()) // another replica, which never saw anything
	b.deploy("d3")
	until(`hotswap_deployments_started_total{kind="restore"}`, "3")
	until(`hotswap_deployment_duration_seconds_count{state="succeeded"}`, "3")
	for _, name := range []string{"deployments_started_total", "deployments_completed_total", "deployment_duration_seconds_count", "deployment_duration_seconds_sum", "deployment_duration_seconds_bucket"} {
		require.Equal(t, []string{"0"}, values(t, prometheus, "sum(resets(hotswap_"+name+"[10m]))"), "%s never fell", name)
	}
	require.Equal(t, []string{"1"}, values(t, prometheus, `sum(increase(hotswap_deployments_completed_total{kind="restore"}[10m])) > bool 2`), "and the first was seen to rise")

	config := b.config()
	config.Token = secret.New([]byte("another"))
	start(config)
	until(`up{job="hotswap"}`, "0")
}

// fold moves what was counted into the totals. It reports whether there was any.
func (b *base) fold() bool {
	b.t.Helper()
	n, err := b.store.FoldMetrics(b.t.Context(), 4)
	require.NoError(b.t, err)
	return n > 0
}

// values are those that a query has now.
func values(t *testing.T, prometheus, query string) (out []string) {
	t.Helper()
	resp, err := http.Get(prometheus + "/api/v1/query?query=" + url.QueryEscape(query))
	require.NoError(t, err)
	defer resp.Body.Close()
	var answer struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	for _, r := range answer.Data.Result {
		value, _ := r.Value[1].(string)
		out = append(out, value)
	}
	return out
}
