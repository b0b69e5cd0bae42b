package nodes_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/functions/nodes"
	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/pkg/target"
)

func key(seed string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(seed, ed25519.SeedSize)))
}

// A fleet is nodes a and b of one tenant, with what they were ordered and said.
type fleet struct {
	mu      sync.Mutex
	orders  map[string][]target.Order
	reports []string
	looks   int
	hints   []string
	denied  error
	err     error
}

func (f *fleet) Join(_ context.Context, j target.Join, _ ed25519.PublicKey) (target.Joined, error) {
	return target.Joined{Node: store.NodeID("acme", j.Name), Tenant: "acme"}, f.err
}

func (f *fleet) NodeKey(_ context.Context, id string) (ed25519.PublicKey, error) {
	if id != "acme.a" && id != "acme.b" {
		return nil, fmt.Errorf("node %s: %w", id, store.ErrNotFound)
	}
	return key(id[5:]).Public().(ed25519.PublicKey), f.err
}

func (f *fleet) Orders(_ context.Context, tenant, node string) ([]target.Order, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
	return f.orders[tenant+"/"+node], f.err
}

func (f *fleet) SaveReport(_ context.Context, tenant, node string, r target.Report) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reports = append(f.reports, fmt.Sprintf("%s/%s %d", tenant, node, len(r.Places)))
	f.hints = append(f.hints, "row")
	return f.err
}

func (f *fleet) Record(context.Context, string, func(time.Time) []audit.Row) error { return f.err }

func (f *fleet) handler() http.Handler {
	return nodes.New(nodes.Config{
		Fleet: f, Now: time.Now,
		Authorize: func(_ context.Context, p auth.Principal, a auth.Action, tenant, _ string) error {
			if p.Role != auth.Node || p.Tenant != tenant || p.Actor.Name == "" {
				return auth.ErrDenied
			}
			return f.denied
		},
		Hint: func(_ context.Context, function string) { f.hints = append(f.hints, function) },
	})
}

// order gives a node an order of a generation.
func (f *fleet) order(node string, generation int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.orders == nil {
		f.orders = map[string][]target.Order{}
	}
	f.orders["acme/"+node] = []target.Order{{Place: place, Position: target.Position{Epoch: 1, Token: 1, Generation: generation}}}
}

var place = target.Place{Environment: "qa", Deployment: "checkout"}

// signed is a request as a node sends it.
func signed(path, id, seed string, body any, at time.Time) *http.Request {
	b, ok := body.([]byte)
	if !ok {
		b, _ = json.Marshal(body)
	}
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(b))
	if err := auth.SignRequest(r, b, id, key(seed), "r-1", at); err != nil {
		panic(err)
	}
	return r
}

func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const (
	wanted = "/v1/nodes/self/wanted"
	report = "/v1/nodes/self/report"
)

func TestARequestCountsOnlyAsTheNodeThatSignedIt(t *testing.T) {
	now := time.Now()
	other := signed(report, "acme.a", "a", target.Report{Seq: 1}, now)
	other.Body = http.NoBody
	moved := signed(report, "acme.a", "a", target.WantedRequest{}, now)
	moved.URL.Path, moved.RequestURI = wanted, wanted
	named := signed(report, "acme.a", "a", target.Report{}, now)
	named.Header.Set(auth.HeaderKey, "acme.b")
	cases := map[string]struct {
		request *http.Request
		want    int
	}{
		"signed by the node itself":         {signed(report, "acme.a", "a", target.Report{}, now), http.StatusNoContent},
		"not signed":                        {httptest.NewRequest(http.MethodPost, report, strings.NewReader("{}")), http.StatusUnauthorized},
		"signed by another node's key":      {signed(report, "acme.a", "b", target.Report{}, now), http.StatusUnauthorized},
		"in another node's name":            {named, http.StatusUnauthorized},
		"by a node that nobody knows":       {signed(report, "acme.c", "c", target.Report{}, now), http.StatusUnauthorized},
		"by a node of another tenant":       {signed(report, "globex.a", "a", target.Report{}, now), http.StatusUnauthorized},
		"with another body":                 {other, http.StatusUnauthorized},
		"a report replayed as another call": {moved, http.StatusUnauthorized},
		"replayed after the window":         {signed(report, "acme.a", "a", target.Report{}, now.Add(-auth.RequestWindow-time.Minute)), http.StatusUnauthorized},
		"from the future":                   {signed(report, "acme.a", "a", target.Report{}, now.Add(auth.RequestWindow+time.Minute)), http.StatusUnauthorized},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := &fleet{}
			require.Equal(t, c.want, serve(f.handler(), c.request).Code)
			if c.want == http.StatusNoContent {
				require.Equal(t, []string{"acme/a 0"}, f.reports)
				require.Equal(t, []string{"row", "advance"}, f.hints)
				return
			}
			require.Empty(t, f.hints, "nothing was kept and nobody woken")
			require.Zero(t, f.looks)
		})
	}
}

