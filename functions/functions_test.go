package functions_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/functions"
	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/secret"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/pkg/target"
	"hotswap.dev/hotswap/tests/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m, store.Migrate) }

// A host is every function on a real database, with two connections.
type host struct {
	t     *testing.T
	db    *pgtest.DB
	store *store.Store
	all   map[string]http.Handler
}

var hook = secret.New([]byte("hook secret"))

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, db: pgtest.New(t)}
	s, err := store.Open(t.Context(), store.Options{DSN: h.db.DSN("hotswap_app"), MaxConns: 2}, audit.NewWriter(private("k")))
	require.NoError(t, err)
	t.Cleanup(s.Close)
	h.store = s
	open := func(string, string) (*gitrepo.Repository, error) { return nil, gitrepo.ErrNoRepository }
	h.all = functions.All(functions.Deps{
		Store: s, Engine: engine.New(s, open, engine.Options{}), Authorizer: auth.NewAuthorizer(s),
		Hooks: func(tenant, repository string) (forge.Keys, bool) { return forge.Keys{Current: hook}, tenant == "acme" },
		Hint:  func(context.Context, string) {},
	})
	return h
}

func private(seed string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(seed, ed25519.SeedSize)))
}

// sql runs statements as the superuser.
func (h *host) sql(statement string) {
	h.t.Helper()
	conn, err := pgx.Connect(h.t.Context(), h.db.AdminDSN())
	require.NoError(h.t, err)
	defer conn.Close(h.t.Context())
	_, err = conn.Exec(h.t.Context(), "SET default_transaction_read_only = off; "+statement)
	require.NoError(h.t, err, statement)
}

func (h *host) count(query string) (n int) {
	h.t.Helper()
	conn, err := pgx.Connect(h.t.Context(), h.db.AdminDSN())
	require.NoError(h.t, err)
	defer conn.Close(h.t.Context())
	require.NoError(h.t, conn.QueryRow(h.t.Context(), query).Scan(&n))
	return n
}

func (h *host) call(function string, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.all[function].ServeHTTP(w, r)
	return w
}

func (h *host) deliver(body string) int {
	h.t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/acme/deploy", strings.NewReader(body))
	require.NoError(h.t, forge.SignDelivery(r.Header, "push", []byte(body), hook))
	r.Header.Set("X-Gitea-Delivery", "d-1")
	return h.call("forge-webhook", r).Code
}

func TestADeliveryIsAcceptedOnlyWhenItsRowIsThere(t *testing.T) {
	// Each fault comes in mid-flight, on connections that are open, and in the beginning.
	for name, fault := range map[string]struct{ set, unset string }{
		"a read-only database": {
			"ALTER ROLE hotswap_app IN DATABASE %s SET default_transaction_read_only = on", "ALTER ROLE hotswap_app IN DATABASE %s RESET default_transaction_read_only",
		},
		"no right to insert": {"REVOKE INSERT ON inbox FROM hotswap_app", "GRANT INSERT ON inbox TO hotswap_app"},
		"a full disk": {
			`CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$;
			CREATE TRIGGER no_space BEFORE INSERT ON due FOR EACH ROW EXECUTE FUNCTION no_space()`, "DROP TRIGGER no_space ON due",
		},
		"a full disk at the commit": {
			`CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$;
			CREATE CONSTRAINT TRIGGER no_space AFTER INSERT ON inbox DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION no_space()`, "DROP TRIGGER no_space ON inbox",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.sql(strings.ReplaceAll(fault.set, "%s", h.db.Name))
			require.Equal(t, http.StatusServiceUnavailable, h.deliver("{}"))
			require.Zero(t, h.count("SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM due)"))
			if name == "a read-only database" {
				require.Equal(t, http.StatusServiceUnavailable, h.call("forge-webhook", httptest.NewRequest(http.MethodGet, "/_/ready", nil)).Code)
			}
			h.sql(strings.ReplaceAll(fault.unset, "%s", h.db.Name))
			require.Equal(t, http.StatusAccepted, h.deliver("{}"), "the fault is over and the forge sends it again")
			require.Equal(t, http.StatusAccepted, h.deliver("{}"))
			require.Equal(t, http.StatusAccepted, h.deliver(`{"other":"body"}`), "authentic: it is not told off")
			require.Equal(t, 1, h.count("SELECT count(*)::int FROM inbox"))
			require.Equal(t, 1, h.count("SELECT count(*)::int FROM due"))
			require.Equal(t, 1, h.count("SELECT count(*)::int FROM audit"))
		})
	}
}

func (h *host) join(token, name, seed string, labels map[string]string) *httptest.ResponseRecorder {
	h.t.Helper()
	body, err := json.Marshal(target.Join{
		Token: token, Name: name, Labels: labels,
		PublicKey: base64.StdEncoding.EncodeToString(private(seed).Public().(ed25519.PublicKey)),
	})
	require.NoError(h.t, err)
	return h.call("nodes", httptest.NewRequest(http.MethodPost, "/v1/nodes/join", bytes.NewReader(body)))
}

func (h *host) token(labels map[string]string) string {
	h.t.Helper()
	token, err := h.store.CreateJoinToken(h.t.Context(), "acme", labels, time.Hour, audit.Actor{Kind: audit.Person, Name: "ann"})
	require.NoError(h.t, err)
	return token
}

