package promotion

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/target"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func module(version string) target.Instance {
	return target.Instance{Digest: "digest-" + version, Module: target.Module{Name: "checkout", Version: version}}
}

// A story is one promotion played by hand: facts are set, events are given.
type story struct {
	t     require.TestingT
	state State
	facts Facts
	now   time.Time
	last  Decision
	told  string // last as JSON, before anything was changed
	rows  []audit.Row
	steps []Transition
	sums  sums
}

// newStory is a promotion of 1.5.0 through a direct stage over units that run 1.4.2.
func newStory(t require.TestingT, nodes ...string) *story {
	s := &story{t: t, now: noon, state: State{
		ID: "checkout-2/qa/promote-1", Tenant: "acme", Release: "checkout-2", Deployment: "checkout", Environment: "qa",
		Kind: Promote, Attempt: 1, Generation: 2,
		Spec: Spec{
			Stage:    intent.Stage{Name: "qa", Environment: "qa", Strategy: intent.Strategy{Type: "direct", Deadline: "10m", HealthyFor: "0s"}, OnFailure: intent.OnFailure{Action: "rollback"}},
			Instance: module("1.5.0"),
		},
	}}
	s.facts = Facts{Epoch: 1, Plan: "plan-1", Slot: Slot{Token: 4, Started: 1}, Newest: 2}
	former := module("1.4.2")
	for _, n := range nodes {
		s.facts.Candidates = append(s.facts.Candidates, Candidate{Node: n, Wanted: target.Position{Epoch: 1, Token: 4, Generation: 7}, Former: &former})
	}
	s.give(Created)
	return s
}

// give decides on an event and applies the decision as a store would.
func (s *story) give(kind EventKind) {
	d, err := Decide(s.state, event(kind, s.facts), s.now)
	require.NoError(s.t, err)
	if d.Transition != nil {
		require.True(s.t, Listed(s.state, d.State), "the move from %q to %q is in no list", s.state.Where(), d.State.Where())
	}
	s.count(d)
	s.told, s.last, s.state = asJSON(d), d, d.State
	s.rows = append(s.rows, d.Rows...)
	if d.Transition != nil {
		s.steps = append(s.steps, *d.Transition)
	}
	if d.Slot != nil {
		s.facts.Slot = *d.Slot
	}
	for _, o := range d.Orders {
		s.unit(o.Node).Wanted = o.Order.Position
	}
}

// event is an event of a kind: people stop, the system looks.
func event(kind EventKind, facts Facts) Event {
	if kind != Looked && kind != Created {
		return Event{Kind: kind, Actor: audit.Actor{Kind: audit.Person, Name: "ann"}, Reason: "not today", Facts: facts}
	}
	return Event{Kind: kind, Actor: System, Facts: facts}
}

func (s *story) look() { s.give(Looked) }

// unit returns what is known of a unit, new when nothing was.
func (s *story) unit(node string) *Observed {
	for i := range s.facts.Units {
		if s.facts.Units[i].Node == node {
			return &s.facts.Units[i]
		}
	}
	s.facts.Units = append(s.facts.Units, Observed{Node: node, Seen: s.now})
	return &s.facts.Units[len(s.facts.Units)-1]
}

// reports lets a unit answer its newest order.
func (s *story) reports(node string, active, standby *target.InstanceReport) {
	u := s.unit(node)
	u.Seen = s.now
	u.Report = &target.PlaceReport{Place: s.state.Place(), Position: u.Wanted, Active: active, Standby: standby}
}

func (s *story) pass(d time.Duration) { s.now = s.now.Add(d) }

func sees(version string, phase target.Phase) *target.InstanceReport {
	return &target.InstanceReport{Digest: "digest-" + version, Version: version, Phase: phase}
}

func broke(version string, reason target.Reason, detail string) *target.InstanceReport {
	return &target.InstanceReport{Digest: "digest-" + version, Version: version, Phase: target.Failed, Reason: reason, Detail: detail}
}

// toPreparing takes the story until the units were ordered to prepare.
func (s *story) toPreparing() {
	s.look()
	s.look()
	require.Equal(s.t, Preparing, s.state.Phase)
}

// toActivating goes on until traffic moves.
func (s *story) toActivating(nodes ...string) {
	s.toPreparing()
	for _, n := range nodes {
		s.reports(n, sees("1.4.2", target.Healthy), sees("1.5.0", target.Healthy))
	}
	s.look()
	require.Equal(s.t, Activating, s.state.Phase)
}

