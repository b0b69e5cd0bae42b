//go:build !mutant_ackfirst

package forgewebhook

import (
	"context"
	"net/http"

	"hotswap.dev/hotswap/pkg/store"
)

// accept makes the delivery durable, before anybody is answered.
func accept(ctx context.Context, _ http.ResponseWriter, inbox Inbox, d store.Delivery) error {
	return keep(ctx, inbox, d)
}
