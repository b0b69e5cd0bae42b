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

	mu         sync.Mutex
	d          deployment
	generation int // of the deployment: one more with each
	replicas   []*replica
	starting   *start // nil: none is under way
	calls      int    // under way
	total      uint64 // ever, of this platform's process
	removed    bool
	failures   int // to start, in a row
	why        error
	next       time.Time // no start before

	writing sync.Mutex // of secrets
}

// A start is the start of a process that calls wait for. It is nobody's own: a caller who
// leaves does not end it.
type start struct {
	done chan struct{}
	err  error // read after done
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
	for _, r := range slices.Clone(m.replicas) {
		if r.process.hasEnded() {
			m.note(r)
		}
	}
	return slices.DeleteFunc(slices.Clone(m.replicas), func(r *replica) bool { return r.stopping })
}

// note takes the end of a process down, once. The caller holds the lock.
func (m *managed) note(r *replica) {
	if r.noted {
		return
	}
	r.noted = true
	m.all.giveBack(r.d.connections)
	m.replicas = slices.DeleteFunc(m.replicas, func(o *replica) bool { return o == r })
	if r.stopping {
		return
	}
	slog.Warn("function ended", "function", m.name, "exit", r.process.exit())
	if m.all.options.Now().Sub(r.started) < livedWell {
		m.fail(fmt.Errorf("%w: %s", ErrEnded, r.process.exit()))
	} else {
		m.failures = 0
	}
}

