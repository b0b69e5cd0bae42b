package promotion

import (
	"time"

	"hotswap.dev/hotswap/pkg/analysis"
	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/target"
)

// An EventKind says what happened to a promotion.
type EventKind string

// The events.
const (
	Created EventKind = "created" // the release came to the stage
	Looked  EventKind = "looked"  // somebody woke it: Facts is what was seen

	// What a person asks for: Actor and Reason say who and why.
	Stopped  EventKind = "cancelled" // stop; what was switched goes back
	Promoted EventKind = "promoted"  // yes to a gate, or to a wave that is paused without a verdict
	Refused  EventKind = "refused"   // no to a gate
	Held     EventKind = "paused"    // wait where you are
	Resumed  EventKind = "resumed"   // go on
)

// EventVersion is the version of the event's form that this build writes. It
// reads every version up to it.
const EventVersion = 3

// An Event is one thing that happened, with everything that the decision may
// depend on. It is stored in full with the transition that it caused.
type Event struct {
	Version int         `json:"v"`
	Kind    EventKind   `json:"kind"`
	Actor   audit.Actor `json:"actor"`
	Reason  string      `json:"reason,omitempty"`
	Facts   Facts       `json:"facts"`
}

// Facts are what was read in the transaction of the decision.
type Facts struct {
	Epoch int64      `json:"epoch"`           // of the database
	Plan  string     `json:"plan"`            // digest of the plan rendered again
	Parts *PlanParts `json:"parts,omitempty"` // of the plan; only where it is another one than before
	Slot  Slot       `json:"slot"`            // as it is
	Held  string     `json:"held,omitempty"`  // why the artifact is barred from the slot; empty: it is not

	// Newest is the newest generation queued for the slot under supersede, Oldest the
	// oldest under queue that is open and has not started there. Each yields to its own
	// kind alone: else two of different kinds would wait for each other.
	Newest  int64  `json:"newest"`
	Oldest  int64  `json:"oldest,omitempty"`
	Restore string `json:"restore,omitempty"` // a restore that waits for the slot; it goes first
	After   Status `json:"after,omitempty"`   // of Spec.After

	Gates      GateFacts        `json:"gates,omitzero"`
	Candidates []Candidate      `json:"candidates"`        // units that could be changed; read while queued
	Limit      int              `json:"limit,omitempty"`   // promotions side by side in a cluster; 0: any number
	Load       []ClusterLoad    `json:"load,omitempty"`    // of the environment's clusters
	Units      []Observed       `json:"units"`             // the promotion's own units; read once it runs
	Verdict    *analysis.Result `json:"verdict,omitempty"` // of the samples, in a phase that asks for one
	Effect     *EffectFact      `json:"effect,omitempty"`  // that the promotion waits for
}

// GateFacts are what the gates of a stage depend on.
type GateFacts struct {
	Window *WindowFact `json:"window,omitempty"` // nil: the stage names none
	Needs  time.Time   `json:"needs,omitzero"`   // when the last needed stage succeeded
	Checks []CheckFact `json:"checks,omitempty"` // of the external checks that said something
	Review *ReviewFact `json:"review,omitempty"` // of a policy's approval; nil: nobody looked
}

// A WindowFact is whether the windows of a stage let it start now.
type WindowFact struct {
	Open bool      `json:"open"`
	Why  string    `json:"why"`
	Next time.Time `json:"next,omitzero"` // when that changes; zero: not within a year
}

// A CheckFact is what an external check said last.
type CheckFact struct {
	Name   string    `json:"name"`
	Passed bool      `json:"passed"`
	Detail string    `json:"detail,omitempty"`
	At     time.Time `json:"at"`
}

// A ClusterLoad is how many promotions are changing a cluster.
type ClusterLoad struct {
	Cluster string `json:"cluster"`
	Running int    `json:"running"`
}

// A Slot is the lock of (tenant, environment, deployment).
type Slot struct {
	Holder  string `json:"holder,omitempty"` // promotion; empty: free
	Token   int64  `json:"token"`            // rises each time it is taken
	Started int64  `json:"started"`          // newest generation that ever took it
	Dirty   bool   `json:"dirty,omitempty"`  // units may be mixed
	Live    string `json:"live,omitempty"`   // the promotion whose outcome the units run
}

// A Candidate is a unit that could be changed.
type Candidate struct {
	Node    string           `json:"node"`
	Cluster string           `json:"cluster,omitempty"`
	Wanted  target.Position  `json:"wanted"`           // of its newest order for this place
	Former  *target.Instance `json:"former,omitempty"` // what that order made active
}

// Observed is one unit as it was last seen. Times are of the database's clock.
type Observed struct {
	Node   string              `json:"node"`
	Gone   bool                `json:"gone,omitempty"` // the node left the fleet
	Seen   time.Time           `json:"seen"`           // last word from the node; zero: never
	Wanted target.Position     `json:"wanted"`         // of the newest order for this place
	Report *target.PlaceReport `json:"report,omitempty"`
}

// obeyed returns the report when it answers the newest order, else nil.
func (o Observed) obeyed() *target.PlaceReport {
	if o.Report == nil || o.Report.Position != o.Wanted {
		return nil
	}
	return o.Report
}

// A Transition is one step of a promotion as it is recorded: unique by
// (promotion, From), with the event in full and the outcome that [Apply] needs.
type Transition struct {
	Promotion string    `json:"promotion"`
	From      int64     `json:"from"` // version before
	At        time.Time `json:"at"`
	Event     Event     `json:"event"`
	To        Outcome   `json:"to"`
}

// An Outcome is everything of a [State] that a transition may change.
type Outcome struct {
	Status Status `json:"status"`
	Phase  Phase  `json:"phase,omitempty"`
	Wave   int    `json:"wave"`
	Token  int64  `json:"token"`
	Plan   string `json:"plan"`
	Units  []Unit `json:"units,omitempty"`
	Ending Status `json:"ending,omitempty"`
	Reason string `json:"reason,omitempty"`

	Progress Progress `json:"progress,omitzero"`
}

// A Decision is what must become true together, because of one event.
type Decision struct {
	State      State
	Transition *Transition // nil: nothing changed but what is waited for
	Waiting    *Waiting    // nil in a final state
	Wake       time.Time   // when to look again, at the latest; zero in a final state
	Orders     []UnitOrder
	Slot       *Slot // nil: unchanged
	Live       []Live
	Load       []Load
	Hold       *Hold // nil: none begins
	Effects    []Effect
	Ask        bool // what the reviews come to must be read anew
	Rows       []audit.Row
}

// A Load is a promotion that begins to change a cluster. It must be refused when
// Limit promotions, one or more, change it already.
type Load struct {
	Cluster string
	Limit   int
}

// A Hold bars an artifact from a slot until a person lifts it.
type Hold struct {
	Artifact string // digest
	Reason   string
}

// A UnitOrder is an order for the place on one node.
type UnitOrder struct {
	Node  string
	Order target.Order
}

// Live says what a unit runs from now on, by whose promotion. A nil Instance
// means nothing.
type Live struct {
	Node     string
	Instance *target.Instance
}
