// Package nodes answers the node agents: join, what they should run, what they
// see. It decides nothing: orders are rows that a transition wrote.
package nodes

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/function"
	"hotswap.dev/hotswap/pkg/secret"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/pkg/target"
)

// Limits of what a node may send.
const (
	maxReport = 1 << 20 // bytes
	maxPlaces = 500
	// maxSecrets is how many one instance may refer to, by the schema.
	maxSecrets = 64
	maxWait    = 25 * time.Second
	// recheck is how often a waiting call looks by itself: a hint may be lost,
	// or reach another replica.
	recheck = time.Second
	// rest is the least time between two looks of a waiting call: whoever floods
	// the function with hints must not flood the database.
	rest = 10 * time.Millisecond
	// hintTime bounds a hint. A lost one costs a tick, never a report.
	hintTime = 50 * time.Millisecond
)

// A Fleet keeps nodes, their orders and their reports.
type Fleet interface {
	Join(ctx context.Context, j target.Join, key ed25519.PublicKey) (target.Joined, error)
	NodeKey(ctx context.Context, id string) (ed25519.PublicKey, error)
	Orders(ctx context.Context, tenant, node string) ([]target.Order, error)
	SaveReport(ctx context.Context, tenant, node string, r target.Report) error
	Record(ctx context.Context, tenant string, rows func(now time.Time) []audit.Row) error
}

// Config is what the function works with.
type Config struct {
	Fleet     Fleet
	Authorize func(ctx context.Context, p auth.Principal, a auth.Action, tenant, resource string) error
	Hint      func(ctx context.Context, function string)
	Now       func() time.Time // the verifier's clock for signatures
	Secrets   Secrets          // nil: there are none
}

// Secrets keeps what orders refer to. [secret.ErrNotFound] for a name that it has not.
type Secrets interface {
	Get(ctx context.Context, tenant, name string) (secret.Secret, error)
}

// A handler is the function. Waiters are woken together, by closing a channel.
type handler struct {
	Config
	wake *broadcast
}

// New returns the function's handler: POST / means "orders may have changed";
// the rest is the protocol of pkg/target.
func New(c Config) http.Handler {
	h := &handler{Config: c, wake: newBroadcast()}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, _ *http.Request) { h.wake.all(); w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("POST /v1/nodes/join", h.join)
	mux.HandleFunc("POST /v1/nodes/self/wanted", h.wanted)
	mux.HandleFunc("POST /v1/nodes/self/report", h.report)
	mux.HandleFunc("POST /v1/nodes/self/secrets", h.secrets)
	return mux
}

