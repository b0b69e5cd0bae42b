package platform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/openfaas/faas-provider/types"

	"hotswap.dev/hotswap/pkg/secret"
)

// A managed function is one deployed function with its processes.
type managed struct {
	name string
	all  *Functions
	logs *logBook

	mu       sync.Mutex
	d        deployment
	replicas []*replica
	starting chan struct{} // closed when the start under way has ended; nil: none is
	calls    int           // under way
	total    uint64        // ever, of this platform's process
	removed  bool
	failures int // to start, in a row
	why      error
	next     time.Time // no start before
}

func newManaged(f *Functions, d deployment) *managed {
	return &managed{name: d.spec.Service, all: f, d: d, logs: newLogBook()}
}

func (m *managed) isOwn() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.d.own
}

func (m *managed) running() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.live())
}

// live are the processes that take calls. The caller holds the lock.
func (m *managed) live() []*replica {
	return slices.DeleteFunc(slices.Clone(m.replicas), func(r *replica) bool { return r.stopping || r.process.hasEnded() })
}

// acquire returns a process for one call, starting one when there is none. Give it back
// with release.
func (m *managed) acquire(ctx context.Context) (*replica, error) {
	for {
		m.mu.Lock()
		switch {
		case m.all.ctx.Err() != nil:
			m.mu.Unlock()
			return nil, fmt.Errorf("%w: the platform stops", ErrNoStart)
		case m.removed:
			m.mu.Unlock()
			return nil, fmt.Errorf("%w: %s", ErrNoFunction, m.name)
		}
		if m.d.inflight > 0 && m.calls >= m.d.inflight {
			m.mu.Unlock()
			return nil, fmt.Errorf("%w: %s takes %d", ErrBusy, m.name, m.d.inflight)
		}
		if r := least(m.live()); r != nil {
			r.calls++
			m.calls++
			m.total++
			m.mu.Unlock()
			return r, nil
		}
		if under := m.starting; under != nil {
			m.mu.Unlock()
			select {
			case <-under:
				continue
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		if now := m.all.options.Now(); now.Before(m.next) {
			why := m.why
			m.mu.Unlock()
			return nil, fmt.Errorf("%w; it is tried again in %s: %w", ErrNoStart, m.next.Sub(now).Round(time.Millisecond), why)
		}
		done := make(chan struct{})
		m.starting = done
		d := m.d
		m.mu.Unlock()

		r, err := m.start(ctx, d)

		m.mu.Lock()
		m.starting = nil
		close(done)
		if err == nil {
			m.join(r)
		}
		m.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
}

// join adds a process that has started; one of a function that was removed meanwhile is
// stopped. The caller holds the lock.
func (m *managed) join(r *replica) {
	select {
	case <-r.process.done: // it has ended already, and has been told
		return
	default:
	}
	m.replicas = append(m.replicas, r)
	if m.removed {
		m.stop(r)
	}
}

// least is the process with the fewest calls; nil when there is none.
func least(of []*replica) *replica {
	if len(of) == 0 {
		return nil
	}
	return slices.MinFunc(of, func(a, b *replica) int { return a.calls - b.calls })
}

// release gives a process back after a call.
func (m *managed) release(r *replica) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.calls--
	m.calls--
	r.used = m.all.options.Now()
	if r.stopping && r.calls == 0 {
		m.end(r)
	}
}

// start starts one process and waits until it answers.
func (m *managed) start(ctx context.Context, d deployment) (*replica, error) {
	if !m.all.reserve(d.connections) {
		return nil, fmt.Errorf("%w: the database's connections are all given to other functions", ErrBusy)
	}
	r, err := m.launch(ctx, d)
	if err != nil {
		m.all.giveBack(d.connections)
		if ctx.Err() == nil {
			m.failed(err)
		}
		return nil, fmt.Errorf("%w: %s: %w", ErrNoStart, m.name, err)
	}
	m.all.group.Go(func() { m.watch(r, d) })
	return r, nil
}

func (m *managed) launch(ctx context.Context, d deployment) (*replica, error) {
	if m.all.ctx.Err() != nil {
		return nil, errors.New("the platform stops")
	}
	dir := m.all.path("run", m.name)
	env, err := m.prepare(dir, d)
	if err != nil {
		return nil, err
	}
	return launch(ctx, launchSpec{
		command: d.command, socket: d.socket, dir: dir, env: env, write: d.write, now: m.all.options.Now,
		log: func(line string) { m.logs.add(m.all.options.Now(), line); m.all.options.Log(m.name, line) },
	})
}

// watch notices the end of a process.
func (m *managed) watch(r *replica, d deployment) {
	<-r.process.done
	m.all.giveBack(d.connections)
	r.transport.CloseIdleConnections()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.replicas = slices.DeleteFunc(m.replicas, func(o *replica) bool { return o == r })
	switch {
	case r.stopping:
	case m.all.options.Now().Sub(r.started) < livedWell:
		m.fail(fmt.Errorf("%w: %s", ErrEnded, r.process.exit()))
		slog.Warn("function ended", "function", m.name, "exit", r.process.exit())
	default:
		m.failures = 0
		slog.Warn("function ended", "function", m.name, "exit", r.process.exit())
	}
}

func (m *managed) failed(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail(err)
}

// fail puts the next start off, twice as long with each failure in a row.
func (m *managed) fail(err error) {
	wait := min(maxBackoff, firstBackoff<<min(m.failures, 10))
	m.failures++
	m.why, m.next = err, m.all.options.Now().Add(wait)
}

// stop lets no call come to a process, and ends it after the last. The caller holds the lock.
func (m *managed) stop(r *replica) {
	if r.stopping {
		return
	}
	r.stopping = true
	if r.calls == 0 {
		m.end(r)
	}
}

// end tells a process to end, and does not wait for it. The caller holds the lock.
func (m *managed) end(r *replica) {
	if r.ending {
		return
	}
	r.ending = true
	m.all.group.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTime)
		defer cancel()
		if err := r.stop(ctx); err != nil {
			slog.Warn("function", "function", m.name, "err", err)
		}
	})
}

