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
// at the secrets between calls.
type Reloading struct {
	Reload

	mu      sync.Mutex
	current *generation
	looked  time.Time
}

// A generation is what was built for one set of secrets.
type generation struct {
	Work
	digest string
	calls  int
	stale  bool // another one is current
}

// NewReloading returns a function that builds itself as r says.
func NewReloading(r Reload) *Reloading {
	if r.Every == 0 {
		r.Every = time.Second
	}
	return &Reloading{Reload: r}
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

// Close closes what was built. No call may be under way or come.
func (r *Reloading) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil {
		r.current.Close()
		r.current = nil
	}
}

// take returns the current generation for one call, after a look at the secrets when one
// is due. Secrets that cannot be read do not stop what works.
func (r *Reloading) take(ctx context.Context) (*generation, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.Now().Round(0) // by the wall: the other clock may stand still while a host freezes the process
	if since := now.Sub(r.looked); r.current == nil || since >= r.Every || since < 0 {
		if err := r.look(ctx); err != nil {
			if r.current == nil {
				return nil, err
			}
			slog.WarnContext(ctx, "secrets cannot be read; the former ones hold", "err", err)
		}
		r.looked = now
	}
	r.current.calls++
	return r.current, nil
}

func (r *Reloading) look(ctx context.Context) error {
	s, err := r.read(ctx)
	if err != nil {
		return err
	}
	digest := s.digest(append(append([]string{}, r.Required...), r.Optional...))
	if r.current != nil && r.current.digest == digest {
		return nil
	}
	w, err := r.Build(ctx, s)
	if err != nil {
		return fmt.Errorf("build: %w", err)
	}
	if old := r.current; old != nil {
		slog.InfoContext(ctx, "secrets have changed; calls from now on work with the new ones")
		old.stale = true
		if old.calls == 0 {
			old.Close()
		}
	}
	r.current = &generation{Work: w, digest: digest}
	return nil
}

func (r *Reloading) put(g *generation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g.calls--
	if g.stale && g.calls == 0 {
		g.Close()
	}
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