var nodeName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`) })

func (h *handler) join(w http.ResponseWriter, r *http.Request) {
	var j target.Join
	if !decode(w, r, &j) {
		return
	}
	key, err := base64.StdEncoding.DecodeString(j.PublicKey)
	if err != nil || len(key) != ed25519.PublicKeySize || !nodeName().MatchString(j.Name) {
		http.Error(w, "name must be a DNS label and publicKey the base64 of an Ed25519 public key", http.StatusBadRequest)
		return
	}
	joined, err := h.Fleet.Join(r.Context(), j, key)
	switch {
	case errors.Is(err, store.ErrToken):
		http.Error(w, err.Error(), http.StatusForbidden)
	case errors.Is(err, store.ErrConflict):
		http.Error(w, err.Error(), http.StatusConflict)
	case err != nil:
		unavailable(w, r, err)
	default:
		function.WriteJSON(w, http.StatusOK, joined)
	}
}

// caller authenticates and authorises a node. It answers when it may not.
func (h *handler) caller(w http.ResponseWriter, r *http.Request, action auth.Action) (tenant, node string, body []byte, ok bool) {
	body, err := function.Body(r, maxReport)
	if err != nil {
		http.Error(w, "body is too large or cannot be read", http.StatusRequestEntityTooLarge)
		return "", "", nil, false
	}
	lookup := func(id string) (ed25519.PublicKey, error) {
		key, err := h.Fleet.NodeKey(r.Context(), id)
		if errors.Is(err, store.ErrNotFound) {
			return nil, auth.ErrRequestKey
		}
		return key, err
	}
	err = auth.VerifyRequest(r, body, lookup, h.Now())
	switch {
	case auth.Unauthenticated(err):
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return "", "", nil, false
	case err != nil:
		unavailable(w, r, err)
		return "", "", nil, false
	}
	tenant, node, _ = store.SplitNodeID(r.Header.Get(auth.HeaderKey))
	p := auth.Principal{Actor: audit.Actor{Kind: audit.Node, Name: node}, Tenant: tenant, Role: auth.Node}
	if err := h.Authorize(r.Context(), p, action, tenant, "node "+node); err != nil {
		if errors.Is(err, auth.ErrDenied) {
			http.Error(w, "not allowed", http.StatusForbidden)
		} else {
			unavailable(w, r, err)
		}
		return "", "", nil, false
	}
	return tenant, node, body, true
}

// wanted answers with the orders that are newer than what the node knows, or
// holds the answer back while there are none. It holds no connection while it waits.
func (h *handler) wanted(w http.ResponseWriter, r *http.Request) {
	tenant, node, body, ok := h.caller(w, r, auth.NodeWanted)
	if !ok {
		return
	}
	var q target.WantedRequest
	if err := json.Unmarshal(body, &q); err != nil || len(q.Known) > maxPlaces {
		http.Error(w, "body is not a wanted request", http.StatusBadRequest)
		return
	}
	end := time.Now().Add(min(max(q.Wait, 0), maxWait))
	for {
		woken := h.wake.next() // before the look, so that no hint falls between
		orders, err := h.Fleet.Orders(r.Context(), tenant, node)
		if err != nil {
			unavailable(w, r, err)
			return
		}
		news := newer(orders, q.Known)
		if len(news) > 0 || !time.Now().Before(end) {
			function.WriteJSON(w, http.StatusOK, target.Wanted{Orders: news})
			return
		}
		if !pause(r.Context(), woken, time.Until(end)) {
			if r.Context().Err() == nil { // the host stops: the node asks again, and reaches another process
				function.WriteJSON(w, http.StatusOK, target.Wanted{Orders: news})
			}
			return
		}
	}
}

// pause waits until it is woken, it is time to look again, or left has passed;
// at least for the rest between two looks. False: the caller is gone, or the host stops.
func pause(ctx context.Context, woken <-chan struct{}, left time.Duration) bool {
	settle := time.NewTimer(rest)
	defer settle.Stop()
	again := time.NewTimer(min(recheck, left))
	defer again.Stop()
	select {
	case <-woken:
	case <-again.C:
	case <-function.Stopping(ctx):
		return false
	case <-ctx.Done():
		return false
	}
	select {
	case <-settle.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// newer returns the orders whose position is newer than the known one.
func newer(orders []target.Order, known []target.Known) []target.Order {
	at := map[target.Place]target.Position{}
	for _, k := range known {
		at[k.Place] = k.Position
	}
	out := []target.Order{}
	for _, o := range orders {
		if o.Position.Newer(at[o.Place]) {
			out = append(out, o)
		}
	}
	return out
}

// report stores what a node sees: row, hint, answer, in that order.
func (h *handler) report(w http.ResponseWriter, r *http.Request) {
	tenant, node, body, ok := h.caller(w, r, auth.NodeReport)
	if !ok {
		return
	}
	var rep target.Report
	if err := json.Unmarshal(body, &rep); err != nil || len(rep.Places) > maxPlaces {
		http.Error(w, "body is not a report", http.StatusBadRequest)
		return
	}
	if err := h.Fleet.SaveReport(r.Context(), tenant, node, rep); err != nil {
		unavailable(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), hintTime)
	defer cancel()
	h.Hint(ctx, "advance")
	w.WriteHeader(http.StatusNoContent)
}

// secrets answers with the secrets that the node's newest order for a place refers
// to, and with no others.
func (h *handler) secrets(w http.ResponseWriter, r *http.Request) {
	tenant, node, body, ok := h.caller(w, r, auth.NodeSecrets)
	if !ok {
		return
	}
	var q target.SecretsRequest
	if err := json.Unmarshal(body, &q); err != nil || len(q.Names) > maxSecrets {
		http.Error(w, "body is not a secrets request", http.StatusBadRequest)
		return
	}
	orders, err := h.Fleet.Orders(r.Context(), tenant, node)
	if err != nil {
		unavailable(w, r, err)
		return
	}
	may, out := referred(orders, q.Place), target.Secrets{Values: map[string][]byte{}}
	for _, name := range q.Names {
		if !may[name] {
			if err := h.refused(r.Context(), tenant, node, q.Place, name); err != nil {
				unavailable(w, r, err)
				return
			}
		}
		if !may[name] || h.Secrets == nil {
			http.Error(w, "secret "+name+" is not referred to by the newest order, or there is none", http.StatusNotFound)
			return
		}
		value, err := h.Secrets.Get(r.Context(), tenant, name)
		switch {
		case errors.Is(err, secret.ErrNotFound), errors.Is(err, secret.ErrName):
			http.Error(w, "secret "+name+" is not referred to by the newest order, or there is none", http.StatusNotFound)
			return
		case err != nil:
			unavailable(w, r, err)
			return
		}
		out.Values[name] = value.Reveal()
	}
	w.Header().Set("Cache-Control", "no-store")
	function.WriteJSON(w, http.StatusOK, out)
}

// refused takes down that a node asked for a secret that no order of it refers to: one
// row for each place and hour, so that asking often fills nothing.
func (h *handler) refused(ctx context.Context, tenant, node string, at target.Place, name string) error {
	place := cut(at.Environment) + "/" + cut(at.Deployment)
	return h.Fleet.Record(ctx, tenant, func(now time.Time) []audit.Row {
		return []audit.Row{{
			ID: fmt.Sprintf("secret/%s/%s/refused/%d", node, place, now.Unix()/3600), Tenant: tenant, At: now, Actor: audit.Actor{Kind: audit.Node, Name: node},
			Action: "secret.refused", Subject: "secret " + cut(name), Reason: "no order of the node for " + place + " refers to it; more of this hour are not told",
		}}
	})
}

// cut is what a node says, fit for a row: 63 printable bytes.
func cut(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), 63)]
}

// referred are the secrets that the newest order for a place refers to.
func referred(orders []target.Order, place target.Place) map[string]bool {
	out := map[string]bool{}
	for _, o := range orders {
		if o.Place != place {
			continue
		}
		for _, i := range []*target.Instance{o.Active, o.Standby} {
			if i == nil {
				continue
			}
			for _, ref := range i.Config.Secrets {
				out[ref.From] = true
			}
		}
	}
	return out
}

func decode(w http.ResponseWriter, r *http.Request, v any) bool {
	body, err := function.Body(r, maxReport)
	if err == nil {
		err = json.Unmarshal(body, v)
	}
	if err != nil {
		http.Error(w, "body is not the JSON that is expected here", http.StatusBadRequest)
		return false
	}
	return true
}

// unavailable answers for what is not the caller's fault; the details are for the log.
func unavailable(w http.ResponseWriter, r *http.Request, err error) {
	slog.ErrorContext(r.Context(), "nodes", "err", err)
	w.Header().Set("Retry-After", "1")
	http.Error(w, "try again", http.StatusServiceUnavailable)
}
