package engine_test

import (
	"context"
	"crypto/ed25519"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/pkg/target"
	"hotswap.dev/hotswap/tests/counted"
	"hotswap.dev/hotswap/tests/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m, store.Migrate) }

// A world is a database, a repository and nodes that the test plays.
type world struct {
	t      *testing.T
	store  *store.Store
	engine *engine.Engine
	work   string // work tree that pushes to the bare repository
	bare   string
	db     *pgtest.DB
	open   func(repository string) (*gitrepo.Repository, error) // a test may replace it
	seq    int64
	keys   audit.Keys
}

const tenant = "acme"

func newWorld(t *testing.T) *world {
	t.Helper()
	db := pgtest.New(t)
	writer := audit.NewWriter(ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", 32))))
	st, err := store.Open(t.Context(), store.Options{DSN: db.DSN("hotswap_app"), MaxConns: 2}, writer)
	require.NoError(t, err)
	t.Cleanup(st.Close)
	w := &world{t: t, db: db, store: st, work: t.TempDir(), bare: t.TempDir(), keys: audit.Keys{writer.ID(): writer.Public()}}
	w.open = func(string) (*gitrepo.Repository, error) { return gitrepo.Open(w.bare) }
	sign, err := gitrepo.SSHSigner(ed25519.NewKeyFromSeed([]byte(strings.Repeat("s", 32))))
	require.NoError(t, err)
	w.engine = engine.New(st, func(_, name string) (*gitrepo.Repository, error) { return w.open(name) }, engine.Options{Sign: sign})
	w.git(w.bare, "init", "-q", "--bare", "-b", "main")
	w.git(w.work, "init", "-q", "-b", "main")
	w.git(w.work, "remote", "add", "origin", w.bare)
	require.NoError(t, st.AddRepository(t.Context(), tenant, "deploy", "main"))
	return w
}

func (w *world) git(dir string, args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "git", append([]string{"-c", "user.name=Ann", "-c", "user.email=ann@example.com"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(w.t, err, "git %v: %s", args, out)
	return strings.TrimSpace(string(out))
}

// push commits files and pushes them, as a person would.
func (w *world) push(files map[string]string) string {
	w.t.Helper()
	for path, text := range files {
		p := filepath.Join(w.work, path)
		require.NoError(w.t, os.MkdirAll(filepath.Dir(p), 0o755))
		require.NoError(w.t, os.WriteFile(p, []byte(text), 0o644))
	}
	w.git(w.work, "add", "-A")
	w.git(w.work, "commit", "-q", "-m", "change")
	w.git(w.work, "push", "-q", "-f", "origin", "main")
	return w.git(w.work, "rev-parse", "HEAD")
}

// run does everything that is due: validate, then advance.
func (w *world) run() {
	w.t.Helper()
	require.NoError(w.t, w.store.Poke(w.t.Context(), tenant, store.Repository, "deploy"))
	_, err := w.engine.Validate(w.t.Context())
	require.NoError(w.t, err)
	_, err = w.engine.Advance(w.t.Context())
	require.NoError(w.t, err)
}

// records writes what is due to Git, without the pause between two commits.
func (w *world) records() {
	w.t.Helper()
	w.exec("UPDATE due SET lease_until = NULL, wake_at = now() WHERE kind = 'record'")
	_, err := w.engine.Deliver(w.t.Context())
	require.NoError(w.t, err)
}

// join lets a node in.
func (w *world) join(name string, labels map[string]string) {
	w.t.Helper()
	token, err := w.store.CreateJoinToken(w.t.Context(), tenant, labels, time.Hour, audit.Actor{Kind: audit.Person, Name: "ann"})
	require.NoError(w.t, err)
	_, err = w.store.Join(w.t.Context(), target.Join{Token: token, Name: name}, ed25519.PublicKey(strings.Repeat("p", 32)))
	require.NoError(w.t, err)
}

// obey lets a node report that it has done what its orders say, and how.
func (w *world) obey(node string, see func(o target.Order) target.PlaceReport) {
	w.t.Helper()
	orders, err := w.store.Orders(w.t.Context(), tenant, node)
	require.NoError(w.t, err)
	w.seq++
	r := target.Report{Boot: 1, Seq: w.seq, At: time.Now()}
	for _, o := range orders {
		r.Places = append(r.Places, see(o))
	}
	require.NoError(w.t, w.store.SaveReport(w.t.Context(), tenant, node, r))
}

// well is the report of a node where everything works.
func well(o target.Order) target.PlaceReport {
	return target.PlaceReport{Place: o.Place, Position: o.Position, Active: healthy(o.Active), Standby: healthy(o.Standby)}
}

func healthy(i *target.Instance) *target.InstanceReport {
	if i == nil {
		return nil
	}
	return &target.InstanceReport{Digest: i.Digest, Version: i.Module.Version, Phase: target.Healthy}
}

func deployment(version string) string {
	return `apiVersion: hotswap.dev/v1
kind: Deployment
metadata: {name: checkout}
spec:
  module:
    name: checkout
    version: "` + version + `"
    artifact: https://example.com/checkout-` + version + `.tar.gz
    digest: sha256:` + strings.Repeat("ab", 32) + `
  config: {env: {VERSION: "` + version + `"}}
  pipeline: straight
`
}

const pipeline = `apiVersion: hotswap.dev/v1
kind: Pipeline
metadata: {name: straight}
spec:
  stages:
    - {name: qa, environment: qa, strategy: {type: direct}}
    - {name: production, needs: [qa], environment: production, strategy: {type: direct}}
`

func environment(name string) string {
	return "apiVersion: hotswap.dev/v1\nkind: Environment\nmetadata: {name: " + name + "}\nspec: {selector: {environment: " + name + "}}\n"
}

func (w *world) first(version string) string {
	return w.push(map[string]string{
		"deployments/checkout.yaml": deployment(version), "pipelines/straight.yaml": pipeline,
		"environments/qa.yaml": environment("qa"), "environments/production.yaml": environment("production"),
	})
}

func (w *world) statuses() map[string]promotion.Status {
	w.t.Helper()
	rows, err := w.store.Promotions(w.t.Context(), tenant, 100)
	require.NoError(w.t, err)
	out := map[string]promotion.Status{}
	for _, r := range rows {
		out[r.ID] = r.Status
	}
	return out
}

// settle plays until nothing moves any more, then checks what must always hold.
func (w *world) settle(see func(o target.Order) target.PlaceReport, nodes ...string) {
	w.t.Helper()
	for range 20 {
		for _, n := range nodes {
			w.obey(n, see)
		}
		w.run()
	}
	w.verify()
}

func (w *world) verify() {
	w.t.Helper()
	v := audit.NewVerifier(tenant, w.keys)
	require.NoError(w.t, w.store.VerifyAudit(w.t.Context(), tenant, v))
	rep := v.Report()
	require.Equal(w.t, audit.Verified, rep.Verdict, "%+v", rep)
	require.NoError(w.t, w.store.EachPromotion(w.t.Context(), tenant, func(r store.Replayed) error {
		return promotion.CheckReplay(r.Stored, r.Transitions)
	}))
	differences, err := counted.Differences()
	require.NoError(w.t, err)
	require.Empty(w.t, w.query(differences))
}

func TestAPushedIntentGoesThroughItsStages(t *testing.T) {
	w := newWorld(t)
	w.join("qa-1", map[string]string{"environment": "qa"})
	w.join("prod-1", map[string]string{"environment": "production"})
	w.join("prod-2", map[string]string{"environment": "production"})
	w.first("1.4.2")
	w.settle(well, "qa-1", "prod-1", "prod-2")
	require.Equal(t, map[string]promotion.Status{
		"checkout-1/qa/promote-1": promotion.Succeeded, "checkout-1/production/promote-1": promotion.Succeeded,
	}, w.statuses())

	w.push(map[string]string{"deployments/checkout.yaml": deployment("1.5.0")})
	w.settle(well, "qa-1", "prod-1", "prod-2")
	require.Equal(t, promotion.Succeeded, w.statuses()["checkout-2/production/promote-1"])
	orders, err := w.store.Orders(context.Background(), tenant, "prod-2")
	require.NoError(t, err)
	require.Equal(t, "1.5.0", orders[0].Active.Module.Version)
	require.Nil(t, orders[0].Standby)
}

func TestAReleaseThatCannotStartSaysWhy(t *testing.T) {
	w := newWorld(t)
	w.first("1.4.2")
	require.NoError(t, w.store.Poke(t.Context(), tenant, store.Repository, "deploy"))
	_, err := w.engine.Validate(t.Context())
	require.NoError(t, err)
	open := func() store.OpenRelease {
		rows, err := w.store.OpenReleases(t.Context(), tenant, 10)
		require.NoError(t, err)
		require.Len(t, rows, 1)
		return rows[0]
	}
	require.Equal(t, "its first stages", open().Waiting.What)
	w.exec("UPDATE environments SET name = 'elsewhere' WHERE name = 'qa'")
	_, err = w.engine.Advance(t.Context())
	require.NoError(t, err)
	require.Contains(t, open().Waiting.What, "failed; it is tried again")
	require.Contains(t, open().Waiting.Evidence, `environment "qa" is not known`)

	w.exec("UPDATE environments SET name = 'qa' WHERE name = 'elsewhere'")
	require.NoError(t, w.store.Poke(t.Context(), tenant, store.Release, "checkout-1"))
	_, err = w.engine.Advance(t.Context())
	require.NoError(t, err)
	require.Equal(t, "the end of stage qa", open().Waiting.What)
}
