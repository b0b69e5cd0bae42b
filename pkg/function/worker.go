package function

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// hintTime bounds what follows a work. A lost hint costs a tick, never a step.
const hintTime = 50 * time.Millisecond

// Worker returns a handler of POST / that takes the steps that are due and says
// how many it took; with any, then is called for a short while before the answer.
func Worker(name string, work func(ctx context.Context) (int, error), then func(ctx context.Context)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
		steps, err := work(r.Context())
		if steps > 0 {
			ctx, cancel := context.WithTimeout(r.Context(), hintTime)
			defer cancel()
			then(ctx)
		}
		if err != nil {
			slog.ErrorContext(r.Context(), name, "err", err)
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		WriteJSON(w, http.StatusOK, map[string]int{"steps": steps})
	})
	return mux
}
