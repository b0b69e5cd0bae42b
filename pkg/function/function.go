// Package function hosts one http.Handler as a function: deadline, a bound on
// calls side by side, health, and one log line per call. It knows nothing of what
// the handler does; a handler that reads a body bounds it, see [Body].
package function

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"sync"
	"time"
)

// Limits bound one function. Zero values mean the defaults.
type Limits struct {
	Deadline    time.Duration // of one call; default 50 s
	Concurrency int           // calls side by side; default 64. More are answered 429
}

func (l Limits) withDefaults() Limits {
	if l.Deadline == 0 {
		l.Deadline = 50 * time.Second
	}
	if l.Concurrency == 0 {
		l.Concurrency = 64
	}
	return l
}

// Where a host asks how a function is.
const (
	healthPath = "/_/health" // does it live?
	readyPath  = "/_/ready"  // could it do its work now?
)

// Host returns h with what every function has: GET /_/health and /_/ready, a
// deadline, a bound on concurrent calls, and a log line with the
// call's id. Ready says whether the function could do its work now.
func Host(name string, h http.Handler, ready func(ctx context.Context) error, l Limits) http.Handler {
	l = l.withDefaults()
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+healthPath, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET "+readyPath, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := ready(ctx); err != nil {
			slog.WarnContext(ctx, name+" is not ready", "err", err)
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ready\n")
	})
	mux.Handle("/", limited(name, h, l))
	return mux
}

func limited(name string, h http.Handler, l Limits) http.Handler {
	slots := make(chan struct{}, l.Concurrency)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many calls at once; try again", http.StatusTooManyRequests)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), l.Deadline)
		defer cancel()
		call := CallID(r.Header)
		w.Header().Set(HeaderCall, call)
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		start := time.Now()
		h.ServeHTTP(rec, r.WithContext(ctx))
		slog.DebugContext(ctx, "call of "+name, "call_id", call, "method", r.Method, "status", rec.status, "took", time.Since(start))
	})
}

// HeaderCall is the header with the id of a call, as OpenFaaS has it.
const HeaderCall = "X-Call-Id"

var callForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`) })

// CallID is the caller's id for the call when it is a plain one, else a new one.
func CallID(h http.Header) string {
	if id := h.Get(HeaderCall); callForm().MatchString(id) {
		return id
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}

// A recorder remembers the status for the log.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(code int) {
	r.status = code
	r.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach the real writer.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Errors of a body that is not taken.
var (
	ErrTooLarge = errors.New("body is too large")
	ErrBody     = errors.New("body cannot be read")
)

// Body reads a request's body, at most limit bytes. It returns [ErrTooLarge] or [ErrBody].
func Body(r *http.Request, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return nil, errors.Join(ErrBody, err)
	}
	if int64(len(b)) > limit {
		return nil, ErrTooLarge
	}
	return b, nil
}

// WriteJSON answers with v as JSON.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone: nobody is left to tell
}