func (s *story) allServe(version string, nodes ...string) {
	for _, n := range nodes {
		s.reports(n, sees(version, target.Healthy), nil)
	}
}

// ordered describes the orders of the last decision: "a:1.5.0/1.4.2".
func (s *story) ordered() string {
	name := func(i *target.Instance) string {
		if i == nil {
			return "-"
		}
		return i.Module.Version
	}
	var out []string
	for _, o := range s.last.Orders {
		out = append(out, fmt.Sprintf("%s:%s/%s", o.Node, name(o.Order.Active), name(o.Order.Standby)))
	}
	return strings.Join(out, " ")
}

func TestDirectPreparesAllThenActivatesAll(t *testing.T) {
	s := newStory(t, "a", "b")
	s.look()
	require.Equal(t, Queued, s.state.Status)
	s.look()
	require.Equal(t, Running, s.state.Status)
	require.Equal(t, "a:1.4.2/1.5.0 b:1.4.2/1.5.0", s.ordered())
	require.Equal(t, Slot{Holder: s.state.ID, Token: 5, Started: 2}, s.facts.Slot)
	require.Equal(t, target.Position{Epoch: 1, Token: 5, Generation: 8}, s.last.Orders[0].Order.Position)

	s.reports("a", sees("1.4.2", target.Healthy), sees("1.5.0", target.Healthy))
	s.look()
	require.Nil(t, s.last.Transition, "one unit is not all")
	require.Equal(t, "1 of 2 units prepared", s.last.Waiting.What)
	require.Contains(t, s.last.Waiting.Evidence, "b: has not answered")

	s.reports("b", sees("1.4.2", target.Healthy), sees("1.5.0", target.Healthy))
	s.look()
	require.Equal(t, "a:1.5.0/1.4.2 b:1.5.0/1.4.2", s.ordered())

	s.allServe("1.5.0", "a", "b")
	s.look()
	require.Equal(t, Succeeded, s.state.Status)
	require.Equal(t, "a:1.5.0/- b:1.5.0/-", s.ordered(), "the former instance is let go")
	require.Equal(t, Slot{Token: 5, Started: 2, Live: s.state.ID}, s.facts.Slot)
	require.Nil(t, s.last.Waiting)
	require.Len(t, s.rows, len(s.steps), "one row for each transition")
}

