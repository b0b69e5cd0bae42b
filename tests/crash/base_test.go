package crash_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/pkg/target"
	"hotswap.dev/hotswap/tests/pgtest"
)

// The names of what is deployed.
const (
	tenant      = "acme"
	repository  = "deploy"
	oldVersion  = "1.4.2"
	newVersion  = "1.5.0"
	nextVersion = "1.6.0" // pushed together with 1.5.0, in a repository of its own
)

// begin is what every point begins with: 1.4.2 runs everywhere, 1.5.0 is pushed
// and nobody was told. The database is the template that points clone.
var begin struct {
	folder string
	bare   string
	newer  string // bare repository that has 1.6.0 too
	agents []*agent
}

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil))) // faults are loud
	if dsn := os.Getenv(workerDSN); dsn != "" {
		panic(child(dsn)) // it returns only when it cannot work
	}
	dir, err := os.MkdirTemp("", "hotswap-crash-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	begin.folder = dir
	pgtest.Main(m, prepare)
}

// writer signs audit rows: one installation's key, whichever worker signs.
func writer() *audit.Writer {
	return audit.NewWriter(ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", ed25519.SeedSize))))
}

// prepare makes the template: schema, repository, nodes, and 1.4.2 live.
func prepare(ctx context.Context, adminDSN string) error {
	if err := store.Migrate(ctx, adminDSN); err != nil {
		return err
	}
	begin.bare = filepath.Join(begin.folder, "deploy.git")
	if _, err := push(ctx, oldVersion); err != nil {
		return err
	}
	w, err := newWorld(ctx, adminDSN, &delivery{id: "push-1"})
	if err != nil {
		return err
	}
	defer w.close(ctx)
	w.releases = 1
	one, err := w.worker(ctx, "base", strings.Replace(adminDSN, "user='postgres'", "user='hotswap_app'", 1))
	if err != nil {
		return err
	}
	defer one.close()
	if err := one.store.AddRepository(ctx, tenant, repository, "main"); err != nil {
		return err
	}
	for name, environment := range map[string]string{"qa-1": "qa", "load-1": "load", "prod-1": "production", "prod-2": "production"} {
		if err := join(ctx, one.store, newAgent(name), environment); err != nil {
			return err
		}
	}
	w.agents = []*agent{newAgent("qa-1"), newAgent("load-1"), newAgent("prod-1"), newAgent("prod-2")}
	if err := w.drive(ctx, one, nil); err != nil {
		return fmt.Errorf("first release: %w", err)
	}
	if err := one.engine.Backstop(ctx); err != nil {
		return err
	}
	begin.agents = w.agents
	if _, err = push(ctx, newVersion); err != nil {
		return err
	}
	begin.newer = filepath.Join(begin.folder, "newer.git")
	if out, err := exec.CommandContext(ctx, "git", "clone", "-q", "--bare", begin.bare, begin.newer).CombinedOutput(); err != nil {
		return fmt.Errorf("git clone: %w: %s", err, out)
	}
	_, err = push(ctx, nextVersion)
	return err
}

func join(ctx context.Context, s *store.Store, g *agent, environment string) error {
	by := audit.Actor{Kind: audit.Person, Name: "ann"}
	token, err := s.CreateJoinToken(ctx, tenant, map[string]string{"environment": environment}, time.Hour, by)
	if err != nil {
		return err
	}
	_, err = s.Join(ctx, target.Join{Token: token, Name: g.name}, g.key.Public().(ed25519.PublicKey))
	return err
}

// push commits a version of the intent and pushes it, as a person would.
func push(ctx context.Context, version string) (commit string, err error) {
	work := filepath.Join(begin.folder, "work")
	files := map[string]string{
		"deployments/checkout.yaml": deployment(version), "pipelines/straight.yaml": pipeline,
		"environments/qa.yaml": environment("qa"), "environments/load.yaml": environment("load"), "environments/production.yaml": environment("production"),
	}
	for name, text := range files {
		name = filepath.Join(work, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	bare := begin.bare
	if version == nextVersion {
		bare = begin.newer
	}
	steps := [][]string{{"add", "-A"}, {"commit", "-q", "-m", version}, {"push", "-q", bare, "HEAD:main"}, {"rev-parse", "HEAD"}}
	if version == oldVersion {
		steps = append([][]string{{"init", "-q", "-b", "main"}, {"init", "-q", "--bare", "-b", "main", begin.bare}}, steps...)
	}
	var out []byte
	for _, args := range steps {
		cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "user.name=Ann", "-c", "user.email=ann@example.com"}, args...)...)
		cmd.Dir = work
		if out, err = cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("git %v: %w: %s", args, err, out)
		}
	}
	return strings.TrimSpace(string(out)), nil
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
    - {name: load, environment: load, strategy: {type: direct}}
    - {name: production, needs: [qa, load], environment: production, strategy: {type: rolling, maxUnavailable: "1"}}
`

func environment(name string) string {
	return "apiVersion: hotswap.dev/v1\nkind: Environment\nmetadata: {name: " + name + "}\nspec: {selector: {environment: " + name + "}}\n"
}
