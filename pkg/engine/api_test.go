package engine_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/api"
	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/promotion"
)

// A caller asks the HTTP interface of a world.
type caller struct {
	w       *world
	handler http.Handler
	tokens  *auth.Tokens
	token   string
	key     string // Idempotency-Key
}

func (w *world) caller(role auth.Role) *caller {
	c := &caller{w: w, tokens: auth.NewTokens(ed25519.NewKeyFromSeed([]byte(strings.Repeat("t", 32))), nil, time.Now)}
	c.handler = api.New(api.Deps{
		Engine: w.engine, Store: w.store, Authorizer: auth.NewAuthorizer(w.store), Tokens: c.tokens, Hint: func(context.Context, string) {},
	})
	return c.as(role, tenant)
}

func (c *caller) as(role auth.Role, tenant string) *caller {
	out := *c
	var err error
	out.token, err = c.tokens.Issue(auth.Principal{Actor: audit.Actor{Kind: audit.Person, Name: "ann"}, Tenant: tenant, Role: role}, time.Minute)
	require.NoError(c.w.t, err)
	return &out
}

// ask sends a request; body is JSON.
func (c *caller) ask(method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(c.w.t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.key != "" {
		r.Header.Set("Idempotency-Key", c.key)
	}
	rec := httptest.NewRecorder()
	c.handler.ServeHTTP(rec, r)
	return rec
}

const back = `{"reason": "checkout is down", "environments": ["production", "qa"]}`

func TestARollbackByHTTPIsAcceptedAndSaysWhereToLook(t *testing.T) {
	w := fleet(t, "1.0.0", "1.1.0", "1.2.0")
	c := w.caller(auth.Deployer)
	rec := c.ask("POST", "/v1/deployments/checkout/rollback", back)
	require.Equal(t, http.StatusAccepted, rec.Code, rec.Body)
	require.JSONEq(t, `{"promotions": ["checkout-2/production/restore-1", "checkout-2/qa/restore-1"]}`, rec.Body.String())
	require.Equal(t, "1", rec.Header().Get("Retry-After"))

	base, err := url.Parse("/v1/deployments/checkout/rollback")
	require.NoError(t, err)
	there, err := base.Parse(rec.Header().Get("Location"))
	require.NoError(t, err)
	rec = c.ask("GET", there.Path, "")
	require.Equal(t, http.StatusOK, rec.Code, rec.Body)
	var row struct{ ID, Status string }
	require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &row))
	require.Equal(t, "checkout-2/production/restore-1", row.ID)
	require.Equal(t, "gating", row.Status)

	again := c.ask("POST", "/v1/deployments/checkout/rollback", back)
	require.Equal(t, http.StatusConflict, again.Code, again.Body)
	require.Contains(t, again.Body.String(), "checkout-2/production/restore-1 is going back already")

	w.settle(well, "qa-1", "prod-1")
	require.Equal(t, "1.1.0", w.serves("prod-1"))
	require.Equal(t, "1.1.0", w.serves("qa-1"))
	require.Equal(t, "ann", w.ask("SELECT actor FROM audit WHERE promotion = 'checkout-2/production/restore-1' AND action = 'promotion.created'"))
}

func TestARollbackWhileSomethingRunsIsAConflictThatNamesIt(t *testing.T) {
	w := fleet(t, "1.0.0", "1.1.0")
	w.push(at("1.2.0"))
	w.run()
	rec := w.caller(auth.Admin).ask("POST", "/v1/deployments/checkout/rollback", `{"reason": "it is slow", "environments": ["qa"]}`)
	require.Equal(t, http.StatusConflict, rec.Code, rec.Body)
	require.Contains(t, rec.Body.String(), "promotion checkout-3/qa/promote-1 runs there")
	require.Contains(t, rec.Body.String(), "hotswap abort checkout-3/qa/promote-1")
}

