package node

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"hotswap.dev/hotswap/pkg/target"
)

// A machine is what all instances of an agent share.
type machine struct {
	o       Options
	cache   *cache
	spawner *spawner
	ports   *ports
	run     string // folder of process records
	logs    string // folder of output
	scratch string // folder of TMPDIRs
	agent   string // prefix of the markers: state id and agent id
	starts  atomic.Int64
	health  *http.Client
	log     *slog.Logger
	// secrets asks the server for the values of secrets.
	secrets func(ctx context.Context, place target.Place, names []string) (map[string][]byte, error)
}

// An instance is a module with its configuration, on its way to run, running or
// failed. It is used once: going back to a module that was ended is a new one.
type instance struct {
	spec     target.Instance
	place    target.Place
	position target.Position // of the order that it was made for
	m        *machine
	log      *instanceLog
	changed  func() // called after each change of phase, without any lock held

	cancel context.CancelFunc
	done   chan struct{} // closed when nothing of it runs any more

	inflight *inflight
	traffic  atomic.Pointer[traffic]
	address  atomic.Pointer[string] // host:port of the running process; nil while there is none
	proxy    *httputil.ReverseProxy
	idle     func() // closes idle connections to the module

	mu       sync.Mutex
	phase    target.Phase
	since    time.Time
	failure  *failure
	restarts int
	group    int                 // pid of the leader, 0 while there is none
	smoke    *target.SmokeReport // of the process that runs; nil: it was not asked for
	asks     *target.Smoke       // what the newest order asks of a standby
}

// startInstance begins to fetch and start spec. The caller must end it.
func startInstance(m *machine, place target.Place, spec target.Instance, position target.Position, to *placeLog, changed func()) *instance {
	ctx, cancel := context.WithCancel(context.Background())
	i := &instance{
		spec: withDefaults(spec), place: place, position: position, m: m, changed: changed,
		log:    &instanceLog{to: to, version: spec.Module.Version},
		cancel: cancel, done: make(chan struct{}), inflight: newInflight(),
		phase: target.Fetching, since: time.Now(),
	}
	i.traffic.Store(&traffic{})
	i.proxy, i.idle = newReverseProxy(i)
	go func() {
		defer close(i.done)
		if f := i.prepareAndRun(ctx); f != nil {
			i.set(target.Failed, f)
		}
	}()
	return i
}

// withDefaults fills in what the intent normally brings.
func withDefaults(spec target.Instance) target.Instance {
	c := &spec.Config
	orElse(&c.HealthPath, "/healthz")
	orElse(&c.Interval, 2*time.Second)
	orElse(&c.Timeout, time.Second)
	orElse(&c.StartWithin, 30*time.Second)
	orElse(&c.Drain, 10*time.Second)
	return spec
}

// end lets requests finish for at most the drain time, then ends the processes,
// which have the drain time again before they are killed. It returns when nothing
// runs any more.
func (i *instance) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, i.spec.Config.Drain)
	defer cancel()
	i.inflight.wait(ctx)
	i.idle() // a module that ends well waits for connections that were never used
	i.cancel()
	<-i.done
	i.idle()
}

func (i *instance) set(phase target.Phase, f *failure) {
	i.mu.Lock()
	same := i.phase == phase && f == nil && i.failure == nil
	if !same {
		i.phase, i.failure, i.since = phase, f, time.Now()
	}
	i.mu.Unlock()
	if same {
		return
	}
	if f != nil {
		i.m.log.Warn("instance "+string(phase), "module", i.spec.Module.Name, "version", i.spec.Module.Version, "reason", f.Reason, "detail", f.Detail)
	} else {
		i.m.log.Info("instance "+string(phase), "module", i.spec.Module.Name, "version", i.spec.Module.Version)
	}
	i.changed()
}

// status returns the phase and, where it is failed, why.
func (i *instance) status() (target.Phase, *failure) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.phase, i.failure
}

func (i *instance) healthy() bool {
	phase, _ := i.status()
	return phase == target.Healthy
}

func (i *instance) failed() bool {
	phase, _ := i.status()
	return phase == target.Failed
}

// leader returns the pid of the process group, 0 while there is none.
func (i *instance) leader() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.group
}

func (i *instance) setLeader(pid int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.group = pid
}

