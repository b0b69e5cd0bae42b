package promotion

import (
	"fmt"
	"strings"
	"time"
)

// A ReviewState is what the reviews of a promotion pull request come to.
type ReviewState string

// The states of the reviews. Whatever could not be read is Unread, which opens nothing.
const (
	ReviewApproved ReviewState = "approved"
	ReviewPending  ReviewState = "pending"
	ReviewRejected ReviewState = "rejected"
	ReviewUnread   ReviewState = "error"
)

// A ReviewFact is whether a plan is approved by its policy, read at At: from the
// promotion pull request, and from the approvals that were given by API.
type ReviewFact struct {
	State ReviewState `json:"state"`
	Says  string      `json:"says"`           // one sentence: who agreed, who is missing, what could not be read
	By    []string    `json:"by,omitempty"`   // whose approvals count, for people to read
	Pull  int64       `json:"pull,omitempty"` // number; 0: there is none yet
	URL   string      `json:"url,omitempty"`  // of the pull request, for people
	Head  string      `json:"head,omitempty"` // commit that was judged
	Plan  string      `json:"plan,omitempty"` // digest that stands in the record at Head
	// Merged is the commit by which somebody merged it already.
	Merged string `json:"merged,omitempty"`
	// BreakGlass: a person opened the gate without the approvals that it asks for.
	BreakGlass bool `json:"breakGlass,omitempty"`
	// Missing are those whose review would count, as the policy calls them.
	Missing Missing   `json:"missing,omitzero"`
	At      time.Time `json:"at"`
}

// Missing are people and teams whose review is waited for.
type Missing struct {
	People []string `json:"people,omitempty"` // logins
	Teams  []string `json:"teams,omitempty"`
}

// Operator is the approval of a stage that one operator's word opens.
const Operator = "operator"

// reviewed reports whether a policy says who must agree, by reviews.
func (s State) reviewed() bool {
	return s.Spec.Stage.Gates.Approval != "" && s.Spec.Stage.Gates.Approval != Operator && s.Kind != Restore
}

// ByReview reports whether the promotion is opened by reviews of a pull request.
func (s State) ByReview() bool { return s.reviewed() }

// Reviewed returns the name of the policy whose approval the promotion waits for,
// as long as it has not started; empty: none.
func (s State) Reviewed() string {
	if s.reviewed() && (s.Status == Gating || s.Status == Queued) {
		return s.Spec.Stage.Gates.Approval
	}
	return ""
}

// freshReview is for how long what the reviews came to is believed.
const freshReview = 15 * time.Second

// reviews are what the reviews came to; nil when nobody looked lately. Then it is asked for.
func (d *decider) reviews() *ReviewFact {
	r := d.ev.Facts.Gates.Review
	if r == nil || d.now.Sub(r.At) > freshReview {
		d.Ask = true
		return nil
	}
	return r
}

// agreed reports whether the reviews approve this very plan, at this look.
func (d *decider) agreed() bool {
	r := d.reviews()
	return r != nil && r.State == ReviewApproved && r.Plan == d.State.Plan && r.Head != "" && r.Pull != 0
}

// reviewGate is closed until the reviews of the promotion pull request approve the
// plan. What could not be read is not approved.
func (d *decider) reviewGate() *gate {
	if d.agreed() {
		return nil
	}
	g := gate{what: "reviews that approve plan " + short(d.State.Plan), next: d.expiry()}
	r := d.reviews()
	switch {
	case r == nil:
		g.evidence = "the promotion pull request is being looked at"
	case r.State == ReviewApproved && r.Plan != d.State.Plan:
		g.evidence = fmt.Sprintf("the pull request shows plan %s", short(r.Plan))
	default:
		g.evidence = r.Says
	}
	if r != nil && r.URL != "" {
		g.command = "review " + r.URL
	}
	return &g
}

// review follows what the reviews came to: it takes down that the plan is approved,
// or not any more. It reports whether that moved the promotion.
func (d *decider) review() bool {
	if !d.State.reviewed() {
		return false
	}
	r, had := d.reviews(), d.State.Progress.Approval
	switch {
	case r == nil || r.State == ReviewUnread:
		return false // what was approved is asked again, and closed until there is an answer
	case r.State == ReviewRejected:
		d.become(Rejected, "", "promotion.rejected", r.Says)
	case d.agreed() && had == nil:
		d.State.Progress.Approval = &Approval{By: System, Reason: r.Says, At: d.now, Plan: d.State.Plan, Head: r.Head, Names: r.By}
		action := "promotion.approved"
		if r.BreakGlass {
			action = "promotion.glass-broken"
		}
		d.become(Gating, "", action, fmt.Sprintf("plan %s: %s", short(d.State.Plan), r.Says))
	case !d.agreed() && had != nil:
		d.State.Progress.Approval, d.State.Progress.Asked = nil, d.now
		d.become(Gating, "", "promotion.unapproved", fmt.Sprintf("plan %s is approved no more: %s", short(d.State.Plan), r.Says))
	default:
		return false
	}
	return true
}

