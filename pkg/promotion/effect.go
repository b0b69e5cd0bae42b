package promotion

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// An EffectKind says what is done to the outside.
type EffectKind string

// Merge merges the promotion pull request: its merge is the record.
const Merge EffectKind = "merge"

// An EffectState is how far an effect has come.
type EffectState string

// The states of an effect. An uncertain one was asked for and no answer came: it
// is asked about by its key before it is tried again.
const (
	EffectDue       EffectState = "due"
	EffectUncertain EffectState = "uncertain"
	EffectDone      EffectState = "done"
	EffectFailed    EffectState = "failed"
)

// An Effect is a call to the outside that a transition asks for. It is made after
// the transition was committed, as often as needed, under the same Key.
type Effect struct {
	Key       string     `json:"key"` // see [EffectKey]
	Kind      EffectKind `json:"kind"`
	Promotion string     `json:"promotion"`
	Pull      int64      `json:"pull"` // number of the pull request
	Head      string     `json:"head"` // commit that must be its head when it is merged
}

// An EffectFact is what is known of the effect that a promotion waits for.
type EffectFact struct {
	Key    string      `json:"key"`
	State  EffectState `json:"state"`
	Commit string      `json:"commit,omitempty"` // that a merge made
	Why    string      `json:"why,omitempty"`    // of a failure or of no answer
}

// EffectKey is SHA-256 of (promotion, kind, subject, try), in hex: the same effect
// has the same key however often it is asked for, and a new try has another.
func EffectKey(promotion string, kind EffectKind, subject string, try int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %d", promotion, kind, subject, try))
	return hex.EncodeToString(sum[:])
}
