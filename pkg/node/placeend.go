package node

import (
	"context"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"hotswap.dev/hotswap/pkg/target"
)

// freeze stops all decisions; what runs goes on running and serving. When it has
// returned, nothing more is written for this place.
func (p *runningPlace) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = true
}

// thaw takes freeze back.
func (p *runningPlace) thaw() {
	p.mu.Lock()
	p.frozen = false
	p.mu.Unlock()
	p.poke()
}

// inherit gives the place listeners of the agent before. Those of other
// addresses than it needs are closed when it is ended.
func (p *runningPlace) inherit(asked string, l *net.TCPListener) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inherited == nil {
		p.inherited = map[string]*net.TCPListener{}
	}
	p.inherited[asked] = l
}

// closeInherited closes the inherited listeners that were not needed.
func (p *runningPlace) closeInherited() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.inherited {
		l.Close()
	}
	p.inherited = nil
}

// servingHealth reports whether traffic has somewhere to go, and whether it is
// healthy there.
func (p *runningPlace) servingHealth() (serving, healthy, failed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.serving == nil {
		return false, false, false
	}
	return true, p.serving.healthy(), p.serving.failed()
}

// listening returns the listener and the address it was asked for by, or nil.
func (p *runningPlace) listening() (asked string, l *net.TCPListener) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.front == nil {
		return "", nil
	}
	return p.front.asked, p.front.listener
}

// close stops accepting, lets what is under way finish, and ends all instances.
// linger is for connections without a request.
func (p *runningPlace) close(ctx context.Context, linger time.Duration) {
	p.freeze()
	p.closeInherited()
	p.mu.Lock()
	f, all := p.front, slices.Collect(maps.Values(p.instances))
	if p.serving != nil && !slices.Contains(all, p.serving) {
		all = append(all, p.serving)
	}
	p.mu.Unlock()
	if f != nil {
		p.drain(ctx, f, linger)
	}
	var ending sync.WaitGroup
	for _, i := range all {
		ending.Go(func() { i.end(ctx) })
	}
	ending.Wait()
	p.ending.Wait()
	p.log.close()
}

// drain gives requests under way as long as the module that serves may drain.
func (p *runningPlace) drain(ctx context.Context, f *front, linger time.Duration) {
	bound := linger
	if p.serving != nil {
		bound = max(bound, p.serving.spec.Config.Drain)
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	f.drain(ctx, linger)
}

// watched is one instance with what is reported of it.
type watched struct {
	i *instance
	r *target.InstanceReport
}

// report says what is to be seen of the place. Active is what serves; while
// nothing does, it is what is on its way to, but never as healthy: whoever reads
// that a healthy instance is active may rely on it that it takes the traffic.
// Standby is the other one, and if there are more, the one that the order wants most
// and that can be had: a standby is what may mend a place whose active cannot.
func (p *runningPlace) report() (target.PlaceReport, []watched) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.st.get()
	entry := s.placeOf(p.key)
	// What is seen answers the order that was acted on, not one that came after it.
	out := target.PlaceReport{Place: p.key, Position: p.looked, Refused: p.refused, RefusedFor: p.cannot}
	if p.front != nil {
		out.Address = p.front.address
	}
	var seen []watched
	look := func(i *instance) *target.InstanceReport {
		r := i.report()
		if p.blocked != nil && entry.Order.Active != nil && r.Digest == entry.Order.Active.Digest && i != p.serving {
			r.Phase, r.Reason, r.Detail = target.Failed, p.blocked.Reason, p.blocked.Detail
		}
		seen = append(seen, watched{i, r})
		return r
	}
	wantedActive, wantedStandby := p.of(entry.Order.Active), p.of(entry.Order.Standby)
	active := p.serving
	if active != nil {
		out.Active = look(active)
	} else if wantedActive != nil {
		if r := look(wantedActive); r.Phase == target.Healthy {
			out.Standby = r
			return out, seen
		} else {
			active, out.Active = wantedActive, r
		}
	}
	if p.cannot != "" {
		wantedActive, wantedStandby = wantedStandby, wantedActive
	}
	others := append([]*instance{wantedActive, wantedStandby}, slices.Collect(maps.Values(p.instances))...)
	for _, i := range others {
		if i != nil && i != active {
			out.Standby = look(i)
			break
		}
	}
	return out, seen
}

func (p *runningPlace) of(spec *target.Instance) *instance {
	if spec == nil {
		return nil
	}
	return p.instances[spec.Digest]
}

// modules adds the digests of the archives that the place needs.
func (p *runningPlace) modules(keep map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range p.instances {
		keep[i.spec.Module.Digest] = true
	}
	if p.serving != nil {
		keep[p.serving.spec.Module.Digest] = true
	}
}
