package e2e

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/forge/builtin"
)

func TestAPushReachesANodeAndTheTrailVerifies(t *testing.T) {
	w := newWorld(t)
	_, address := w.live("1.4.2")
	commit := w.push(w.artifact("1.5.0").intent())
	w.promotion("checkout-2/production/promote-1", "succeeded")
	require.Equal(t, "1.5.0", answers(address))
	require.Equal(t, commit, w.status().Commits[0].Commit)
	w.verified()
	list := w.data(0, "audit", "list")
	for _, action := range []string{"repository.push.allowed", "repository.synced", "release.created", "promotion.started", "wave.activated", "promotion.succeeded", "node.joined", "join-token.created"} {
		require.Contains(t, list, action)
	}
}

// TestWhatCannotRunFailsAndTheOldVersionServes pushes bad releases one after
// the other while requests are made: each fails with its reason, none fails a request.
func TestWhatCannotRunFailsAndTheOldVersionServes(t *testing.T) {
	w := newWorld(t)
	_, address := w.live("1.4.2")
	load := w.spawn("load", "demo-load", "http://"+address+"/", "--rate", "100", "--workers", "4", "--progress", w.path("load.json"))
	good := w.artifact("1.5.0")
	missing, digest, unsigned, forged := good, good, good, good
	missing.url = strings.Replace(good.url, "1.5.0", "1.5.1", 1)
	digest.digest = "sha256:" + strings.Repeat("0b", 32)
	digest.signature = strings.TrimSpace(strings.TrimPrefix(w.hotswap(0, "module", "sign", "--key", w.path("release.key"),
		"--name", "checkout", "--version", "1.5.0", "--digest", digest.digest), "signature:"))
	unsigned.signature = `""`
	forged.version = "1.6.0" // signed as 1.5.0
	tests := []struct{ name, intent, reason string }{
		{"a missing artifact", missing.intent(), "artifact-missing"},
		{"a wrong digest", digest.intent(), "digest-mismatch"},
		{"a module that never becomes healthy", good.intent("    args: [-never-healthy]", "    health: {interval: 100ms, startWithin: 1s}"), "never-healthy"},
		{"a module that cannot start", good.intent("    args: [-no-such-flag]", "    health: {interval: 100ms, startWithin: 10s}"), "start-failed"},
		{"a signature of another version", forged.intent(), "signature-invalid"},
		{"a module without signature", strings.Replace(unsigned.intent(), `    signature: ""`+"\n", "", 1), "signature-missing"},
	}
	for i, tt := range tests {
		w.push(tt.intent)
		id := "checkout-" + string(rune('2'+i)) + "/production/promote-1"
		require.Contains(t, w.promotion(id, "failed"), tt.reason, tt.name)
		require.Equal(t, "1.4.2", answers(address), tt.name)
	}
	load.stop(syscall.SIGTERM)
	var counted struct {
		Requests, Failed int64
		FirstError       string
		Versions         map[string]int64
	}
	raw, err := os.ReadFile(w.path("load.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &counted))
	require.Zero(t, counted.Failed, counted.FirstError)
	require.Greater(t, counted.Requests, int64(100))
	require.Equal(t, counted.Requests, counted.Versions["1.4.2"])
	w.verified()
}

func TestAnInvalidIntentOnMainTouchesNothing(t *testing.T) {
	w := newWorld(t)
	_, address := w.live("1.4.2")
	commit := w.push(strings.Replace(w.artifact("1.5.0").intent(), "pipeline: one", "pipelin: one", 1))
	w.eventually("the commit's status", func() bool { return w.status().Commits[0].Commit == commit })
	s := w.status()
	require.False(t, s.Commits[0].OK)
	require.Contains(t, s.Commits[0].Description, "refused: checkout")
	require.Contains(t, s.Commits[0].Detail, `deployments/checkout.yaml:5:3: unknown field "pipelin"; did you mean "pipeline"? [unknown-field]`)
	require.Len(t, s.Promotions, 1, "no release was made")
	require.Equal(t, "1.4.2", answers(address))
	require.Contains(t, w.data(0, "audit", "list", "--action", "intent.refused"), "unknown field")
	w.verified()
}

func TestANodeThatIsDownIsWaitedForAndNamed(t *testing.T) {
	w := newWorld(t)
	node, address := w.live("1.4.2")
	node.stop(syscall.SIGKILL)
	w.push(w.artifact("1.5.0").intent())
	id := "checkout-2/production/promote-1"
	w.eventually("it says whom it waits for", func() bool {
		for _, p := range w.status().Promotions {
			if p.ID == id && p.WaitingFor != nil && strings.Contains(p.WaitingFor.Evidence, "shop-1: ") {
				return p.WaitingFor.What == "0 of 1 unit prepared"
			}
		}
		return false
	})
	require.Empty(t, answers(address))
	w.startNode("shop-1", address)
	w.promotion(id, "succeeded")
	require.Equal(t, "1.5.0", answers(address))
	w.verified()
}

func TestANodeThatIsGoneForGoodIsTakenOut(t *testing.T) {
	w := newWorld(t)
	dead, _ := w.node("shop-0")
	_, address := w.live("1.4.2") // on both
	dead.stop(syscall.SIGKILL)
	w.push(w.artifact("1.5.0").intent())
	w.promotion("checkout-2/production/promote-1", "running")
	w.data(2, "node", "remove", "shop-0")
	w.data(1, "node", "remove", "shop-9", "--reason", "typo")
	w.data(0, "node", "remove", "shop-0", "--reason", "burnt down")
	w.eventually("it waits for a person's word", func() bool {
		seen := w.data(0, "status")
		return strings.Contains(seen, "running/paused") && strings.Contains(seen, "shop-0: the node left the fleet")
	})
	require.Equal(t, "1.4.2", answers(address))
	w.data(0, "abort", "checkout-2/production/promote-1", "--reason", "one node less")
	w.promotion("checkout-2/production/promote-1", "cancelled")
	w.push(w.artifact("1.5.0").intent("    env: {TRY: again}"))
	w.promotion("checkout-3/production/promote-1", "succeeded")
	require.Equal(t, "1.5.0", answers(address))
	require.Contains(t, w.data(0, "audit", "list", "--action", "node.removed"), "burnt down")
	w.verified()
}

func TestAPersonMayStopWhatWaits(t *testing.T) {
	w := newWorld(t)
	node, address := w.live("1.4.2")
	node.stop(syscall.SIGKILL)
	w.push(w.artifact("1.5.0").intent())
	id := "checkout-2/production/promote-1"
	w.promotion(id, "running")
	w.data(2, "abort", id)
	w.data(1, "abort", "checkout-9/production/promote-1", "--reason", "typo")
	w.data(0, "abort", id, "--reason", "the node is gone")
	require.Contains(t, w.promotion(id, "cancelled"), "the node is gone")
	w.data(1, "abort", id, "--reason", "again")
	w.startNode("shop-1", address)
	w.eventually("the old version is back", func() bool { return answers(address) == "1.4.2" })
	w.verified()
}

func TestFunctionsThatAreKilledGoOnWhereTheyWere(t *testing.T) {
	w := newWorld(t)
	_, address := w.live("1.4.2")
	w.push(w.artifact("1.5.0").intent())
	w.serve.stop(syscall.SIGKILL)
	w.startServe()
	w.promotion("checkout-2/production/promote-1", "succeeded")
	w.eventually("the new version answers", func() bool { return answers(address) == "1.5.0" })
	w.verified()
}

func TestALostWebhookIsFoundByTheReconcile(t *testing.T) {
	w := newWorld(t)
	_, address := w.live("1.4.2")
	w.write("clone/deployments/checkout.yaml", w.artifact("1.5.0").intent())
	w.git("commit", "-q", "-a", "-m", "past the front door")
	w.git("push", "-q", w.path("data", "git", "acme", "deploy.git"), "HEAD:main") // no server, so no webhook
	w.promotion("checkout-2/production/promote-1", "succeeded")
	require.Equal(t, "1.5.0", answers(address))
}

// post sends a webhook as the forge does and returns the status.
func (w *world) post(id, secret, body string) int {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+"/function/forge-webhook/acme/deploy", strings.NewReader(body))
	require.NoError(w.t, err)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	req.Header.Set("X-Gitea-Event", "push")
	req.Header.Set("X-Gitea-Delivery", id)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(w.t, err)
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// askToPush opens a push as git does and returns the status.
func (w *world) askToPush() int {
	w.t.Helper()
	raw, err := os.ReadFile(w.path("data", "secrets", "git-admin"))
	require.NoError(w.t, err)
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.url+"/git/acme/deploy.git/info/refs?service=git-receive-pack", nil)
	require.NoError(w.t, err)
	req.SetBasicAuth("admin", string(bytes.TrimSpace(raw)))
	resp, err := http.DefaultClient.Do(req)
	require.NoError(w.t, err)
	defer resp.Body.Close()
	return resp.StatusCode
}

func (w *world) secret() string {
	w.t.Helper()
	raw, err := os.ReadFile(w.path("data", "secrets", "webhook"))
	require.NoError(w.t, err)
	return string(bytes.TrimSpace(raw))
}

// sql runs a statement as the superuser and returns its one value as text.
func (w *world) sql(query string) string {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.db.AdminDSN())
	require.NoError(w.t, err)
	defer conn.Close(w.t.Context())
	var out *string
	err = conn.QueryRow(w.t.Context(), query, pgx.QueryExecModeSimpleProtocol).Scan(&out)
	if err != pgx.ErrNoRows {
		require.NoError(w.t, err, query)
	}
	if out == nil {
		return ""
	}
	return *out
}

