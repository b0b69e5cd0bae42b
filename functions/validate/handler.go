// Package validate looks at deliveries and repositories that are due. A call
// means "look now" and carries nothing else.
package validate

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"hotswap.dev/hotswap/pkg/function"
)

// hintTime bounds a hint. A lost one costs a tick, never a release.
const hintTime = 50 * time.Millisecond

// New returns the function's handler. Work takes the steps that are due and
// says how many it took; hint says "look now" to another function.
func New(work func(ctx context.Context) (int, error), hint func(ctx context.Context, function string)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
		steps, err := work(r.Context())
		if steps > 0 {
			ctx, cancel := context.WithTimeout(r.Context(), hintTime)
			defer cancel()
			hint(ctx, "advance")
		}
		if err != nil {
			slog.ErrorContext(r.Context(), "validate", "err", err)
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		function.WriteJSON(w, http.StatusOK, map[string]int{"steps": steps})
	})
	return mux
}