func TestANodeIsAnsweredWithItsOwnOrdersAndNoOthers(t *testing.T) {
	f := &fleet{}
	f.order("a", 1)
	f.order("b", 7)
	w := serve(f.handler(), signed(wanted, "acme.a", "a", target.WantedRequest{}, time.Now()))
	require.Equal(t, http.StatusOK, w.Code)
	var got target.Wanted
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
	require.Equal(t, f.orders["acme/a"], got.Orders)
}

func TestFailuresAreToldApart(t *testing.T) {
	for name, c := range map[string]struct {
		f    *fleet
		want int
	}{
		"refused":              {&fleet{denied: auth.ErrDenied}, http.StatusForbidden},
		"no trail to write in": {&fleet{denied: errors.New("disk full")}, http.StatusServiceUnavailable},
		"no database":          {&fleet{err: errors.New("password authentication failed for hotswap_app")}, http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{wanted, report} {
				w := serve(c.f.handler(), signed(path, "acme.a", "a", map[string]any{}, time.Now()))
				require.Equal(t, c.want, w.Code)
				require.NotContains(t, w.Body.String(), "hotswap_app")
			}
			require.Empty(t, c.f.reports)
		})
	}
}

func TestWhatIsTooMuchOrNotTheProtocolIsRefused(t *testing.T) {
	many := make([]target.PlaceReport, 501)
	known := make([]target.Known, 501)
	pub := base64.StdEncoding.EncodeToString(key("a").Public().(ed25519.PublicKey))
	for name, c := range map[string]struct {
		request *http.Request
		want    int
	}{
		"a report of 501 places": {signed(report, "acme.a", "a", target.Report{Places: many}, time.Now()), 400},
		"501 known places":       {signed(wanted, "acme.a", "a", target.WantedRequest{Known: known}, time.Now()), 400},
		"a megabyte and a byte":  {signed(report, "acme.a", "a", bytes.Repeat([]byte(" "), 1<<20+1), time.Now()), 413},
		"not JSON":               {signed(report, "acme.a", "a", []byte("{"), time.Now()), 400},
		"numbers too large":      {signed(report, "acme.a", "a", []byte(`{"seq":1e40}`), time.Now()), 400},
		"join: not JSON":         {httptest.NewRequest(http.MethodPost, "/v1/nodes/join", strings.NewReader("[")), 400},
		"join: no key":           {join(`{"token":"acme.x","name":"n"}`), 400},
		"join: a short key":      {join(`{"token":"acme.x","name":"n","publicKey":"AAAA"}`), 400},
		"join: a name with dot":  {join(`{"token":"acme.x","name":"n.x","publicKey":"` + pub + `"}`), 400},
		"join: too large":        {join(`{"token":"` + strings.Repeat("x", 1<<20) + `"}`), 400},
		"join: fine":             {join(`{"token":"acme.x","name":"n","publicKey":"` + pub + `"}`), 200},
		"another method":         {httptest.NewRequest(http.MethodGet, report, nil), 405},
		"another path":           {httptest.NewRequest(http.MethodPost, "/v1/nodes/b/report", nil), 404},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, serve((&fleet{}).handler(), c.request).Code) })
	}
}

func join(body string) *http.Request {
	return httptest.NewRequest(http.MethodPost, "/v1/nodes/join", strings.NewReader(body))
}

