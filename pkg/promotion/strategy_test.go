package promotion

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/analysis"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/target"
)

// with gives a story another strategy, before anything was looked at.
func (s *story) with(st intent.Strategy) *story {
	st.Deadline = "10m"
	s.state.Spec.Stage.Strategy = st
	return s
}

// prepare lets units report that the new version is ready beside the former one.
func (s *story) prepare(nodes ...string) {
	for _, n := range nodes {
		s.reports(n, sees("1.4.2", target.Healthy), sees("1.5.0", target.Healthy))
	}
	s.look()
}

// serve lets units report that they switched.
func (s *story) serve(nodes ...string) {
	s.allServe("1.5.0", nodes...)
	s.look()
}

func (s *story) says(v analysis.Verdict, reason string) {
	s.facts.Verdict = &analysis.Result{Verdict: v, Reason: reason}
	s.look()
	s.facts.Verdict = nil
}

func canaryStory(t *testing.T, nodes ...string) *story {
	s := newStory(t, nodes...).with(intent.Strategy{Type: "canary", Waves: []string{"10%", "50%", "100%"}, Analysis: "standard"})
	s.state.Spec.Analysis = &Watch{Interval: 10 * time.Second, Maximum: 30 * time.Minute, Insufficient: "pause"}
	s.state.Spec.Stage.OnFailure.Hold = true
	return s
}

func TestRollingGoesBatchByBatch(t *testing.T) {
	s := newStory(t, "a", "b", "c").with(intent.Strategy{Type: "rolling", MaxUnavailable: "2"})
	s.toPreparing()
	require.Equal(t, "a:1.4.2/1.5.0 b:1.4.2/1.5.0", s.ordered(), "the third unit is not touched")
	s.prepare("a", "b")
	s.serve("a", "b")
	require.Equal(t, "c:1.4.2/1.5.0", s.ordered())
	require.Equal(t, 1, s.state.Wave)
	require.Len(t, s.last.Live, 2, "what the first batch runs is recorded")
	s.prepare("c")
	s.serve("c")
	require.Equal(t, Succeeded, s.state.Status)
	require.Equal(t, "a:1.5.0/- b:1.5.0/- c:1.5.0/-", s.ordered(), "the former instances are let go together")
}

func TestAnEarlierBatchThatBreaksTakesAllBackButTheUntouched(t *testing.T) {
	s := newStory(t, "a", "b", "c").with(intent.Strategy{Type: "rolling", MaxUnavailable: "1"})
	s.toPreparing()
	s.prepare("a")
	s.serve("a")
	s.reports("a", sees("1.5.0", target.Unhealthy), nil)
	s.look()
	require.Equal(t, RollingBack, s.state.Status)
	require.Equal(t, "a:1.4.2/- b:1.4.2/-", s.ordered(), "b was prepared, c was never touched")
	s.allServe("1.4.2", "a", "b")
	s.look()
	require.Equal(t, RolledBack, s.state.Status)
}

func TestUnitsThatLeaveAreSkippedAsFarAsIsTolerated(t *testing.T) {
	s := newStory(t, "a", "b", "c", "d").with(intent.Strategy{Type: "rolling", MaxUnavailable: "2"})
	s.toPreparing()
	s.unit("a").Gone = true
	s.look()
	require.Equal(t, Preparing, s.state.Phase)
	require.True(t, s.state.Units[0].Skipped)
	require.Contains(t, s.state.Reason, "a: the node left the fleet; it is skipped")
	s.prepare("b")
	s.serve("b")
	s.prepare("c", "d")
	s.unit("c").Gone = true
	s.look()
	require.True(t, s.state.Units[2].Skipped)
	s.unit("d").Gone = true
	s.look()
	require.Equal(t, Paused, s.state.Phase, "more than two may not be missing")
	s.give(Resumed)
	require.True(t, s.state.Units[3].Skipped, "the person has seen it")
	for !s.state.Status.Final() {
		s.serve("b")
	}
	require.Equal(t, Succeeded, s.state.Status)
	require.Equal(t, "b:1.5.0/-", s.ordered())
}

