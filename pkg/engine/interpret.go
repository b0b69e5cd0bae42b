package engine

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path"

	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/store"
)

// interpret says what a delivery asks for. It only ever means "look at the
// repository": what is true is read from Git.
func interpret(d store.Delivery, dead func(string) store.Settlement) store.Settlement {
	push, err := forge.ParsePush(forge.Delivery{
		Source: forge.Source(d.Source), ID: d.ID, Event: d.Event, Headers: d.Headers,
		Body: d.Body, Digest: "sha256:" + hex.EncodeToString(d.Digest), Truncated: d.Body == nil,
	})
	switch {
	case errors.Is(err, forge.ErrNotPush):
		return store.Settlement{Note: "nothing to do for event " + d.Event}
	case err != nil && d.Body == nil: // authentic, and too large to keep: look anyway
		return store.Settlement{Sync: d.Repository, Note: "too large to keep; the repository is looked at"}
	case err != nil:
		return dead(err.Error())
	case path.Base(push.Repository) != d.Repository:
		return dead(fmt.Sprintf("it is about repository %s and came through the hook of %s", push.Repository, d.Repository))
	default:
		return store.Settlement{Sync: d.Repository, Note: "push to " + push.Ref}
	}
}
