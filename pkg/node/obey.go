package node

import (
	"context"
	"sync"
	"time"

	"hotswap.dev/hotswap/pkg/target"
)

// obeying is the one loop that may be stopped and started again while the agent
// lives: during a hand-over nobody obeys.
type obeying struct {
	mu     sync.Mutex
	ctx    context.Context
	loop   func(context.Context)
	cancel context.CancelFunc
	done   chan struct{}
}

func (o *obeying) start(ctx context.Context, loop func(context.Context)) {
	o.mu.Lock()
	o.ctx, o.loop = ctx, loop
	o.mu.Unlock()
	o.resume()
}

// stop returns when the loop has ended and will not write anything any more.
func (o *obeying) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cancel != nil {
		o.cancel()
		<-o.done
		o.cancel = nil
	}
}

func (o *obeying) resume() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cancel != nil || o.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(o.ctx)
	done := make(chan struct{})
	o.cancel, o.done = cancel, done
	go func() {
		defer close(done)
		o.loop(ctx)
	}()
}

// obey joins if that is still to be done, and then asks for orders until ctx ends.
func (a *Agent) obey(ctx context.Context) error {
	if a.st.get().Node == "" {
		if err := a.join(ctx); err != nil {
			return err
		}
		a.tell()
	}
	wait := newBackoff(200*time.Millisecond, 15*time.Second)
	for ctx.Err() == nil {
		asked := time.Now()
		s := a.st.get()
		w, err := a.client.wanted(ctx, s.Node, known(s), a.o.PollWait)
		taken := 0
		if err == nil {
			taken, err = a.take(w.Orders)
		}
		switch {
		case ctx.Err() != nil:
		case err != nil:
			a.log.Warn("no orders", "error", err)
			_ = wait.sleep(ctx)
		case taken == 0 && time.Since(asked) < a.o.PollWait/2: // the server does not hold its answer
			_ = wait.sleep(ctx)
		default:
			wait.reset()
		}
	}
	return nil
}

func known(s state) []target.Known {
	out := make([]target.Known, 0, len(s.Places))
	for _, p := range s.Places {
		out = append(out, target.Known{Place: p.Place, Position: p.Position})
	}
	return out
}

// take stores the orders that are newer than what is stored, all in one write, and
// only then wakes their places. An order that cannot be obeyed moves the position
// too, with the reason: otherwise it would be sent again at once, for ever.
func (a *Agent) take(orders []target.Order) (taken int, err error) {
	fresh := newer(a.st.get(), orders)
	if len(fresh) == 0 {
		return 0, nil
	}
	received := time.Now()
	err = a.st.update(func(s *state) {
		for _, o := range fresh {
			entry := s.placeOf(o.Place)
			entry.Position, entry.Refused = o.Position, ""
			if err := checkOrder(o); err != nil {
				entry.Refused = oneSentence(err.Error())
				continue
			}
			entry.Order, entry.Received = o, received
		}
	})
	if err != nil {
		return 0, err
	}
	for _, o := range fresh {
		a.log.Info("order", "place", placeName(o.Place), "token", o.Position.Token, "generation", o.Position.Generation)
		a.place(o.Place).poke() // it tells when it has looked
	}
	return len(fresh), nil
}

// newer returns the orders to obey: newer than the stored ones and than each
// other, of places that can exist at all.
func newer(s state, orders []target.Order) []target.Order {
	best := map[target.Place]target.Order{}
	for _, o := range orders {
		if checkPlace(o.Place) != nil || checkPosition(o.Position) != nil || !o.Position.Newer(s.placeOf(o.Place).Position) {
			continue
		}
		if other, ok := best[o.Place]; !ok || o.Position.Newer(other.Position) {
			best[o.Place] = o
		}
	}
	out := make([]target.Order, 0, len(best))
	for _, o := range best {
		out = append(out, o)
	}
	return out
}