// remove stops the function for good.
func (m *managed) remove() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.removed = true
	for _, r := range slices.Clone(m.replicas) {
		m.stop(r)
		if m.all.ctx.Err() != nil && r.calls > 0 { // the platform stops: calls get the time that a stop takes
			m.end(r)
		}
	}
}

// stopIdle stops the processes that nothing has called for their time.
func (m *managed) stopIdle(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.live() {
		if r.calls == 0 && now.Sub(r.used) >= m.d.idle {
			m.stop(r)
		}
	}
}

// scale brings the number of processes to n.
func (m *managed) scale(ctx context.Context, n int) error {
	m.mu.Lock()
	most := m.d.most
	m.mu.Unlock()
	if n < 0 || n > most {
		return fmt.Errorf("%w: %s runs in at most %d processes, see %s", ErrInvalid, m.name, most, LabelMax)
	}
	for {
		m.mu.Lock()
		live, d := m.live(), m.d
		if m.removed {
			m.mu.Unlock()
			return fmt.Errorf("%w: %s", ErrNoFunction, m.name)
		}
		for _, r := range live[:max(0, len(live)-n)] {
			m.stop(r)
		}
		m.mu.Unlock()
		if len(live) >= n {
			return nil
		}
		r, err := m.start(ctx, d)
		if err != nil {
			return err
		}
		m.mu.Lock()
		r.used = m.all.options.Now()
		m.join(r)
		m.mu.Unlock()
	}
}

// replace starts a process of another deployment, and gives all calls to it.
func (m *managed) replace(ctx context.Context, d deployment) error {
	r, err := m.start(ctx, d)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, old := range slices.Clone(m.replicas) {
		m.stop(old)
	}
	m.d, m.removed, m.failures, m.next = d, false, 0, time.Time{}
	m.join(r)
	return nil
}

