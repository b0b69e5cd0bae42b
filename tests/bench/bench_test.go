package bench

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/target"
)

// BenchmarkWebhook measures one delivery from request to answer: the function,
// beside a bare handler that stores the body with one INSERT.
func BenchmarkWebhook(b *testing.B) {
	b.Run("forge-webhook", func(b *testing.B) {
		newWorld(b).deliver(b)
	})
	b.Run("bare-insert", func(b *testing.B) {
		w := newWorld(b)
		pool, err := pgxpool.New(b.Context(), w.admin)
		must(b, err)
		b.Cleanup(pool.Close)
		_, err = pool.Exec(b.Context(), "CREATE TABLE bare (id bigserial PRIMARY KEY, body bytea)")
		must(b, err)
		server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err == nil {
				_, err = pool.Exec(r.Context(), "INSERT INTO bare (body) VALUES ($1)", body)
			}
			if err != nil {
				http.Error(rw, err.Error(), http.StatusInternalServerError)
			}
		}))
		b.Cleanup(server.Close)
		w.url = server.URL
		w.deliver(b)
	})
}

// deliver sends deliveries one after the other and reports how long each took.
func (w *world) deliver(b *testing.B) {
	b.Helper()
	client := &http.Client{}
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		r := w.webhook(b, fmt.Sprintf("%040x", i+1))
		began := time.Now()
		post(b, client, r)
		took = append(took, time.Since(began))
	}
	report(b, took)
}

// BenchmarkMerge measures from a signed webhook to the order in the hands of a
// node that long-polls: inbox, validate, release, promotion, slot, order.
func BenchmarkMerge(b *testing.B) {
	w := newWorld(b)
	w.repository(b)
	n := w.join(b)
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		after := w.push(b, fmt.Sprintf("1.0.%d", i))
		r := w.webhook(b, after)
		began := time.Now()
		post(b, n.client, r)
		took = append(took, n.untilStandby(b, fmt.Sprintf("1.0.%d", i)).Sub(began))
		n.untilAlone(b)
	}
	report(b, took)
}