func TestWhatEndsAPromotion(t *testing.T) {
	tests := map[string]struct {
		play   func(s *story)
		want   Status
		orders string
		slot   Slot
		reason string
	}{
		"a missing artifact fails it and what runs is untouched": {func(s *story) {
			s.toPreparing()
			s.reports("a", sees("1.4.2", target.Healthy), broke("1.5.0", target.ArtifactMissing, "404"))
			s.look()
		}, Failed, "a:1.4.2/- b:1.4.2/-", Slot{Token: 5, Started: 2}, "a: artifact-missing: 404"},
		"a place that cannot obey fails it": {func(s *story) {
			s.toPreparing()
			s.reports("a", sees("1.4.2", target.Healthy), nil)
			s.unit("a").Report.Refused = "address-unavailable: 8080"
			s.look()
		}, Failed, "a:1.4.2/- b:1.4.2/-", Slot{Token: 5, Started: 2}, "a: address-unavailable: 8080"},
		"a unit that starts for ever fails it at the deadline": {func(s *story) {
			s.toPreparing()
			s.pass(10 * time.Minute)
			s.reports("a", sees("1.4.2", target.Healthy), sees("1.5.0", target.Healthy))
			s.reports("b", sees("1.4.2", target.Healthy), sees("1.5.0", target.Starting))
			s.look()
		}, Failed, "a:1.4.2/- b:1.4.2/-", Slot{Token: 5, Started: 2}, "not prepared within the deadline: b: starting"},
		"a silent unit at the deadline means that we could not tell": {func(s *story) {
			s.toPreparing()
			s.pass(10 * time.Minute)
			s.reports("a", sees("1.4.2", target.Healthy), sees("1.5.0", target.Healthy))
			s.look()
		}, Errored, "a:1.4.2/- b:1.4.2/-", Slot{Token: 5, Started: 2}, "b: no word since 12:00:00 within the deadline; nothing was switched"},
		"a standby that dies at the switch takes all units back": {func(s *story) {
			s.toActivating("a", "b")
			s.allServe("1.5.0", "a")
			s.reports("b", sees("1.4.2", target.Healthy), nil)
			s.unit("b").Report.Active = broke("1.5.0", target.StartFailed, "exit 1")
			s.look()
			require.Equal(s.t, RollingBack, s.state.Status)
			require.Equal(s.t, "a:1.4.2/- b:1.4.2/-", s.ordered())
			s.allServe("1.4.2", "a", "b")
			s.look()
		}, RolledBack, "", Slot{Token: 5, Started: 2}, "rolled back because: b: start-failed: exit 1"},
		"a unit silent at the switch is rolled back, and the rollback cannot be confirmed": {func(s *story) {
			s.toActivating("a", "b")
			s.pass(10 * time.Minute)
			s.allServe("1.5.0", "a")
			s.look()
			s.pass(10 * time.Minute)
			s.allServe("1.4.2", "a")
			s.look()
		}, RollbackFailed, "", Slot{Token: 5, Started: 2, Dirty: true}, "not back within the deadline: b: no word"},
		"a unit that cannot go back leaves the slot dirty": {func(s *story) {
			s.toActivating("a", "b")
			s.reports("a", broke("1.5.0", target.StartFailed, "exit 1"), nil)
			s.look()
			require.Equal(s.t, RollingBack, s.state.Status)
			s.reports("a", broke("1.4.2", target.StartFailed, "exit 1"), nil)
			s.allServe("1.4.2", "b")
			s.look()
		}, RollbackFailed, "", Slot{Token: 5, Started: 2, Dirty: true}, "a: start-failed: exit 1"},
		"who left the fleet is not waited for on the way back": {func(s *story) {
			s.toActivating("a", "b")
			s.unit("a").Gone = true
			s.look()
			require.Equal(s.t, Paused, s.state.Phase)
			s.give(Stopped)
			require.Equal(s.t, "a:1.4.2/- b:1.4.2/-", s.ordered(), "also for the day on which a comes back")
			s.allServe("1.4.2", "b")
			s.look()
		}, Cancelled, "", Slot{Token: 5, Started: 2}, "a: the node left the fleet"},
		"onFailure fail leaves the units as they are, and the slot dirty": {func(s *story) {
			s.state.Spec.Stage.OnFailure.Action = "fail"
			s.toActivating("a", "b")
			s.reports("a", broke("1.5.0", target.StartFailed, "exit 1"), nil)
			s.look()
		}, Failed, "", Slot{Token: 5, Started: 2, Dirty: true}, "the units stay as they are"},
		"a newer release that started takes its place": {func(s *story) {
			s.look()
			s.facts.Slot.Started = 3
			s.look()
		}, Superseded, "", Slot{Token: 4, Started: 3}, "generation 3 was started in qa"},
		"stopped before it started": {func(s *story) {
			s.look()
			s.give(Stopped)
		}, Cancelled, "", Slot{Token: 4, Started: 1}, "asked by ann: not today"},
		"stopped while preparing": {func(s *story) {
			s.toPreparing()
			s.give(Stopped)
		}, Cancelled, "a:1.4.2/- b:1.4.2/-", Slot{Token: 5, Started: 2}, "asked by ann: not today"},
		"stopped after the switch goes back first": {func(s *story) {
			s.toActivating("a", "b")
			s.give(Stopped)
			require.Equal(s.t, RollingBack, s.state.Status)
			s.give(Stopped) // once more changes nothing
			require.Nil(s.t, s.last.Transition)
			s.allServe("1.4.2", "a", "b")
			s.look()
		}, Cancelled, "", Slot{Token: 5, Started: 2}, "asked by ann: not today"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStory(t, "a", "b")
			tt.play(s)
			require.Equal(t, tt.want, s.state.Status)
			require.Equal(t, tt.orders, s.ordered())
			require.Equal(t, tt.slot, s.facts.Slot)
			require.Contains(t, s.state.Reason, tt.reason)
			require.Equal(t, s.state.Reason, s.rows[len(s.rows)-1].Reason)
			_, err := Decide(s.state, Event{Kind: Looked, Facts: s.facts}, s.now)
			require.ErrorIs(t, err, ErrFinal, "a final state never changes")
		})
	}
}

func TestWhatIsWaitedFor(t *testing.T) {
	tests := map[string]struct {
		play func(s *story)
		says string
	}{
		"a slot that another promotion holds": {func(s *story) { s.facts.Slot.Holder = "checkout-1/qa/promote-1" }, "the slot is held by promotion checkout-1/qa/promote-1"},
		"a dirty slot":                        {func(s *story) { s.facts.Slot.Dirty = true }, "the slot is dirty"},
		"a newer release that is ready too":   {func(s *story) { s.facts.Newest = 3 }, "generation 3 goes first"},
		"an environment without nodes":        {func(s *story) { s.facts.Candidates = nil }, "no node matches the selector of environment qa"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStory(t, "a")
			s.look()
			tt.play(s)
			s.look()
			require.Equal(t, Queued, s.state.Status)
			require.Nil(t, s.last.Transition)
			require.Contains(t, s.last.Waiting.What, tt.says)
			require.True(t, s.last.Wake.After(s.now))
		})
	}
}

