// Package promotion is the state machine of HotSwap.
//
// A promotion takes one release through one stage. [Decide] is given the state,
// an event with everything that was observed, and the time; it returns all that
// must become true together: the next state, the transition, the orders to the
// units, the slot, what runs, and the audit rows. It reads no clock, no
// database and no network, so the same arguments give the same decision for
// ever. [Apply] folds recorded transitions back into the state.
//
//	            ┌─────────┐ gates true ┌────────┐ slot free, plan unchanged
//	release ───▶│ gating  │───────────▶│ queued │──────────────┐
//	            └─────────┘◀───────────└────────┘              ▼
//	                 │        plan moved    │        ┌─────────────────────┐
//	                 ▼                      ▼        │ running             │
//	        superseded, cancelled  superseded,       │  preparing          │
//	                               cancelled         │  activating         │──▶ succeeded
//	                                                 │  stabilising        │──▶ failed, errored, cancelled
//	                                                 └─────────────────────┘
//	                                                           │ after the switch began
//	                                                           ▼
//	                                                 ┌─────────────────────┐──▶ rolled_back, cancelled
//	                                                 │ rolling_back        │──▶ rollback_failed
//	                                                 └─────────────────────┘
package promotion

import (
	"time"

	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/target"
)

// A Status is the state of a promotion as people see it.
type Status string

// The open states, in order, and the final states.
const (
	Gating      Status = "gating"       // gates are being waited for
	Queued      Status = "queued"       // gates are true, the slot is not ours yet
	Running     Status = "running"      // holds the slot, see Phase
	RollingBack Status = "rolling_back" // holds the slot, the former version returns

	Succeeded      Status = "succeeded"
	Failed         Status = "failed"  // the release is bad
	Errored        Status = "errored" // we could not tell
	RolledBack     Status = "rolled_back"
	RollbackFailed Status = "rollback_failed" // the units are mixed: the slot is dirty
	Superseded     Status = "superseded"
	Cancelled      Status = "cancelled"
)

// Final reports whether s never changes again.
func (s Status) Final() bool {
	switch s {
	case Gating, Queued, Running, RollingBack:
		return false
	default:
		return true
	}
}

// A Phase is where a running promotion stands. It is empty in other states.
type Phase string

// The phases of the direct strategy, in order.
const (
	Preparing   Phase = "preparing"   // standby instances are fetched and started
	Activating  Phase = "activating"  // traffic moves to them
	Stabilising Phase = "stabilising" // they must stay healthy for a while
)

// A Kind says why a promotion exists.
type Kind string

// Promote takes a release forward. Going back is a promotion of its own kind.
const Promote Kind = "promote"

// A Spec is what a promotion was created with and never changes: the frozen
// stage and the instance that every unit is to run.
type Spec struct {
	Stage    intent.Stage    `json:"stage"`
	Instance target.Instance `json:"instance"`
}

// A State is a promotion. Everything from Status on is what transitions change.
type State struct {
	ID          string `json:"id"` // release/stage/kind-attempt
	Tenant      string `json:"tenant"`
	Release     string `json:"release"`
	Deployment  string `json:"deployment"`
	Environment string `json:"environment"`
	Kind        Kind   `json:"kind"`
	Attempt     int    `json:"attempt"`
	Generation  int64  `json:"generation"` // of the release
	Spec        Spec   `json:"spec"`

	Status  Status    `json:"status"`
	Phase   Phase     `json:"phase,omitempty"`
	Wave    int       `json:"wave"`
	Version int64     `json:"version"` // number of transitions so far
	Token   int64     `json:"token"`   // fencing token of the slot; 0 before it was taken
	Plan    string    `json:"plan"`    // digest of the plan
	Units   []Unit    `json:"units,omitempty"`
	Since   time.Time `json:"since"` // of Status and Phase
	Ending  Status    `json:"ending,omitempty"`
	Reason  string    `json:"reason,omitempty"`
}

// A Unit is one place that the promotion changes. The list is resolved when the
// promotion starts and never grows.
type Unit struct {
	Node     string           `json:"node"`
	Former   *target.Instance `json:"former,omitempty"` // what it was ordered to run before; nil: nothing
	Restarts int              `json:"restarts"`         // of the new instance when it took the traffic
}

// Place returns the place on a node that the promotion changes.
func (s State) Place() target.Place {
	return target.Place{Environment: s.Environment, Deployment: s.Deployment}
}

// Waiting says what an open promotion waits for, in words for a person.
type Waiting struct {
	What     string    `json:"what"`
	Since    time.Time `json:"since"`
	Evidence string    `json:"evidence,omitempty"` // what was seen that says so
	Next     time.Time `json:"next"`               // when it is looked at again, at the latest
	Command  string    `json:"command,omitempty"`  // what a person can do to move it
}
