package node

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"hotswap.dev/hotswap/pkg/target"
)

const (
	againAfter = time.Second     // what the machine refused, a port or the disk, is tried again
	idleLinger = 5 * time.Second // for connections without a request when a listener is given up
	drainBound = 2 * time.Minute // of all requests of a listener that is given up
)

// A runningPlace makes one place of this machine equal to its order. All it
// decides, it decides in reconcile, from the stored order and from what its
// instances are; so it does not matter how often or why it is woken.
type runningPlace struct {
	key   target.Place
	m     *machine
	st    *store
	log   *placeLog
	proxy *proxy
	tell  func() // wakes whoever reports
	wake  chan struct{}

	ending sync.WaitGroup // of instances and fronts that are given up

	mu        sync.Mutex // held for each reconcile as a whole
	frozen    bool       // somebody else obeys, or will
	instances map[string]*instance
	serving   *instance // what proxy.current holds
	front     *front
	inherited map[string]*net.TCPListener // from the agent before, by address
	looked    target.Position             // of the newest order that reconcile has acted on
	refused   string                      // why the order cannot be followed, for people
	cannot    string                      // digest of the wanted active when that is what refused is about
	blocked   *failure                    // why the wanted active, though healthy, cannot serve
}

func newPlace(m *machine, st *store, key target.Place, tell func()) *runningPlace {
	return &runningPlace{
		key: key, m: m, st: st, tell: tell, log: m.placeLog(key),
		proxy: &proxy{name: key.Deployment}, wake: make(chan struct{}, 1), instances: map[string]*instance{},
	}
}

// poke makes run look again. It never blocks.
func (p *runningPlace) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *runningPlace) changed() {
	p.poke()
	p.tell()
}

// restore starts again what served before, without a look at the order: after a
// crash the machine must run without the server, and in a takeover the former
// agent still serves.
func (p *runningPlace) restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.st.get()
	entry := s.placeOf(p.key)
	if entry.Serving == nil {
		return
	}
	p.serving = startInstance(p.m, p.key, *entry.Serving, entry.Position, p.log, p.changed)
	p.instances[entry.Serving.Digest] = p.serving
	p.proxy.current.Store(p.serving)
}

// run follows the orders until ctx ends.
func (p *runningPlace) run(ctx context.Context) {
	again := time.NewTimer(againAfter)
	defer again.Stop()
	for {
		again.Stop()
		well, keep := p.reconcile()
		switch {
		case !well:
			again.Reset(againAfter)
		case keep > 0:
			again.Reset(keep)
		}
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-again.C:
		}
	}
}

// reconcile brings the place one step nearer to its order. Well is false if the
// machine refused something that may go better later; keep is when to look again
// because a standby is kept only for a while, 0 if there is none.
func (p *runningPlace) reconcile() (well bool, keep time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen {
		return true, 0
	}
	s := p.st.get()
	entry := *s.placeOf(p.key)
	if p.letGo(entry) < 0 {
		entry.Order.Standby = nil
	}
	was, before := p.refused, p.looked
	p.refused, p.cannot, p.blocked, p.looked = entry.Refused, "", nil, entry.Position
	p.startWanted(entry)
	err := p.serve(entry)
	if err != nil {
		p.m.log.Warn("place cannot obey", "place", placeName(p.key), "error", err)
		p.refused = oneSentence(err.Error())
	} else if p.refused == "" {
		if p.refused = p.explain(entry.Order); p.refused != "" {
			p.cannot = entry.Order.Active.Digest
		}
	}
	p.smokeTest(entry.Order)
	p.endUnwanted(entry.Order)
	if p.refused != was || p.looked != before {
		p.tell()
	}
	return err == nil, max(0, p.letGo(entry))
}

// letGo says how long the order's standby is still kept once the active takes the
// traffic: negative when its time is over, 0 when it has none.
func (p *runningPlace) letGo(entry placeState) time.Duration {
	o := entry.Order
	if o.KeepFor == 0 || o.Standby == nil || o.Active == nil || p.serving == nil || p.serving.spec.Digest != o.Active.Digest {
		return 0
	}
	left := time.Until(entry.Received.Add(o.KeepFor))
	if left <= 0 {
		return -1
	}
	return min(left, o.KeepFor) // a clock that went back does not keep it for ever
}

// smokeTest asks of the order's standby what the order asks, and of nobody else.
func (p *runningPlace) smokeTest(o target.Order) {
	for digest, i := range p.instances {
		if o.Standby != nil && o.Standby.Digest == digest && i != p.serving {
			i.askSmoke(o.Smoke)
		} else {
			i.askSmoke(nil)
		}
	}
}

// startWanted makes the instances of the order that are not there. One that has
// failed is made again only by an order that is newer than it.
func (p *runningPlace) startWanted(entry placeState) {
	for _, want := range []*target.Instance{entry.Order.Active, entry.Order.Standby} {
		if want == nil {
			continue
		}
		have := p.instances[want.Digest]
		if have != nil && (!have.failed() || !entry.Order.Position.Newer(have.position)) {
			continue
		}
		if have != nil && have != p.serving {
			p.end(have)
		}
		p.instances[want.Digest] = startInstance(p.m, p.key, *want, entry.Order.Position, p.log, p.changed)
	}
}

