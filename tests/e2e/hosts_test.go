package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A host runs the functions of a world.
type host interface {
	// start starts the functions below w.functions, or leaves it empty when `hotswap serve`
	// runs them.
	start(w *world)
	// ready is called when the database, the secrets and the repository are there.
	ready()
	// calledByCron returns when the host has called by its schedule.
	calledByCron(t *testing.T)
}

// embedded is `hotswap serve` itself.
type embedded struct{}

func (embedded) start(*world)            {}
func (embedded) ready()                  {}
func (embedded) calledByCron(*testing.T) {} // its cron calls only what is due, and then at once

// TestHostsBehaveAlike runs the same script on each host: what it answers, and what the
// audit trail says in the end, are the same.
func TestHostsBehaveAlike(t *testing.T) {
	var mu sync.Mutex
	trails := map[string][]string{}
	t.Run("hosts", func(t *testing.T) {
		for name, h := range hosts() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				trail := script(t, h)
				mu.Lock()
				defer mu.Unlock()
				trails[name] = trail
			})
		}
	})
	for name, trail := range trails {
		require.Equal(t, trails["embedded"], trail, "%s: the audit trail after times and ids are made alike", name)
	}
}

func hosts() map[string]host {
	out := map[string]host{"embedded": embedded{}, "lambda": &lambda{}}
	if os.Getenv("HOTSWAP_OPENFAAS") != "" {
		out["openfaas"] = &openfaas{}
	}
	return out
}

// script is a version that people approve, another one, and the way back by the API.
func script(t *testing.T, h host) []string {
	w := newFolder(t)
	w.patience = time.Minute
	h.start(w)
	if w.functions != "" {
		w.with = append(w.with, "--functions-at", w.functions)
	}
	w.startServe()
	h.ready()
	w.clone()
	w.team()
	w.conforms()
	_, address := w.node("prod-1")
	for i, version := range []string{"1.4.2", "1.5.0"} {
		w.push(w.artifact(version).intent())
		number := w.living()
		w.says(number, "**Waiting for approval**")
		w.review(0, number, "bo", "--approve")
		w.review(0, number, "chris", "--approve")
		w.promotion(fmt.Sprintf("checkout-%d/production/promote-1", i+1), "succeeded")
		require.Equal(t, version, answers(address))
		w.says(number, "**Deployed**")
	}
	w.data(0, "token", "create", w.path("dana.bearer"), "--name", "dana", "--role", "deployer")
	bearer := "Bearer " + w.token2("dana.bearer")
	roll := func(deployment, key string) int {
		return w.call(http.MethodPost, "api", "/v1/deployments/"+deployment+"/rollback", `{"reason": "it is slow", "environments": ["production"]}`,
			"Authorization", bearer, "Content-Type", "application/json", "Idempotency-Key", key).status
	}
	require.Equal(t, http.StatusNotFound, roll("unknown", "k0"))
	require.Equal(t, http.StatusAccepted, roll("checkout", "k1"))
	require.Equal(t, http.StatusAccepted, roll("checkout", "k1"), "asked twice, done once")
	w.promotion("checkout-1/production/restore-1", "succeeded")
	require.Equal(t, "1.4.2", answers(address))
	w.counted()
	w.verified()
	trail := w.trail()
	h.calledByCron(t)
	return trail
}

// counted is what Prometheus reads after the script: the same on every host, whichever
// processes there were.
func (w *world) counted() {
	w.t.Helper()
	got := w.call(http.MethodGet, "insight", "/metrics", "", "Authorization", "Bearer "+w.token2("data/secrets/metrics"))
	require.Equal(w.t, http.StatusOK, got.status, got.body)
	for _, line := range []string{
		`hotswap_deployments_started_total{environment="production",kind="promote",tenant="acme"} 2`,
		`hotswap_deployments_completed_total{environment="production",kind="promote",tenant="acme"} 2`,
		`hotswap_deployments_completed_total{environment="production",kind="restore",tenant="acme"} 1`,
		`hotswap_approvals_granted_total{by="reviews",environment="production",tenant="acme"} 2`,
		`hotswap_modules_deployed_total{environment="production",tenant="acme"} 3`,
	} {
		require.Contains(w.t, got.body, line)
	}
}

// token2 reads a file with a token.
func (w *world) token2(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(w.path(name))
	require.NoError(w.t, err)
	return strings.TrimSpace(string(text))
}

// An answered call of a function.
type answered struct {
	status int
	body   string
	header http.Header
}