// record takes the slot and asks for the merge of the promotion pull request: the
// merge is the record, and nothing is ordered before it.
func (d *decider) record() {
	r := d.ev.Facts.Gates.Review
	d.State.Progress.Try++
	e := Effect{Kind: Merge, Promotion: d.State.ID, Pull: r.Pull, Head: r.Head}
	e.Key = EffectKey(d.State.ID, Merge, fmt.Sprintf("pull %d at %s", r.Pull, r.Head), d.State.Progress.Try)
	d.State.Progress.Effect = e.Key
	d.Effects = append(d.Effects, e)
	d.become(Running, Recording, "promotion.recording", fmt.Sprintf("the slot is free; pull request %d is merged at %s: %s", r.Pull, short(r.Head), r.Says))
}

// recording waits for the merge. Its uncertainty is the effect's: the promotion
// stays and says whom it asks.
func (d *decider) recording() {
	e := d.ev.Facts.Effect
	if e == nil || e.Key != d.State.Progress.Effect {
		d.wait(d.now.Add(lookAgain), "the promotion pull request to be merged", "nothing was tried yet", "hotswap abort "+d.State.ID)
		return
	}
	switch e.State {
	case EffectDone:
		d.recorded(e)
	case EffectFailed:
		d.State.Progress.Refusal, d.State.Progress.RetryAt = e.Why, d.now.Add(refusalPause(d.State.Progress.Try))
		d.regate("pull request not merged: " + e.Why)
	default:
		why := e.Why
		if e.State == EffectUncertain && why == "" {
			why = "the forge was asked and has not answered"
		}
		d.wait(d.now.Add(lookAgain), "the promotion pull request to be merged", why, "hotswap abort "+d.State.ID)
	}
}

// refusalPause is how long it is not tried again to record a promotion after the
// given number of tries: the first time it may have been a moment's change.
func refusalPause(try int) time.Duration {
	if try <= 1 {
		return 0
	}
	return min(10*time.Second<<min(try-2, 10), 5*time.Minute)
}

// refusedGate is closed for a while after the forge refused the merge, so that nobody
// asks it without end for what it does not allow.
func (d *decider) refusedGate() []gate {
	p := d.State.Progress
	if p.Refusal == "" || !d.now.Before(p.RetryAt) {
		return nil
	}
	return []gate{{
		what:     "the forge to take the merge",
		evidence: fmt.Sprintf("it was refused %d times: %s", p.Try, p.Refusal),
		command:  "look at what protects the branch of the pull request",
		next:     p.RetryAt,
	}}
}

// recorded begins with the units, unless what must not be passed by was closed while the
// forge was asked.
func (d *decider) recorded(e *EffectFact) {
	var closed []string
	next := d.now.Add(lookAgain)
	if d.ev.Facts.Held != "" {
		closed = append(closed, d.heldGate().what)
	}
	if w := d.ev.Facts.Gates.Window; w != nil && !w.Open {
		closed = append(closed, "an open window: "+w.Why)
		if w.Next.After(d.now) {
			next = w.Next
		}
	}
	if len(closed) > 0 {
		d.wait(next, strings.Join(closed, ", and "), fmt.Sprintf("it is recorded by %s, and was closed meanwhile", short(e.Commit)), "hotswap abort "+d.State.ID)
		return
	}
	slot := d.ev.Facts.Slot
	slot.Started = max(slot.Started, d.State.Generation)
	d.Slot = &slot
	d.State.Progress.Recorded, d.State.Progress.Refusal, d.State.Progress.RetryAt = e.Commit, "", time.Time{}
	if len(d.State.Units) == 0 { // a removal where nothing runs
		d.finish(Succeeded, false, "promotion.succeeded", "no unit runs it")
		return
	}
	d.prepareWave("promotion.recorded", fmt.Sprintf("recorded by %s; ", short(e.Commit)))
}

// regate gives the slot back: nothing was ordered yet.
func (d *decider) regate(reason string) {
	d.free()
	d.State.Units, d.State.Token, d.State.Progress.Effect = nil, 0, ""
	d.become(Gating, "", "promotion.regated", reason)
}