func TestANodeThatIsDownIsWaitedForByName(t *testing.T) {
	s := newStory(t, "a", "b")
	s.toPreparing()
	s.pass(time.Minute)
	s.reports("a", sees("1.4.2", target.Healthy), sees("1.5.0", target.Healthy))
	s.look()
	require.Nil(t, s.last.Transition)
	require.Equal(t, "1 of 2 units prepared", s.last.Waiting.What)
	require.Contains(t, s.last.Waiting.Evidence, "b: no word since 12:00:00")
	require.Contains(t, s.last.Waiting.Command, "start the agent of node b")
	require.Equal(t, noon, s.last.Waiting.Since)
}

func TestAMovedPlanGoesBackToItsGates(t *testing.T) {
	s := newStory(t, "a")
	s.look()
	s.facts.Plan = "plan-2"
	s.look()
	require.Equal(t, Gating, s.state.Status)
	require.Equal(t, "plan-2", s.state.Plan)
	require.Equal(t, Slot{Token: 4, Started: 1}, s.facts.Slot, "nothing was taken")
}

func TestHealthMustHoldAfterTheSwitch(t *testing.T) {
	steady := func(t *testing.T) *story {
		s := newStory(t, "a")
		s.state.Spec.Stage.Strategy.HealthyFor = "30s"
		s.toActivating("a")
		s.allServe("1.5.0", "a")
		s.look()
		require.Equal(t, Stabilising, s.state.Phase)
		return s
	}
	t.Run("a report from before the end is no confirmation", func(t *testing.T) {
		s := steady(t)
		s.pass(29 * time.Second)
		s.allServe("1.5.0", "a")
		s.look()
		require.Nil(t, s.last.Transition)
		s.pass(2 * time.Second)
		s.look()
		require.Nil(t, s.last.Transition, "no news is not good news")
		s.allServe("1.5.0", "a")
		s.look()
		require.Equal(t, Succeeded, s.state.Status)
	})
	t.Run("a crash between two healthy reports is seen", func(t *testing.T) {
		s := steady(t)
		s.pass(time.Minute)
		s.allServe("1.5.0", "a")
		s.unit("a").Report.Active.Restarts = 1
		s.look()
		require.Equal(t, RollingBack, s.state.Status)
		require.Contains(t, s.state.Reason, "crashed after the switch")
	})
	t.Run("an unhealthy unit takes it back", func(t *testing.T) {
		s := steady(t)
		s.reports("a", sees("1.5.0", target.Unhealthy), nil)
		s.look()
		require.Equal(t, RollingBack, s.state.Status)
	})
}

func TestAFirstDeploymentGoesBackToNothing(t *testing.T) {
	s := newStory(t, "a")
	s.facts.Candidates[0].Former = nil
	s.toPreparing()
	require.Equal(t, "a:-/1.5.0", s.ordered())
	s.reports("a", nil, sees("1.5.0", target.Healthy))
	s.look()
	s.reports("a", broke("1.5.0", target.StartFailed, "exit 2"), nil)
	s.look()
	require.Equal(t, "a:-/-", s.ordered())
	s.reports("a", nil, nil)
	s.look()
	require.Equal(t, RolledBack, s.state.Status)
	require.Nil(t, s.last.Live[0].Instance)
}

func TestAnAnswerToAnOlderOrderCountsForNothing(t *testing.T) {
	s := newStory(t, "a")
	s.toPreparing()
	s.reports("a", sees("1.4.2", target.Healthy), sees("1.5.0", target.Healthy))
	s.unit("a").Report.Position.Generation--
	s.look()
	require.Nil(t, s.last.Transition)
}