func TestAPromotionWithoutAnyUnitLeftIsNoSuccess(t *testing.T) {
	s := newStory(t, "a")
	s.toPreparing()
	s.unit("a").Gone = true
	s.look()
	require.Equal(t, Paused, s.state.Phase)
	s.give(Resumed)
	require.Equal(t, Errored, s.state.Status)
}

func TestBlueGreenTestsTheStandbyBeforeAnyTrafficMoves(t *testing.T) {
	blueGreen := func(t *testing.T) *story {
		s := newStory(t, "a", "b").with(intent.Strategy{Type: "blueGreen", Smoke: intent.Smoke{Path: "/ready", For: "30s"}, KeepOldFor: "30m", Stabilization: "standard"})
		s.state.Spec.Stabilization = &Watch{Interval: 30 * time.Second, Maximum: 30 * time.Minute, Insufficient: "pause"}
		s.toPreparing()
		require.Equal(t, "/ready", s.last.Orders[0].Order.Smoke.Path)
		return s
	}
	smoked := func(s *story, node string, passed, failed int64, lasted time.Duration) {
		s.reports(node, sees("1.4.2", target.Healthy), sees("1.5.0", target.Healthy))
		s.unit(node).Report.Standby.Smoke = &target.SmokeReport{Path: "/ready", Since: noon, Last: noon.Add(lasted), Passed: passed, Failed: failed, Detail: "answered 500"}
	}
	t.Run("all must pass for long enough, then be stable, then all switch together and the old is kept", func(t *testing.T) {
		s := blueGreen(t)
		smoked(s, "a", 31, 0, 30*time.Second)
		smoked(s, "b", 12, 0, 11*time.Second)
		s.look()
		require.Equal(t, Preparing, s.state.Phase)
		require.Contains(t, s.last.Waiting.Evidence, "b: smoke test passed for 11s of 30s")
		smoked(s, "b", 31, 0, 30*time.Second)
		s.look()
		require.Equal(t, Stabilising, s.state.Phase)
		require.Empty(t, s.last.Orders, "no traffic moves yet")
		s.says(analysis.Insufficient, "1 of 3 polls")
		require.Equal(t, Stabilising, s.state.Phase)
		s.says(analysis.Healthy, "3 of 3 polls")
		require.Equal(t, Activating, s.state.Phase)
		require.Equal(t, "a:1.5.0/1.4.2 b:1.5.0/1.4.2", s.ordered())
		s.serve("a", "b")
		require.Equal(t, Stabilising, s.state.Phase)
		s.says(analysis.Healthy, "stable")
		require.Equal(t, Succeeded, s.state.Status)
		require.Equal(t, "a:1.5.0/1.4.2 b:1.5.0/1.4.2", s.ordered())
		require.Equal(t, 30*time.Minute, s.last.Orders[0].Order.KeepFor)
	})
	t.Run("one failed smoke test ends it and nothing was switched", func(t *testing.T) {
		s := blueGreen(t)
		smoked(s, "a", 31, 0, 30*time.Second)
		smoked(s, "b", 30, 1, 30*time.Second)
		s.look()
		require.Equal(t, Failed, s.state.Status)
		require.Contains(t, s.state.Reason, "smoke test GET /ready failed: answered 500")
		require.Equal(t, "a:1.4.2/- b:1.4.2/-", s.ordered())
		require.False(t, s.facts.Slot.Dirty)
	})
	t.Run("a standby that was never tested has not passed", func(t *testing.T) {
		s := blueGreen(t)
		s.prepare("a", "b")
		require.Equal(t, Preparing, s.state.Phase)
		s.pass(11 * time.Minute)
		s.prepare("a", "b")
		require.Equal(t, Failed, s.state.Status)
		require.Contains(t, s.state.Reason, "healthy, not smoke-tested yet")
	})
}

