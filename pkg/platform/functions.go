package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/openfaas/faas-provider/types"

	"hotswap.dev/hotswap/pkg/secret"
)

// Why a function cannot be called or changed.
var (
	ErrNoFunction = errors.New("no such function")
	ErrInvalid    = errors.New("the deployment is not valid")
	ErrOwn        = errors.New("the function is the platform's own")
	ErrBusy       = errors.New("too many calls at once")
	ErrNoStart    = errors.New("the function does not start")
	ErrEnded      = errors.New("the function's process ended")
)

// Namespace is the one namespace that there is; a function may be called by NAME or by
// NAME.openfaas-fn.
const Namespace = "openfaas-fn"

// Annotations and labels that the platform understands. Those of OpenFaaS mean what they
// mean there.
const (
	AnnotationPublic      = "hotswap.dev/public"               // "true": callers are not asked who they are; the function does
	AnnotationConnections = "hotswap.dev/database-connections" // that one process may hold
	LabelIdle             = "com.openfaas.scale.zero-duration" // a process that was idle this long ends
	LabelMax              = "com.openfaas.scale.max"           // processes at most
)

// Bounds of functions.
const (
	maxFunctions  = 100
	maxReplicas   = 16
	defaultIdle   = time.Minute
	startTime     = 15 * time.Second // from exec until it answers
	firstBackoff  = 200 * time.Millisecond
	maxBackoff    = 30 * time.Second
	livedWell     = 10 * time.Second // a process that lived so long has not failed to start
	secretsEvery  = 5 * time.Second  // between two looks at secrets that may have changed
	defaultWrite  = 65 * time.Second
	maxDeployment = 64 << 10 // bytes
	lockTime      = 5 * time.Second
)