// report says what is to be seen of i, without usage.
func (i *instance) report() *target.InstanceReport {
	i.mu.Lock()
	defer i.mu.Unlock()
	r := &target.InstanceReport{
		Digest: i.spec.Digest, Version: i.spec.Module.Version,
		Phase: i.phase, Since: i.since, Restarts: i.restarts,
	}
	if i.failure != nil {
		r.Reason, r.Detail = i.failure.Reason, i.failure.Detail
	}
	if i.smoke != nil {
		smoke := *i.smoke
		r.Smoke = &smoke
	}
	i.traffic.Load().fill(r)
	r.CPULimit, r.MemoryLimit = i.m.limits(i.spec.Config)
	return r
}

// prepareAndRun returns nil when i was ended, or why it cannot be had.
func (i *instance) prepareAndRun(ctx context.Context) *failure {
	tree, err := i.m.cache.get(ctx, i.spec.Module)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return asFailure(err, target.StartFailed)
	}
	path, f := findCommand(tree, i.spec.Module.Name)
	if f != nil {
		return f
	}
	return i.supervise(ctx, path, tree)
}

// supervise starts the module again when it exits, until it does so too often.
func (i *instance) supervise(ctx context.Context, path, tree string) *failure {
	wait := newBackoff(i.m.o.Restart.First, i.m.o.Restart.Longest)
	wasHealthy := false
	i.set(target.Starting, nil)
	for crashes := 0; ; {
		healthyFor, f := i.runOnce(ctx, path, tree)
		if ctx.Err() != nil {
			return nil
		}
		wasHealthy = wasHealthy || healthyFor > 0
		if healthyFor >= i.m.o.Restart.Calm {
			crashes = 0
			wait.reset()
		}
		if crashes++; crashes > i.m.o.Restart.Tries || (f.Reason == target.NeverHealthy && !wasHealthy) || f.Reason == target.SecretMissing {
			return f
		}
		i.set(startingPhase(wasHealthy), f)
		if wait.sleep(ctx) != nil {
			return nil
		}
		i.mu.Lock()
		i.restarts++
		i.mu.Unlock()
	}
}

func startingPhase(wasHealthy bool) target.Phase {
	if wasHealthy {
		return target.Unhealthy
	}
	return target.Starting
}

// runOnce starts the module and watches it until it ends. It returns how long it
// was healthy and why it ended; the failure is nil only if ctx has ended.
func (i *instance) runOnce(ctx context.Context, path, tree string) (time.Duration, *failure) {
	port, err := i.m.ports.take()
	if err != nil {
		return 0, failed(target.StartFailed, "%v", err)
	}
	defer i.m.ports.release(port)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	c, done, err := i.command(path, tree, address)
	if err != nil {
		return 0, failed(target.StartFailed, "%v", err)
	}
	defer done()
	end, f := i.provideSecrets(ctx, c.credentials)
	if f != nil {
		return 0, f
	}
	defer end()
	p, err := startProcess(i.m.spawner, c)
	if err != nil {
		return 0, failed(target.StartFailed, "%v", err)
	}
	i.setLeader(p.pid)
	i.traffic.Store(&traffic{})
	i.forgetSmoke()
	since, never := i.watch(ctx, p, address)
	i.address.Store(nil)
	p.stop(i.spec.Config.Drain)
	i.setLeader(0)
	i.idle()
	healthyFor := time.Duration(0)
	if !since.IsZero() {
		healthyFor = max(time.Since(since), 1)
	}
	if never != "" {
		return healthyFor, failed(target.NeverHealthy, "%s; %s", never, i.log.tail())
	}
	return healthyFor, failed(target.StartFailed, "%s; %s", exitText(p.err), i.log.tail())
}

// endLeftBehind ends what the module has started and moved out of its group.
func (m *machine) endLeftBehind(marker string) {
	_, _ = endLeftovers(nil, marker, func(other string) bool { return other != marker })
}

func (m *machine) nextMarker() string {
	return fmt.Sprintf("%s.%d", m.agent, m.starts.Add(1))
}

func (m *machine) placeLog(p target.Place) *placeLog {
	return &placeLog{path: filepath.Join(m.logs, p.Environment+"."+p.Deployment+".log"), limit: 2 * m.o.Limits.Log}
}