func TestCanaryGoesWaveByWaveAsLongAsTheAnalysisFindsNoHarm(t *testing.T) {
	s := canaryStory(t, "a", "b", "c", "d")
	s.toPreparing()
	require.Equal(t, "a:1.4.2/1.5.0", s.ordered())
	s.prepare("a")
	s.serve("a")
	require.Equal(t, Analysing, s.state.Phase)
	s.look()
	require.Nil(t, s.last.Transition, "no verdict is no pass")
	require.Contains(t, s.last.Waiting.Evidence, "no sample was seen")
	s.allServe("1.5.0", "a")
	s.says(analysis.Healthy, "errors 0 % of 200 requests")
	require.Equal(t, 1, s.state.Wave)
	require.Equal(t, "b:1.4.2/1.5.0", s.ordered())
	s.prepare("b")
	s.serve("b")
	require.Equal(t, Analysing, s.state.Phase)

	s.says(analysis.Harmful, "errors 5.0 % against 0.9 %")
	require.Equal(t, RollingBack, s.state.Status)
	require.Equal(t, "a:1.4.2/- b:1.4.2/-", s.ordered())
	require.Contains(t, s.last.Hold.Reason, "errors 5.0 % against 0.9 %")
	require.Contains(t, s.state.Reason, "wave 2 of 3")
	s.allServe("1.4.2", "a", "b")
	s.look()
	require.Equal(t, RolledBack, s.state.Status)
	require.True(t, s.state.Progress.Harmful)
}

func TestWhatFollowsWithoutAVerdict(t *testing.T) {
	tests := map[string]struct {
		policy string
		want   string
	}{
		"pause asks a person":             {"pause", "running/paused"},
		"promote goes on":                 {"promote", "running/preparing"},
		"rollback takes it back":          {"rollback", "rolling_back"},
		"extend waits once more as long":  {"extend", "running/analysing"},
		"an unknown policy asks a person": {"", "running/paused"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := canaryStory(t, "a", "b")
			s.state.Spec.Analysis.Insufficient = tt.policy
			s.toPreparing()
			s.prepare("a")
			s.serve("a")
			s.pass(30*time.Minute - time.Second)
			s.allServe("1.5.0", "a")
			s.says(analysis.Insufficient, "12 of 100 requests")
			require.Nil(t, s.last.Transition)
			s.pass(time.Second)
			s.says(analysis.Insufficient, "12 of 100 requests")
			require.Equal(t, tt.want, s.state.Where())
			require.Contains(t, s.state.Reason, "12 of 100 requests")
			if tt.policy == "extend" {
				s.pass(30 * time.Minute)
				s.allServe("1.5.0", "a")
				s.says(analysis.Insufficient, "13 of 100 requests")
				require.Equal(t, Paused, s.state.Phase, "it is extended once")
			}
		})
	}
}

func TestAPersonPausesResumesAndPromotesWithoutAVerdict(t *testing.T) {
	s := canaryStory(t, "a", "b", "c", "d")
	s.toPreparing()
	s.prepare("a")
	s.give(Held)
	require.Equal(t, Paused, s.state.Phase)
	require.Contains(t, s.state.Reason, "asked by ann: not today")
	s.look()
	require.Contains(t, s.last.Waiting.Command, "hotswap resume "+s.state.ID)
	s.pass(time.Hour)
	s.allServe("1.5.0", "a")
	s.give(Resumed)
	require.Equal(t, Activating, s.state.Phase)
	require.Equal(t, s.now, s.state.Since, "a phase has time of its own after a pause")
	s.serve("a")
	s.give(Held)
	s.give(Promoted)
	require.Equal(t, "running/preparing", s.state.Where())
	require.Equal(t, 1, s.state.Wave)
	require.Empty(t, s.state.Progress.Resume)
}

func TestAPauseDoesNotKeepABrokenVersionInFrontOfUsers(t *testing.T) {
	s := canaryStory(t, "a", "b")
	s.toPreparing()
	s.prepare("a")
	s.serve("a")
	s.give(Held)
	s.reports("a", sees("1.5.0", target.Unhealthy), nil)
	s.look()
	require.Equal(t, RollingBack, s.state.Status)
}