// TestReplay plays random stories and folds their transitions: the state must
// come out, decisions must not depend on anything but their arguments, and no
// final state may change.
func TestReplay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStory(t, "a", "b")
		phases := []target.Phase{target.Starting, target.Healthy, target.Unhealthy, target.Failed}
		version := rapid.SampledFrom([]string{"1.4.2", "1.5.0"})
		report := func(label string) *target.InstanceReport {
			if rapid.IntRange(0, 4).Draw(t, label) == 0 {
				return nil
			}
			return sees(version.Draw(t, label+" version"), rapid.SampledFrom(phases).Draw(t, label+" phase"))
		}
		for i := 0; i < 30 && !s.state.Status.Final(); i++ {
			if s.state.Token > 0 {
				s.reports(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "node"), report("active"), report("standby"))
			}
			s.pass(time.Duration(rapid.IntRange(0, 200).Draw(t, "seconds")) * time.Second)
			kind := Looked
			if rapid.IntRange(0, 40).Draw(t, "stop") == 0 {
				kind = Stopped
			}
			first, err := Decide(s.state, event(kind, s.facts), s.now)
			require.NoError(t, err)
			again := asJSON(first)
			s.give(kind)
			if again != s.told {
				t.Fatal("the same arguments gave another decision")
			}
			if !s.state.Status.Final() {
				require.NotNil(t, s.last.Waiting, "an open state says what it waits for")
				require.False(t, s.last.Wake.IsZero())
			}
		}
		require.NoError(t, CheckReplay(s.state, s.steps))
		s.countsWhatBeganAndEnded()
		if len(s.steps) > 1 {
			require.ErrorIs(t, CheckReplay(s.state, s.steps[:len(s.steps)-1]), ErrReplay, "a missing transition is found")
			require.ErrorIs(t, CheckReplay(s.state, append(s.steps[:1:1], s.steps[2:]...)), ErrReplay)
		}
	})
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestDecideRelease(t *testing.T) {
	p := intent.Pipeline{Spec: intent.PipelineSpec{Stages: []intent.Stage{
		{Name: "dev"}, {Name: "qa", Needs: []string{"dev"}}, {Name: "load", Needs: []string{"dev"}}, {Name: "production", Needs: []string{"qa", "load"}},
	}}}
	tests := map[string]struct {
		have  []StageStatus
		start string
		state ReleaseState
	}{
		"it begins with the stages that need nothing":          {nil, "dev", ReleaseOpen},
		"nothing starts beside a stage that runs":              {[]StageStatus{{Stage: "dev", Status: Running, Attempt: 1}}, "", ReleaseOpen},
		"two stages start side by side":                        {[]StageStatus{{Stage: "dev", Status: Succeeded, Attempt: 1}}, "qa load", ReleaseOpen},
		"a join waits for both":                                {[]StageStatus{{Stage: "dev", Status: Succeeded, Attempt: 1}, {Stage: "qa", Status: Succeeded, Attempt: 1}, {Stage: "load", Status: Running, Attempt: 1}}, "", ReleaseOpen},
		"a join starts when both are there":                    {[]StageStatus{{Stage: "dev", Status: Succeeded, Attempt: 1}, {Stage: "qa", Status: Succeeded, Attempt: 1}, {Stage: "load", Status: Succeeded, Attempt: 1}}, "production", ReleaseOpen},
		"all stages make a success":                            {[]StageStatus{{Stage: "dev", Status: Succeeded, Attempt: 1}, {Stage: "qa", Status: Succeeded, Attempt: 1}, {Stage: "load", Status: Succeeded, Attempt: 1}, {Stage: "production", Status: Succeeded, Attempt: 1}}, "", ReleaseSucceeded},
		"a failed stage ends it when the others have ended":    {[]StageStatus{{Stage: "dev", Status: Succeeded, Attempt: 1}, {Stage: "qa", Status: Failed, Attempt: 1}, {Stage: "load", Status: Succeeded, Attempt: 1}}, "", ReleaseFailed},
		"a failed stage does not end it while another is open": {[]StageStatus{{Stage: "dev", Status: Succeeded, Attempt: 1}, {Stage: "qa", Status: Failed, Attempt: 1}, {Stage: "load", Status: Running, Attempt: 1}}, "", ReleaseOpen},
		"superseded":        {[]StageStatus{{Stage: "dev", Status: Superseded, Attempt: 1}}, "", ReleaseSuperseded},
		"cancelled":         {[]StageStatus{{Stage: "dev", Status: Cancelled, Attempt: 1}}, "", ReleaseCancelled},
		"rolled back":       {[]StageStatus{{Stage: "dev", Status: RolledBack, Attempt: 1}}, "", ReleaseFailed},
		"could not be told": {[]StageStatus{{Stage: "dev", Status: Errored, Attempt: 1}}, "", ReleaseFailed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := DecideRelease(p, tt.have)
			var start []string
			for _, s := range d.Start {
				start = append(start, s.Stage.Name)
			}
			require.Equal(t, tt.start, strings.Join(start, " "))
			require.Equal(t, tt.state, d.State)
		})
	}
}
