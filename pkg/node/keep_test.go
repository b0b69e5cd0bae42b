package node

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/target"
)

func (s *story) sendOrder(o target.Order) {
	s.position.Generation++
	o.Place, o.Position = testPlace, s.position
	s.server.Order(storyNode, o)
}

func TestAStandbyIsSmokeTestedWhileItIsHealthy(t *testing.T) {
	s := newStory(t)
	s.start()
	old, next := s.instance("1.0.0"), s.instance("2.0.0")
	s.order(old, nil)
	s.sendOrder(target.Order{Active: old, Standby: next, Smoke: &target.Smoke{Path: "/pid"}})
	p := s.await(func(p target.PlaceReport) bool {
		return p.Standby != nil && p.Standby.Smoke != nil && p.Standby.Smoke.Passed >= 3
	})
	require.Equal(t, "/pid", p.Standby.Smoke.Path)
	require.Zero(t, p.Standby.Smoke.Failed)
	require.True(t, p.Standby.Smoke.Last.After(p.Standby.Smoke.Since))
	require.Nil(t, p.Active.Smoke, "only the standby is asked")

	s.sendOrder(target.Order{Active: old, Standby: next, Smoke: &target.Smoke{Path: "/nowhere"}})
	p = s.await(func(p target.PlaceReport) bool {
		return p.Standby != nil && p.Standby.Smoke != nil && p.Standby.Smoke.Failed > 0
	})
	require.Zero(t, p.Standby.Smoke.Passed, "another path begins anew")
	require.Contains(t, p.Standby.Smoke.Detail, "/nowhere answers 404")

	p = s.order(next, old)
	require.Nil(t, p.Active.Smoke)
	require.Nil(t, p.Standby.Smoke)
}

func TestAnOldInstanceIsKeptWarmForAsLongAsTheOrderSays(t *testing.T) {
	s := newStory(t)
	s.start()
	old, next := s.instance("1.0.0"), s.instance("2.0.0")
	address := s.order(old, nil).Address
	pid := s.pid(address)
	s.order(old, next)
	s.sendOrder(target.Order{Active: next, Standby: old, KeepFor: 1500 * time.Millisecond})
	s.await(func(p target.PlaceReport) bool { return runs(p.Active, next) && runs(p.Standby, old) })
	sent := time.Now()
	p := s.await(func(p target.PlaceReport) bool { return runs(p.Active, next) && p.Standby == nil })
	require.Nil(t, p.Standby)
	require.Greater(t, time.Since(sent), 500*time.Millisecond, "it was kept for a while")
	s.requireEnded(pid)
	status, _ := s.get(address, "/pid")
	require.Equal(t, 200, status)
}

func TestWhatIsKeptWarmServesAgainAtOnce(t *testing.T) {
	s := newStory(t)
	s.start()
	old, next := s.instance("1.0.0"), s.instance("2.0.0")
	address := s.order(old, nil).Address
	pid := s.pid(address)
	s.order(old, next)
	s.sendOrder(target.Order{Active: next, Standby: old, KeepFor: time.Hour})
	s.await(func(p target.PlaceReport) bool { return runs(p.Active, next) && runs(p.Standby, old) })
	s.order(old, next)
	require.Equal(t, pid, s.pid(address), "the same process")
}

func TestAReportSaysWhatAnInstanceMayUse(t *testing.T) {
	s := newStory(t)
	s.start()
	i := s.instance("1.0.0")
	i.Config.Memory, i.Config.CPU = 64<<20, 50
	s.sign(i)
	p := s.order(i, nil)
	require.InDelta(t, 50, p.Active.CPULimit, 0)
	require.EqualValues(t, 64<<20, p.Active.MemoryLimit)
	other := s.instance("2.0.0")
	p = s.order(other, nil)
	require.GreaterOrEqual(t, p.Active.CPULimit, 100.0, "the machine's, where nothing is declared")
	require.Greater(t, p.Active.MemoryLimit, int64(64<<20))
	s.get(p.Address, "/pid")
	p = s.await(func(p target.PlaceReport) bool { return p.Active.Requests > 0 })
	require.Positive(t, p.Active.LatencySum)
}
