package promotion

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/target"
)

func TestABrokenFormerVersionDoesNotRefuseItsFix(t *testing.T) {
	s := newStory(t, "a")
	s.toPreparing()
	s.reports("a", broke("1.4.2", target.StartFailed, "exit 1"), sees("1.5.0", target.Starting))
	s.unit("a").Report.Refused = "active checkout 1.4.2 cannot be had: start-failed: exit 1"
	s.unit("a").Report.RefusedFor = "digest-1.4.2"
	s.look()
	require.Equal(t, Preparing, s.state.Phase, s.state.Reason)
	s.reports("a", broke("1.4.2", target.StartFailed, "exit 1"), sees("1.5.0", target.Healthy))
	s.unit("a").Report.Refused = "active checkout 1.4.2 cannot be had: start-failed: exit 1"
	s.unit("a").Report.RefusedFor = "digest-1.4.2"
	s.look()
	require.Equal(t, Activating, s.state.Phase, s.state.Reason)
}

func TestANodeThatLeftIsOrderedBackTooSoThatItDoesNotReturnWithTheBadRelease(t *testing.T) {
	s := newStory(t, "a", "b")
	s.toActivating("a", "b")
	s.allServe("1.5.0", "a")
	s.unit("b").Gone = true
	s.look()
	s.give(Stopped)
	require.Equal(t, RollingBack, s.state.Status)
	require.Equal(t, "a:1.4.2/- b:1.4.2/-", s.ordered())
}

func TestAUnitThatFellSilentAfterTheSwitchIsNamed(t *testing.T) {
	s := newStory(t, "a", "b")
	s.state.Spec.Stage.Strategy.HealthyFor = "30s"
	s.toActivating("a", "b")
	s.allServe("1.5.0", "a", "b")
	s.look()
	require.Equal(t, Stabilising, s.state.Phase)
	s.pass(40 * time.Second)
	s.allServe("1.5.0", "a")
	s.look()
	require.Equal(t, "1 of 2 units seen healthy after 12:00:30", s.last.Waiting.What)
	require.Equal(t, "b: no word since 12:00:00", s.last.Waiting.Evidence)
	require.Contains(t, s.last.Waiting.Command, "start the agent of node b")
	s.pass(intent.Duration(s.state.Spec.Stage.Strategy.Deadline))
	s.allServe("1.5.0", "a")
	s.look()
	require.Equal(t, RollingBack, s.state.Status)
	require.Contains(t, s.state.Reason, "b: no word since")
}

func TestAUnitThatWasThereAndFellSilentDoesNotCount(t *testing.T) {
	s := newStory(t, "a", "b")
	s.toPreparing()
	s.reports("a", sees("1.4.2", target.Healthy), sees("1.5.0", target.Healthy))
	s.pass(time.Minute)
	s.reports("b", sees("1.4.2", target.Healthy), sees("1.5.0", target.Healthy))
	s.look()
	require.Equal(t, Preparing, s.state.Phase, "nothing is switched while a unit is not heard")
	require.Equal(t, "a: no word since 12:00:00", s.last.Waiting.Evidence)
	s.reports("a", sees("1.4.2", target.Healthy), sees("1.5.0", target.Healthy))
	s.look()
	require.Equal(t, Activating, s.state.Phase)
	s.allServe("1.5.0", "a")
	s.pass(time.Minute)
	s.allServe("1.5.0", "b")
	s.look()
	require.Equal(t, Running, s.state.Status, "no news is not good news")
	s.allServe("1.5.0", "a")
	s.look()
	require.Equal(t, Succeeded, s.state.Status)
}
