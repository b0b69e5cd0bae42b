package node

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/target"
)

// Whoever waits for the last request of an instance after a switch must have seen
// all of them, also one that looked the instance up just before the switch.
func TestNoRequestIsGivenToAnInstanceThatIsEnded(t *testing.T) {
	var p proxy
	ended := map[*instance]*atomic.Bool{}
	all := make([]*instance, 1_000)
	for n := range all {
		all[n] = &instance{inflight: newInflight()}
		ended[all[n]] = &atomic.Bool{}
	}
	p.current.Store(all[0])
	var late, served atomic.Int64
	stop := make(chan struct{})
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				i := p.acquire()
				if ended[i].Load() {
					late.Add(1)
				}
				served.Add(1)
				i.inflight.end()
			}
		})
	}
	for served.Load() == 0 {
		runtime.Gosched()
	}
	for n := range len(all) - 1 {
		p.current.Store(all[n+1])
		all[n].inflight.wait(context.Background())
		ended[all[n]].Store(true)
	}
	close(stop)
	asking.Wait()
	require.Zero(t, late.Load())
	require.Positive(t, served.Load())
}

func TestTheHistogramHasABucketForEveryAnswer(t *testing.T) {
	var c traffic
	c.done(0, false)
	c.done(1_000_000, false) // 1 ms, the bound belongs to its bucket
	c.done(1_000_001, false)
	c.done(11_000_000_000, true)
	c.done(-1, false) // an upgraded connection
	var r target.InstanceReport
	c.fill(&r)
	want := make([]int64, len(target.LatencyBounds)+1)
	want[0], want[1], want[len(want)-1] = 2, 1, 1
	require.Equal(t, want, r.Latency)
	require.Equal(t, int64(5), r.Requests)
	require.Equal(t, int64(1), r.Errors)
}
