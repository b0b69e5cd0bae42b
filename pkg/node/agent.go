package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"hotswap.dev/hotswap/pkg/target"
)

// An Agent runs the modules of one node. Use it once: [New], then [Agent.Run].
type Agent struct {
	o    Options
	log  *slog.Logger
	boot time.Time // start of this agent; newer agents have newer ones

	lock    *os.File
	st      *store
	m       *machine
	client  *client
	kick    chan struct{} // wakes the reporter
	obeying obeying

	successor *net.UnixConn // once handed over

	mu     sync.Mutex
	places map[target.Place]*runningPlace
	follow func(*runningPlace) // starts a place's loop, once the agent runs
}

// New checks o, reads and starts nothing. Errors wrap [ErrOptions].
func New(o Options) (*Agent, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Agent{
		o: o, log: o.Log.With("node", o.Name), boot: time.Now(),
		kick: make(chan struct{}, 1), places: map[target.Place]*runningPlace{},
	}, nil
}

// Run obeys and reports until ctx ends, and then stops accepting, lets requests
// finish and ends the modules. It also returns nil when another agent has taken
// everything over. Errors are about the state folder ([ErrLocked], [ErrState]),
// or [ErrJoin]; whatever else goes wrong is reported to the server and tried again.
func (a *Agent) Run(ctx context.Context) error {
	if err := openFolders(a.o.State); err != nil {
		return err
	}
	before, err := a.takeFolder(ctx)
	if err != nil {
		return err
	}
	if before != nil {
		defer before.close()
	}
	defer func() {
		if a.lock != nil {
			a.lock.Close()
		}
	}()
	if err := a.open(ctx, before); err != nil {
		return err
	}
	defer a.m.spawner.close()
	a.restore()
	if before != nil {
		err := a.takeOver(ctx, before)
		if errors.Is(err, errGone) {
			err = a.goOnAlone(ctx)
		}
		if err != nil {
			a.closePlaces(ctx, 0)
			return fmt.Errorf("take over: %w", err)
		}
	}
	defer func() {
		if a.successor != nil {
			a.successor.Close() // tells it that nothing of this agent is left
		}
	}()
	return a.live(ctx, before)
}

// open reads what the state folder holds and ends what a dead agent has left.
func (a *Agent) open(ctx context.Context, before *predecessor) error {
	var err error
	if a.st, err = openStore(a.o.State); err != nil {
		return err
	}
	key, err := openKey(a.o.State)
	if err != nil {
		return err
	}
	artifacts, err := newCache(filepath.Join(a.o.State, cacheFolder), a.o)
	if err != nil {
		return err
	}
	if a.boot, err = nextBoot(a.o.State, a.boot); err != nil { // a full disk: what served must serve all the same
		a.log.Warn("start is not remembered; reports may be ignored if the clock goes back", "error", err)
	}
	a.client = newClient(a.o.Server, key)
	id := a.st.get().ID
	a.m = &machine{
		o: a.o, cache: artifacts, ports: newPorts(), health: newHealthClient(), log: a.log,
		run: filepath.Join(a.o.State, runFolder), logs: filepath.Join(a.o.State, logFolder),
		scratch: filepath.Join(a.o.State, scratchFolder), agent: fmt.Sprintf("%s.%x", id, a.boot.UnixNano()),
	}
	a.m.secrets = func(ctx context.Context, place target.Place, names []string) (map[string][]byte, error) {
		return a.client.secrets(ctx, a.st.get().Node, place, names)
	}
	if before == nil {
		if err := a.clean(ctx, ""); err != nil {
			return err
		}
	}
	a.m.spawner = newSpawner()
	return nil
}

// clean ends and removes what other agents than this one have left behind.
func (a *Agent) clean(ctx context.Context, mine string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	spare := spareAgents(mine)
	if err := sweep(ctx, a.m.run, a.st.get().ID, spare); err != nil {
		return err
	}
	if err := removeRecords(a.m.scratch, spare); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	if mine == "" {
		return a.m.cache.clearTemporary()
	}
	return nil
}

func (a *Agent) restore() {
	for _, entry := range a.st.get().Places {
		a.place(entry.Place).restore()
	}
}

// place returns the running place, made if it is not there.
func (a *Agent) place(key target.Place) *runningPlace {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.places[key]
	if p == nil {
		p = newPlace(a.m, a.st, key, a.tell)
		a.places[key] = p
		if a.follow != nil {
			a.follow(p)
		}
	}
	return p
}

func (a *Agent) allPlaces() []*runningPlace {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]*runningPlace, 0, len(a.places))
	for _, p := range a.places {
		out = append(out, p)
	}
	return out
}

// tell wakes the reporter. It never blocks.
func (a *Agent) tell() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// live runs the loops until ctx ends, one of them cannot go on, or everything was
// handed over.
func (a *Agent) live(ctx context.Context, before *predecessor) error {
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	door, err := openDoor(a.o.State)
	if err != nil {
		a.closePlaces(ctx, 0)
		return err
	}
	var loops sync.WaitGroup
	a.followAll(running, &loops)
	loops.Go(func() { a.answerDoor(running, door, stop) })
	loops.Go(func() { a.reportLoop(running) })
	loops.Go(func() { a.collectLoop(running) })
	if before != nil {
		loops.Go(func() { a.outlive(running, before) })
	}
	a.obeying.start(running, func(ctx context.Context) {
		if err := a.obey(ctx); err != nil && ctx.Err() == nil {
			stop(err)
		}
	})
	<-running.Done()
	door.close()
	a.obeying.stop()
	loops.Wait()
	why := context.Cause(running)
	if errors.Is(why, errHandedOver) {
		a.log.Info("handed over, finishing what is under way")
		a.closePlaces(ctx, idleLinger)
		return nil
	}
	a.closePlaces(ctx, time.Second)
	if ctx.Err() != nil {
		return nil
	}
	return why
}

// followAll starts the loops of the places that are there, and of all to come.
func (a *Agent) followAll(ctx context.Context, loops *sync.WaitGroup) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.follow = func(p *runningPlace) { loops.Go(func() { p.run(ctx) }) }
	for _, p := range a.places {
		a.follow(p)
	}
}

// closePlaces ends everything that runs, also after ctx has ended.
func (a *Agent) closePlaces(ctx context.Context, linger time.Duration) {
	ctx = context.WithoutCancel(ctx) // each place bounds itself by its drain times
	var closing sync.WaitGroup
	for _, p := range a.allPlaces() {
		closing.Go(func() { p.close(ctx, linger) })
	}
	closing.Wait()
}

// collectLoop removes artifacts that nothing needs, now and then.
func (a *Agent) collectLoop(ctx context.Context) {
	for sleep(ctx, time.Minute) == nil {
		if err := a.collect(); err != nil {
			a.log.Warn("cannot remove old artifacts", "error", err)
		}
	}
}

// collect keeps what runs and what an order names.
func (a *Agent) collect() error {
	keep := map[string]bool{}
	for _, p := range a.allPlaces() {
		p.modules(keep)
	}
	for _, e := range a.st.get().Places {
		for _, i := range []*target.Instance{e.Order.Active, e.Order.Standby, e.Serving} {
			if i != nil {
				keep[i.Module.Digest] = true
			}
		}
	}
	return a.m.cache.collect(keep)
}
