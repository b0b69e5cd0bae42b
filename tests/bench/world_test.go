// Package bench measures what HotSwap exists for, each time beside a named peer
// or a limit, in the same run on the same machine. run.sh runs the rounds
// interleaved and writes docs/reference/benchmarks.md.
package bench

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hotswap.dev/hotswap/functions"
	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/function"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/platform"
	"hotswap.dev/hotswap/pkg/secret"
	"hotswap.dev/hotswap/pkg/store"
)

const tenant = "acme"

// hookSecret signs the webhooks of the benchmarks.
var hookSecret = secret.New([]byte("a secret of the benchmarks only"))

// A world is a durable PostgreSQL on disk with the functions before it.
type world struct {
	store *store.Store
	dsn   string // of the application role
	admin string // of the superuser
	url   string // of the functions
	keys  audit.Keys
	bare  string
	clone string
}

// newWorld starts everything in this process. The database flushes to disk, as in earnest.
func newWorld(b *testing.B) *world {
	b.Helper()
	dir, err := os.MkdirTemp("", "hotswap-bench-")
	must(b, err)
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	cluster, err := platform.StartCluster(b.Context(), platform.ClusterOptions{Dir: filepath.Join(dir, "postgres"), Roles: []string{"hotswap_app"}, Settings: map[string]string{"max_connections": "300"}})
	must(b, err)
	b.Cleanup(func() { _ = cluster.Stop(context.Background()) })
	w := &world{
		dsn: cluster.Connection("hotswap_app", "postgres").DSN(), admin: cluster.Connection("postgres", "postgres").DSN(),
		bare: filepath.Join(dir, "deploy.git"), clone: filepath.Join(dir, "clone"),
	}
	must(b, store.Migrate(b.Context(), w.admin))
	writer := audit.NewWriter(ed25519.NewKeyFromSeed(bytes.Repeat([]byte("b"), ed25519.SeedSize)))
	w.keys = audit.Keys{writer.ID(): writer.Public()}
	w.store, err = store.Open(b.Context(), store.Options{DSN: w.dsn, MaxConns: 12}, writer)
	must(b, err)
	b.Cleanup(w.store.Close)
	w.serve(b)
	return w
}

// serve runs the functions and their cron until the benchmark ends.
func (w *world) serve(b *testing.B) {
	b.Helper()
	var runner *platform.Runner
	calls := ed25519.NewKeyFromSeed(bytes.Repeat([]byte("c"), ed25519.SeedSize))
	public := calls.Public().(ed25519.PublicKey)
	open := func(string, string) (*gitrepo.Repository, error) { return gitrepo.Open(w.bare) }
	all := functions.All(functions.Deps{
		Store: w.store, Engine: engine.New(w.store, open, engine.Options{}), Authorizer: auth.NewAuthorizer(w.store),
		Hooks: func(string, string) (forge.Keys, bool) { return forge.Keys{Current: hookSecret}, true },
		Hint:  func(ctx context.Context, function string) { runner.Hint(ctx, function) },
		Looks: function.Looks{Keys: map[string]ed25519.PublicKey{function.CallKeyID(public): public}, Once: w.store.OnceCall, Now: time.Now},
	})
	mux, signed := http.NewServeMux(), map[string]http.Handler{}
	for name, h := range all {
		mux.Handle("/function/"+name+"/", http.StripPrefix("/function/"+name, h))
		signed[name] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if err := function.Sign(r, calls, time.Now()); err != nil {
				panic(err)
			}
			h.ServeHTTP(rw, r)
		})
	}
	runner = platform.NewRunner(signed, functions.Schedule(5*time.Second), nil)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(ctx) }()
	server := httptest.NewServer(mux)
	w.url = server.URL
	b.Cleanup(func() { cancel(); <-ended; server.Close() })
}

// git runs the real git.
func (w *world) git(b *testing.B, dir string, args ...string) string {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), "git", append([]string{"-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-c", "core.fsync=none"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// webhook returns a signed push.
func (w *world) webhook(b *testing.B, after string) *http.Request {
	b.Helper()
	body, err := forge.NewPushBody(7, forge.Push{Repository: tenant + "/deploy", Ref: "refs/heads/main", After: after})
	must(b, err)
	r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, w.url+"/function/forge-webhook/"+tenant+"/deploy", bytes.NewReader(body))
	must(b, err)
	must(b, forge.SignDelivery(r.Header, "push", body, hookSecret))
	return r
}

// post sends a request and requires a status of 2xx.
func post(b *testing.B, c *http.Client, r *http.Request) {
	b.Helper()
	resp, err := c.Do(r)
	must(b, err)
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		b.Fatalf("%s: %s", r.URL, resp.Status)
	}
}

// report reports the median and the 99th percentile of what was measured.
func report(b *testing.B, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func deployment(version string) string {
	return fmt.Sprintf(`apiVersion: hotswap.dev/v1
kind: Deployment
metadata: {name: checkout}
spec:
  module: {name: checkout, version: %q, artifact: "https://example.com/checkout.tar.gz", digest: "sha256:%s"}
  config: {env: {VERSION: %q}}
  pipeline: one
`, version, strings.Repeat("ab", 32), version)
}
