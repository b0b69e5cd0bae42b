package node

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"sync/atomic"
	"time"

	"hotswap.dev/hotswap/pkg/copybuf"
)

// errNotRunning is what a request meets while its module has no process.
var errNotRunning = errors.New("module is not running")

// A proxy takes the requests of one place to the instance that is current. A
// switch is one store; a request that has begun stays where it began.
type proxy struct {
	name    string // of the deployment, for people
	current atomic.Pointer[instance]
}

// acquire returns the current instance with its count of requests raised. The
// second look makes sure that whoever waits for an instance's last request after
// a switch has seen this one.
func (p *proxy) acquire() *instance {
	for {
		i := p.current.Load()
		if i == nil {
			return nil
		}
		i.inflight.begin()
		if p.current.Load() == i {
			return i
		}
		i.inflight.end()
	}
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i := p.acquire()
	if i == nil {
		unavailable(w, p.name+" is not deployed on this node")
		return
	}
	defer i.inflight.end()
	counts := i.traffic.Load()
	begun := time.Now()
	rec := &statusRecorder{ResponseWriter: w}
	broken := true
	defer func() { // also when the proxy gives up half way, by a panic
		took := time.Since(begun)
		if rec.status == http.StatusSwitchingProtocols {
			took = -1
		}
		gone := errors.Is(r.Context().Err(), context.Canceled) // the client went away: not the module's fault
		counts.done(took, rec.status >= 500 || (broken && !gone))
	}()
	i.proxy.ServeHTTP(rec, r)
	broken = false
}

func unavailable(w http.ResponseWriter, text string) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, text, http.StatusServiceUnavailable)
}

// newReverseProxy returns the proxy to i's process, and what closes its idle
// connections.
func newReverseProxy(i *instance) (*httputil.ReverseProxy, func()) {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			address := i.address.Load()
			if address == nil {
				return nil, errNotRunning
			}
			return dialer.DialContext(ctx, "tcp", *address)
		},
		DisableCompression:  true, // what the module says passes as it is
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     2 * time.Second, // less than what modules usually keep theirs
	}
	name := i.spec.Module.Name
	return &httputil.ReverseProxy{
		Transport:  transport, // streams, which have no length, are flushed at once by themselves
		BufferPool: &copybuf.Pool{},
		ErrorLog:   log.New(logWriter{i}, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "module" // DialContext knows where
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if errors.Is(err, errNotRunning) {
				unavailable(w, name+" is not running at the moment")
				return
			}
			http.Error(w, name+" did not answer", http.StatusBadGateway)
		},
	}, transport.CloseIdleConnections
}

// logWriter brings the few things that ReverseProxy logs into the module's log.
type logWriter struct{ i *instance }

func (l logWriter) Write(b []byte) (int, error) {
	l.i.m.log.Debug("proxy", "module", l.i.spec.Module.Name, "text", oneSentence(string(b)))
	return len(b), nil
}

// A statusRecorder remembers the status. Flush and Hijack are found by Unwrap.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *statusRecorder) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// A front is one listener of a place with its connections.
type front struct {
	asked    string // as configured, "localhost:80"
	address  string // as it is, "127.0.0.1:80"
	listener *net.TCPListener
	server   *http.Server
	conns    *inflight
	draining atomic.Bool
	done     chan struct{} // closed when it has stopped to accept
}

// openFront listens on address, host:port.
func openFront(address string, h http.Handler) (*front, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return serveFront(address, l.(*net.TCPListener), h), nil
}

// serveFront answers on a listener that is there, which it takes over.
func serveFront(asked string, l *net.TCPListener, h http.Handler) *front {
	f := &front{asked: asked, address: l.Addr().String(), listener: l, conns: newInflight(), done: make(chan struct{})}
	f.server = &http.Server{
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          log.New(discard{}, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if f.draining.Load() {
				w.Header().Set("Connection", "close") // the client comes back on a new connection
			}
			h.ServeHTTP(w, r)
		}),
		ConnState: func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				f.conns.begin()
			case http.StateClosed, http.StateHijacked: // hijacked ones count as requests of their instance
				f.conns.end()
			}
		},
	}
	go func() {
		defer close(f.done)
		_ = f.server.Serve(l) // ends when the listener is closed, and says so
	}()
	return f
}

// drain stops accepting and lets every connection end by itself: the answer to
// its next request closes it. A connection without a next request is closed when
// linger has passed; a request that is under way then has until ctx ends.
func (f *front) drain(ctx context.Context, linger time.Duration) {
	f.draining.Store(true)
	f.listener.Close()
	<-f.done
	lingering, cancel := context.WithTimeout(ctx, linger)
	defer cancel()
	f.conns.wait(lingering)
	_ = f.server.Shutdown(ctx)
	_ = f.server.Close()
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// listenAddress joins host and port for net.Listen.
func listenAddress(host string, port int) string { return net.JoinHostPort(host, fmt.Sprint(port)) }