func TestALongPollEndsWithNewsByAHintOrByItselfWithinASecond(t *testing.T) {
	for name, c := range map[string]struct {
		hint bool
		wait time.Duration // of the request
		news time.Duration // when an order comes; 0: never
		min  time.Duration
		max  time.Duration
	}{
		"a hint":              {true, 20 * time.Second, 3500 * time.Millisecond, 3500 * time.Millisecond, 3501 * time.Millisecond},
		"the hint is lost":    {false, 20 * time.Second, 3500 * time.Millisecond, 3500 * time.Millisecond, 4500 * time.Millisecond},
		"no news":             {false, 5 * time.Second, 0, 5 * time.Second, 5 * time.Second},
		"an hour is asked":    {false, time.Hour, 0, 25 * time.Second, 25 * time.Second},
		"less than no time":   {false, -time.Hour, 0, 0, 0},
		"hints about nothing": {true, 5 * time.Second, 0, 5 * time.Second, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fleet{}
				f.order("a", 1)
				h := f.handler()
				start := time.Now()
				if c.news > 0 {
					time.AfterFunc(c.news, func() { f.order("a", 2) })
				}
				if c.hint {
					time.AfterFunc(max(c.news+time.Millisecond, time.Second), func() { serve(h, httptest.NewRequest(http.MethodPost, "/", nil)) })
				}
				known := target.WantedRequest{Wait: c.wait, Known: []target.Known{{Place: place, Position: target.Position{Epoch: 1, Token: 1, Generation: 1}}}}
				w := serve(h, signed(wanted, "acme.a", "a", known, time.Now()))
				took := time.Since(start)
				require.Equal(t, http.StatusOK, w.Code)
				require.GreaterOrEqual(t, took, c.min)
				require.LessOrEqual(t, took, c.max)
				require.Equal(t, c.news > 0, strings.Contains(w.Body.String(), `"generation":2`), w.Body.String())
			})
		})
	}
}

func TestAPollEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(2*time.Second, cancel)
		start := time.Now()
		serve((&fleet{}).handler(), signed(wanted, "acme.a", "a", target.WantedRequest{Wait: 20 * time.Second}, time.Now()).WithContext(ctx))
		require.Equal(t, 2*time.Second, time.Since(start))
	})
}

// FuzzBodies sends anything to every path: it never panics and never answers
// 5xx, and a report is only kept as the node that signed it.
func FuzzBodies(f *testing.F) {
	f.Add([]byte(`{"token":"acme.x","name":"n","publicKey":"AAAA","labels":{"a":"b"}}`))
	f.Add([]byte(`{"boot":1,"seq":2,"places":[{"place":{"environment":"qa","deployment":"x"},"active":{"detail":"\u0000"}}]}`))
	f.Add([]byte(`{"known":[{"place":{}}],"wait":-1}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		fl := &fleet{}
		h := fl.handler()
		fl.order("a", 1)
		for _, r := range []*http.Request{
			join(string(body)), signed(report, "acme.a", "a", body, time.Now()),
			signed(wanted, "acme.a", "a", bytes.ReplaceAll(body, []byte("wait"), []byte("-")), time.Now()),
		} {
			require.Less(t, serve(h, r).Code, 500)
		}
		for _, r := range fl.reports {
			require.Regexp(t, `^acme/a \d+$`, r)
		}
	})
}

func TestAFloodOfHintsIsNoFloodOfQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{}
		f.order("a", 1)
		h := f.handler()
		stop := time.Now().Add(time.Second)
		go func() {
			for time.Now().Before(stop) {
				serve(h, httptest.NewRequest(http.MethodPost, "/", nil))
				time.Sleep(100 * time.Microsecond)
			}
		}()
		known := target.WantedRequest{Wait: time.Second, Known: []target.Known{{Place: place, Position: target.Position{Epoch: 1, Token: 1, Generation: 1}}}}
		serve(h, signed(wanted, "acme.a", "a", known, time.Now()))
		require.LessOrEqual(t, f.looks, 102, "one look each 10 ms")
		require.GreaterOrEqual(t, f.looks, 50)
	})
}
