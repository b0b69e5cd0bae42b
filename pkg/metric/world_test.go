package metric

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/tests/promserver"
)

// An exporter counts payments by node and result, and answers as exporters do.
type exporter struct {
	mu     sync.Mutex
	counts map[[2]string]int
	server *http.Server
}

// export starts an exporter whose counters are at zero. Address may have port 0.
func export(t *testing.T, address string, nodes ...string) (e *exporter, at string) {
	t.Helper()
	e = &exporter{counts: map[[2]string]int{}}
	for _, n := range nodes {
		e.count(n, 0, 0)
	}
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	e.server = &http.Server{Handler: e, ReadHeaderTimeout: time.Second}
	go func() { _ = e.server.Serve(listener) }() // ends with stop
	t.Cleanup(e.stop)
	return e, listener.Addr().String()
}

func (e *exporter) stop() { _ = e.server.Close() }

// count adds payments of a node, and how many of them were refused.
func (e *exporter) count(node string, payments, refused int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.counts[[2]string{node, "ok"}] += payments - refused
	e.counts[[2]string{node, "refused"}] += refused
}

func (e *exporter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	fmt.Fprintln(w, "# TYPE payments_total counter")
	for k, n := range e.counts {
		fmt.Fprintf(w, "payments_total{node=%q,result=%q} %d\n", k[0], k[1], n)
	}
}

// prometheus starts a real Prometheus that scrapes an address five times a second,
// and returns its URL.
func prometheus(t *testing.T, scrapes string) string {
	t.Helper()
	config := filepath.Join(t.TempDir(), "prometheus.yml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\nscrape_configs: [{job_name: shop, static_configs: [{targets: [%q]}]}]\n", scrapes), 0o600))
	return promserver.Start(t, config)
}