// prepare makes the folders of the function's processes and their environment.
func (m *managed) prepare(dir string, d deployment) ([]string, error) {
	for _, sub := range []string{"", "credentials", "tmp", "state"} {
		if err := privateFolder(filepath.Join(dir, sub)); err != nil {
			return nil, err
		}
	}
	if err := m.writeSecrets(dir, d); err != nil {
		return nil, err
	}
	env := append(slices.Clone(m.all.options.Env), "HOME="+dir, "TMPDIR="+filepath.Join(dir, "tmp"),
		"HOTSWAP_STATE="+filepath.Join(dir, "state"), "CREDENTIALS_DIRECTORY="+filepath.Join(dir, "credentials"))
	if bytes, ok := memory(d.spec.Limits); ok { // what a program of Go keeps to; others are bounded by the machine
		env = append(env, "GOMEMLIMIT="+strconv.FormatInt(bytes*9/10, 10))
	}
	for key, value := range d.spec.EnvVars {
		env = append(env, key+"="+value)
	}
	return env, nil
}

// memory reads a limit like 256Mi.
func memory(l *types.FunctionResources) (int64, bool) {
	if l == nil || l.Memory == "" {
		return 0, false
	}
	units := map[string]int64{"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "K": 1e3, "M": 1e6, "G": 1e9, "m": 1 << 20, "g": 1 << 30, "": 1}
	digits := strings.TrimRight(l.Memory, "KMGimkg")
	n, err := strconv.ParseInt(digits, 10, 40)
	unit, ok := units[strings.TrimPrefix(l.Memory, digits)]
	return n * unit, err == nil && ok && n > 0
}

// writeSecrets writes exactly the secrets that the deployment names, each as a file that
// only its owner may read. What is the same already is left alone.
func (m *managed) writeSecrets(dir string, d deployment) error {
	folder := filepath.Join(dir, "credentials")
	present, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range present {
		if !slices.Contains(d.spec.Secrets, e.Name()) {
			if err := os.Remove(filepath.Join(folder, e.Name())); err != nil {
				return err
			}
		}
	}
	for _, name := range d.spec.Secrets {
		value, err := m.secret(name, d)
		if errors.Is(err, fs.ErrNotExist) && d.own { // the function says whether it can do without
			if err := os.Remove(filepath.Join(folder, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: there is no secret %s", ErrInvalid, name)
		}
		if err != nil {
			return fmt.Errorf("secret %s: %w", name, err)
		}
		file := filepath.Join(folder, name)
		if old, err := readPrivate(file, maxUserSecret); err == nil && secret.New(old).Equal(value) {
			continue
		}
		if err := replacePrivate(file, value.Reveal()); err != nil {
			return err
		}
	}
	return nil
}

// secret returns a secret for a deployment: the platform's own functions get the
// platform's, those of users get theirs, never one in the place of the other.
func (m *managed) secret(name string, d deployment) (secret.Secret, error) {
	if d.own {
		return m.all.options.Secret(name)
	}
	return m.all.userSecret(name)
}

// refreshSecrets gives processes that run the secrets that have changed.
func (m *managed) refreshSecrets() error {
	m.mu.Lock()
	d, live := m.d, len(m.live())
	m.mu.Unlock()
	if live == 0 {
		return nil // a start writes them
	}
	return m.writeSecrets(m.all.path("run", m.name), d)
}

// status is what the provider tells of the function.
func (m *managed) status() types.FunctionStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.d.spec
	live := m.live()
	return types.FunctionStatus{
		Name: s.Service, Image: s.Image, Namespace: Namespace, EnvVars: s.EnvVars, Constraints: s.Constraints,
		Secrets: s.Secrets, Labels: s.Labels, Annotations: s.Annotations, Limits: s.Limits, Requests: s.Requests,
		ReadOnlyRootFilesystem: s.ReadOnlyRootFilesystem, InvocationCount: float64(m.total),
		Replicas: uint64(len(live)), AvailableReplicas: uint64(len(live)), CreatedAt: m.d.created,
	}
}
