package promotion

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/analysis"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/target"
)

// sums are what a story counted so far, by counter and labels in words.
type sums map[string]int64

// count adds what a decision counts. Whatever can be counted is known beforehand.
func (s *story) count(d Decision) {
	if s.sums == nil {
		s.sums = sums{}
	}
	for _, c := range d.Counts(s.state) {
		known := c.Counter == DeploymentDuration || slices.ContainsFunc(Zeros(s.state.Environment), c.Same)
		require.True(s.t, known, "%s %v is in no list", c.Counter, c.Labels)
		var labels []string
		for _, k := range slices.Sorted(maps.Keys(c.Labels)) {
			if k != "environment" && k != "kind" {
				labels = append(labels, c.Labels[k])
			}
		}
		n := c.N
		if c.Counter == DeploymentDuration {
			n = 1
		}
		s.sums[strings.Join(append([]string{string(c.Counter)}, labels...), " ")] += n
	}
}

// counted is what the story counted, in words.
func (s *story) counted() string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(s.sums)) {
		out = append(out, fmt.Sprintf("%s %d", k, s.sums[k]))
	}
	return strings.Join(out, ", ")
}

// countsWhatBeganAndEnded holds whatever was played: who starts, starts once, and
// ends once at most.
func (s *story) countsWhatBeganAndEnded() {
	var ended, durations int64
	for k, n := range s.sums {
		switch name, _, _ := strings.Cut(k, " "); Counter(name) {
		case DeploymentsCompleted, DeploymentsFailed, DeploymentsRolledBack, DeploymentsCancelled:
			ended += n
		case DeploymentDuration:
			durations += n
		}
	}
	running := int64(0)
	if s.state.started() {
		running = 1
	}
	require.LessOrEqual(s.t, s.sums[string(DeploymentsStarted)], int64(1))
	require.Equal(s.t, s.sums[string(DeploymentsStarted)], ended+running, s.counted())
	require.Equal(s.t, ended, durations)
}

func TestWhatAPromotionCounts(t *testing.T) {
	gated := func(s *story) {
		s.state.Spec.Stage.Gates = intent.Gates{Approval: Operator, Deadline: "24h"}
	}
	tests := map[string]struct {
		play func(s *story)
		want string
	}{
		"waiting for the slot counts nothing":     {func(s *story) { s.look() }, ""},
		"it starts when its first order is given": {func(s *story) { s.toPreparing() }, "deployments_started 1"},
		"a success is one module and every unit": {func(s *story) {
			s.toActivating("a", "b")
			s.serve("a", "b")
		}, "deployment_duration succeeded 1, deployments_completed 1, deployments_started 1, modules_deployed 1, nodes_updated forward 2"},
		"a failure before the switch updates no node": {func(s *story) {
			s.toPreparing()
			s.reports("a", sees("1.4.2", target.Healthy), broke("1.5.0", target.ArtifactMissing, "404"))
			s.look()
		}, "deployment_duration failed 1, deployments_failed failed 1, deployments_started 1"},
		"what could not be told is a failure of its own state": {func(s *story) {
			s.toPreparing()
			s.pass(10 * time.Minute)
			s.reports("a", sees("1.4.2", target.Healthy), sees("1.5.0", target.Healthy))
			s.look()
		}, "deployment_duration errored 1, deployments_failed errored 1, deployments_started 1"},
		"a rollback is no failure, and its units went back": {func(s *story) {
			s.toActivating("a", "b")
			s.reports("b", broke("1.5.0", target.StartFailed, "exit 1"), nil)
			s.look()
			s.allServe("1.4.2", "a", "b")
			s.look()
		}, "deployment_duration rolled_back 1, deployments_rolled_back 1, deployments_started 1, nodes_updated back 2"},
		"a rollback that fails is a failure": {func(s *story) {
			s.toActivating("a", "b")
			s.reports("b", broke("1.5.0", target.StartFailed, "exit 1"), nil)
			s.look()
			s.reports("a", broke("1.4.2", target.StartFailed, "exit 1"), nil)
			s.look()
		}, "deployment_duration rollback_failed 1, deployments_failed rollback_failed 1, deployments_started 1"},
		"a person who stops it after the switch cancels it, and its units went back": {func(s *story) {
			s.toActivating("a", "b")
			s.give(Stopped)
			s.allServe("1.4.2", "a", "b")
			s.look()
		}, "deployment_duration cancelled 1, deployments_cancelled 1, deployments_started 1, nodes_updated back 2"},
		"what is stopped before it started was no deployment": {func(s *story) {
			s.look()
			s.give(Stopped)
		}, ""},
		"an operator is asked once and agrees once": {func(s *story) {
			s.look()
			s.give(Promoted)
			s.look()
		}, "approvals_granted operator 1"},
		"a plan that moves after the approval asks again": {func(s *story) {
			s.give(Promoted)
			s.facts.Plan = "plan-2"
			s.look()
			s.give(Promoted)
		}, "approvals_granted operator 2, approvals_requested 1"},
		"a plan that moves before it is the same question": {func(s *story) {
			s.facts.Plan = "plan-2"
			s.look()
			s.give(Promoted)
		}, "approvals_granted operator 1"},
		"a no ends it": {func(s *story) { s.give(Refused) }, "approvals_rejected 1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStory(t, "a", "b")
			if strings.Contains(tt.want, "approvals") {
				gated(s) // the story was created before, so that it was asked is not in the sums
			}
			tt.play(s)
			require.Equal(t, tt.want, s.counted())
			s.countsWhatBeganAndEnded()
		})
	}
}

