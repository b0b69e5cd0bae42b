package promotion

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/intent"
)

func TestEveryClosedGateIsToldAtOnce(t *testing.T) {
	s := newStory(t, "a")
	s.state.Spec.Stage.Gates = intent.Gates{
		Approval: "operator", Deadline: "24h", Windows: []string{"business-hours"}, Soak: intent.Soak{For: "1h"}, Checks: []string{"load-test", "ticket"},
	}
	s.facts.Held = "wave 1 of 4: errors 5 %"
	s.facts.Gates = GateFacts{
		Window: &WindowFact{Why: "business-hours opens at 14:00", Next: noon.Add(2 * time.Hour)}, Needs: noon.Add(-50 * time.Minute),
		Checks: []CheckFact{{Name: "load-test", Detail: "p95 is 800 ms"}},
	}
	s.look()
	require.Equal(t, Gating, s.state.Status)
	require.Equal(t, "the hold on checkout 1.5.0 to be lifted, and an operator to agree to plan plan-1, and an open window, and "+
		"the stages before to have run for 1h, and external check load-test, and external check ticket", s.last.Waiting.What)
	require.Contains(t, s.last.Waiting.Evidence, "load-test failed: p95 is 800 ms; ticket has said nothing yet")
	require.Equal(t, noon.Add(10*time.Minute), s.last.Wake, "the soak is over first")

	s.facts.Held, s.facts.Gates.Window.Open = "", true
	s.facts.Gates.Checks = []CheckFact{{Name: "load-test", Passed: true}, {Name: "ticket", Passed: true}}
	s.pass(10 * time.Minute)
	s.look()
	require.Equal(t, "an operator to agree to plan plan-1", s.last.Waiting.What)
	s.give(Promoted)
	s.look()
	require.Equal(t, Queued, s.state.Status)
	require.Contains(t, s.state.Reason, "ann agreed")
}

func TestAnApprovalIsAskedForADayAndThenTheClockStops(t *testing.T) {
	gated := func(t *testing.T) *story {
		s := newStory(t, "a")
		s.state.Spec.Stage.Gates = intent.Gates{Approval: "operator", Deadline: "24h"}
		s.look()
		return s
	}
	t.Run("nobody agrees", func(t *testing.T) {
		s := gated(t)
		s.pass(24*time.Hour - time.Second)
		s.look()
		require.Equal(t, Gating, s.state.Status)
		s.pass(time.Second)
		s.look()
		require.Equal(t, Expired, s.state.Status)
	})
	t.Run("somebody agreed and something else is missing", func(t *testing.T) {
		s := gated(t)
		s.facts.Held = "harmful before"
		s.give(Promoted)
		s.pass(48 * time.Hour)
		s.look()
		require.Equal(t, Gating, s.state.Status)
	})
	t.Run("a person says no", func(t *testing.T) {
		s := gated(t)
		s.give(Refused)
		require.Equal(t, Rejected, s.state.Status)
		require.Equal(t, "asked by ann: not today", s.state.Reason)
	})
}

func TestAnApprovalIsOfOnePlan(t *testing.T) {
	s := newStory(t, "a")
	s.state.Spec.Stage.Gates = intent.Gates{Approval: "operator", Deadline: "24h"}
	s.look()
	s.give(Promoted)
	s.look()
	require.Equal(t, Queued, s.state.Status)
	s.facts.Plan = "plan-2"
	s.look()
	require.Equal(t, Gating, s.state.Status)
	require.Contains(t, s.state.Reason, "ann agreed to the former one, which counts no more")
	s.look()
	require.Equal(t, Gating, s.state.Status)
	require.Equal(t, "an operator to agree to plan plan-2", s.last.Waiting.What)
}

func TestAPersonDoesNotAgreeToAPlanThatMovedMeanwhile(t *testing.T) {
	s := newStory(t, "a")
	s.state.Spec.Stage.Gates = intent.Gates{Approval: "operator", Deadline: "24h"}
	s.look()
	s.facts.Plan = "plan-2"
	s.give(Promoted)
	require.Nil(t, s.state.Progress.Approval)
	require.Contains(t, s.state.Reason, "the plan moved")
}