// BenchmarkAudit measures verification per row, beside SHA-256 over the same bytes.
func BenchmarkAudit(b *testing.B) {
	const rows = 2000
	writer := audit.NewWriter(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	var leaves []audit.Leaf
	for i := range int64(rows) {
		s, err := writer.Sign(audit.Row{
			ID: fmt.Sprint(i), Tenant: tenant, At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Actor: audit.Actor{Kind: audit.System, Name: "advance"},
			Action: "promotion.started", Subject: "promotion checkout-1/qa/promote-1", Reason: "the slot is free; 2 units to prepare",
			Attributes: map[string]string{"deployment": "checkout", "environment": "qa", "module": "checkout", "version": "1.5.0"},
		})
		must(b, err)
		leaves = append(leaves, audit.Leaf{Log: tenant + "/2026-01", Position: i, Hash: s.Leaf(), Row: &s})
	}
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			v := audit.NewVerifier(tenant, audit.Keys{writer.ID(): writer.Public()})
			for _, l := range leaves {
				v.Leaf(l)
			}
			if r := v.Report(); r.Rows != rows {
				b.Fatalf("verified %d rows", r.Rows)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
	})
	b.Run("ed25519", func(b *testing.B) { // the limit: one signature a row must be checked
		pub := writer.Public()
		for b.Loop() {
			for _, l := range leaves {
				ed25519.Verify(pub, l.Row.Header, l.Row.Signature)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
	})
	b.Run("sha256", func(b *testing.B) {
		for b.Loop() {
			for _, l := range leaves {
				sha256.Sum256(l.Row.Header)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
	})
}

// repository makes the bare repository and a clone with a pipeline of one stage.
func (w *world) repository(b *testing.B) {
	b.Helper()
	for _, d := range []string{w.bare, filepath.Join(w.clone, "deployments"), filepath.Join(w.clone, "pipelines"), filepath.Join(w.clone, "environments")} {
		must(b, os.MkdirAll(d, 0o755))
	}
	w.git(b, w.bare, "init", "-q", "--bare", "-b", "main")
	w.git(b, w.clone, "init", "-q", "-b", "main")
	w.git(b, w.clone, "remote", "add", "origin", w.bare)
	must(b, os.WriteFile(filepath.Join(w.clone, "pipelines/one.yaml"), []byte("apiVersion: hotswap.dev/v1\nkind: Pipeline\nmetadata: {name: one}\nspec:\n  stages:\n    - {name: qa, environment: qa, strategy: {type: direct}}\n"), 0o644))
	must(b, os.WriteFile(filepath.Join(w.clone, "environments/qa.yaml"), []byte("apiVersion: hotswap.dev/v1\nkind: Environment\nmetadata: {name: qa}\nspec: {selector: {environment: qa}}\n"), 0o644))
	must(b, w.store.AddRepository(b.Context(), tenant, "deploy", "main"))
}

func (w *world) push(b *testing.B, version string) string {
	b.Helper()
	must(b, os.WriteFile(filepath.Join(w.clone, "deployments/checkout.yaml"), []byte(deployment(version)), 0o644))
	w.git(b, w.clone, "add", "-A")
	w.git(b, w.clone, "commit", "-q", "-m", version)
	w.git(b, w.clone, "push", "-q", "origin", "main")
	return w.git(b, w.clone, "rev-parse", "HEAD")
}

// A node obeys at once and reports that all is well.
type node struct {
	client *http.Client
	url    string
	key    ed25519.PrivateKey
	last   target.Order
	seq    int64
}

func (w *world) join(b *testing.B) *node {
	b.Helper()
	token, err := w.store.CreateJoinToken(b.Context(), tenant, map[string]string{"environment": "qa"}, time.Hour, audit.Actor{Kind: audit.Person, Name: "ann"})
	must(b, err)
	n := &node{client: &http.Client{}, url: w.url + "/function/nodes", key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}
	pub := n.key.Public().(ed25519.PublicKey)
	_, err = w.store.Join(b.Context(), target.Join{Token: token, Name: "n1", PublicKey: base64.StdEncoding.EncodeToString(pub)}, pub)
	must(b, err)
	return n
}

// next waits for the next order, and obeys it.
func (n *node) next(b *testing.B) time.Time {
	b.Helper()
	for {
		q := target.WantedRequest{Known: []target.Known{{Place: n.last.Place, Position: n.last.Position}}, Wait: 20 * time.Second}
		var w target.Wanted
		n.call(b, "/v1/nodes/self/wanted", q, &w)
		at := time.Now()
		if len(w.Orders) == 0 {
			continue
		}
		n.last = w.Orders[0]
		n.seq++
		n.call(b, "/v1/nodes/self/report", target.Report{Boot: 1, Seq: n.seq, At: at, Places: []target.PlaceReport{{
			Place: n.last.Place, Position: n.last.Position, Active: healthy(n.last.Active), Standby: healthy(n.last.Standby),
		}}}, nil)
		return at
	}
}

func healthy(i *target.Instance) *target.InstanceReport {
	if i == nil {
		return nil
	}
	return &target.InstanceReport{Digest: i.Digest, Version: i.Module.Version, Phase: target.Healthy}
}

// untilStandby is when the node got the order to prepare a version.
func (n *node) untilStandby(b *testing.B, version string) time.Time {
	for {
		at := n.next(b)
		if n.last.Standby != nil && n.last.Standby.Module.Version == version {
			return at
		}
	}
}

// untilAlone obeys until the former version was let go: the promotion is over.
func (n *node) untilAlone(b *testing.B) {
	for n.last.Standby != nil || n.last.Active == nil {
		n.next(b)
	}
}

func (n *node) call(b *testing.B, path string, in, out any) {
	b.Helper()
	body, err := json.Marshal(in)
	must(b, err)
	r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, path, nil)
	must(b, err)
	must(b, auth.SignRequest(r, body, tenant+".n1", n.key, fmt.Sprint(time.Now().UnixNano()), time.Now()))
	send(b, n.client, n.url, r, body, out)
}
