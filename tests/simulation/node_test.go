package simulation_test

import (
	"slices"
	"time"

	"hotswap.dev/hotswap/pkg/target"
)

// A node is a machine with its agent. It does what pkg/node does, in memory.
type node struct {
	key
	labels map[string]string
	nodeFaults
	joined int // the key that it signs with; 0: it has not joined
	boot   int64
	seq    int64
	clock  time.Duration // by which its clock is wrong
	wall   bool          // it measures by its clock
	places []*place      // in the order in which they were first wanted
	told   time.Time     // when it reported last
	looks  uint64        // what it told then, in short
	made   uint64        // instances that were ever made
	ledger []obeyed
	tested map[string]time.Duration // how long a standby was ever tested, by the world's clock
}

// nodeFaults are what is wrong with a node. The zero value is nothing.
type nodeFaults struct {
	off    bool // the machine is down
	silent bool // nothing gets through to it or from it
	lies   bool // it reports to run something else
	broken bool // it cannot start anything any more
}

// An obeyed order stands in the ledger of a node until the node is installed anew.
type obeyed struct {
	place target.Place
	at    target.Position
}

// A place is what a node persists of one place, and what it runs there.
type place struct {
	target.Place
	on        *node
	order     target.Order
	received  time.Time
	refused   string // digest of the wanted active that cannot be had
	serving   *instance
	instances []*instance
}

func (n *node) place(at target.Place) *place {
	for _, p := range n.places {
		if p.Place == at {
			return p
		}
	}
	n.places = append(n.places, &place{Place: at, on: n})
	return n.places[len(n.places)-1]
}

// known is the newest position that the node has persisted for a place.
func (n *node) known(at target.Place) target.Position {
	for _, p := range n.places {
		if p.Place == at {
			return p.order.Position
		}
	}
	return target.Position{}
}

// take persists the orders that are newer than what is persisted.
func (n *node) take(orders []target.Order, now time.Time, obeysAll bool) {
	for _, o := range orders {
		p := n.place(o.Place)
		if !o.Position.Newer(p.order.Position) && !obeysAll {
			continue
		}
		n.ledger = append(n.ledger, obeyed{o.Place, o.Position})
		p.order, p.received = o, now
	}
}

// pass lets time go by: instances come up and crash, and places follow their orders.
func (n *node) pass(now time.Time) {
	for _, p := range n.places {
		for _, i := range p.instances {
			i.pass(now, i == p.serving)
			if n.broken && i != p.serving && i.phase(now) != target.Healthy {
				i.broken = target.StartFailed
			}
		}
		p.reconcile(now)
		for _, i := range p.instances {
			smoke := p.order.Smoke
			if i == p.serving || p.order.Standby == nil || p.order.Standby.Digest != i.spec.Digest {
				smoke = nil
			}
			i.test(smoke, now, now.Add(n.clock), n.wall)
			if i.smoke != nil {
				n.tested[i.spec.Digest] = max(n.tested[i.spec.Digest], now.Sub(i.tested))
			}
		}
	}
}

// reconcile brings the place to its order as far as it goes now.
func (p *place) reconcile(now time.Time) {
	o := p.order
	if p.letsGo(now) {
		o.Standby = nil
	}
	p.start(o, now)
	switch want := p.of(o.Active); {
	case o.Active == nil:
		p.serving = nil
	case want != nil && want != p.serving && want.phase(now) == target.Healthy:
		p.serving = want
	}
	p.refused = ""
	if want := p.of(o.Active); want != nil && want.broken != "" {
		p.refused = o.Active.Digest
	}
	p.instances = slices.DeleteFunc(p.instances, func(i *instance) bool {
		return i != p.serving && i != p.of(o.Active) && i != p.of(o.Standby)
	})
}

// start makes the instances of the order that are not there. One that failed is
// made again only by an order that is newer than it.
func (p *place) start(o target.Order, now time.Time) {
	for _, want := range []*target.Instance{o.Active, o.Standby} {
		if want == nil {
			continue
		}
		have := p.of(want)
		switch {
		case have == nil:
		case have.broken == "" || !o.Position.Newer(have.position):
			continue
		case have != p.serving:
			p.instances = slices.DeleteFunc(p.instances, func(i *instance) bool { return i == have })
		}
		p.instances = append(p.instances, p.on.newInstance(want, o.Position, now))
	}
}

