package function

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/auth"
)

// HeaderHint marks a call that may be lost, and of which several are one: a platform that
// knows it keeps no row for it. Other hosts take it as any asynchronous call.
const HeaderHint = "HotSwap-Hint"

// CallKeyID names the key of calls between functions with this public half.
func CallKeyID(public ed25519.PublicKey) string { return "call-" + audit.KeyID(public) }

// CallKeys are the public halves of keys that calls are signed with, by [CallKeyID].
func CallKeys(keys ...ed25519.PrivateKey) map[string]ed25519.PublicKey {
	out := map[string]ed25519.PublicKey{}
	for _, key := range keys {
		if public, ok := key.Public().(ed25519.PublicKey); ok {
			out[CallKeyID(public)] = public
		}
	}
	return out
}

// A Caller tells other functions to look now.
type Caller struct {
	URL    string // of a function, below which its paths are; {function} stands for its name
	Key    ed25519.PrivateKey
	Client *http.Client
	Now    func() time.Time
}

// Hint sends the function a signed, empty POST and ignores what comes of it: a hint that
// is lost costs a tick. It takes as long as ctx lets it.
func (c *Caller) Hint(ctx context.Context, function string) {
	if err := c.hint(ctx, function); err != nil {
		slog.DebugContext(ctx, "hint lost", "function", function, "err", err)
	}
}

func (c *Caller) hint(ctx context.Context, function string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "/", http.NoBody)
	if err != nil {
		return err
	}
	if err := Sign(r, c.Key, c.Now()); err != nil {
		return err
	}
	base := strings.TrimSuffix(strings.ReplaceAll(c.URL, "{function}", function), "/")
	if r.URL, err = r.URL.Parse(base + "/"); err != nil {
		return err
	}
	r.Host = r.URL.Host
	r.Header.Set(HeaderHint, "look")
	answer, err := c.Client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 4<<10))
	if answer.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("answered %s", answer.Status)
	}
	return nil
}

// Sign signs a call of a function that has no body; its path is the one below the function.
func Sign(r *http.Request, key ed25519.PrivateKey, now time.Time) error {
	public, _ := key.Public().(ed25519.PublicKey)
	return auth.SignRequest(r, nil, CallKeyID(public), key, rand.Text(), now)
}

// Looks guard the call POST / of a function, which means "look now" and nothing else.
type Looks struct {
	// Keys are those of the functions of this installation, by [CallKeyID]; during a
	// rotation the former one is among them.
	Keys map[string]ed25519.PublicKey
	// Once reports whether a request of a key is seen for the first time; it need not know
	// those from before the time that it is told.
	Once func(ctx context.Context, key, request string, since time.Time) (bool, error)
	Now  func() time.Time
}

// Bounds of calls that nobody signed: enough for any cron, too few to keep a database busy.
const (
	unsignedPerSecond = 1
	unsignedBurst     = 5
)

// Guard returns h, whose POST / is only reached by a call that another function signed,
// once, or by an empty one that nobody signed, as a host's cron sends it; those are
// answered 429 when many come. A body that nobody signed is refused. All other paths
// are h's own: it authenticates their callers itself.
func (l Looks) Guard(h http.Handler) http.Handler {
	if l.Now == nil {
		l.Now = time.Now
	}
	limit := rate.NewLimiter(unsignedPerSecond, unsignedBurst)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" || r.Method != http.MethodPost {
			h.ServeHTTP(w, r)
			return
		}
		body, err := Body(r, 0)
		if err != nil {
			http.Error(w, "a call that means \"look now\" has no body", http.StatusRequestEntityTooLarge)
			return
		}
		switch err := l.verify(r, body); {
		case errors.Is(err, auth.ErrRequestUnsigned):
			if !limit.Allow() {
				w.Header().Set("Retry-After", "1")
				http.Error(w, "too many unsigned calls", http.StatusTooManyRequests)
				return
			}
		case auth.Unauthenticated(err), errors.Is(err, errReplayed):
			slog.WarnContext(r.Context(), "call of a function refused", "err", err)
			http.Error(w, "the call is not one of our functions', or came before", http.StatusUnauthorized)
			return
		case err != nil:
			slog.ErrorContext(r.Context(), "call of a function", "err", err)
			w.Header().Set("Retry-After", "1")
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(w, r)
	})
}

var errReplayed = errors.New("the call came before")

// verify returns nil for a signed call that has not come before.
func (l Looks) verify(r *http.Request, body []byte) error {
	now := l.Now()
	if err := auth.VerifyRequest(r, body, func(id string) (ed25519.PublicKey, error) { return l.Keys[id], nil }, now); err != nil {
		return err
	}
	s, err := auth.ParseRequest(r.Header)
	if err != nil {
		return err
	}
	first, err := l.Once(r.Context(), s.Key, s.Request, now.Add(-2*auth.RequestWindow))
	if err == nil && !first {
		err = errReplayed
	}
	return err
}
