package swap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// swaps is how many versions are swapped under load in one run.
const swaps = 1000

// BenchmarkSwaps swaps versions under a steady load and counts the requests that fail.
// A run is all the swaps, whatever -benchtime says.
func BenchmarkSwaps(b *testing.B) {
	s := newStage(b)
	agent := s.agent(false)
	old, next := s.instance("1.4.2"), s.instance("1.5.0")
	address := s.order(old, nil).Address
	load := s.load(address)
	begun := time.Now()
	for range swaps / 2 {
		s.order(next, old)
		s.order(old, next)
	}
	took := time.Since(begun)
	r := s.result(load)
	require.Positive(b, r.Versions["1.4.2"])
	require.Positive(b, r.Versions["1.5.0"])
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(r.Failed), "failed-requests")
	b.ReportMetric(float64(r.Requests), "requests")
	b.ReportMetric(swaps/took.Seconds(), "swaps/s")
	s.end(agent)
	s.requireGone()
}

// BenchmarkProxy sends requests over connections that are kept to one sample module:
// through the proxy of a node agent, through net/http's ReverseProxy and nginx, each in
// a process of its own, and past all of them.
func BenchmarkProxy(b *testing.B) {
	s := newStage(b)
	agent := s.agent(false)
	ours := s.order(s.instance("1.4.2"), nil).Address
	module := s.module()
	for _, x := range []struct {
		name  string
		start func() (address string, pids []int)
	}{
		{"hotswap", func() (string, []int) { return ours, []int{agent.cmd.Process.Pid} }},
		{"reverse-proxy", func() (string, []int) { return s.reverse(module) }},
		{"nginx", func() (string, []int) { return s.nginx(module) }},
		{"direct", func() (string, []int) { return module, nil }},
	} {
		b.Run(x.name, func(b *testing.B) {
			address, pids := x.start()
			flood(b, address, pids)
		})
	}
}

// connections is how many requests are under way at once.
const connections = 16

// flood sends b.N requests and reports how long they took, and the CPU of the proxy's
// processes for each.
func flood(b *testing.B, address string, pids []int) {
	transport := &http.Transport{MaxIdleConnsPerHost: connections}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	get := func() {
		resp, err := client.Get("http://" + address + "/")
		require.NoError(b, err)
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		require.NoError(b, err)
		require.Equal(b, http.StatusOK, resp.StatusCode)
	}
	for range connections { // what is only paid once
		get()
	}
	took := make([]time.Duration, b.N)
	next := make(chan int, b.N)
	for i := range b.N {
		next <- i
	}
	close(next)
	before := processorTime(b, pids)
	b.ResetTimer()
	var group sync.WaitGroup
	for range connections {
		group.Go(func() {
			for i := range next {
				begun := time.Now()
				get()
				took[i] = time.Since(begun)
			}
		})
	}
	group.Wait()
	b.StopTimer()
	spent := processorTime(b, pids) - before
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
	b.ReportMetric(float64(spent.Microseconds())/float64(b.N), "cpu-µs/request")
}

// processorTime is what processes have used, in user and system mode: fields 14 and 15
// of proc(5)'s stat, in hundredths of a second.
func processorTime(b *testing.B, pids []int) time.Duration {
	b.Helper()
	var sum time.Duration
	for _, pid := range pids {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		require.NoError(b, err)
		f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
		for _, x := range f[11:13] {
			n, err := strconv.Atoi(x)
			require.NoError(b, err)
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}

// withChildren is a process and those that it has started.
func withChildren(t testing.TB, pid int) []int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	require.NoError(t, err)
	pids := []int{pid}
	for x := range strings.FieldsSeq(string(raw)) {
		n, err := strconv.Atoi(x)
		require.NoError(t, err)
		pids = append(pids, n)
	}
	return pids
}

// module starts the sample module outside of any agent.
func (s *stage) module() string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "checkout")
	text, err := exec.Command("go", "build", "-ldflags", "-s -w -X main.version=1.4.2", "-o", path, "hotswap.dev/hotswap/deploy/demo/checkout").CombinedOutput()
	require.NoError(s.t, err, string(text))
	address := freeAddress(s.t)
	_, port, err := net.SplitHostPort(address)
	require.NoError(s.t, err)
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), "PORT="+port)
	s.process(cmd, address)
	return address
}

// reverse starts net/http's proxy to a module.
func (s *stage) reverse(module string) (string, []int) {
	s.t.Helper()
	address := freeAddress(s.t)
	c := s.child("reverse", address, module)
	s.listening(address)
	return address, []int{c.cmd.Process.Pid}
}

// playReverse is the process of net/http's proxy, with what is best for it: as many
// idle connections as ours keeps, and bodies that are copied through a pool.
func playReverse(address, module string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	proxy := &httputil.ReverseProxy{
		Transport:  &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
		BufferPool: &buffers{},
		Rewrite:    func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: module}) },
	}
	server := &http.Server{Addr: address, Handler: proxy, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		slog.Error("reverse", "error", err)
		return 1
	}
	return 0
}

// buffers are what net/http's proxy copies bodies through.
type buffers struct{ pool sync.Pool }

// Get implements [httputil.BufferPool].
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 32<<10)
}

// Put implements [httputil.BufferPool].
func (b *buffers) Put(p []byte) { b.pool.Put(&p) }

// nginx starts nginx as a proxy to a module, with connections that are kept on both sides.
func (s *stage) nginx(module string) (string, []int) {
	s.t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx"
	}
	if _, err := os.Stat(program); err != nil {
		s.t.Skip("nginx is not installed: apt-get install -y nginx-light")
	}
	folder, address := s.t.TempDir(), freeAddress(s.t)
	account := "" // of the workers, where nginx is started by root
	if os.Getuid() == 0 {
		account = "user nobody nogroup;"
	}
	config := strings.NewReplacer("FOLDER", folder, "ADDRESS", address, "MODULE", module, "ACCOUNT", account).Replace(`
ACCOUNT
daemon off;
worker_processes auto;
pid FOLDER/pid;
error_log stderr error;
events { worker_connections 1024; }
http {
  access_log off;
  keepalive_requests 1000000;
  client_body_temp_path FOLDER/body; proxy_temp_path FOLDER/proxy; fastcgi_temp_path FOLDER/f; uwsgi_temp_path FOLDER/u; scgi_temp_path FOLDER/s;
  upstream module { server MODULE; keepalive 256; keepalive_requests 1000000; }
  server {
    listen ADDRESS;
    location / { proxy_pass http://module; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; }
  }
}
`)
	path := filepath.Join(folder, "nginx.conf")
	require.NoError(s.t, os.WriteFile(path, []byte(config), 0o600))
	cmd := exec.Command(program, "-p", folder, "-c", path)
	s.process(cmd, address)
	return address, withChildren(s.t, cmd.Process.Pid)
}

// process starts a program that listens, and ends it with the test.
func (s *stage) process(cmd *exec.Cmd, address string) {
	s.t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Stderr = os.Stderr
	require.NoError(s.t, cmd.Start())
	s.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	s.listening(address)
}

func (s *stage) listening(address string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return answers(address) }, 20*time.Second, 20*time.Millisecond, "%s does not answer", address)
}

// freeAddress is one that nobody listens on now.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return fmt.Sprint(l.Addr())
}
