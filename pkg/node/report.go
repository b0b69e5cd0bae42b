package node

import (
	"cmp"
	"context"
	"slices"
	"time"

	"hotswap.dev/hotswap/pkg/target"
)

// A reporter remembers what the CPU share is the difference to.
type reporter struct {
	seq    int64
	before map[int]cpuSample // by leader
}

type cpuSample struct {
	ticks int64
	at    time.Time
	share float64 // of the time before
}

// shortestSample is as short as a CPU share can be measured with ticks of 10 ms.
const shortestSample = time.Second

// reportLoop reports at once on every change and otherwise at the interval. A
// report that was lost is not sent again: the next one says more.
func (a *Agent) reportLoop(ctx context.Context) {
	r := &reporter{before: map[int]cpuSample{}}
	interval := time.NewTicker(a.o.ReportInterval)
	defer interval.Stop()
	wait := newBackoff(200*time.Millisecond, a.o.ReportInterval)
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.kick:
		case <-interval.C:
		}
		node := a.st.get().Node
		if node == "" {
			continue // not joined
		}
		if err := a.client.report(ctx, node, r.make(a)); err != nil && ctx.Err() == nil {
			a.log.Warn("report is lost", "error", err)
			_ = wait.sleep(ctx)
			a.tell()
			continue
		}
		wait.reset()
	}
}

// make looks at everything once.
func (r *reporter) make(a *Agent) target.Report {
	r.seq++
	out := target.Report{Boot: a.boot.UnixNano(), Seq: r.seq, At: time.Now(), Agent: a.o.Version, Places: []target.PlaceReport{}}
	var seen []watched
	for _, p := range a.allPlaces() {
		place, instances := p.report()
		out.Places = append(out.Places, place)
		seen = append(seen, instances...)
	}
	slices.SortFunc(out.Places, func(x, y target.PlaceReport) int {
		return cmp.Or(cmp.Compare(x.Place.Environment, y.Place.Environment), cmp.Compare(x.Place.Deployment, y.Place.Deployment))
	})
	r.measure(seen)
	return out
}

// measure fills in CPU and memory. A group without a sample before has no CPU
// share yet, and one that cannot be read has none at all.
func (r *reporter) measure(seen []watched) {
	groups := map[int]bool{}
	for _, w := range seen {
		if pid := w.i.leader(); pid != 0 {
			groups[pid] = true
		}
	}
	used, err := groupUsage(groups)
	if err != nil {
		return
	}
	now := time.Now()
	samples := map[int]cpuSample{}
	for _, w := range seen {
		pid := w.i.leader()
		u, ok := used[pid]
		if !ok {
			continue
		}
		w.r.Memory = u.Memory
		w.r.CPU, samples[pid] = r.cpu(pid, u.Ticks, now)
	}
	r.before = samples
}

func (r *reporter) cpu(pid int, ticks int64, now time.Time) (float64, cpuSample) {
	before, ok := r.before[pid]
	if !ok {
		return 0, cpuSample{ticks, now, 0}
	}
	if now.Sub(before.at) < shortestSample {
		return before.share, before
	}
	share := float64(ticks-before.ticks) / clockTicks / now.Sub(before.at).Seconds() * 100
	share = max(0, share) // a child that was not waited for takes its ticks with it
	return share, cpuSample{ticks, now, share}
}
