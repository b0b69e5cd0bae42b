package engine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"time"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/store"
)

// maxAttempts is how often a delivery is tried before it is dead.
const maxAttempts = 20

// delivery looks at one webhook: it wakes the repository that it is about.
func (e *Engine) delivery(ctx context.Context, c store.Claim) error {
	d, pending, err := e.store.LoadDelivery(ctx, c)
	if err != nil {
		return err
	}
	if !pending { // settled, and the answer was lost
		return e.store.Settle(ctx, c, d, store.Settlement{Note: "settled before"})
	}
	return e.store.Settle(ctx, c, d, settle(d, c))
}

func settle(d store.Delivery, c store.Claim) store.Settlement {
	dead := func(why string) store.Settlement {
		return store.Settlement{Dead: true, Note: why, Rows: func(now time.Time) []audit.Row {
			return []audit.Row{{
				ID: "delivery/" + d.Source + "/" + d.ID + "/dead", Tenant: d.Tenant, At: now, Actor: validator,
				Action: "delivery.abandoned", Subject: "delivery " + d.Source + "/" + d.ID, Reason: why,
			}}
		}}
	}
	if c.Attempts >= maxAttempts {
		return dead(fmt.Sprintf("given up after %d attempts", c.Attempts))
	}
	return interpret(d, dead)
}

// interpret says what a delivery asks for. It only ever means "look there": what is
// true is read from Git and from the forge.
func interpret(d store.Delivery, dead func(string) store.Settlement) store.Settlement {
	delivery := forge.Delivery{
		Source: forge.Source(d.Source), ID: d.ID, Event: d.Event, Headers: d.Headers,
		Body: d.Body, Digest: "sha256:" + hex.EncodeToString(d.Digest), Truncated: d.Body == nil,
	}
	pull, err := forge.ParsePull(delivery)
	if err == nil {
		if why := foreign(d, pull.RepositoryID, pull.Repository); why != "" {
			return dead(why)
		}
		return store.Settlement{Pull: store.PullAt{Repository: d.Repository, Number: pull.Number}, Note: fmt.Sprintf("pull request %d", pull.Number)}
	}
	push, err := forge.ParsePush(delivery)
	switch {
	case errors.Is(err, forge.ErrNotPush):
		return store.Settlement{Note: "nothing to do for event " + d.Event}
	case err != nil && d.Body == nil: // authentic, and too large to keep: look anyway
		return store.Settlement{Sync: d.Repository, Note: "too large to keep; the repository is looked at"}
	case err != nil:
		return dead(err.Error())
	case foreign(d, push.RepositoryID, push.Repository) != "":
		return dead(foreign(d, push.RepositoryID, push.Repository))
	default:
		return store.Settlement{Sync: d.Repository, Note: "push to " + push.Ref}
	}
}

// foreign says why an event is not of the repository whose hook it came through: by its number at the forge, where that
// is known, else by its name.
func foreign(d store.Delivery, id, name string) string {
	same := path.Base(name) == d.Repository
	if d.ForgeID != "" {
		same = forge.HookID{RepositoryID: d.ForgeID, Repository: d.ForgeName}.Match(id, name) == nil
	}
	if same {
		return ""
	}
	return fmt.Sprintf("it is about repository %s (number %s) and came through the hook of %s", name, id, d.Repository)
}