func TestWhatCannotBeRolledBackIsSaid(t *testing.T) {
	w := fleet(t, "1.0.0", "1.1.0")
	c := w.caller(auth.Deployer)
	for _, x := range []struct {
		name, path, body string
		code             int
		says             string
	}{
		{"an unknown deployment", "/v1/deployments/nothing/rollback", back, 404, "not found"},
		{"an unknown environment", "/v1/deployments/checkout/rollback", `{"reason": "slow", "environments": ["nowhere"]}`, 404, "nowhere"},
		{"a release that never ran there", "/v1/deployments/checkout/rollback", `{"reason": "slow", "environments": ["qa"], "release": "checkout-9"}`, 409, "checkout-9"},
		{"no environment", "/v1/deployments/checkout/rollback", `{"reason": "slow", "environments": []}`, 422, "body.environments"},
		{"an environment twice", "/v1/deployments/checkout/rollback", `{"reason": "slow", "environments": ["qa", "qa"]}`, 422, "body.environments"},
		{"no reason", "/v1/deployments/checkout/rollback", `{"environments": ["qa"]}`, 422, "reason"},
		{"an unknown field", "/v1/deployments/checkout/rollback", `{"reason": "slow", "environments": ["qa"], "force": true}`, 422, "body.force"},
		{"no JSON", "/v1/deployments/checkout/rollback", `{"reason": `, 400, "body"},
		{"a name that is none", "/v1/deployments/Checkout%21/rollback", back, 422, "path.deployment"},
		{"more than is read", "/v1/deployments/checkout/rollback", `{"reason": "` + strings.Repeat("x", 20000) + `"}`, 413, "too large"},
	} {
		t.Run(x.name, func(t *testing.T) {
			rec := c.ask("POST", x.path, x.body)
			require.Equal(t, x.code, rec.Code, rec.Body)
			require.Equal(t, "application/problem+json", rec.Header().Get("Content-Type"))
			require.Contains(t, rec.Body.String(), x.says)
		})
	}
	require.Equal(t, "0", w.ask("SELECT count(*)::text FROM promotions WHERE kind = 'restore'"))
}

func TestARollbackThatIsAskedForTwiceIsDoneOnce(t *testing.T) {
	w := fleet(t, "1.0.0", "1.1.0")
	c := w.caller(auth.Deployer)
	c.key = "3f2a"
	var group sync.WaitGroup
	codes, bodies := make([]int, 8), make([]string, 8)
	for i := range codes {
		group.Go(func() {
			rec := c.ask("POST", "/v1/deployments/checkout/rollback", back)
			codes[i], bodies[i] = rec.Code, rec.Body.String()
		})
	}
	group.Wait()
	for i := range codes {
		require.Equal(t, http.StatusAccepted, codes[i], bodies[i])
		require.Equal(t, bodies[0], bodies[i])
	}
	require.Equal(t, "2", w.ask("SELECT count(*)::text FROM promotions WHERE kind = 'restore'"))

	rec := c.ask("POST", "/v1/deployments/checkout/rollback", `{"reason": "something else", "environments": ["qa"]}`)
	require.Equal(t, http.StatusUnprocessableEntity, rec.Code)
	require.Contains(t, rec.Body.String(), "use a new one for a new request")

	w.settle(well, "qa-1", "prod-1")
	require.Equal(t, http.StatusAccepted, c.ask("POST", "/v1/deployments/checkout/rollback", back).Code, "long after as well")
	require.Equal(t, "2", w.ask("SELECT count(*)::text FROM promotions WHERE kind = 'restore'"))
}

func TestOperatorsActOnAPromotionByHTTP(t *testing.T) {
	w := fleet(t, "1.0.0")
	w.push(at("1.1.0"))
	w.run()
	const path = "/v1/promotions/checkout-2/qa/promote-1"
	status := func(rec *httptest.ResponseRecorder) string {
		require.Equal(t, http.StatusOK, rec.Code, rec.Body)
		var row struct{ Status, Phase string }
		require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &row))
		return row.Status + "/" + row.Phase
	}
	c := w.caller(auth.Deployer)
	require.Equal(t, "running/paused", status(c.ask("POST", path+"/pause", `{"reason": "look at the graphs"}`)))
	require.Equal(t, http.StatusConflict, c.ask("POST", path+"/pause", `{"reason": "look at the graphs"}`).Code)
	require.Equal(t, "running/preparing", status(c.ask("POST", path+"/resume", `{"reason": "they are fine"}`)))
	require.Equal(t, "cancelled/", status(c.ask("POST", path+"/abort", `{"reason": "they are not"}`)))
	require.Equal(t, http.StatusConflict, c.ask("POST", path+"/abort", `{"reason": "they are not"}`).Code)
	require.Equal(t, http.StatusNotFound, c.ask("POST", "/v1/promotions/checkout-9/qa/promote-1/abort", `{"reason": "there is none"}`).Code)

	rec := w.caller(auth.Admin).ask("POST", "/v1/releases/checkout-2/stages/qa/attempts", `{"reason": "they are fine after all"}`)
	require.Equal(t, http.StatusAccepted, rec.Code, rec.Body)
	require.JSONEq(t, `{"promotions": ["checkout-2/qa/promote-2"]}`, rec.Body.String())
}

// approve is the body of an approval past the forge.
var approve = fmt.Sprintf(`{"reason": "looked at it", "plan": "sha256:%064d", "head": "%040d"}`, 1, 1)