// acquire returns a process for one call, starting one when there is none. Give it back
// with release.
func (m *managed) acquire(ctx context.Context) (*replica, error) {
	for {
		r, under, err := m.take()
		if err != nil || r != nil {
			return r, err
		}
		select {
		case <-under.done:
			if under.err != nil {
				return nil, under.err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// take returns a process for a call, or the start to wait for.
func (m *managed) take() (*replica, *start, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.all.ctx.Err() != nil:
		return nil, nil, errStops
	case m.removed:
		return nil, nil, fmt.Errorf("%w: %s", ErrNoFunction, m.name)
	case m.d.inflight > 0 && m.calls >= m.d.inflight:
		return nil, nil, fmt.Errorf("%w: %s takes %d", ErrBusy, m.name, m.d.inflight)
	}
	if r := least(m.live()); r != nil {
		r.calls++
		m.calls++
		m.total++
		return r, nil, nil
	}
	if m.starting != nil {
		return nil, m.starting, nil
	}
	if err := m.putOff(); err != nil {
		return nil, nil, err
	}
	if !m.all.begin() {
		return nil, nil, errStops
	}
	s := &start{done: make(chan struct{})}
	m.starting = s
	d, generation := m.d, m.generation
	go func() {
		defer m.all.group.Done()
		m.run(s, d, generation)
	}()
	return nil, s, nil
}

var errStops = fmt.Errorf("%w: the platform stops", ErrNoStart)

// putOff says why nothing is started now. The caller holds the lock.
func (m *managed) putOff() error {
	if now := m.all.options.Now(); now.Before(m.next) {
		return fmt.Errorf("%w; it is tried again in %s: %w", ErrNoStart, m.next.Sub(now).Round(time.Millisecond), m.why)
	}
	return nil
}

// run starts the process that calls wait for.
func (m *managed) run(s *start, d deployment, generation int) {
	r, err := m.start(m.all.ctx, d)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.starting = nil
	switch {
	case generation != m.generation: // what is to run now is something else
		if err == nil {
			m.stop(r)
		}
		err = nil
	case err == nil:
		m.join(r)
	case !errors.Is(err, ErrBusy):
		m.fail(err)
	}
	s.err = err
	close(s.done)
}

// join adds a process that has started; one of a function that was removed meanwhile is
// stopped. The caller holds the lock.
func (m *managed) join(r *replica) {
	if r.process.hasEnded() {
		m.note(r)
		return
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

// start starts one process and waits until it answers. It is watched from then on.
func (m *managed) start(ctx context.Context, d deployment) (*replica, error) {
	if !m.all.begin() {
		return nil, errStops
	}
	r, err := m.launch(ctx, d)
	if err != nil {
		m.all.group.Done()
		return nil, err
	}
	go func() {
		defer m.all.group.Done()
		m.watch(r)
	}()
	return r, nil
}

func (m *managed) launch(ctx context.Context, d deployment) (*replica, error) {
	if !m.all.reserve(d.connections) {
		return nil, fmt.Errorf("%w: the database's connections are all given to other functions", ErrBusy)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.all.ctx, cancel)()
	dir := m.all.path("run", m.name)
	credentials, err := m.prepare(dir, d)
	var r *replica
	if err == nil {
		r, err = launch(ctx, launchSpec{
			command: d.command, socket: d.socket, dir: dir, env: m.env(dir, credentials, d), write: d.write, now: m.all.options.Now,
			log: func(line string) { m.logs.add(m.all.options.Now(), line); m.all.options.Log(m.name, line) },
		})
	}
	if err != nil {
		m.all.giveBack(d.connections)
		m.forget(credentials)
		return nil, fmt.Errorf("%w: %s: %w", ErrNoStart, m.name, err)
	}
	r.d, r.credentials = d, credentials
	return r, nil
}

// watch notices the end of a process, and ends it when the platform stops: calls under way
// get the time that a stop takes.
func (m *managed) watch(r *replica) {
	select {
	case <-r.process.done:
	case <-m.all.ctx.Done():
		m.mu.Lock()
		r.stopping = true
		m.end(r)
		m.mu.Unlock()
		<-r.process.done
	}
	m.mu.Lock()
	m.note(r)
	m.mu.Unlock()
	r.clear()
	m.forget(r.credentials)
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
	if r.ending || r.process.hasEnded() {
		return
	}
	r.ending = true
	m.all.group.Go(func() { // whoever watches the process is counted until we are
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
	m.generation++
	for _, r := range slices.Clone(m.replicas) {
		m.stop(r)
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
		err := m.putOff()
		m.mu.Unlock()
		if len(live) >= n {
			return nil
		}
		if err != nil { // those that were started ended at once
			return err
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

// replace starts a process of another deployment, and gives all calls to it once keep has
// kept it.
func (m *managed) replace(ctx context.Context, d deployment, keep func() error) error {
	r, err := m.start(ctx, d)
	if err != nil {
		return err
	}
	err = keep()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.stop(r)
		return err
	}
	for _, old := range slices.Clone(m.replicas) {
		m.stop(old)
	}
	m.d, m.failures, m.next = d, 0, time.Time{}
	m.generation++
	m.join(r)
	return nil
}

// credentialsFolder is how the names of the folders begin that hold the secrets of one
// process each: that of another deployment has others.
const credentialsFolder = "credentials-"

// prepare makes the folders of a process, and returns the one with its secrets.
func (m *managed) prepare(dir string, d deployment) (credentials string, err error) {
	for _, sub := range []string{"", "tmp", "state"} {
		if err := privateFolder(filepath.Join(dir, sub)); err != nil {
			return "", err
		}
	}
	if credentials, err = os.MkdirTemp(dir, credentialsFolder); err != nil { // mode 0700
		return "", err
	}
	return credentials, m.writeSecrets(credentials, d)
}

// forget removes the secrets of a process that has ended.
func (m *managed) forget(credentials string) {
	if credentials == "" {
		return
	}
	m.writing.Lock()
	defer m.writing.Unlock()
	if err := os.RemoveAll(credentials); err != nil {
		slog.Warn("secrets of a process that has ended", "function", m.name, "err", err)
	}
}

// env is the environment of a process.
func (m *managed) env(dir, credentials string, d deployment) []string {
	env := append(slices.Clone(m.all.options.Env), "HOME="+dir, "TMPDIR="+filepath.Join(dir, "tmp"),
		"HOTSWAP_STATE="+filepath.Join(dir, "state"))
	if bytes, ok := memory(d.spec.Limits); ok { // what a program of Go keeps to; others are bounded by the machine
		env = append(env, "GOMEMLIMIT="+strconv.FormatInt(bytes*9/10, 10))
	}
	for key, value := range d.spec.EnvVars {
		env = append(env, key+"="+value)
	}
	return append(env, "CREDENTIALS_DIRECTORY="+credentials)
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
func (m *managed) writeSecrets(folder string, d deployment) error {
	m.writing.Lock()
	defer m.writing.Unlock()
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
	all := slices.Clone(m.replicas)
	m.mu.Unlock()
	var problems []error
	for _, r := range all {
		if err := m.writeSecrets(r.credentials, r.d); err != nil && !r.process.hasEnded() {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
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
