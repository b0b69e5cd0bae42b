//go:build mutant_ackfirst

package forgewebhook

import (
	"context"
	"net/http"

	"hotswap.dev/hotswap/pkg/store"
)

// accept answers first and keeps the delivery afterwards: the fault that
// tests/crash must catch.
func accept(ctx context.Context, w http.ResponseWriter, inbox Inbox, d store.Delivery) error {
	w.Header().Set("Content-Length", "0") // the answer is complete
	w.WriteHeader(http.StatusAccepted)
	_ = http.NewResponseController(w).Flush()
	_ = keep(ctx, inbox, d)
	return nil
}
