package promotion

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/target"
)

const head = "7f3a9c0011223344556677889900aabbccddeeff"

// reviewed is a promotion that waits for the reviews that policy production asks for.
func reviewedStory(t *testing.T) *story {
	s := newStory(t, "a")
	s.state.Spec.Stage.Gates = intent.Gates{Approval: "production", Deadline: "24h"}
	s.look()
	require.Equal(t, Gating, s.state.Status)
	return s
}

// approve lets two reviews approve the plan as it is.
func (s *story) approve() {
	s.facts.Gates.Review = &ReviewFact{
		State: ReviewApproved, Says: "2 of 2 reviews from sre: bo, chris", By: []string{"bo", "chris"},
		Pull: 3, URL: "https://forge.test/acme/deploy/pulls/3", Head: head, Plan: s.state.Plan, At: s.now,
	}
}

// toRecording takes the slot.
func (s *story) toRecording() {
	s.approve()
	s.look()
	s.look()
	require.Equal(s.t, Queued, s.state.Status)
	s.look()
	require.Equal(s.t, Recording, s.state.Phase)
}

// answers is what came of the merge.
func (s *story) answers(state EffectState, detail string) {
	s.facts.Effect = &EffectFact{Key: s.state.Progress.Effect, State: state, Why: detail}
	if state == EffectDone {
		s.facts.Effect.Commit, s.facts.Effect.Why = detail, ""
	}
}

func TestReviewsOpenAGateAndTheMergeIsTheRecord(t *testing.T) {
	s := reviewedStory(t)
	require.Equal(t, "reviews that approve plan plan-1", s.last.Waiting.What)
	s.approve()
	s.look()
	require.Equal(t, "plan plan-1: 2 of 2 reviews from sre: bo, chris", s.state.Reason)
	require.Equal(t, "promotion.approved", s.rows[len(s.rows)-1].Action)
	s.look()
	require.Equal(t, Queued, s.state.Status)
	s.look()
	require.Equal(t, "running/recording", s.state.Where())
	require.Len(t, s.last.Effects, 1)
	require.Equal(t, Effect{
		Key: EffectKey(s.state.ID, Merge, "pull 3 at "+head, 1), Kind: Merge, Promotion: s.state.ID, Pull: 3, Head: head,
	}, s.last.Effects[0])
	require.Empty(t, s.last.Orders, "nothing is ordered before it is recorded")
	require.Equal(t, int64(1), s.facts.Slot.Started, "it may yet be refused: nobody is overtaken")
	require.Equal(t, s.state.ID, s.facts.Slot.Holder)

	s.look()
	require.Equal(t, "the promotion pull request to be merged", s.last.Waiting.What)
	s.answers(EffectUncertain, "")
	s.pass(72 * time.Hour)
	s.look()
	require.Equal(t, "the forge was asked and has not answered", s.last.Waiting.Evidence, "it stays, and says whom it asks")

	s.answers(EffectDone, "abcdef0123")
	s.look()
	require.Equal(t, "running/preparing", s.state.Where())
	require.Equal(t, "a:1.4.2/1.5.0", s.ordered())
	require.Equal(t, int64(2), s.facts.Slot.Started)
	require.Equal(t, "abcdef0123", s.state.Progress.Recorded)
}

func TestARefusedMergeGivesTheSlotBack(t *testing.T) {
	s := reviewedStory(t)
	s.toRecording()
	first := s.state.Progress.Effect
	s.answers(EffectFailed, "branch hotswap/releases is protected")
	s.look()
	require.Equal(t, Gating, s.state.Status)
	require.Equal(t, "pull request not merged: branch hotswap/releases is protected", s.state.Reason)
	require.Empty(t, s.facts.Slot.Holder)
	require.Empty(t, s.state.Units)
	require.False(t, s.facts.Slot.Dirty)

	s.look()
	s.look()
	require.Equal(t, Recording, s.state.Phase)
	require.NotEqual(t, first, s.state.Progress.Effect, "a known failure gets a new try")
	s.look()
	require.Equal(t, Recording, s.state.Phase, "the answer to the try before is not the answer to this one")
}