// pushed is what the forge of the world says of a push to its branch.
func pushed(t *testing.T, after string) string {
	t.Helper()
	body, err := forge.NewPushBody(builtin.RepositoryID("acme/deploy"), forge.Push{Repository: "acme/deploy", Ref: "refs/heads/main", After: strings.Repeat(after, 20)})
	require.NoError(t, err)
	return string(body)
}

func TestDeliveriesAtTheDoor(t *testing.T) {
	w := newWorld(t)
	body, other := pushed(t, "ab"), pushed(t, "cd")
	require.Equal(t, 401, w.post("d-1", "not the secret", body))
	require.Equal(t, "0", w.sql("SELECT count(*)::text FROM inbox"), "what is not authentic leaves nothing")
	require.Equal(t, 202, w.post("d-1", w.secret(), body))
	require.Equal(t, 202, w.post("d-1", w.secret(), body), "a repeated delivery is no fault of the sender")
	require.Equal(t, 202, w.post("d-1", w.secret(), other))
	require.Equal(t, "1", w.sql("SELECT count(*)::text FROM inbox"))
	w.eventually("it is settled", func() bool { return w.sql("SELECT state FROM inbox") == "done" })
	require.Contains(t, w.data(0, "audit", "list", "--action", "delivery.conflicted"), "this one is not run")
	require.Contains(t, w.data(0, "audit", "verify"), "verified: ")
}

