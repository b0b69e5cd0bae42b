package function

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"hotswap.dev/hotswap/pkg/secret"
)

// Secrets are the secrets of one function by name, as they were at one moment. An
// optional one that the host has not is not in it.
type Secrets map[string]secret.Secret

// A Work is a function built for one set of secrets.
type Work struct {
	Handler http.Handler
	Ready   func(ctx context.Context) error // could it do its work now?
	Close   func()                          // after its last call
}

// Reload tells a [Reloading] what to build, and of what.
type Reload struct {
	Required, Optional []string // names of secrets
	Get                func(ctx context.Context, name string) (secret.Secret, error)
	Build              func(ctx context.Context, s Secrets) (Work, error)
	Every              time.Duration // between two looks at the secrets; default 1 s
	Now                func() time.Time
}

// A Reloading is a function that is built when it is first called, and again once its
// secrets have changed: the calls under way end with what they began with. Nothing looks
// at the secrets between calls, and one call at a time does.
type Reloading struct {
	Reload
	turn chan struct{} // taken by the call that looks

	mu      sync.Mutex
	current *generation
	looked  time.Time
	closed  bool
}

// A generation is what was built for one set of secrets.
type generation struct {
	Work
	digest string
	calls  int
	stale  bool // no call comes any more
}

// retire lets no call come; true: none is under way either, so it is to be closed.
func (g *generation) retire() bool {
	g.stale = true
	return g.calls == 0
}

// NewReloading returns a function that builds itself as r says.
func NewReloading(r Reload) *Reloading {
	if r.Every == 0 {
		r.Every = time.Second
	}
	return &Reloading{Reload: r, turn: make(chan struct{}, 1)}
}

// ServeHTTP implements [http.Handler].
func (r *Reloading) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	g, err := r.take(q.Context())
	if err != nil {
		slog.ErrorContext(q.Context(), "the function cannot be built", "err", err)
		w.Header().Set("Retry-After", "5")
		http.Error(w, "try again", http.StatusServiceUnavailable)
		return
	}
	defer r.put(g)
	g.Handler.ServeHTTP(w, q)
}

// Ready says whether the function could do its work now.
func (r *Reloading) Ready(ctx context.Context) error {
	g, err := r.take(ctx)
	if err != nil {
		return err
	}
	defer r.put(g)
	return g.Ready(ctx)
}

// Close closes what was built, after the last call that is under way. Calls that come
// later are refused.
func (r *Reloading) Close() {
	r.mu.Lock()
	r.closed = true
	old := r.current
	r.current = nil
	closing := old != nil && old.retire()
	r.mu.Unlock()
	if closing {
		old.Close()
	}
}

// Why there is nothing for a call.
var (
	errClosed   = errors.New("the function was closed")
	errUnsteady = errors.New("the secrets are being changed")
)

// take returns the current generation for one call, after a look at the secrets when one
// is due. Secrets that cannot be read do not stop what works, and who looks stops nobody.
func (r *Reloading) take(ctx context.Context) (*generation, error) {
	g, due, err := r.hold()
	if err != nil || !due {
		return g, err
	}
	select {
	case r.turn <- struct{}{}:
	default:
		if g != nil {
			return g, nil // another call looks
		}
		select {
		case r.turn <- struct{}{}:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	defer func() { <-r.turn }()
	if g != nil {
		r.put(g)
	}
	if g, due, err = r.hold(); err != nil || !due { // another call has looked
		return g, err
	}
	err = r.look(ctx)
	switch {
	case g == nil && err != nil:
		return nil, err
	case err != nil:
		slog.WarnContext(ctx, "the function cannot be built with the secrets as they are; the former ones hold", "err", err)
		r.seen()
		return g, nil
	case g != nil:
		r.put(g)
	}
	r.seen()
	g, _, err = r.hold()
	return g, err
}

// hold returns the current generation for one call, or nil, and whether a look is due.
func (r *Reloading) hold() (g *generation, due bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return nil, false, errClosed
	case r.current == nil:
		return nil, true, nil
	}
	r.current.calls++
	since := r.wall().Sub(r.looked)
	return r.current, since >= r.Every || since < 0, nil
}

// wall is the time by the wall: the other clock may stand still while a host freezes the process.
func (r *Reloading) wall() time.Time { return r.Now().Round(0) }

func (r *Reloading) seen() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looked = r.wall()
}

// look builds another generation when the secrets have changed. The caller has the turn.
func (r *Reloading) look(ctx context.Context) error {
	s, digest, err := r.settled(ctx)
	if err != nil || digest == r.digest() {
		return err
	}
	w, err := r.Build(ctx, s)
	if err != nil {
		return fmt.Errorf("build: %w", err)
	}
	r.mu.Lock()
	old, closed := r.current, r.closed
	if !closed {
		r.current = &generation{Work: w, digest: digest}
	}
	closing := !closed && old != nil && old.retire()
	r.mu.Unlock()
	if closed {
		w.Close()
		return errClosed
	}
	if old != nil {
		slog.InfoContext(ctx, "secrets have changed; calls from now on work with the new ones")
	}
	if closing {
		old.Close()
	}
	return nil
}

// digest is that of what is current; empty when nothing is.
func (r *Reloading) digest() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == nil {
		return ""
	}
	return r.current.digest
}

func (r *Reloading) put(g *generation) {
	r.mu.Lock()
	g.calls--
	closing := g.stale && g.calls == 0
	r.mu.Unlock()
	if closing {
		g.Close()
	}
}

// settleTries is how often secrets are read that change meanwhile.
const settleTries = 4

// settled reads the secrets, and those that have changed until they are twice the same: a
// host that changes all of them at once does so between two of our reads too.
func (r *Reloading) settled(ctx context.Context) (Secrets, string, error) {
	names := append(append([]string{}, r.Required...), r.Optional...)
	last := r.digest()
	for range settleTries {
		s, err := r.read(ctx)
		if err != nil {
			return nil, "", err
		}
		digest := s.digest(names)
		if digest == last {
			return s, digest, nil
		}
		last = digest
	}
	return nil, "", errUnsteady
}

func (r *Reloading) read(ctx context.Context) (Secrets, error) {
	s := Secrets{}
	for _, name := range r.Required {
		v, err := r.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		s[name] = v
	}
	for _, name := range r.Optional {
		v, err := r.Get(ctx, name)
		if err != nil {
			if errors.Is(err, ErrNoSecret) {
				continue
			}
			return nil, err
		}
		s[name] = v
	}
	return s, nil
}

// digest tells one set of secrets from another.
func (s Secrets) digest(names []string) string {
	h := sha256.New()
	for _, name := range names {
		v, ok := s[name]
		sum := sha256.Sum256(v.Reveal())
		fmt.Fprintf(h, "%s %t %x\n", name, ok, sum)
	}
	return hex.EncodeToString(h.Sum(nil))
}
