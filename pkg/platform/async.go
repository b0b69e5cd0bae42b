package platform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"hotswap.dev/hotswap/pkg/store"
)

// Bounds of asynchronous calls.
const (
	asyncWorkers   = 4
	asyncAttempts  = 10               // of a call, and of telling its callback
	asyncFirstWait = time.Second      // before the second attempt; doubles
	asyncMaxWait   = 10 * time.Minute // before any
	asyncAnswer    = 1 << 20          // bytes of an answer that a callback is told
	asyncLook      = 5 * time.Second  // between looks when nobody wakes
	asyncForget    = time.Minute      // between looks for calls that nobody needs any more
	asyncMargin    = 10 * time.Second // of a lease, beyond the call
	callbackTime   = 20 * time.Second
	keepDone       = 24 * time.Hour // so long a call of the same id is the same call
	keepDead       = 30 * 24 * time.Hour
)

// An AsyncStore keeps asynchronous calls until they are done.
type AsyncStore interface {
	CallStore
	ClaimCall(ctx context.Context, lease time.Duration) (store.AsyncCall, bool, error)
	AnswerCall(ctx context.Context, c store.AsyncCall) error
	ToldCall(ctx context.Context, c store.AsyncCall) error
	FailCall(ctx context.Context, c store.AsyncCall, why string, wait time.Duration, last bool) error
	ForgetCalls(ctx context.Context, done, dead time.Duration) (more bool, err error)
}

// An Async makes the calls that were accepted: at least once each, with the same
// X-Call-Id each time, until the function has answered. A function that is down, full or
// answers 5xx is called again, later and later; after ten attempts the call is dead and
// waits for a person. What it answered is told to the callback in the same way.
type Async struct {
	functions *Functions
	store     AsyncStore
	client    *http.Client
	wake      chan struct{}
	attempts  int
	wait      func(attempt int) time.Duration
}

// NewAsync returns the worker of asynchronous calls. Client tells callbacks, see
// [Callbacks.Client].
func NewAsync(f *Functions, s AsyncStore, client *http.Client) *Async {
	return &Async{functions: f, store: s, client: client, wake: make(chan struct{}, 1), attempts: asyncAttempts, wait: asyncWait}
}

func asyncWait(attempt int) time.Duration {
	d := min(asyncMaxWait, asyncFirstWait<<min(attempt, 20))
	return d/2 + rand.N(d/2+1)
}

// Wake says that a call may be due.
func (a *Async) Wake() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Run makes calls until ctx ends, and returns when those under way have ended.
func (a *Async) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for range asyncWorkers {
		group.Go(func() error { a.work(ctx); return nil })
	}
	group.Go(func() error { a.look(ctx); return nil })
	return group.Wait()
}

