// Package advance takes releases and promotions forward while anything is due.
//
// When nothing is, at most one invocation of all replicas stays and waits for
// what will be due soon, so that polls faster than the host's cron exist while
// one is warm. It holds no connection and no row while it waits.
package advance

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"time"

	"hotswap.dev/hotswap/pkg/function"
)

// Times of an invocation.
const (
	hintTime  = 50 * time.Millisecond // bound of a hint
	maxLinger = 50 * time.Second      // longest stay of a waiting invocation
	margin    = 3 * time.Second       // before the deadline of the host
)

// Config is what the function works with.
type Config struct {
	// Work takes the steps that are due and says how many it took.
	Work func(ctx context.Context) (int, error)
	// Backstop does what no hint asks for.
	Backstop func(ctx context.Context) error
	// NextDue says in how long something is due; false when nothing is open.
	NextDue func(ctx context.Context) (time.Duration, bool, error)
	// Stay takes or renews the lease of the one invocation that waits, in the
	// name of this invocation.
	Stay func(ctx context.Context, invocation string, d time.Duration) (bool, error)
	// Hint says "look now" to another function.
	Hint func(ctx context.Context, function string)
}

// New returns the function's handler. POST / means "look now".
func New(c Config) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
		steps, err := c.run(r.Context())
		if err != nil && r.Context().Err() == nil {
			slog.ErrorContext(r.Context(), "advance", "err", err)
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		function.WriteJSON(w, http.StatusOK, map[string]int{"steps": steps})
	})
	return mux
}

// run works, and lingers while something will be due before it must go.
func (c Config) run(ctx context.Context) (int, error) {
	end := time.Now().Add(maxLinger)
	if d, ok := ctx.Deadline(); ok && d.Add(-margin).Before(end) {
		end = d.Add(-margin)
	}
	total, err := c.work(ctx)
	if err != nil {
		return total, err
	}
	if err := c.Backstop(ctx); err != nil {
		return total, err
	}
	invocation := rand.Text()
	for {
		wait, open, err := c.NextDue(ctx)
		if err != nil || !open || time.Now().Add(wait).After(end) {
			return total, err
		}
		mine, err := c.Stay(ctx, invocation, wait+margin)
		if err != nil || !mine {
			return total, err
		}
		if !sleep(ctx, max(wait, 10*time.Millisecond)) {
			return total, nil
		}
		n, err := c.work(ctx)
		total += n
		if err != nil {
			return total, err
		}
	}
}

// work drains what is due and tells the nodes function that orders may have
// changed, and deliver that there may be records to write.
func (c Config) work(ctx context.Context) (int, error) {
	n, err := c.Work(ctx)
	if n > 0 {
		ctx, cancel := context.WithTimeout(ctx, hintTime)
		defer cancel()
		c.Hint(ctx, "nodes")
		c.Hint(ctx, "deliver")
	}
	return n, err
}

// sleep waits for d. False: the call or its host ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-function.Stopping(ctx):
		return false
	case <-ctx.Done():
		return false
	}
}