var functionName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`) })

// An OwnFunction is a function of the platform itself: it is there from the start, and
// nobody may change it.
type OwnFunction struct {
	Deployment types.FunctionDeployment
	Command    []string // it takes its socket as systemd hands one over
}

// FunctionsOptions configure [OpenFunctions]. Dir is needed.
type FunctionsOptions struct {
	Dir         string // deployments, images and secrets of users, and what processes need while they run
	Own         []OwnFunction
	Env         []string                                 // that every process gets
	Secret      func(name string) (secret.Secret, error) // of the platform's own functions; fs.ErrNotExist: there is none
	Connections int                                      // to the database, of all processes together; 0: no bound
	Log         func(function, line string)              // what processes write; nil: kept for the logs only
	Now         func() time.Time                         // default time.Now
}

// Functions runs functions as child processes: started when they are called, stopped when
// they are idle. It is the provider of OpenFaaS's words, see [Provider].
type Functions struct {
	options FunctionsOptions

	lock   *os.File       // of the folder
	group  sync.WaitGroup // processes and those that wait for them, see begin
	ctx    context.Context
	cancel context.CancelFunc

	mu        sync.Mutex
	functions map[string]*managed
	changing  map[string]chan struct{} // closed when the change of that function has ended
	used      int                      // connections of the processes that run
	refreshed time.Time
	closed    bool
}

// OpenFunctions opens the folder with what users have deployed, which one process may do at
// a time. Nothing is started.
func OpenFunctions(o FunctionsOptions) (_ *Functions, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = func(string, string) {}
	}
	if o.Secret == nil {
		o.Secret = func(string) (secret.Secret, error) { return secret.Secret{}, fs.ErrNotExist }
	}
	for _, sub := range []string{"", "deployments", "images", "secrets", "run"} {
		if err := privateFolder(filepath.Join(o.Dir, sub)); err != nil {
			return nil, fmt.Errorf("open the functions: %w", err)
		}
	}
	f := &Functions{options: o, functions: map[string]*managed{}, changing: map[string]chan struct{}{}}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	if f.lock, err = lockFolder(f.ctx, o.Dir, lockTime); err != nil {
		return nil, fmt.Errorf("open the functions: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.lock.Close())
		}
	}()
	for _, own := range o.Own {
		d, err := f.deployment(own.Deployment)
		if err != nil {
			return nil, err
		}
		d.command, d.socket, d.own = own.Command, true, true
		f.functions[d.spec.Service] = newManaged(f, d)
	}
	if err := f.load(); err != nil {
		return nil, err
	}
	return f, f.sweep()
}

// sweep removes what a process that was killed has left: files that were half written, the
// secrets of its functions' processes, and what functions kept that are no more.
func (f *Functions) sweep() error {
	var left []string
	for _, pattern := range [][]string{{"deployments", ".*"}, {"secrets", ".*"}, {"run", "*", credentialsFolder + "*"}} {
		files, err := filepath.Glob(f.path(pattern...))
		if err != nil {
			return err
		}
		left = append(left, files...)
	}
	folders, err := os.ReadDir(f.path("run"))
	if err != nil {
		return err
	}
	for _, folder := range folders {
		if f.functions[folder.Name()] == nil {
			left = append(left, f.path("run", folder.Name()))
		}
	}
	for _, file := range left {
		if err := os.RemoveAll(file); err != nil {
			return fmt.Errorf("sweep the functions: %w", err)
		}
	}
	return nil
}

// load reads what users have deployed. What cannot be read is told and left alone.
func (f *Functions) load() error {
	files, err := filepath.Glob(f.path("deployments", "*.json"))
	if err != nil {
		return err
	}
	for _, file := range files {
		s, err := readDeployment(file)
		var d deployment
		if err == nil {
			d, err = f.deployment(s.Spec)
		}
		if err == nil && d.spec.Service+".json" != filepath.Base(file) {
			err = fmt.Errorf("%w: it is of %s", ErrInvalid, d.spec.Service)
		}
		if err != nil {
			slog.Error("a deployed function cannot be read", "file", file, "err", err)
			continue
		}
		d.command, d.created = []string{f.path("images", filepath.Base(s.Binary))}, s.Created
		if f.functions[d.spec.Service] == nil {
			f.functions[d.spec.Service] = newManaged(f, d)
		}
	}
	return nil
}

func (f *Functions) path(elements ...string) string {
	return filepath.Join(append([]string{f.options.Dir}, elements...)...)
}

// A deployment is what a function is to run.
type deployment struct {
	spec        types.FunctionDeployment
	command     []string
	socket      bool // it takes its socket; else it listens on $PORT
	own         bool
	public      bool
	created     time.Time
	connections int
	idle        time.Duration
	most        int           // processes
	inflight    int           // calls at once; 0: no bound
	write       time.Duration // of one call
}

// A savedDeployment is a file below deployments/.
type savedDeployment struct {
	Spec    types.FunctionDeployment `json:"spec"`
	Binary  string                   `json:"binary"` // file below images/
	Created time.Time                `json:"created"`
}

// deployment reads a deployment as users write it.
func (f *Functions) deployment(s types.FunctionDeployment) (deployment, error) {
	s.Service = baseName(s.Service)
	d := deployment{spec: s, created: f.options.Now().UTC(), idle: defaultIdle, most: maxReplicas, write: defaultWrite}
	invalid := func(format string, args ...any) (deployment, error) {
		return d, fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	if !functionName().MatchString(s.Service) {
		return invalid("service %.80q is not a DNS label", s.Service)
	}
	if s.Namespace != "" && s.Namespace != Namespace {
		return invalid("the only namespace is %s", Namespace)
	}
	if s.EnvProcess != "" {
		return invalid("envProcess is of OpenFaaS's watchdog, which is not here: the function's program listens on $PORT itself")
	}
	for key := range s.EnvVars {
		if key == "" || strings.ContainsAny(key, "=\x00") || strings.Contains(s.EnvVars[key], "\x00") {
			return invalid("environment variable %.80q", key)
		}
	}
	for _, name := range s.Secrets {
		if !secretName().MatchString(name) {
			return invalid("secret %.80q: only lower-case letters, digits and single dashes", name)
		}
	}
	var err error
	read := func(m *map[string]string, key string, into func(text string) error) {
		if m == nil || (*m)[key] == "" || err != nil {
			return
		}
		if into((*m)[key]) != nil {
			err = fmt.Errorf("%w: %s %.80q", ErrInvalid, key, (*m)[key])
		}
	}
	read(s.Annotations, AnnotationPublic, func(t string) (err error) { d.public, err = strconv.ParseBool(t); return err })
	read(s.Annotations, AnnotationConnections, func(t string) error { return atMost(t, 0, 100, &d.connections) })
	read(s.Labels, LabelMax, func(t string) error { return atMost(t, 1, maxReplicas, &d.most) })
	read(s.Labels, LabelIdle, func(t string) (err error) { d.idle, err = time.ParseDuration(t); return err })
	read(&s.EnvVars, "max_inflight", func(t string) error { return atMost(t, 0, 1<<20, &d.inflight) })
	read(&s.EnvVars, "write_timeout", func(t string) (err error) { d.write, err = time.ParseDuration(t); return err })
	if err == nil && (d.idle <= 0 || d.write <= 0) {
		err = fmt.Errorf("%w: %s and write_timeout are longer than nothing", ErrInvalid, LabelIdle)
	}
	return d, err
}

func atMost(text string, low, high int, into *int) error {
	n, err := strconv.Atoi(text)
	if err == nil && (n < low || n > high) {
		err = strconv.ErrRange
	}
	*into = n
	return err
}

// baseName is the name without the namespace that a caller may have added.
func baseName(name string) string { return strings.TrimSuffix(name, "."+Namespace) }

// find returns the function of a name.
func (f *Functions) find(name string) (*managed, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m, ok := f.functions[baseName(name)]
	if !ok {
		return nil, fmt.Errorf("%w: %.80q", ErrNoFunction, name)
	}
	return m, nil
}

// list returns all functions, by name.
func (f *Functions) list() []*managed {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*managed
	for _, name := range slices.Sorted(maps.Keys(f.functions)) {
		out = append(out, f.functions[name])
	}
	return out
}

// Names lists the functions that are deployed.
func (f *Functions) Names() []string {
	var out []string
	for _, m := range f.list() {
		out = append(out, m.name)
	}
	return out
}

// Processes is how many processes a function has.
func (f *Functions) Processes(name string) int {
	m, err := f.find(name)
	if err != nil {
		return 0
	}
	return m.running()
}

// Running is how many processes there are.
func (f *Functions) Running() int {
	n := 0
	for _, m := range f.list() {
		n += m.running()
	}
	return n
}

// Deploy deploys a function, or another version of it. It returns when the new version
// answers and is kept; calls go to the former one until then, and those under way end
// there. A version that does not start changes nothing.
func (f *Functions) Deploy(ctx context.Context, s types.FunctionDeployment) error {
	d, err := f.deployment(s)
	if err != nil {
		return err
	}
	binary, err := f.image(s.Image)
	if err != nil {
		return err
	}
	d.command = []string{f.path("images", binary)}
	saved, err := json.MarshalIndent(savedDeployment{Spec: s, Binary: binary, Created: d.created}, "", "  ")
	if err != nil {
		return err
	}
	if len(saved) >= maxDeployment {
		return fmt.Errorf("%w: it has %d bytes, and %d are the most", ErrInvalid, len(saved), maxDeployment)
	}
	done, err := f.turn(ctx, d.spec.Service)
	if err != nil {
		return err
	}
	defer done()
	f.mu.Lock()
	m, known := f.functions[d.spec.Service]
	full := len(f.functions) >= maxFunctions
	f.mu.Unlock()
	switch {
	case known && m.isOwn():
		return fmt.Errorf("%w: %s cannot be deployed", ErrOwn, d.spec.Service)
	case !known && full:
		return fmt.Errorf("%w: there are %d functions already", ErrInvalid, maxFunctions)
	case !known:
		m = newManaged(f, d)
	}
	err = m.replace(ctx, d, func() error {
		if err := replacePrivate(f.path("deployments", d.spec.Service+".json"), append(saved, '\n')); err != nil {
			return fmt.Errorf("keep the deployment of %s: %w", d.spec.Service, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.functions[d.spec.Service] = m
	f.mu.Unlock()
	return nil
}

// turn waits until nobody else changes the function of a name. Call done after the change.
func (f *Functions) turn(ctx context.Context, name string) (done func(), err error) {
	for {
		f.mu.Lock()
		under, ok := f.changing[name]
		if !ok {
			mine := make(chan struct{})
			f.changing[name] = mine
			f.mu.Unlock()
			return func() {
				f.mu.Lock()
				delete(f.changing, name)
				f.mu.Unlock()
				close(mine)
			}, nil
		}
		f.mu.Unlock()
		select {
		case <-under:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %s is being changed", ErrBusy, name)
		}
	}
}

// Delete removes a function. Calls under way go on to their end.
func (f *Functions) Delete(ctx context.Context, name string) error {
	done, err := f.turn(ctx, baseName(name))
	if err != nil {
		return err
	}
	defer done()
	m, err := f.find(name)
	if err != nil {
		return err
	}
	if m.isOwn() {
		return fmt.Errorf("%w: %s cannot be deleted", ErrOwn, m.name)
	}
	err = os.Remove(f.path("deployments", m.name+".json"))
	if err == nil {
		err = syncFolder(f.path("deployments"))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %s: %w", m.name, err)
	}
	f.mu.Lock()
	delete(f.functions, m.name)
	f.mu.Unlock()
	m.remove()
	return nil
}

// Scale starts processes until there are n, or stops those that are more. With none, the
// next call starts one again.
func (f *Functions) Scale(ctx context.Context, name string, n int) error {
	done, err := f.turn(ctx, baseName(name))
	if err != nil {
		return err
	}
	defer done()
	m, err := f.find(name)
	if err != nil {
		return err
	}
	return m.scale(ctx, n)
}

// Tick stops what is idle and gives processes the secrets that have changed.
func (f *Functions) Tick() {
	now := f.options.Now()
	f.mu.Lock()
	refresh := now.Sub(f.refreshed) >= secretsEvery
	if refresh {
		f.refreshed = now
	}
	f.mu.Unlock()
	for _, m := range f.list() {
		m.stopIdle(now)
		if refresh {
			if err := m.refreshSecrets(); err != nil {
				slog.Warn("secrets of a function", "function", m.name, "err", err)
			}
		}
	}
}

// Run ticks and forgets old programs until ctx ends, then stops every process: gently, and hard when its time is
// over. It returns when all have ended.
func (f *Functions) Run(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	var looked time.Time
	for {
		if now := time.Now(); now.Sub(looked) >= keepImage {
			looked = now
			if err := f.forgetImages(now); err != nil {
				slog.Warn("programs of functions", "err", err)
			}
		}
		select {
		case <-t.C:
			f.Tick()
		case <-ctx.Done():
			f.Close()
			return nil
		}
	}
}

// Close stops every process and waits for its end. Nothing is started after it.
func (f *Functions) Close() {
	f.mu.Lock()
	first := !f.closed
	f.closed = true
	f.mu.Unlock()
	f.cancel() // whoever watches a process stops it
	f.group.Wait()
	if first {
		_ = f.lock.Close() // which frees it
	}
}

// begin counts one more that [Functions.Close] waits for, until group.Done; false: the
// platform stops.
func (f *Functions) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.group.Add(1)
	return true
}

// reserve takes connections out of the budget for a process; false: there are not so many
// left.
func (f *Functions) reserve(n int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.options.Connections > 0 && f.used+n > f.options.Connections {
		return false
	}
	f.used += n
	return true
}

func (f *Functions) giveBack(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.used -= n
}