func TestWhatIsNotPossibleNowIsRefused(t *testing.T) {
	tests := map[string]struct {
		play func(s *story)
		kind EventKind
	}{
		"promoting what waits for nobody":  {func(*story) {}, Promoted},
		"pausing what does not run":        {func(*story) {}, Held},
		"resuming what is not paused":      {func(s *story) { s.toPreparing() }, Resumed},
		"rejecting what runs":              {func(s *story) { s.toPreparing() }, Refused},
		"pausing what is paused":           {func(s *story) { s.toPreparing(); s.give(Held) }, Held},
		"promoting what is being prepared": {func(s *story) { s.toPreparing(); s.give(Held) }, Promoted},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStory(t, "a")
			tt.play(s)
			_, err := Decide(s.state, event(tt.kind, s.facts), s.now)
			require.ErrorIs(t, err, ErrNotNow)
		})
	}
}

func TestANewerReleaseWaitsOrTheOlderGivesWayAtTheEndOfItsWave(t *testing.T) {
	for onNewer, want := range map[string]string{"wait": "running/preparing", "abort": "rolling_back"} {
		t.Run(onNewer, func(t *testing.T) {
			s := canaryStory(t, "a", "b")
			s.state.Spec.Stage.OnNewer = onNewer
			s.toPreparing()
			s.prepare("a")
			s.serve("a")
			s.facts.Newest = 3
			s.look()
			require.Equal(t, Analysing, s.state.Phase, "not in the middle of a wave")
			s.allServe("1.5.0", "a")
			s.says(analysis.Healthy, "no harm")
			require.Equal(t, want, s.state.Where())
			if onNewer == "abort" {
				s.allServe("1.4.2", "a")
				s.look()
				require.Equal(t, Cancelled, s.state.Status)
			}
		})
	}
}

func TestARemovalTakesAwayWhatRunsWhenAPersonAgrees(t *testing.T) {
	s := newStory(t, "a", "b")
	s.state.Kind, s.state.Spec.Instance = Remove, target.Instance{}
	s.look()
	require.Equal(t, Gating, s.state.Status, "nothing is undeployed by accident")
	s.give(Promoted)
	s.look()
	s.look()
	require.Equal(t, "a:-/1.4.2 b:-/1.4.2", s.ordered(), "going back is one step")
	s.reports("a", nil, sees("1.4.2", target.Healthy))
	s.reports("b", nil, sees("1.4.2", target.Healthy))
	s.look()
	require.Equal(t, Succeeded, s.state.Status)
	require.Equal(t, "a:-/- b:-/-", s.ordered())
	require.Nil(t, s.last.Live[0].Instance)
}

func TestARestoreTakesADirtySlotAndMakesItClean(t *testing.T) {
	s := newStory(t, "a", "b")
	s.state.Kind, s.state.Generation = Restore, 1
	s.facts.Slot = Slot{Token: 4, Started: 2, Dirty: true, Live: "checkout-2/qa/promote-1"}
	s.look()
	s.look()
	require.Equal(t, Preparing, s.state.Phase)
	require.Equal(t, int64(2), s.facts.Slot.Started, "what comes back overtakes nobody")
	s.prepare("a", "b")
	s.serve("a", "b")
	require.Equal(t, Succeeded, s.state.Status)
	require.Equal(t, Slot{Token: 5, Started: 2, Live: s.state.ID}, s.facts.Slot)
}

func TestRestoresOfSeveralEnvironmentsGoOneAfterTheOther(t *testing.T) {
	s := newStory(t, "a")
	s.state.Kind, s.state.Spec.After = Restore, "checkout-1/production/restore-1"
	s.facts.After = Running
	s.look()
	require.Equal(t, Gating, s.state.Status)
	require.Contains(t, s.last.Waiting.What, "restore checkout-1/production/restore-1 to succeed")
	s.facts.After = RollbackFailed
	s.look()
	require.Equal(t, Cancelled, s.state.Status)
}

func TestAFirstDeploymentHasNoCanary(t *testing.T) {
	s := canaryStory(t, "a", "b", "c")
	for i := range s.facts.Candidates {
		s.facts.Candidates[i].Former = nil
	}
	s.toPreparing()
	require.Equal(t, "a:-/1.5.0 b:-/1.5.0 c:-/1.5.0", s.ordered())
	for _, n := range []string{"a", "b", "c"} {
		s.reports(n, nil, sees("1.5.0", target.Healthy))
	}
	s.look()
	s.serve("a", "b", "c")
	require.Equal(t, Succeeded, s.state.Status, "there is nothing to compare with")
}
