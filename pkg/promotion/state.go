// Package promotion is the state machine of HotSwap.
//
// A promotion takes one release through one stage. [Decide] is given the state,
// an event with everything that was observed, and the time; it returns all that
// must become true together: the next state, the transition, the orders to the
// units, the slot, what runs, and the audit rows. It reads no clock, no
// database and no network, so the same arguments give the same decision for
// ever. [Apply] folds recorded transitions back into the state.
//
// [Moves] lists every way from one state to another; docs/reference/states.md is
// made from it, and a test holds the machine to it.
package promotion

import (
	"time"

	"hotswap.dev/hotswap/pkg/audit"
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
	Rejected       Status = "rejected"        // a person said no
	Expired        Status = "expired"         // nobody said yes in time
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

// The phases, in order. A promotion of several waves goes through them wave by wave.
const (
	Recording   Phase = "recording"   // the approved plan is merged into the records; nothing is ordered yet
	Preparing   Phase = "preparing"   // standby instances are fetched, started and tested
	Activating  Phase = "activating"  // traffic moves to them
	Stabilising Phase = "stabilising" // they must be seen healthy and stable; of blueGreen the standby too, before
	Analysing   Phase = "analysing"   // they are compared with the units that were not changed
	Paused      Phase = "paused"      // a person must say how to go on
)

// A Kind says why a promotion exists.
type Kind string

// The kinds. Going back is a promotion of its own kind.
const (
	Promote Kind = "promote" // takes a release forward
	Restore Kind = "restore" // brings back a release that ran before
	Remove  Kind = "remove"  // takes away what runs, because its intent was deleted
)

// A Spec is what a promotion was created with and never changes: the frozen
// stage and the instance that every unit is to run.
type Spec struct {
	Stage       intent.Stage    `json:"stage"`
	Instance    target.Instance `json:"instance"`              // zero: nothing, for a Remove
	Concurrency string          `json:"concurrency,omitempty"` // intent.Supersede or intent.Queue
	// Stabilization and Analysis bound the waiting for a verdict; nil: none is asked for.
	Stabilization *Watch `json:"stabilization,omitempty"`
	Analysis      *Watch `json:"analysis,omitempty"`
	// After is the restore that must have succeeded before this one.
	After string `json:"after,omitempty"`
}

// A Watch says how often a verdict is asked for, for how long at most, and what
// follows when there is none by then: "pause", "extend", "promote" or "rollback".
type Watch struct {
	Interval     time.Duration `json:"interval"`
	Maximum      time.Duration `json:"maximum"`
	Insufficient string        `json:"insufficient"`
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
	Since   time.Time `json:"since"` // of Status, Phase and Wave
	Ending  Status    `json:"ending,omitempty"`
	Reason  string    `json:"reason,omitempty"`

	Progress Progress `json:"progress,omitzero"`
}

// Progress is what else a promotion remembers on its way.
type Progress struct {
	Switched int        `json:"switched,omitempty"` // waves whose traffic was ordered to move
	Resume   Phase      `json:"resume,omitempty"`   // where a paused promotion goes on
	Extended int        `json:"extended,omitempty"` // how often this wait for a verdict was made longer
	First    bool       `json:"first,omitempty"`    // nothing ran there before, so there is nothing to compare with
	Asked    time.Time  `json:"asked,omitzero"`     // since when an approval is missing
	Approval *Approval  `json:"approval,omitempty"`
	Harmful  bool       `json:"harmful,omitempty"`  // the analysis found that the release does harm
	Planned  time.Time  `json:"planned,omitzero"`   // since when the plan is as it is
	Parts    *PlanParts `json:"parts,omitempty"`    // of the plan
	Try      int        `json:"try,omitempty"`      // how often it was tried to record it
	Effect   string     `json:"effect,omitempty"`   // key of what is waited for outside
	Refusal  string     `json:"refusal,omitempty"`  // why it was not recorded at the last try
	RetryAt  time.Time  `json:"retryAt,omitzero"`   // it is not tried again before
	Recorded string     `json:"recorded,omitempty"` // commit that merged the plan into the records
}

// An Approval says that the plan may be carried out: an operator's word, or the
// reviews that a policy asks for.
type Approval struct {
	By     audit.Actor `json:"by"`              // the operator; who looked, for reviews
	Names  []string    `json:"names,omitempty"` // whose reviews count
	Head   string      `json:"head,omitempty"`  // commit that was reviewed
	Reason string      `json:"reason"`
	At     time.Time   `json:"at"`
	Plan   string      `json:"plan"` // digest that it was given for
}

// A Unit is one place that the promotion changes. The list is resolved when the
// promotion starts and never grows.
type Unit struct {
	Node     string           `json:"node"`
	Cluster  string           `json:"cluster,omitempty"`
	Wave     int              `json:"wave,omitempty"`    // in which it is changed, from 0
	Skipped  bool             `json:"skipped,omitempty"` // it left the fleet and is not waited for
	Former   *target.Instance `json:"former,omitempty"`  // what it was ordered to run before; nil: nothing
	Restarts int              `json:"restarts"`          // of the new instance when it took the traffic
}

// Place returns the place on a node that the promotion changes.
func (s State) Place() target.Place {
	return target.Place{Environment: s.Environment, Deployment: s.Deployment}
}

// want is what every unit is to run; nil: nothing.
func (s State) want() *target.Instance {
	if s.Spec.Instance.Digest == "" {
		return nil
	}
	return &s.Spec.Instance
}

// Waves returns how many waves the promotion has; 0 before it started.
func (s State) Waves() int {
	n := 0
	for _, u := range s.Units {
		n = max(n, u.Wave+1)
	}
	return n
}

// Waiting says what an open promotion waits for, in words for a person.
type Waiting struct {
	What     string    `json:"what"`
	Since    time.Time `json:"since"`
	Evidence string    `json:"evidence,omitempty"` // what was seen that says so
	Next     time.Time `json:"next"`               // when it is looked at again, at the latest
	Command  string    `json:"command,omitempty"`  // what a person can do to move it
}
