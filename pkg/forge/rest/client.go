// Package rest asks a forge over HTTP and JSON: every call has a deadline and a size, follows nobody, waits when it is
// told to, and stops asking for a while what failed several times. What it answers is whole or an error of pkg/forge.
package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/secret"
)

// Limits of a call. An answer larger than maxAnswer is refused, never cut.
const (
	maxAnswer  = 8 << 20
	maxRefusal = 64 << 10 // bytes that are read of an answer that is no success
)

// Options are what a [Client] needs. Everything but BaseURL and Token has a default.
type Options struct {
	BaseURL string        // of the API, https; without a user, a query or a fragment
	Scheme  string        // word before the token in the header Authorization; default "Bearer"
	Token   secret.Secret // of our account
	// Plain allows http to other machines: for a network that is trusted as a whole.
	Plain   bool
	Timeout time.Duration // of one call; default 10 s
	// Failures in a row after which nothing is asked for Rest; default 5, and 15 s.
	Failures uint
	Rest     time.Duration
	Now      func() time.Time // default time.Now; decides when Retry-After has passed
}

// Client speaks with one server as one account. It is safe for concurrent use.
type Client struct {
	base    *url.URL
	auth    func() string
	client  *http.Client
	breaker circuitbreaker.CircuitBreaker[any]
	now     func() time.Time

	mu    sync.Mutex
	until time.Time // nothing is asked before
}

// New returns a client. It asks nothing yet.
func New(o Options) (*Client, error) {
	base, err := parseBase(o)
	if err != nil {
		return nil, err
	}
	if o.Token.IsZero() {
		return nil, fmt.Errorf("%w: the token of the forge is not set", forge.ErrInvalid)
	}
	o = o.filled()
	scheme, token := o.Scheme, o.Token
	return &Client{
		base:   base,
		auth:   func() string { return scheme + " " + token.RevealString() },
		client: newHTTP(o.Timeout),
		now:    o.Now,
		breaker: circuitbreaker.NewBuilder[any]().
			WithFailureThreshold(o.Failures).WithDelay(o.Rest).WithSuccessThreshold(1).Build(),
	}, nil
}

func (o Options) filled() Options {
	if o.Scheme == "" {
		o.Scheme = "Bearer"
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Failures == 0 {
		o.Failures = 5
	}
	if o.Rest <= 0 {
		o.Rest = 15 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

func parseBase(o Options) (*url.URL, error) {
	u, err := url.Parse(o.BaseURL)
	switch {
	case err != nil: // it may hold a password: it is not repeated
		return nil, fmt.Errorf("%w: the address of the forge cannot be parsed", forge.ErrInvalid)
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return nil, fmt.Errorf("%w: the address of the forge has neither a user nor a query", forge.ErrInvalid)
	case u.Hostname() == "", u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("%w: the address of the forge begins with https:// and names a host", forge.ErrInvalid)
	case u.Scheme == "http" && !o.Plain && !loopback(u.Hostname()):
		return nil, fmt.Errorf("%w: the token would go to %s without encryption", forge.ErrInvalid, u.Host)
	}
	return u, nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// newHTTP returns a client that waits for nothing without end and follows nobody: a
// redirect would take the token along.
func newHTTP(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: timeout}).DialContext,
			TLSHandshakeTimeout:    timeout,
			ResponseHeaderTimeout:  timeout,
			IdleConnTimeout:        time.Minute,
			MaxConnsPerHost:        16,
			MaxIdleConnsPerHost:    4,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true, // an answer has the size that it says
			ForceAttemptHTTP2:      true,
		},
	}
}

// A Call is one request. Path begins with a slash and is below BaseURL; see [Path].
type Call struct {
	Method string // default GET
	Path   string
	Query  url.Values
	Send   any // as JSON; nil: nothing
	Into   any // pointer; the answer's JSON is read into it; nil: the answer does not matter
}

// Path joins segments to a path, each escaped whole: a slash in one stays in it.
func Path(segments ...string) string {
	var b strings.Builder
	for _, s := range segments {
		b.WriteString("/" + url.PathEscape(s))
	}
	return b.String()
}

// Do makes the call and returns the headers of its success. A status that is none is
// a [Refusal].
func (c *Client) Do(ctx context.Context, call Call) (http.Header, error) {
	if err := c.admitted(); err != nil {
		return nil, err
	}
	req, err := c.request(ctx, call)
	if err != nil {
		return nil, err
	}
	if !c.breaker.TryAcquirePermit() {
		return nil, fmt.Errorf("%w: not asked, because it failed several times; again in %v", forge.ErrUnavailable, c.breaker.RemainingDelay().Round(time.Second))
	}
	resp, err := c.client.Do(req)
	if err != nil {
		c.failed(ctx)
		return nil, unanswered(ctx, err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read, or is given up
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, c.refusal(resp)
	}
	body, err := read(resp, maxAnswer)
	if err != nil {
		c.failed(ctx)
		return nil, err
	}
	c.breaker.RecordSuccess()
	if call.Into == nil {
		return resp.Header, nil
	}
	if err := json.Unmarshal(body, call.Into); err != nil {
		return nil, fmt.Errorf("%w: the answer to %s %s: %w", forge.ErrMalformed, req.Method, call.Path, err)
	}
	return resp.Header, nil
}

func (c *Client) request(ctx context.Context, call Call) (*http.Request, error) {
	var body io.Reader
	if call.Send != nil {
		text, err := json.Marshal(call.Send)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", forge.ErrInvalid, err)
		}
		body = strings.NewReader(string(text))
	}
	address := strings.TrimSuffix(c.base.String(), "/") + call.Path
	if len(call.Query) > 0 {
		address += "?" + call.Query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, call.method(), address, body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", forge.ErrInvalid, err)
	}
	req.Header.Set("Authorization", c.auth())
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "hotswap")
	if call.Send != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

func (c Call) method() string {
	if c.Method == "" {
		return http.MethodGet
	}
	return c.Method
}

// failed tells the breaker, unless it was our caller who gave up. A trial of a
// half-open breaker must end one way: given up, it has proven nothing.
func (c *Client) failed(ctx context.Context) {
	if !errors.Is(ctx.Err(), context.Canceled) || c.breaker.IsHalfOpen() {
		c.breaker.RecordFailure()
	}
}

// unanswered leaves the address out: it is ours, and what failed says enough.
func unanswered(ctx context.Context, err error) error {
	var at *url.Error
	if errors.As(err, &at) {
		err = at.Err
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("%w: %w", forge.ErrUnavailable, err)
}

func read(resp *http.Response, most int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err != nil {
		return nil, fmt.Errorf("%w: the answer broke off: %w", forge.ErrUnavailable, err)
	}
	if int64(len(body)) > most {
		return nil, fmt.Errorf("%w: an answer of more than %d bytes", forge.ErrTooMuch, most)
	}
	return body, nil
}