func TestADatabaseThatTakesNoWritesAcknowledgesNothing(t *testing.T) {
	w := newWorld(t)
	body := pushed(t, "ab")
	w.sql(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$`)
	w.sql("SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity WHERE usename = 'hotswap_app' AND datname = current_database()")
	for range 3 {
		require.Equal(t, 503, w.post("d-1", w.secret(), body))
	}
	resp, err := http.Get(w.url + "/function/forge-webhook/_/ready")
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, 503, resp.StatusCode)
	require.Equal(t, 503, w.askToPush(), "whoever cannot be recorded may not push, and is not told that it is forbidden")
	w.sql(`SET default_transaction_read_only = off; BEGIN READ WRITE; DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET default_transaction_read_only', current_database()); END $$; COMMIT`)
	require.Equal(t, "0", w.sql("SELECT count(*)::text FROM inbox"))
	w.eventually("pushes are taken again", func() bool { return w.askToPush() == 200 })
	w.eventually("it accepts again", func() bool { return w.post("d-1", w.secret(), body) == 202 })
}

func TestTamperingIsFound(t *testing.T) {
	w := newWorld(t)
	w.live("1.4.2")
	w.verified()
	w.write("kept.keys", w.data(0, "audit", "keys"))
	w.data(0, "audit", "verify", "--keys", w.path("kept.keys"))
	w.sql(`UPDATE audit SET header = replace(header, 'the slot is free', 'nothing to see') WHERE action = 'promotion.started'`)
	require.Contains(t, w.data(1, "audit", "verify"), "it was edited")
	w.sql(`UPDATE promotions SET status = 'failed' WHERE status = 'succeeded'`)
	require.Contains(t, w.data(1, "audit", "replay"), "1 differ")
}

func TestNothingToVerifyIsNotVerified(t *testing.T) {
	w := newWorld(t)
	w.write("other.keys", "# nobody\n")
	w.data(1, "audit", "verify", "--keys", w.path("other.keys"))
	w.data(2, "audit", "replay")
	w.hotswap(2, "audit", "verify", "--data", w.path("nothing"))
}

func TestServeRunsAPostgresOfItsOwnAndEndsInOrder(t *testing.T) {
	w := &world{t: t, dir: t.TempDir(), patience: 30 * time.Second}
	for range 2 { // the second start finds what the first one left
		listen := freeAddress(t)
		w.url = "http://" + listen
		w.serve = w.spawn("serve", "serve", "--data", w.path("data"), "--listen", listen)
		w.eventually("the platform answers", func() bool { resp, err := http.Get(w.url + "/healthz"); return err == nil && resp.Body.Close() == nil })
		w.data(0, "status")
		began := time.Now()
		w.serve.stop(syscall.SIGTERM)
		require.Less(t, time.Since(began), 10*time.Second, "it ends when asked")
		require.NoFileExists(t, w.path("data", "postgres", "data", "postmaster.pid"))
	}
}