// call calls a function through its host; header is name, value, …
func (w *world) call(method, function, path, body string, header ...string) answered {
	w.t.Helper()
	base := w.url
	if w.functions != "" {
		base = w.functions
	}
	r, err := http.NewRequestWithContext(w.t.Context(), method, base+"/function/"+function+path, strings.NewReader(body))
	require.NoError(w.t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := (&http.Client{Timeout: 30 * time.Second}).Do(r)
	require.NoError(w.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(w.t, err)
	return answered{answer.StatusCode, string(text), answer.Header}
}

// conforms is what every function does on every host.
func (w *world) conforms() {
	t := w.t
	t.Helper()
	for _, name := range []string{"advance", "api", "deliver", "forge-webhook", "insight", "nodes", "validate"} {
		require.Equal(t, http.StatusOK, w.call(http.MethodGet, name, "/_/health", "").status, name)
		ready := w.call(http.MethodGet, name, "/_/ready", "")
		require.Equal(t, http.StatusOK, ready.status, "%s: %s", name, ready.body)
	}
	for _, name := range []string{"advance", "deliver", "validate"} {
		look := w.call(http.MethodPost, name, "/", "")
		require.Equal(t, http.StatusOK, look.status, "%s: %s", name, look.body)
		var steps struct{ Steps *int }
		require.NoError(t, json.Unmarshal([]byte(look.body), &steps), look.body)
		require.NotNil(t, steps.Steps, name)
		require.Equal(t, http.StatusRequestEntityTooLarge, w.call(http.MethodPost, name, "/", "do this").status, "%s: nobody signed the body", name)
		require.Equal(t, http.StatusUnauthorized, w.call(http.MethodPost, name, "/", "", "HotSwap-Key", "call-0", "HotSwap-Request", "1",
			"HotSwap-Time", fmt.Sprint(time.Now().Unix()), "HotSwap-Signature", strings.Repeat("A", 86)+"==").status, "%s: somebody else signed", name)
		require.Equal(t, http.StatusNotFound, w.call(http.MethodGet, name, "/anything", "").status, name)
	}
	id := w.call(http.MethodGet, "api", "/openapi.json", "", "X-Call-Id", "mine-1")
	require.Equal(t, http.StatusOK, id.status)
	require.Equal(t, "mine-1", id.header.Get("X-Call-Id"))
	require.Contains(t, id.body, `"openapi"`)
	refused := w.call(http.MethodGet, "api", "/v1/promotions/checkout-1/production/promote-1", "")
	require.Equal(t, http.StatusUnauthorized, refused.status)
	require.Contains(t, refused.header.Get("WWW-Authenticate"), "Bearer")
	require.Contains(t, refused.header.Get("Content-Type"), "application/problem+json")
	require.Equal(t, http.StatusUnauthorized, w.call(http.MethodPost, "forge-webhook", "/acme/deploy", "{}", "X-Gitea-Event", "push", "X-Gitea-Signature", strings.Repeat("0", 64)).status)
	require.Equal(t, http.StatusUnauthorized, w.call(http.MethodPost, "forge-webhook", "/acme/other", "{}").status)
	require.Equal(t, http.StatusUnauthorized, w.call(http.MethodGet, "insight", "/metrics", "").status)
	require.Equal(t, http.StatusUnauthorized, w.call(http.MethodPost, "nodes", "/v1/nodes/self/wanted", "{}").status)
	require.Equal(t, http.StatusForbidden, w.call(http.MethodPost, "nodes", "/v1/nodes/join",
		`{"token": "no such token", "name": "thief", "publicKey": "`+strings.Repeat("A", 43)+`="}`).status)
}

var (
	hexIDs  = regexp.MustCompile(`\b[0-9a-f]{7,64}\b`)
	numbers = regexp.MustCompile(`[0-9]+(\.[0-9]+)?`)
)

// trail is the audit trail, with times and ids made alike, in an order that does not
// depend on who was faster. A comment is edited when it is looked at and has changed, so
// how often it is depends on the host's speed: that it was is what counts.
func (w *world) trail() []string {
	w.t.Helper()
	var rows []struct {
		Actor                   struct{ Kind, Name string }
		Action, Subject, Reason string
	}
	require.NoError(w.t, json.Unmarshal([]byte(w.data(0, "audit", "list", "--limit", "1000", "-o", "json")), &rows))
	require.Greater(w.t, len(rows), 30)
	out := []string{}
	for _, r := range rows {
		text := strings.Join([]string{r.Actor.Kind, r.Actor.Name, r.Action, r.Subject, r.Reason}, " | ")
		text = strings.ReplaceAll(text, w.dir, "DIR")
		out = append(out, numbers.ReplaceAllString(hexIDs.ReplaceAllString(text, "ID"), "N"))
	}
	slices.Sort(out)
	return slices.CompactFunc(out, func(a, b string) bool { return a == b && strings.Contains(a, "| comment.edited |") })
}