func TestAGateThatFallsWhileTheSlotIsWaitedFor(t *testing.T) {
	s := newStory(t, "a")
	s.state.Spec.Stage.Gates = intent.Gates{Windows: []string{"business-hours"}}
	s.facts.Gates.Window = &WindowFact{Open: true}
	s.facts.Slot.Holder = "checkout-1/qa/promote-1"
	s.look()
	s.look()
	require.Equal(t, Queued, s.state.Status)
	s.facts.Slot.Holder = ""
	s.facts.Gates.Window = &WindowFact{Why: "business-hours opens tomorrow"}
	s.look()
	require.Equal(t, Gating, s.state.Status, "nothing starts inside a closed window")
	require.Equal(t, "a gate fell: an open window", s.state.Reason)
}

func TestWhoseTurnItIs(t *testing.T) {
	tests := map[string]struct {
		play func(s *story)
		says string
	}{
		"a restore goes first":            {func(s *story) { s.facts.Restore = "checkout-1/qa/restore-1" }, "restore checkout-1/qa/restore-1 goes first"},
		"a queue takes the oldest":        {func(s *story) { s.state.Spec.Concurrency, s.facts.Oldest = intent.Queue, 1 }, "generation 1 goes first: the stage takes the oldest"},
		"a cluster has as many as it may": {func(s *story) { s.facts.Limit, s.facts.Load = 2, []ClusterLoad{{"", 2}} }, "a turn in cluster qa: 2 of 2 promotions are running there"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStory(t, "a")
			s.look()
			tt.play(s)
			s.look()
			require.Equal(t, Queued, s.state.Status)
			require.Contains(t, s.last.Waiting.What, tt.says)
		})
	}
	t.Run("a queue does not supersede", func(t *testing.T) {
		s := newStory(t, "a")
		s.state.Spec.Concurrency = intent.Queue
		s.look()
		s.facts.Slot.Started, s.facts.Oldest, s.facts.Newest = 3, 2, 3
		s.look()
		require.Equal(t, Preparing, s.state.Phase)
	})
	t.Run("a full cluster elsewhere is no reason to wait", func(t *testing.T) {
		s := newStory(t, "a")
		s.look()
		s.facts.Limit, s.facts.Load = 1, []ClusterLoad{{"west", 1}}
		s.look()
		require.Equal(t, Preparing, s.state.Phase)
		require.Equal(t, []Load{{Limit: 1}}, s.last.Load)
	})
}

func TestWhatASlotGoesBackTo(t *testing.T) {
	f := func(release string, generation int64) Former { return Former{Release: release, Generation: generation} }
	held := func(x Former) Former { x.Held = true; return x }
	tests := map[string]struct {
		live    Former
		formers []Former
		ask     string
		want    string
	}{
		"the one before":                          {f("c-3", 3), []Former{f("c-3", 3), f("c-2", 2), f("c-1", 1)}, "", "c-2"},
		"again goes further back":                 {f("c-2", 2), []Former{f("c-2", 2), f("c-3", 3), f("c-2", 2), f("c-1", 1)}, "", "c-1"},
		"never to what is held":                   {f("c-3", 3), []Former{f("c-3", 3), held(f("c-2", 2)), f("c-1", 1)}, "", "c-1"},
		"a release that is asked for":             {f("c-3", 3), []Former{f("c-3", 3), f("c-2", 2), f("c-1", 1)}, "c-1", "c-1"},
		"forward again, when asked for":           {f("c-2", 2), []Former{f("c-2", 2), f("c-3", 3)}, "c-3", "c-3"},
		"from a dirty slot where nothing is live": {Former{}, []Former{f("c-1", 1)}, "c-1", "c-1"},
		"not what runs":                           {f("c-3", 3), []Former{f("c-3", 3)}, "c-3", ""},
		"not what never ran there":                {f("c-3", 3), []Former{f("c-3", 3)}, "c-9", ""},
		"not what is held, even if asked for":     {f("c-3", 3), []Former{f("c-3", 3), held(f("c-2", 2))}, "c-2", ""},
		"nothing before":                          {f("c-1", 1), []Former{f("c-1", 1)}, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ChooseFormer(tt.live, tt.formers, tt.ask)
			if tt.want == "" {
				require.ErrorIs(t, err, ErrNoFormer)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, got.Release)
		})
	}
	var many []Former
	for g := int64(12); g > 0; g-- {
		many = append(many, Former{Release: string(rune('a' + g)), Generation: g})
	}
	_, err := ChooseFormer(many[0], many, many[MaxFormers].Release)
	require.NoError(t, err)
	_, err = ChooseFormer(many[0], many, many[MaxFormers+1].Release)
	require.ErrorIs(t, err, ErrNoFormer, "among the last ten")
}
