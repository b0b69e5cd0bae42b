// Package forgewebhook receives the webhooks of Git forges.
//
// It decides nothing. An authentic delivery becomes a durable inbox row, the
// function that will look at it gets a hint, and the forge gets its answer, in
// that order: the host may freeze or kill the process after the answer.
package forgewebhook

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/store"
)

// hintTime bounds a hint. A lost hint costs one tick, never a delivery.
const hintTime = 50 * time.Millisecond

// Hooks finds the secrets of a webhook by what its path names: the tenant and
// the repository that it was set up for.
type Hooks func(tenant, repository string) (forge.Keys, bool)

// An Inbox keeps deliveries.
type Inbox interface {
	// Accept returns once d is durable. A delivery that it holds already is no
	// error; one with the same id and another body is store.ErrConflict, kept as
	// a security event and never run.
	Accept(ctx context.Context, d store.Delivery) error
}

// New returns the function's handler: POST /TENANT/REPOSITORY, signed by the
// hook's secret. Hint says "look now" to another function.
func New(hooks Hooks, inbox Inbox, hint func(ctx context.Context, function string)) http.Handler {
	h := handler{hooks: hooks, inbox: inbox, hint: hint}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{tenant}/{repository}", h.receive)
	return mux
}

type handler struct {
	hooks Hooks
	inbox Inbox
	hint  func(ctx context.Context, function string)
}

func (h handler) receive(w http.ResponseWriter, r *http.Request) {
	tenant, repository := r.PathValue("tenant"), r.PathValue("repository")
	keys, ok := h.hooks(tenant, repository)
	if !ok { // the same answer as for a wrong signature: it does not tell what exists
		refuse(w, r, forge.ErrNotAuthentic)
		return
	}
	read, err := forge.ReadDelivery(r, keys)
	if err != nil {
		refuse(w, r, err)
		return
	}
	d, err := delivery(tenant, repository, read)
	if err != nil {
		refuse(w, r, err)
		return
	}
	if err := accept(r.Context(), w, h.inbox, d); err != nil {
		slog.ErrorContext(r.Context(), "accept delivery", "delivery", d.ID, "err", err)
		w.Header().Set("Retry-After", "5")
		http.Error(w, "the delivery was not kept; send it again", http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), hintTime)
	defer cancel()
	h.hint(ctx, "validate")
	w.WriteHeader(http.StatusAccepted)
}

// delivery is what the inbox keeps of a delivery.
func delivery(tenant, repository string, d forge.Delivery) (store.Delivery, error) {
	digest, err := hex.DecodeString(strings.TrimPrefix(d.Digest, "sha256:"))
	if err != nil {
		return store.Delivery{}, err
	}
	return store.Delivery{
		Tenant: tenant, Source: string(d.Source), ID: d.ID, Repository: repository,
		Event: d.Event, Headers: d.Headers, Body: d.Body, Digest: digest,
	}, nil
}

// keep stores the delivery. One whose id is known with another body is kept as
// a security event: the sender is authentic, so it is not told off.
func keep(ctx context.Context, inbox Inbox, d store.Delivery) error {
	err := inbox.Accept(ctx, d)
	if errors.Is(err, store.ErrConflict) {
		slog.WarnContext(ctx, "delivery id was used before with another body", "delivery", d.ID)
		return nil
	}
	return err
}

// refuse answers what is not authentic or cannot be read. Nothing of it is kept:
// whoever cannot sign must not be able to fill the database.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, forge.ErrNotAuthentic):
		slog.WarnContext(r.Context(), "webhook refused", "path", r.URL.Path, "err", err)
		http.Error(w, "the signature does not match", http.StatusUnauthorized)
	case errors.Is(err, forge.ErrTooLarge):
		http.Error(w, "the body is too large", http.StatusRequestEntityTooLarge)
	default:
		slog.ErrorContext(r.Context(), "webhook", "path", r.URL.Path, "err", err)
		http.Error(w, "try again", http.StatusServiceUnavailable)
	}
}
