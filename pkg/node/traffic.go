package node

import (
	"context"
	"sort"
	"sync/atomic"
	"time"

	"hotswap.dev/hotswap/pkg/target"
)

// traffic counts the requests to one run of an instance.
type traffic struct {
	requests, errors atomic.Int64
	latency          [len(target.LatencyBounds) + 1]atomic.Int64
	took             atomic.Int64 // nanoseconds of all that latency counts
}

// done counts one request. took is its time to the last byte; upgraded
// connections have none and pass a negative one.
func (t *traffic) done(took time.Duration, failed bool) {
	t.requests.Add(1)
	if failed {
		t.errors.Add(1)
	}
	if took >= 0 {
		t.latency[sort.SearchFloat64s(target.LatencyBounds[:], took.Seconds())].Add(1)
		t.took.Add(int64(took))
	}
}

func (t *traffic) fill(r *target.InstanceReport) {
	r.Requests, r.Errors = t.requests.Load(), t.errors.Load()
	r.Latency = make([]int64, len(t.latency))
	for i := range t.latency {
		r.Latency[i] = t.latency[i].Load()
	}
	r.LatencySum = time.Duration(t.took.Load()).Seconds()
}

// inflight counts what is under way, and tells when nothing is.
type inflight struct {
	n    atomic.Int64
	zero chan struct{}
}

func newInflight() *inflight { return &inflight{zero: make(chan struct{}, 1)} }

func (f *inflight) begin() { f.n.Add(1) }

func (f *inflight) end() {
	if f.n.Add(-1) == 0 {
		select {
		case f.zero <- struct{}{}:
		default:
		}
	}
}

// wait returns when nothing is under way, or ctx has ended.
func (f *inflight) wait(ctx context.Context) {
	for f.n.Load() > 0 {
		select {
		case <-f.zero:
		case <-ctx.Done():
			return
		}
	}
}