func TestOnlyAnApprovalOfThisPlanOpens(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*ReviewFact)
		says   string
	}{
		{"of another plan", func(r *ReviewFact) { r.Plan = "plan-0" }, "the pull request shows plan plan-0"},
		{"of no commit", func(r *ReviewFact) { r.Head = "" }, "2 of 2 reviews from sre: bo, chris"},
		{"of no pull request", func(r *ReviewFact) { r.Pull = 0 }, "2 of 2 reviews from sre: bo, chris"},
		{"that could not be read", func(r *ReviewFact) { r.State, r.Says = ReviewUnread, "page 2 of the reviews: 500" }, "page 2 of the reviews: 500"},
		{"that is missing one", func(r *ReviewFact) { r.State, r.Says = ReviewPending, "1 more of chris, dana" }, "1 more of chris, dana"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := reviewedStory(t)
			s.approve()
			c.change(s.facts.Gates.Review)
			s.look()
			s.look()
			require.Equal(t, Gating, s.state.Status)
			require.Nil(t, s.state.Progress.Approval)
			require.Equal(t, c.says, s.last.Waiting.Evidence)
		})
		t.Run("and at the moment of taking the slot "+c.name, func(t *testing.T) {
			s := reviewedStory(t)
			s.approve()
			s.look()
			s.look()
			require.Equal(t, Queued, s.state.Status)
			c.change(s.facts.Gates.Review)
			s.look()
			require.NotEqual(t, Running, s.state.Status)
			require.Empty(t, s.last.Effects)
		})
	}
}

func TestReviewsThatCannotBeReadKeepTheTurnAndOpenNothing(t *testing.T) {
	s := reviewedStory(t)
	s.approve()
	s.look()
	s.look()
	s.pass(16 * time.Second)
	s.look()
	require.Equal(t, Queued, s.state.Status)
	require.True(t, s.last.Ask, "what was read 16 s ago is read again")
	require.Equal(t, "the promotion pull request is being looked at", s.last.Waiting.Evidence)
	require.Equal(t, s.now.Add(lookAgain), s.last.Wake)
	s.approve()
	s.look()
	require.Equal(t, Recording, s.state.Phase)
}

func TestAnApprovalThatIsTakenAwayStartsTheClockAgain(t *testing.T) {
	s := reviewedStory(t)
	s.facts.Held = "harmful before" // something else is closed
	s.approve()
	s.look()
	require.NotNil(t, s.state.Progress.Approval)
	s.pass(48 * time.Hour)
	s.facts.Gates.Review.At = s.now
	s.look()
	require.Equal(t, Gating, s.state.Status, "the clock stops once it is given")
	s.facts.Gates.Review.State, s.facts.Gates.Review.Says = ReviewPending, "chris's approval was dismissed"
	s.look()
	require.Nil(t, s.state.Progress.Approval)
	require.Equal(t, "plan plan-1 is approved no more: chris's approval was dismissed", s.state.Reason)
	s.pass(24*time.Hour - time.Second)
	s.look()
	require.Equal(t, Gating, s.state.Status)
	s.pass(time.Second)
	s.look()
	require.Equal(t, Expired, s.state.Status)
}

func TestAReviewThatCountsSaysNo(t *testing.T) {
	s := reviewedStory(t)
	s.facts.Gates.Review = &ReviewFact{State: ReviewRejected, Says: "bo asks for changes", Pull: 3, Head: head, Plan: s.state.Plan, At: s.now}
	s.look()
	require.Equal(t, Rejected, s.state.Status)
	require.Equal(t, "bo asks for changes", s.state.Reason)
}

func TestAnOperatorsWordDoesNotReplaceReviews(t *testing.T) {
	s := reviewedStory(t)
	_, err := Decide(s.state, event(Promoted, s.facts), s.now)
	require.ErrorIs(t, err, ErrNotNow)
	require.ErrorContains(t, err, "waits for the reviews that policy production asks for")
}