// look wakes a worker now and then, for what is due later or was accepted elsewhere, and
// forgets old calls, however many new ones there are.
func (a *Async) look(ctx context.Context) {
	look, forget := time.NewTicker(asyncLook), time.NewTicker(asyncForget)
	defer look.Stop()
	defer forget.Stop()
	a.Wake()
	for {
		select {
		case <-look.C:
			a.Wake()
		case <-forget.C:
			for more := true; more; {
				var err error
				if more, err = a.store.ForgetCalls(ctx, keepDone, keepDead); err != nil && ctx.Err() == nil {
					slog.WarnContext(ctx, "asynchronous calls", "err", err)
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

func (a *Async) work(ctx context.Context) {
	for {
		select {
		case <-a.wake:
		case <-ctx.Done():
			return
		}
		for {
			did, err := a.one(ctx)
			if err != nil && ctx.Err() == nil {
				slog.WarnContext(ctx, "asynchronous call", "err", err)
			}
			if !did || err != nil {
				break
			}
			a.Wake() // there may be more: another worker looks meanwhile
		}
	}
}

// one does what is due of one call; false when nothing is.
func (a *Async) one(ctx context.Context) (bool, error) {
	c, ok, err := a.store.ClaimCall(ctx, defaultWrite+asyncMargin)
	if err != nil || !ok {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, defaultWrite)
	defer cancel()
	if c.State == store.AsyncAnswered {
		return true, a.tell(ctx, c)
	}
	return true, a.make(ctx, c)
}

// make calls the function.
func (a *Async) make(ctx context.Context, c store.AsyncCall) error {
	r, err := http.NewRequestWithContext(ctx, c.Request.Method, "http://"+c.Function+c.Request.Path, bytes.NewReader(c.Body))
	if err != nil {
		return a.failed(ctx, c, err.Error(), true)
	}
	r.URL.RawQuery = c.Request.Query
	r.Header = c.Request.Header.Clone()
	r.Header.Set(headerCallID, c.ID)
	r.RemoteAddr = "127.0.0.1:0"
	w := &asyncAnswerWriter{header: http.Header{}, status: http.StatusOK}
	start := time.Now()
	serveSurvived(a.functions.Caller(c.Function), w, r)
	switch {
	case ctx.Err() != nil:
		return a.failed(ctx, c, "the call took too long, or the platform stopped", false)
	case w.status >= http.StatusInternalServerError, w.status == http.StatusTooManyRequests, w.header.Get(headerInternal) != "":
		return a.failed(ctx, c, fmt.Sprintf("answered %d: %.200s", w.status, printable(w.body.String())), false)
	}
	c.Answer = store.AsyncAnswer{Status: w.status, Header: keptHeader(w.header), Seconds: time.Since(start).Seconds()}
	c.AnswerBody = w.body.Bytes()
	ctx, cancel := lastly(ctx)
	defer cancel()
	return a.store.AnswerCall(ctx, c)
}

// lastly bounds the row that says what came of a call. It is the last thing that a stopping
// platform does, so it has a moment of its own: without it the call would be made again.
func lastly(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
}

// failed gives the call back.
func (a *Async) failed(ctx context.Context, c store.AsyncCall, why string, never bool) error {
	ctx, cancel := lastly(ctx)
	defer cancel()
	last := never || c.Attempts+1 >= a.attempts
	if last {
		slog.ErrorContext(ctx, "asynchronous call is dead; see hotswap function calls", "function", c.Function, "call_id", c.ID, "why", why)
	}
	return a.store.FailCall(ctx, c, why, a.wait(c.Attempts), last)
}

// tell tells the callback what the function answered.
func (a *Async) tell(ctx context.Context, c store.AsyncCall) error {
	ctx, cancel := context.WithTimeout(ctx, callbackTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Callback, bytes.NewReader(c.AnswerBody))
	if err != nil {
		return a.failed(ctx, c, err.Error(), true)
	}
	for name, values := range c.Answer.Header {
		r.Header[name] = values
	}
	r.Header.Set(headerCallID, c.ID)
	r.Header.Set(headerFunction, c.Function)
	r.Header.Set(headerStatus, strconv.Itoa(c.Answer.Status))
	r.Header.Set(headerSeconds, strconv.FormatFloat(c.Answer.Seconds, 'f', 6, 64))
	answer, err := a.client.Do(r)
	if err != nil {
		return a.failed(ctx, c, "callback: "+printable(err.Error()), false)
	}
	defer answer.Body.Close()
	discardBody(answer.Body)
	if answer.StatusCode >= http.StatusMultipleChoices {
		return a.failed(ctx, c, "callback answered "+printable(answer.Status), false)
	}
	ctx, end := lastly(ctx)
	defer end()
	return a.store.ToldCall(ctx, c)
}

// serveSurvived serves a call; what panics ends it, and is an answer of 502.
func serveSurvived(h http.Handler, w *asyncAnswerWriter, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			w.status = http.StatusBadGateway
		}
	}()
	h.ServeHTTP(w, r)
}

// asyncAnswerWriter keeps an answer, cut to what a callback is told.
type asyncAnswerWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *asyncAnswerWriter) Header() http.Header { return w.header }

func (w *asyncAnswerWriter) Write(b []byte) (int, error) {
	if left := asyncAnswer - w.body.Len(); left > 0 {
		w.body.Write(b[:min(left, len(b))])
	}
	return len(b), nil
}

func (w *asyncAnswerWriter) WriteHeader(code int) { w.status = code }

// Flush implements [http.Flusher]: there is nobody to send anything to yet.
func (w *asyncAnswerWriter) Flush() {}

// Callbacks says where answers of asynchronous calls may be told: public addresses, and
// those of private networks that the operator has allowed.
type Callbacks struct{ Allow []netip.Prefix }

var errCallback = errors.New("answers are not told there: the address is not a public one; allow its network with --allow-callbacks")

// Check reports what is wrong with a URL before anything is kept. The address itself is
// checked when it is connected to, see [Callbacks.Client].
func (c Callbacks) Check(u *url.URL) error {
	if (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil {
		return errors.New("it is not an http or https URL without a user")
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && !c.may(a) {
		return errCallback
	}
	return nil
}

func (c Callbacks) may(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range c.Allow {
		if p.Contains(a) {
			return true
		}
	}
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(special(), func(p netip.Prefix) bool { return p.Contains(a) })
}

// special are networks that lead nowhere public, or to an IPv4 address that is inside theirs:
// https://www.iana.org/assignments/iana-ipv4-special-registry and …/iana-ipv6-special-registry.
func special() []netip.Prefix {
	var out []netip.Prefix
	for _, text := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2002::/16", "fec0::/10",
	} {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// Client returns a client that connects only to addresses that are allowed, whatever a
// name resolves to, and follows no redirects.
func (c Callbacks) Client() *http.Client {
	dialer := &net.Dialer{Timeout: 5 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		if !c.may(at.Addr()) {
			return errCallback
		}
		return nil
	}}
	return &http.Client{
		Timeout:       callbackTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DialContext: dialer.DialContext, TLSHandshakeTimeout: 5 * time.Second, MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second},
	}
}