// letsGo reports whether the time is over for which the standby was to be kept.
func (p *place) letsGo(now time.Time) bool {
	o := p.order
	serves := p.serving != nil && o.Active != nil && p.serving.spec.Digest == o.Active.Digest
	return o.KeepFor > 0 && serves && !now.Before(p.received.Add(o.KeepFor))
}

// of is the newest instance of a digest; nil: there is none.
func (p *place) of(spec *target.Instance) *instance {
	if spec == nil {
		return nil
	}
	for _, i := range slices.Backward(p.instances) {
		if i.spec.Digest == spec.Digest {
			return i
		}
	}
	return nil
}

// report is what the node tells of the place.
func (p *place) report(now time.Time) target.PlaceReport {
	out := target.PlaceReport{Place: p.Place, Position: p.order.Position}
	if p.refused != "" {
		out.Refused, out.RefusedFor = "active cannot be had", p.refused
	}
	active, standby := p.of(p.order.Active), p.of(p.order.Standby)
	shown := p.serving
	if shown == nil && active != nil {
		if active.phase(now) == target.Healthy {
			out.Standby = active.report(now)
			return out
		}
		shown = active
	}
	if shown != nil {
		out.Active = shown.report(now)
	}
	if p.refused != "" {
		active, standby = standby, active
	}
	for _, i := range append([]*instance{active, standby}, p.instances...) {
		if i != nil && i != shown {
			out.Standby = i.report(now)
			break
		}
	}
	return out
}

// news reports whether there is something to tell at once.
func (n *node) news(now time.Time) bool { return n.look(now) != n.looks }

// look is what is to be seen of a node, in short: positions, phases, restarts.
func (n *node) look(now time.Time) uint64 {
	h := uint64(14695981039346656037)
	mix := func(x uint64) { h = (h ^ x) * 1099511628211 }
	for _, p := range n.places {
		at := p.order.Position
		mix(uint64(at.Epoch))
		mix(uint64(at.Token))
		mix(uint64(at.Generation))
		for _, i := range p.instances {
			mix(i.number)
			mix(uint64(i.restarts))
			for _, c := range i.phase(now) {
				mix(uint64(c))
			}
			if i == p.serving {
				mix(1)
			}
			if i.smoke != nil {
				mix(2 + uint64(i.smoke.Failed))
			}
		}
	}
	return h
}

// report is the node's next report.
func (n *node) report(now time.Time) target.Report {
	n.seq++
	n.told, n.looks = now, n.look(now)
	r := target.Report{Boot: n.boot, Seq: n.seq, At: now.Add(n.clock)}
	for _, p := range n.places {
		pr := p.report(now)
		if n.lies && pr.Active != nil {
			pr.Active.Digest, pr.Active.Version = "sha256:lie", "lie"
		}
		r.Places = append(r.Places, pr)
	}
	return r
}

// start starts the agent, at first or again. What served before serves again; of
// the rest nothing is known.
func (n *node) start(now time.Time) {
	n.boot, n.seq = max(now.Add(n.clock).UnixNano(), n.boot+1), 0
	for _, p := range n.places {
		served := p.serving
		p.instances, p.serving = nil, nil
		if served != nil {
			i := n.newInstance(served.spec, p.order.Position, now)
			p.instances, p.serving = []*instance{i}, i
		}
	}
}

// install starts the node from nothing: what it had persisted is lost.
func (n *node) install(now time.Time) {
	n.places, n.ledger = nil, nil
	n.start(now)
}

// next is when something of the node will be otherwise by itself; zero: never.
func (n *node) next(now time.Time) time.Time {
	var next time.Time
	for _, p := range n.places {
		for _, i := range p.instances {
			if at := i.next(now); at.After(now) && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
	}
	return next
}

// speaks reports whether what the node says gets anywhere.
func (n *node) speaks() bool { return n.joined > 0 && !n.off && !n.silent }
