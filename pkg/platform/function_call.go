package platform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"hotswap.dev/hotswap/pkg/copybuf"
	"hotswap.dev/hotswap/pkg/function"
)

// The headers of a call, as OpenFaaS has them.
const (
	headerCallID   = function.HeaderCall
	headerStart    = "X-Start-Time"        // Unix nanoseconds
	headerInternal = "X-OpenFaaS-Internal" // the answer is the platform's, not the function's
)

type callKey struct{}

// A functionCall is what the proxy must know of the request that it passes on.
type functionCall struct {
	function *managed
	path     string // below the function, escaped
}

// Caller returns the handler that passes a call on to a function; paths are the
// function's own. What the platform itself answers carries X-OpenFaaS-Internal.
func (f *Functions) Caller(name string) http.Handler {
	proxy := f.proxy()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.call(w, r, proxy, name, r.URL.EscapedPath()) })
}

// proxy passes calls on. Streams, which have no length, are flushed at once by themselves.
func (f *Functions) proxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			c := p.In.Context().Value(callKey{}).(functionCall)
			p.Out.URL.Scheme, p.Out.URL.Host = "http", c.function.name // the process is chosen when it is called
			p.Out.URL.Path, p.Out.URL.RawPath = unescaped(c.path)
			p.Out.URL.RawQuery = p.In.URL.RawQuery // as it was signed, also where it is no list of values
			p.Out.Host = p.In.Host
			p.SetXForwarded() // the address that we see, in the place of what the caller says
		},
		Transport:    functionTransport{},
		BufferPool:   &copybuf.Pool{},
		ErrorHandler: refuseCall,
		ErrorLog:     slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
		ModifyResponse: func(r *http.Response) error {
			for _, name := range []string{headerCallID, headerStart, headerInternal} { // these are ours to set
				r.Header.Del(name)
			}
			return nil
		},
	}
}

// unescaped is a path as net/url keeps it.
func unescaped(escaped string) (path, raw string) {
	if escaped == "" {
		escaped = "/"
	}
	u, err := url.ParseRequestURI(escaped)
	if err != nil {
		return escaped, ""
	}
	return u.Path, u.RawPath
}

// call passes one request on, by its deadline.
func (f *Functions) call(w http.ResponseWriter, r *http.Request, proxy *httputil.ReverseProxy, name, path string) {
	start := time.Now()
	id := function.CallID(r.Header)
	r.Header.Set(headerCallID, id) // once, however often the caller did
	w.Header().Set(headerCallID, id)
	w.Header().Set(headerStart, strconv.FormatInt(start.UnixNano(), 10))
	m, err := f.find(name)
	if err != nil {
		refuseCall(w, r, err)
		return
	}
	m.mu.Lock()
	write := m.d.write
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), callKey{}, functionCall{function: m, path: path}), write)
	defer cancel()
	bodyWithin(w, r, write)
	proxy.ServeHTTP(w, r.WithContext(ctx))
}

// refuseCall answers for the platform.
func refuseCall(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		panic(http.ErrAbortHandler) // the caller is gone: there is nobody to answer
	}
	status, text := http.StatusBadGateway, "the function's process ended during the call"
	switch {
	case errors.Is(err, ErrNoFunction):
		status, text = http.StatusNotFound, "no such function"
	case errors.Is(err, ErrBusy):
		status, text = http.StatusTooManyRequests, "too many calls at once; try again"
		w.Header().Set("Retry-After", "1")
	case errors.Is(err, ErrNoStart):
		status, text = http.StatusServiceUnavailable, "the function does not start; try again"
		w.Header().Set("Retry-After", "5")
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		status, text = http.StatusGatewayTimeout, "the function did not answer in time"
	case errors.As(err, new(*http.MaxBytesError)):
		status, text = http.StatusRequestEntityTooLarge, "the body is too large"
	}
	level := slog.LevelWarn
	if status == http.StatusNotFound { // anybody may ask for what is not there
		level = slog.LevelDebug
	}
	slog.Log(r.Context(), level, "call", "path", r.URL.Path, "call_id", w.Header().Get(headerCallID), "status", status, "err", err)
	w.Header().Set(headerInternal, "gateway")
	http.Error(w, text, status)
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// A functionTransport sends a request to a process of its function.
type functionTransport struct{}

// RoundTrip implements [http.RoundTripper]. When nothing could be sent, because the process
// was not there any more, another one is tried, once.
func (functionTransport) RoundTrip(q *http.Request) (*http.Response, error) {
	c := q.Context().Value(callKey{}).(functionCall)
	q = q.Clone(q.Context())
	if q.Body != nil {
		q.Body = io.NopCloser(q.Body) // a transport closes it, also when it sent nothing; the server closes the real one
	}
	for try := 0; ; try++ {
		r, err := c.function.acquire(q.Context())
		if err != nil {
			return nil, err
		}
		q.URL.Host = r.address
		answer, err := r.transport.RoundTrip(q)
		if err == nil {
			release := sync.OnceFunc(func() { c.function.release(r) })
			if rw, ok := answer.Body.(io.ReadWriteCloser); ok { // an upgraded connection
				answer.Body = &upgraded{ReadWriteCloser: rw, release: release}
			} else {
				answer.Body = &releasing{ReadCloser: answer.Body, release: release}
			}
			return answer, nil
		}
		nothingSent := errors.Is(err, syscall.ECONNREFUSED) // other failures to reach it are ours, or the caller's
		if nothingSent {
			c.function.gone(r)
		}
		c.function.release(r)
		if !nothingSent || try > 0 {
			return nil, err
		}
	}
}

// gone takes a process out that does not listen any more.
func (m *managed) gone(r *replica) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stop(r)
}

// releasing gives the process back when the answer has been read.
type releasing struct {
	io.ReadCloser
	release func()
}

// Close implements [io.Closer].
func (b *releasing) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}

// upgraded is releasing for a connection that both sides write to.
type upgraded struct {
	io.ReadWriteCloser
	release func()
}

// Close implements [io.Closer].
func (b *upgraded) Close() error {
	defer b.release()
	return b.ReadWriteCloser.Close()
}

// splitFunctionPath cuts /PREFIX/NAME/rest into the name and the escaped rest.
func splitFunctionPath(escaped, prefix string) (name, rest string, err error) {
	tail, ok := strings.CutPrefix(escaped, prefix)
	if !ok {
		return "", "", fmt.Errorf("path %q", escaped)
	}
	name, rest, found := strings.Cut(tail, "/")
	if found {
		rest = "/" + rest
	}
	return name, rest, nil
}
