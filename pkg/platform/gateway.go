package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"hotswap.dev/hotswap/pkg/function"
	"hotswap.dev/hotswap/pkg/store"
)

// maxAsyncBody is the largest body of an asynchronous call, in bytes: what a forge's
// delivery may have.
const maxAsyncBody = 5 << 20

// The headers of an asynchronous call, as OpenFaaS has them.
const (
	headerCallback = "X-Callback-Url"
	headerFunction = "X-Function-Name"
	headerStatus   = "X-Function-Status"
	headerSeconds  = "X-Duration-Seconds"
)

// GatewayOptions are what a [Gateway] is put together from. All but Git are needed.
type GatewayOptions struct {
	Functions *Functions
	Access    Access
	Calls     CallStore
	// Hint asks for a call of one of our own functions, soon; see [Runner.Hint].
	Hint func(ctx context.Context, function string)
	// Signed returns nil for a call that one of our functions signed; its path is the one
	// below the function.
	Signed func(r *http.Request) error
	// Wake is called when an asynchronous call was accepted.
	Wake func()
	// Callback says whether an answer may be told to a URL.
	Callback func(u *url.URL) error
	Git      http.Handler // below /git/; nil: repositories are served elsewhere
}

// A CallStore keeps asynchronous calls.
type CallStore interface {
	// AcceptCall returns once the call is durable; [store.ErrConflict] for another call of the id.
	AcceptCall(ctx context.Context, c store.AsyncCall) error
}

// Gateway returns the platform's door, with the routes of OpenFaaS's gateway: functions
// below /function/NAME, the same without waiting for the answer below
// /async-function/NAME, what manages them below /system/, and /healthz. Repositories are
// below /git/.
func Gateway(o GatewayOptions) http.Handler {
	mux := http.NewServeMux()
	p := provider{functions: o.Functions, access: o.Access, gateway: true}
	p.routes(mux)
	if o.Git != nil {
		mux.Handle("/git/", o.Git)
	}
	return door{rest: mux, function: p.calls(o.Functions.proxy()), async: gateway{o, p}.async()}
}

type gateway struct {
	GatewayOptions
	provider provider
}

// async takes a call, and answers before it is made. Whoever may not call is told so
// before anything is kept: nobody else can fill the database.
func (g gateway) async() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "an asynchronous call is a POST", http.StatusMethodNotAllowed)
			return
		}
		name, rest, err := splitFunctionPath(r.URL.EscapedPath(), "/async-function/")
		var m *managed
		if err == nil {
			m, err = g.Functions.find(name)
		}
		if err != nil {
			refuseCall(w, r, ErrNoFunction)
			return
		}
		if r.Header.Get(function.HeaderHint) != "" && m.isOwn() {
			g.hint(w, r, m, rest)
			return
		}
		if !g.provider.mayQueue(w, r) {
			return
		}
		g.accept(w, r, m, rest)
	})
}

// mayQueue reports whether the caller may have a call made later, and answers if not. A
// function that is public asks its callers itself, but not before the call is kept.
func (p provider) mayQueue(w http.ResponseWriter, r *http.Request) bool {
	if !p.access.guard(w, r) {
		return false
	}
	if err := p.allowed(r, ActionCall); err != nil {
		refuseSystem(w, r, err)
		return false
	}
	r.Header.Del("Authorization")
	return true
}

// hint takes a call of a function of ours that may be lost: nothing is kept.
func (g gateway) hint(w http.ResponseWriter, r *http.Request, m *managed, rest string) {
	q := r.Clone(r.Context())
	q.URL = &url.URL{Path: rest, RawQuery: r.URL.RawQuery}
	if rest == "" {
		q.URL.Path = "/"
	}
	if r.ContentLength != 0 || q.URL.Path != "/" { // nothing is read: nobody has said yet who they are
		w.Header().Set("Connection", "close")
		http.Error(w, "a hint has no body and no path", http.StatusBadRequest)
		return
	}
	if err := g.Signed(q); err != nil {
		slog.WarnContext(r.Context(), "hint refused", "function", m.name, "err", err)
		http.Error(w, "the hint is not one of our functions'", http.StatusUnauthorized)
		return
	}
	g.Hint(r.Context(), m.name)
	w.WriteHeader(http.StatusAccepted)
}

// accept keeps a call.
func (g gateway) accept(w http.ResponseWriter, r *http.Request, m *managed, rest string) {
	body, err := function.Body(r, maxAsyncBody)
	if err != nil {
		status := http.StatusBadRequest
		if errors.Is(err, function.ErrTooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, fmt.Sprintf("the body cannot be read, or is larger than %d bytes", maxAsyncBody), status)
		return
	}
	callback, err := g.callback(r.Header.Get(headerCallback))
	if err != nil {
		http.Error(w, headerCallback+": "+err.Error(), http.StatusBadRequest)
		return
	}
	id := function.CallID(r.Header)
	if rest == "" {
		rest = "/"
	}
	err = g.Calls.AcceptCall(r.Context(), store.AsyncCall{
		ID: id, Function: m.name, Body: body, Callback: callback,
		Request: store.AsyncRequest{Method: r.Method, Path: rest, Query: r.URL.RawQuery, Header: keptHeader(r.Header)},
	})
	switch {
	case errors.Is(err, store.ErrConflict):
		http.Error(w, headerCallID+" came before, with another call", http.StatusConflict)
		return
	case err != nil:
		slog.ErrorContext(r.Context(), "accept a call", "function", m.name, "err", err)
		w.Header().Set("Retry-After", "5")
		http.Error(w, "the call was not kept; send it again", http.StatusServiceUnavailable)
		return
	}
	g.Wake()
	w.Header().Set(headerCallID, id)
	w.WriteHeader(http.StatusAccepted)
}

func (g gateway) callback(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	u, err := url.Parse(text)
	if err != nil || len(text) > 2000 {
		return "", errors.New("it is not a URL")
	}
	return text, g.Callback(u)
}

// keptHeader is what of a request's header is kept with the call.
func keptHeader(h http.Header) http.Header {
	out := h.Clone()
	for _, of := range h.Values("Connection") { // these are of one connection too, RFC 9110 section 7.6.1
		for _, name := range strings.Split(of, ",") {
			out.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range []string{"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length", "Proxy-Authorization", "Proxy-Connection", headerCallback} {
		out.Del(name)
	}
	return out
}

// gatewayInfo is what a client of a gateway of OpenFaaS reads.
func gatewayInfo(w http.ResponseWriter) error {
	v := version()
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(map[string]any{
		"provider": map[string]any{"provider": "hotswap", "orchestration": "processes", "version": v},
		"version":  v, "arch": arch(),
	})
}

// discardBody reads the rest of a body, so that its connection can be used again.
func discardBody(b io.Reader) { _, _ = io.Copy(io.Discard, io.LimitReader(b, 64<<10)) }

// printable is a text of the outside, fit for a log or a row.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