func TestAMergeThatIsRefusedStartedNothing(t *testing.T) {
	s := reviewedStory(t)
	s.toRecording()
	s.answers(EffectFailed, "branch hotswap/releases is protected")
	s.look()
	require.Equal(t, "approvals_granted reviews 1", s.counted())
	s.pass(time.Hour)
	s.facts.Gates.Review = &ReviewFact{State: ReviewPending, Says: "0 of 2", Pull: 3, Head: head, Plan: s.state.Plan, At: s.now}
	s.look()
	require.Equal(t, "approvals_granted reviews 1, approvals_requested 1", s.counted(), "the reviews count no more: people are asked again")
	s.approve()
	s.facts.Gates.Review.BreakGlass = true
	s.look()
	s.look()
	s.look()
	require.Equal(t, Recording, s.state.Phase)
	s.answers(EffectDone, "abcdef0123")
	s.look()
	require.Equal(t, "approvals_granted break-glass 1, approvals_granted reviews 1, approvals_requested 1, deployments_started 1", s.counted())
	s.reports("a", sees("1.4.2", target.Healthy), sees("1.5.0", target.Healthy))
	s.look()
	s.serve("a")
	s.countsWhatBeganAndEnded()
	require.EqualValues(t, 1, s.sums["deployments_completed"])
}

func TestAPromotionIsAskedForWhenItIsCreated(t *testing.T) {
	asked := map[string]struct {
		kind     Kind
		approval string
		want     int
	}{
		"a stage with an approval":        {Promote, "sre", 1},
		"a stage with an operator's word": {Promote, Operator, 1},
		"a stage without":                 {Promote, "", 0},
		"a removal, always":               {Remove, "", 1},
		"a restore, never":                {Restore, "sre", 0},
	}
	for name, tt := range asked {
		t.Run(name, func(t *testing.T) {
			s := State{ID: "p", Kind: tt.kind, Environment: "qa", Spec: Spec{Stage: intent.Stage{Name: "qa", Gates: intent.Gates{Approval: tt.approval}}}}
			d, err := Decide(s, event(Created, Facts{Plan: "plan-1"}), noon)
			require.NoError(t, err)
			require.Len(t, d.Counts(s), tt.want)
			for _, c := range d.Counts(s) {
				require.Equal(t, Count{Counter: ApprovalsRequested, Labels: map[string]string{"environment": "qa"}, N: 1}, c)
			}
		})
	}
}

func TestEveryWaveCountsItsUnitsOnce(t *testing.T) {
	s := canaryStory(t, "a", "b", "c", "d")
	s.toPreparing()
	for i := 0; i < 20 && !s.state.Status.Final(); i++ {
		phase, before := s.state.Phase, s.sums["nodes_updated forward"]
		for _, u := range s.state.Units {
			switch {
			case u.Wave == s.state.Wave && phase == Activating:
				s.allServe("1.5.0", u.Node)
			case u.Wave == s.state.Wave && phase == Preparing:
				s.reports(u.Node, sees("1.4.2", target.Healthy), sees("1.5.0", target.Healthy))
			}
		}
		if phase == Analysing {
			s.says(analysis.Healthy, "no harm")
		} else {
			s.look()
		}
		if phase != Activating {
			require.Equal(t, before, s.sums["nodes_updated forward"], "nothing is switched while %s", phase)
		}
	}
	require.Equal(t, Succeeded, s.state.Status)
	require.EqualValues(t, 4, s.sums["nodes_updated forward"])
	require.EqualValues(t, 1, s.sums["modules_deployed"])
}

func TestARemovalBringsNoModule(t *testing.T) {
	s := newStory(t)
	s.facts.Candidates = nil
	s.state.Kind, s.state.Spec.Instance = Remove, target.Instance{}
	s.look()
	s.give(Promoted)
	s.look()
	s.look()
	require.Equal(t, Succeeded, s.state.Status)
	require.Equal(t, "approvals_granted operator 1, deployment_duration succeeded 1, deployments_completed 1, deployments_started 1", s.counted(), "it started and ended in one step")
	s.countsWhatBeganAndEnded()
}