func (h *host) signed(path, node, seed string, v any) *httptest.ResponseRecorder {
	h.t.Helper()
	body, err := json.Marshal(v)
	require.NoError(h.t, err)
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	require.NoError(h.t, auth.SignRequest(r, body, node, private(seed), "r", time.Now()))
	return h.call("nodes", r)
}

func TestANodeJoinsOnceAndIsItselfFromThenOn(t *testing.T) {
	h := newHost(t)
	qa := map[string]string{"environment": "qa"}
	token := h.token(qa)
	require.Equal(t, http.StatusConflict, h.join(token, "n1", "a", map[string]string{"environment": "production"}).Code)
	first := h.join(token, "n1", "a", qa)
	require.Equal(t, http.StatusOK, first.Code)
	again := h.join(token, "n1", "a", qa)
	require.Equal(t, http.StatusOK, again.Code, "the answer was lost")
	require.Equal(t, first.Body.String(), again.Body.String())
	require.Equal(t, http.StatusForbidden, h.join(token, "n2", "b", qa).Code)
	require.Equal(t, http.StatusForbidden, h.join(token, "n1", "b", qa).Code)
	require.Equal(t, http.StatusForbidden, h.join("acme\x00.x", "n1", "b", qa).Code)
	require.Equal(t, http.StatusOK, h.join(h.token(qa), "n2", "b", qa).Code)

	require.Equal(t, http.StatusNoContent, h.signed("/v1/nodes/self/report", "acme.n1", "a", target.Report{Boot: 1, Seq: 1}).Code)
	require.Equal(t, http.StatusUnauthorized, h.signed("/v1/nodes/self/report", "acme.n2", "a", target.Report{Boot: 1, Seq: 1}).Code)
	require.Equal(t, 1, h.count("SELECT count(*)::int FROM nodes WHERE last_seen IS NOT NULL"))
	h.sql("UPDATE nodes SET left_at = now() WHERE name = 'n1'")
	require.Equal(t, http.StatusUnauthorized, h.signed("/v1/nodes/self/wanted", "acme.n1", "a", target.WantedRequest{}).Code, "it has left")
}

func TestASecretThatNoOrderRefersToIsRefusedAndToldOnceAnHour(t *testing.T) {
	h := newHost(t)
	require.Equal(t, http.StatusOK, h.join(h.token(nil), "n1", "a", nil).Code)
	before := h.count("SELECT count(*)::int FROM audit")
	for _, name := range []string{"checkout/db", "payments/db", strings.Repeat("x", 5000), "checkout/db\x00\n"} {
		rec := h.signed("/v1/nodes/self/secrets", "acme.n1", "a", target.SecretsRequest{Place: target.Place{Environment: "qa", Deployment: "checkout"}, Names: []string{name}})
		require.Equal(t, http.StatusNotFound, rec.Code)
	}
	require.Equal(t, before+1, h.count("SELECT count(*)::int FROM audit"), "asking often fills nothing")
	require.Equal(t, 1, h.count("SELECT count(*)::int FROM audit WHERE action = 'secret.refused' AND actor = 'n1' AND header::jsonb ->> 'subject' = 'secret checkout/db'"))
	h.sql("ALTER ROLE hotswap_app IN DATABASE " + h.db.Name + " SET default_transaction_read_only = on")
	h.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'hotswap_app' AND datname = current_database()")
	rec := h.signed("/v1/nodes/self/secrets", "acme.n1", "a", target.SecretsRequest{Place: target.Place{Environment: "prod", Deployment: "checkout"}, Names: []string{"checkout/db"}})
	require.Equal(t, http.StatusServiceUnavailable, rec.Code, "what cannot be told is not answered")
}

func TestWhoWaitsHoldsNoConnection(t *testing.T) {
	h := newHost(t)
	for _, n := range []string{"n1", "n2", "n3", "n4"} {
		require.Equal(t, http.StatusOK, h.join(h.token(nil), n, "a", nil).Code)
	}
	// Something is open, so that advance lingers, beside more polls than there are connections.
	h.sql("INSERT INTO due (tenant, kind, id, wake_at) VALUES ('acme', 'release', 'r', now() + interval '8 seconds')")
	ended := make(chan int, 5)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		ended <- h.call("advance", httptest.NewRequestWithContext(ctx, http.MethodPost, "/", nil)).Code
	}()
	for _, n := range []string{"n1", "n2", "n3", "n4"} {
		go func() {
			ended <- h.signed("/v1/nodes/self/wanted", "acme."+n, "a", target.WantedRequest{Wait: 3 * time.Second}).Code
		}()
	}
	require.Eventually(t, func() bool { return h.count("SELECT count(*)::int FROM leases") == 1 }, 5*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		return h.count("SELECT count(*)::int FROM pg_stat_activity WHERE usename = 'hotswap_app' AND datname = current_database() AND state <> 'idle'") == 0
	}, 2*time.Second, 10*time.Millisecond)
	require.Equal(t, http.StatusOK, h.call("nodes", httptest.NewRequest(http.MethodGet, "/_/ready", nil)).Code, "there is one for whoever works")
	for range 4 {
		require.Equal(t, http.StatusOK, <-ended)
	}
	cancel()
	require.Equal(t, http.StatusOK, <-ended)
}