func TestWhatIsRecordedStillWaitsForAnOpenWindow(t *testing.T) {
	s := reviewedStory(t)
	s.facts.Gates.Window = &WindowFact{Open: true}
	s.toRecording()
	s.answers(EffectDone, "abcdef0123")
	s.facts.Gates.Window = &WindowFact{Why: "business-hours opens at 08:00", Next: s.now.Add(14 * time.Hour)}
	s.look()
	require.Equal(t, Recording, s.state.Phase)
	require.Contains(t, s.last.Waiting.What, "business-hours opens at 08:00")
	require.Equal(t, s.now.Add(14*time.Hour), s.last.Wake)
	s.pass(14 * time.Hour)
	s.facts.Gates.Window = &WindowFact{Open: true}
	s.look()
	require.Equal(t, Preparing, s.state.Phase)
}

func TestStoppedWhileItIsRecordedNothingWasOrdered(t *testing.T) {
	s := reviewedStory(t)
	s.toRecording()
	s.give(Stopped)
	require.Equal(t, Cancelled, s.state.Status)
	require.Empty(t, s.last.Orders)
	require.Empty(t, s.facts.Slot.Holder)
}

func TestTheProposalIsTheSameForAsLongAsThePlanIs(t *testing.T) {
	s := reviewedStory(t)
	src := Source{Digest: "sha256:1", Commit: "c0ffee"}
	snapshot := intent.Snapshot{Module: intent.Module{Name: "checkout", Version: "1.5.0"}}
	first := Proposed(nil, src, snapshot, s.state)
	require.Equal(t, "running", first.State)
	require.Equal(t, "plan-1", first.PlanDigest)
	require.Equal(t, noon, first.At)
	s.pass(time.Hour)
	s.toRecording()
	require.Equal(t, first, Proposed(nil, src, snapshot, s.state))
	require.Equal(t, target.Place{Environment: "qa", Deployment: "checkout"}, s.state.Place())
}

func TestAPlanThatMovesTellsWhoseApprovalIsVoid(t *testing.T) {
	s := reviewedStory(t)
	s.approve()
	s.look()
	s.state.Progress.Parts = &PlanParts{Environment: "e", Policy: "p"}
	s.facts.Plan, s.facts.Parts = "plan-2", &PlanParts{Environment: "e", Policy: "p", Units: "u"}
	s.pass(time.Minute)
	s.facts.Gates.Review.At = s.now
	s.look()
	require.Equal(t, "the plan moved from plan-1 to plan-2: the set of units changed; bo and chris agreed to the former one, which counts no more", s.state.Reason)
	require.Equal(t, s.now, s.state.Progress.Planned)
	s.look()
	require.Equal(t, Gating, s.state.Status, "the pull request still shows the plan before")
	require.Equal(t, "the pull request shows plan plan-1", s.last.Waiting.Evidence)
}

func TestAForgeThatRefusesTheMergeIsNotAskedWithoutEnd(t *testing.T) {
	s := reviewedStory(t)
	s.toRecording()
	refuse := func() {
		s.answers(EffectFailed, "hotswap/releases is protected")
		s.look()
		require.Equal(t, Gating, s.state.Status)
	}
	refuse()
	s.look() // the first time, it may have been a moment's change
	s.look()
	require.Equal(t, Recording, s.state.Phase)
	for _, pause := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second} {
		refuse()
		s.approve()
		s.look()
		require.Equal(t, Gating, s.state.Status)
		require.Equal(t, "the forge to take the merge", s.last.Waiting.What)
		require.Contains(t, s.last.Waiting.Evidence, "hotswap/releases is protected")
		require.Equal(t, s.now.Add(pause), s.state.Progress.RetryAt, "it is asked less and less often")
		s.pass(pause)
		s.approve()
		s.look()
		require.Equal(t, Queued, s.state.Status)
		s.look()
		require.Equal(t, Recording, s.state.Phase)
	}
	s.answers(EffectDone, "abcdef0123")
	s.look()
	require.Empty(t, s.state.Progress.Refusal)
	require.Equal(t, 5*time.Minute, refusalPause(100))
}