// serve moves the traffic to the wanted active if that is healthy, and keeps a
// listener open.
func (p *runningPlace) serve(entry placeState) error {
	if entry.Order.Active == nil && p.servedByOrder(entry) {
		if err := p.switchTo(nil); err != nil {
			return err
		}
	}
	if entry.Order.Active != nil {
		if next := p.instances[entry.Order.Active.Digest]; next != p.serving && next.healthy() {
			if err := p.listen(entry, next.spec.Config.Port); err != nil {
				p.blocked = failed(target.AddressUnavailable, "%v", err)
				return err
			}
			return p.switchTo(next)
		}
	}
	return p.listen(entry, p.wantedPort(entry))
}

// servedByOrder tells "the order wants no active" from "there was no order".
func (p *runningPlace) servedByOrder(entry placeState) bool {
	return entry.Order.Place == p.key && (p.serving != nil || entry.Serving != nil)
}

// wantedPort is the port of the intent that counts now, 0 if it names none.
func (p *runningPlace) wantedPort(entry placeState) int {
	switch {
	case p.serving != nil:
		return p.serving.spec.Config.Port
	case entry.Order.Active != nil:
		return entry.Order.Active.Config.Port
	case entry.Order.Standby != nil:
		return entry.Order.Standby.Config.Port
	}
	return 0
}

// switchTo is the one step. What serves is stored first, so that after a crash
// the machine comes back with what it served, or with what was healthy to serve.
func (p *runningPlace) switchTo(next *instance) error {
	var spec *target.Instance
	if next != nil {
		spec = &next.spec
	}
	if err := p.st.place(p.key, func(e *placeState) { e.Serving = spec }); err != nil {
		return err
	}
	p.proxy.current.Store(next)
	before := p.serving
	p.serving = next
	if before != nil && p.instances[before.spec.Digest] != before {
		p.end(before) // replaced by one of the same digest
	}
	p.tell()
	return nil
}

// endUnwanted ends what neither serves nor is in the order. While the wanted
// active cannot be had, what serves stays.
func (p *runningPlace) endUnwanted(o target.Order) {
	for digest, i := range p.instances {
		wanted := (o.Active != nil && o.Active.Digest == digest) || (o.Standby != nil && o.Standby.Digest == digest)
		if !wanted && i != p.serving {
			delete(p.instances, digest)
			p.end(i)
		}
	}
}

func (p *runningPlace) end(i *instance) {
	p.ending.Go(func() { i.end(context.Background()) }) // bounded by its drain time
}

// explain says why the place is not what the order wants, if that will not mend
// itself.
func (p *runningPlace) explain(o target.Order) string {
	if o.Active == nil {
		return ""
	}
	i := p.instances[o.Active.Digest]
	if _, f := i.status(); i.failed() && f != nil {
		return oneSentence(fmt.Sprintf("active %s %s cannot be had: %v", i.spec.Module.Name, i.spec.Module.Version, f))
	}
	return ""
}

// listen sees to it that there is a front on the right address, and gives up the
// one before.
func (p *runningPlace) listen(entry placeState, port int) error {
	address, err := p.frontAddress(entry, port)
	if err != nil || address == "" || (p.front != nil && p.front.asked == address) {
		return err
	}
	next, err := p.openFront(address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", address, err)
	}
	if before := p.front; before != nil {
		p.ending.Go(func() { drainFront(before) })
	}
	p.front = next
	p.m.log.Info("listening", "place", placeName(p.key), "address", next.address)
	p.tell()
	_, text, err := net.SplitHostPort(next.address)
	if err != nil {
		return err
	}
	chosen, err := strconv.Atoi(text)
	if err != nil || chosen == entry.Port {
		return err
	}
	return p.st.place(p.key, func(e *placeState) { e.Port = chosen })
}

func (p *runningPlace) openFront(address string) (*front, error) {
	if l := p.inherited[address]; l != nil {
		delete(p.inherited, address)
		return serveFront(address, l, p.proxy), nil
	}
	return openFront(address, p.proxy)
}

// frontAddress is, in this order, the route of the options, the port of the
// intent, the port that was used before, or a new one. It is empty for a place
// that nothing was ever wanted in.
func (p *runningPlace) frontAddress(entry placeState, port int) (string, error) {
	for _, name := range []string{placeName(p.key), p.key.Deployment} {
		if route := p.m.o.Routes[name]; route != "" {
			return route, nil
		}
	}
	if port == 0 {
		port = entry.Port
	}
	if port == 0 && entry.Order.Active == nil && entry.Order.Standby == nil {
		return "", nil
	}
	if port == 0 {
		var err error
		if port, err = p.m.ports.take(); err != nil {
			return "", err
		}
	}
	return listenAddress(p.m.o.Address, port), nil
}

func drainFront(f *front) {
	ctx, cancel := context.WithTimeout(context.Background(), drainBound)
	defer cancel()
	f.drain(ctx, idleLinger)
}
