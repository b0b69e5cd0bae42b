package metric

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
// and returns its URL. Without the program the test is skipped.
func prometheus(t *testing.T, scrapes string) string {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is not installed; install it with: sudo apt-get install -y --no-install-recommends prometheus")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\nscrape_configs: [{job_name: shop, static_configs: [{targets: [%q]}]}]\n", scrapes), 0o600))
	cmd := exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	started := make(chan error)
	ended := make(chan struct{})
	addresses := make(chan string, 1)
	go func() { // Pdeathsig is sent when the thread that forked ends: this one stays until the end
		runtime.LockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			listening(stderr, addresses)
			_ = cmd.Wait()
		}
	}()
	require.NoError(t, <-started)
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	select {
	case address, ok := <-addresses:
		require.True(t, ok, "prometheus ended before it listened")
		return "http://" + address
	case <-time.After(30 * time.Second):
		t.Fatal("prometheus does not listen")
		return ""
	}
}

// listening sends the address that a log speaks of, and reads the log to its end.
func listening(log io.Reader, addresses chan<- string) {
	defer close(addresses)
	says := regexp.MustCompile(`msg="Listening on" address=(\S+)`)
	lines := bufio.NewScanner(log)
	for found := false; lines.Scan(); {
		if m := says.FindStringSubmatch(lines.Text()); m != nil && !found {
			addresses <- m[1]
			found = true
		}
	}
}
