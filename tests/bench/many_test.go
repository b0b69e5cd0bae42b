package bench

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/pkg/target"
)

// inFlight is how many callers wait for their event to be durable at one time.
const inFlight = 256

// BenchmarkEvents measures accepted deliveries per second with 256 callers, beside
// pgbench with 256 clients that insert one row each, on the same settings.
func BenchmarkEvents(b *testing.B) {
	b.Run("accept", func(b *testing.B) {
		w := newWorld(b)
		var n atomic.Int64
		for b.Loop() {
			var callers sync.WaitGroup
			for range inFlight {
				callers.Go(func() { // sends its next when its last is durable, as a client of pgbench does
					for range 16 {
						id := fmt.Sprint(n.Add(1))
						body := []byte(`{"id": ` + id + `}`)
						sum := sha256.Sum256(body)
						if err := w.store.Accept(b.Context(), store.Delivery{
							Tenant: tenant, Source: "gitea", ID: id, Repository: "deploy", Event: "ping", Headers: map[string]string{}, Body: body, Digest: sum[:],
						}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			callers.Wait()
		}
		b.ReportMetric(float64(n.Load())/b.Elapsed().Seconds(), "events/s")
	})
	b.Run("pgbench", func(b *testing.B) {
		program := pgbench(b)
		w := newWorld(b)
		conn, err := pgx.Connect(b.Context(), w.admin)
		must(b, err)
		defer conn.Close(context.Background())
		_, err = conn.Exec(b.Context(), "CREATE TABLE bare (id bigserial PRIMARY KEY, body bytea)")
		must(b, err)
		script := filepath.Join(b.TempDir(), "insert.sql")
		must(b, os.WriteFile(script, []byte("INSERT INTO bare (body) VALUES ('{\"id\": 1}');\n"), 0o600))
		c := conn.Config()
		total, runs := 0.0, 0
		for b.Loop() {
			cmd := exec.CommandContext(b.Context(), program, "-n", "-c", strconv.Itoa(inFlight), "-j", "2", "-t", "16", "-f", script,
				"-h", c.Host, "-p", strconv.Itoa(int(c.Port)), "-U", c.User, c.Database)
			cmd.Env = append(os.Environ(), "PGPASSWORD="+c.Password)
			out, err := cmd.CombinedOutput()
			if err != nil {
				b.Fatalf("pgbench: %v\n%s", err, out)
			}
			total += tps(b, string(out))
			runs++
		}
		b.ReportMetric(total/float64(runs), "events/s")
	})
}

// pgbench finds the program beside the PostgreSQL that is used.
func pgbench(b *testing.B) string {
	b.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench")
	must(b, err)
	if len(found) == 0 {
		b.Skip("pgbench is not installed: apt-get install -y postgresql-contrib")
	}
	return found[len(found)-1]
}

func tps(b *testing.B, out string) float64 {
	b.Helper()
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(line, "tps = "); ok {
			v, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			must(b, err)
			return v
		}
	}
	b.Fatalf("pgbench says no tps:\n%s", out)
	return 0
}

// BenchmarkTick measures a tick that finds nothing to do among 100 000 open rows.
func BenchmarkTick(b *testing.B) {
	w := newWorld(b)
	conn, err := pgx.Connect(b.Context(), w.admin)
	must(b, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(b.Context(), "INSERT INTO due (tenant, kind, id, wake_at) SELECT $1, 'promotion', 'p-' || n, now() + interval '1 hour' FROM generate_series(1, 100000) n", tenant)
	must(b, err)
	_, err = conn.Exec(b.Context(), "ANALYZE due")
	must(b, err)
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		claims, err := w.store.Claim(b.Context(), engine.AdvanceKinds(), 8, time.Second)
		must(b, err)
		_, _, err = w.store.NextDue(b.Context(), engine.AdvanceKinds())
		must(b, err)
		took = append(took, time.Since(began))
		if len(claims) > 0 {
			b.Fatalf("%d rows are due", len(claims))
		}
	}
	report(b, took)
}

// fourStages is a pipeline of four stages without a wait in it.
const fourStages = `apiVersion: hotswap.dev/v1
kind: Pipeline
metadata: {name: one}
spec:
  stages:
    - {name: development, environment: development, strategy: {type: direct}}
    - {name: qa, needs: [development], environment: qa, strategy: {type: rolling, maxUnavailable: 50%}}
    - {name: staging, needs: [qa], environment: staging, strategy: {type: blueGreen}}
    - {name: production, needs: [staging], environment: production, strategy: {type: direct}}
`

// deployments is how many go through the stages side by side.
const deployments = 64

// BenchmarkPromotions measures promotions through four stages with nodes that
// answer at once: two in QA, one in each other environment. Records are written to
// Git meanwhile. A step is a transition that was committed: the promotion's new state, the
// event, its audit rows and its orders; what releases and slots take is paid for and not counted.
func BenchmarkPromotions(b *testing.B) {
	w := newWorld(b)
	w.repository(b)
	must(b, os.WriteFile(filepath.Join(w.clone, "pipelines/one.yaml"), []byte(fourStages), 0o644))
	nodes := map[string]string{"n-dev": "development", "n-qa-1": "qa", "n-qa-2": "qa", "n-staging": "staging", "n-production": "production"}
	for name, env := range nodes {
		must(b, os.WriteFile(filepath.Join(w.clone, "environments", env+".yaml"), fmt.Appendf(nil, "apiVersion: hotswap.dev/v1\nkind: Environment\nmetadata: {name: %s}\nspec: {selector: {environment: %s}}\n", env, env), 0o644))
		token, err := w.store.CreateJoinToken(b.Context(), tenant, map[string]string{"environment": env}, time.Hour, audit.Actor{Kind: audit.Person, Name: "ann"})
		must(b, err)
		_, err = w.store.Join(b.Context(), target.Join{Token: token, Name: name}, ed25519.PublicKey(strings.Repeat("p", 32)))
		must(b, err)
	}
	sign, err := gitrepo.SSHSigner(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	must(b, err)
	repo, err := gitrepo.Open(w.bare)
	must(b, err)
	e := engine.New(w.store, func(string, string) (*gitrepo.Repository, error) { return repo, nil }, engine.Options{Concurrency: 12, Batch: 48, Lease: 20 * time.Second, Sign: sign})
	conn, err := pgx.Connect(b.Context(), w.admin)
	must(b, err)
	defer conn.Close(context.Background())
	round := func(n int) time.Duration {
		for i := range deployments {
			text := strings.Replace(deployment(fmt.Sprintf("1.0.%d", n)), "{name: checkout}", fmt.Sprintf("{name: d-%d}", i), 1)
			must(b, os.WriteFile(filepath.Join(w.clone, fmt.Sprintf("deployments/d-%d.yaml", i)), []byte(text), 0o644))
		}
		_ = os.Remove(filepath.Join(w.clone, "deployments/checkout.yaml"))
		w.git(b, w.clone, "add", "-A")
		w.git(b, w.clone, "commit", "-q", "-m", fmt.Sprint(n))
		w.git(b, w.clone, "push", "-q", "origin", "main")
		must(b, w.store.Poke(b.Context(), tenant, store.Repository, "deploy"))
		began := time.Now()
		_, err := e.Validate(b.Context())
		must(b, err)
		for seq := int64(n+1) << 20; ; seq++ {
			_, err := e.Advance(b.Context())
			must(b, err)
			if _, err := e.Deliver(b.Context()); err != nil {
				b.Fatal(err)
			}
			for name := range nodes {
				w.answer(b, name, seq)
			}
			var open int
			must(b, conn.QueryRow(b.Context(), "SELECT count(*) FROM releases WHERE state = 'open'").Scan(&open))
			if open == 0 {
				return time.Since(began)
			}
		}
	}
	transitions := func() (n int) { // that moved a promotion on: looks that found nothing to do are not counted
		must(b, conn.QueryRow(b.Context(), "SELECT count(*) FROM transitions").Scan(&n))
		return n
	}
	round(0)
	_, err = conn.Exec(b.Context(), "ANALYZE") // as autovacuum does within a minute
	must(b, err)
	before, finished, spent := transitions(), 0, time.Duration(0)
	for n := 1; b.Loop(); n++ {
		spent += round(n)
		finished += 4 * deployments
	}
	b.ReportMetric(float64(finished)/spent.Hours(), "promotions/h")
	b.ReportMetric(float64(transitions()-before)/spent.Seconds(), "steps/s")
}

// answer lets a node report that it has done what its orders say.
func (w *world) answer(b *testing.B, node string, seq int64) {
	b.Helper()
	orders, err := w.store.Orders(b.Context(), tenant, node)
	must(b, err)
	r := target.Report{Boot: 1, Seq: seq, At: time.Now()}
	for _, o := range orders {
		r.Places = append(r.Places, target.PlaceReport{Place: o.Place, Position: o.Position, Active: healthy(o.Active), Standby: healthy(o.Standby)})
	}
	must(b, w.store.SaveReport(b.Context(), tenant, node, r))
}