func TestAnApprovalByAPIIsOfWhatIsShown(t *testing.T) {
	w := newWorld(t)
	w.first("1.4.2")
	w.run()
	c := w.caller(auth.Admin)
	rec := c.ask("POST", "/v1/promotions/checkout-1/qa/promote-1/approve", approve)
	require.Equal(t, http.StatusConflict, rec.Code, rec.Body)
	require.Contains(t, rec.Body.String(), "waits for no reviews")
	require.Equal(t, http.StatusNotFound, c.ask("POST", "/v1/promotions/checkout-9/qa/promote-1/approve", approve).Code)
	require.Equal(t, http.StatusUnprocessableEntity, c.ask("POST", "/v1/promotions/checkout-1/qa/promote-1/approve", `{"reason": "blindly"}`).Code)
}

// TestEveryRouteAsksTheAuthoriser takes the routes from the running interface: a new one
// is in here without a line.
func TestEveryRouteAsksTheAuthoriser(t *testing.T) {
	w := newWorld(t)
	c := w.caller(auth.Admin)
	var document struct {
		Paths map[string]map[string]struct {
			Action string `json:"x-hotswap-action"`
		}
	}
	rec := c.ask("GET", "/openapi.json", "")
	require.Equal(t, http.StatusOK, rec.Code)
	require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &document))
	routes := 0
	for path, operations := range document.Paths {
		for method, o := range operations {
			routes++
			require.NotEmpty(t, o.Action, "%s %s has no action", method, path)
			concrete := strings.NewReplacer("{deployment}", "checkout", "{release}", "checkout-1", "{stage}", "qa", "{attempt}", "promote-1").Replace(path)
			body := ""
			if method == "post" {
				body = `{"reason": "to see who may"}`
				switch {
				case strings.HasSuffix(path, "/rollback"):
					body = back
				case strings.HasSuffix(path, "/approve"), strings.HasSuffix(path, "/break-glass"):
					body = approve
				}
			}
			nobody := *c
			nobody.token = ""
			require.Equal(t, http.StatusUnauthorized, nobody.ask(strings.ToUpper(method), concrete, body).Code, "%s %s", method, path)
			for _, role := range []auth.Role{auth.Admin, auth.Deployer, auth.Viewer} {
				probe := auth.NewAuthorizer(w.store).Authorize(t.Context(), auth.Principal{Actor: audit.Actor{Kind: audit.Person, Name: "ann"}, Tenant: tenant, Role: role}, auth.Action(o.Action), tenant, "a probe")
				refused := c.as(role, tenant).ask(strings.ToUpper(method), concrete, body).Code == http.StatusForbidden
				require.Equal(t, probe != nil, refused, "%s %s as %s", method, path, role)
			}
			require.Equal(t, http.StatusNotFound, c.as(auth.Admin, "globex").ask(strings.ToUpper(method), concrete, body).Code, "another tenant sees nothing: %s %s", method, path)
		}
	}
	require.Equal(t, 10, routes)
}

func TestTheInterfaceTellsNothingOfItsInside(t *testing.T) {
	w := newWorld(t)
	c := w.caller(auth.Admin)
	c.handler = api.New(api.Deps{Engine: broken{}, Store: w.store, Authorizer: auth.NewAuthorizer(w.store), Tokens: c.tokens, Hint: func(context.Context, string) {}})
	rec := c.ask("POST", "/v1/promotions/a/b/promote-1/abort", `{"reason": "to see the error"}`)
	require.Equal(t, http.StatusServiceUnavailable, rec.Code)
	require.NotContains(t, rec.Body.String(), "password")
	require.Equal(t, "5", rec.Header().Get("Retry-After"))
}

// broken is an engine whose database cannot be reached.
type broken struct{ api.Engine }

func (broken) Act(context.Context, string, string, promotion.EventKind, audit.Actor, string) (promotion.State, error) {
	return promotion.State{}, context.DeadlineExceeded
}

func FuzzTheBodyOfARollback(f *testing.F) {
	f.Add([]byte(back))
	f.Add([]byte(`{"reason": "x", "environments": [1]}`))
	tokens := auth.NewTokens(ed25519.NewKeyFromSeed([]byte(strings.Repeat("t", 32))), nil, time.Now)
	handler := api.New(api.Deps{Engine: broken{}, Authorizer: auth.NewAuthorizer(nil), Tokens: tokens, Hint: func(context.Context, string) {}})
	f.Fuzz(func(t *testing.T, body []byte) {
		token, err := tokens.Issue(auth.Principal{Actor: audit.Actor{Kind: audit.Person, Name: "ann"}, Tenant: tenant, Role: auth.Deployer}, time.Minute)
		require.NoError(t, err)
		r := httptest.NewRequest("POST", "/v1/promotions/a/b/promote-1/abort", bytes.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, r)
		if !slices.Contains([]int{400, 413, 415, 422, 503}, rec.Code) {
			t.Fatalf("%d: %s", rec.Code, rec.Body)
		}
	})
}
