package platform_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/logs"
	"github.com/openfaas/faas-provider/types"
	"github.com/openfaas/go-sdk"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/function"
	"hotswap.dev/hotswap/pkg/platform"
	"hotswap.dev/hotswap/pkg/secret"
	"hotswap.dev/hotswap/pkg/store"
)

// functionEnv makes the test binary a function's process.
const functionEnv = "PLATFORM_TEST_FUNCTION"

// beFunction is a function that does what its path says, until it is told to end.
func beFunction() {
	if os.Getenv("FAILS_TO_START") != "" {
		fmt.Fprintln(os.Stderr, "cannot start")
		os.Exit(7)
	}
	if gate, err := os.Open(os.Getenv("STARTS_BEHIND")); err == nil { // see faas.gate
		_, _ = io.ReadAll(gate)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	mux := http.NewServeMux()
	mux.HandleFunc("/_/health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(os.Stderr, "called %s\n", r.URL.Path)
		w.Header().Set("X-Seen-Call-Id", r.Header.Get("X-Call-Id"))
		w.Header().Set("X-Seen-Authorization", r.Header.Get("Authorization"))
		w.Header().Set("X-Seen-Forwarded-For", r.Header.Get("X-Forwarded-For"))
		fmt.Fprintf(w, "%s %s %s %d", os.Getenv("VERSION"), r.Method, r.URL.RequestURI(), len(b))
	})
	mux.HandleFunc("/pid", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getpid()) })
	mux.HandleFunc("/crash", func(http.ResponseWriter, *http.Request) { os.Exit(3) })
	mux.HandleFunc("/spawn", func(w http.ResponseWriter, _ *http.Request) {
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err == nil {
			fmt.Fprint(w, cmd.Process.Pid)
		}
	})
	mux.HandleFunc("/files", func(w http.ResponseWriter, _ *http.Request) {
		entries, _ := os.ReadDir("/proc/self/fd")
		for _, e := range entries {
			to, _ := os.Readlink("/proc/self/fd/" + e.Name())
			fmt.Fprintln(w, to)
		}
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.URL.RequestURI())
		for name, values := range r.Header {
			fmt.Fprintf(w, "%s=%s\n", name, values)
		}
	})
	mux.HandleFunc("/pretend", func(w http.ResponseWriter, _ *http.Request) {
		for _, name := range []string{"X-OpenFaaS-Internal", "X-Start-Time", "X-Call-Id"} {
			w.Header().Set(name, "1")
		}
	})
	mux.HandleFunc("/flood", func(http.ResponseWriter, *http.Request) {
		_, _ = os.Stderr.WriteString(strings.Repeat("\n", 2<<20) + strings.Repeat(strings.Repeat("x", 8000)+"\n", 100) + "no end of line")
	})
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		w.WriteHeader(code)
	})
	mux.HandleFunc("/slow/{time}", func(w http.ResponseWriter, r *http.Request) {
		d, _ := time.ParseDuration(r.PathValue("time"))
		fmt.Fprintln(os.Stderr, "sleeping")
		select {
		case <-time.After(d):
			fmt.Fprint(w, "slept")
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		for i := 0; ; i++ {
			if _, err := fmt.Fprintf(w, "line %d\n", i); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(20 * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
	})
	mux.HandleFunc("/secrets", func(w http.ResponseWriter, _ *http.Request) {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		info, _ := os.Stat(dir)
		fmt.Fprintf(w, "%04o", info.Mode().Perm())
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			b, _ := os.ReadFile(filepath.Join(dir, e.Name()))
			fmt.Fprintf(w, " %s=%s", e.Name(), b)
		}
	})
	mux.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Join(os.Environ(), "\n")) })
	l, err := function.Listen(os.Getenv)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "//") { // which a mux would redirect
			fmt.Fprintf(w, "unclean %s", r.URL.RequestURI())
			return
		}
		mux.ServeHTTP(w, r)
	})
	if err := (function.Server{Handler: h, Timeouts: function.DefaultTimeouts()}).Serve(ctx, l); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A clock is moved by hand.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// A fakeCalls is a store of asynchronous calls that only takes them.
type fakeCalls struct {
	mu    sync.Mutex
	taken []store.AsyncCall
	err   error
}

func (f *fakeCalls) AcceptCall(_ context.Context, c store.AsyncCall) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.taken = append(f.taken, c)
	}
	return f.err
}

// A faas is a gateway with a function of the platform's own, "own", and the images to deploy others.
type faas struct {
	t         *testing.T
	dir       string
	clock     *clock
	functions *platform.Functions
	server    *httptest.Server
	calls     *fakeCalls
	hinted    chan string
	signed    error
	secrets   map[string]string // of the platform
	denied    map[string]bool   // actions
	asked     []string
	mu        sync.Mutex
}

const faasPassword = "the gateway's password"

func newFaas(t *testing.T) *faas {
	t.Helper()
	f := &faas{t: t, dir: t.TempDir(), clock: newClock(), calls: &fakeCalls{}, hinted: make(chan string, 10), secrets: map[string]string{"hotswap-database-url": "dsn-1"}, denied: map[string]bool{}}
	f.open(20)
	return f
}

func (f *faas) open(connections int) {
	f.t.Helper()
	own := func(name string, idle string, connections int) platform.OwnFunction {
		return platform.OwnFunction{Command: []string{os.Args[0]}, Deployment: types.FunctionDeployment{
			Service: name, Image: "hotswap", Secrets: []string{"hotswap-database-url", "hotswap-optional"}, EnvVars: map[string]string{"VERSION": "own"},
			Annotations: &map[string]string{platform.AnnotationPublic: "true", platform.AnnotationConnections: strconv.Itoa(connections)},
			Labels:      &map[string]string{platform.LabelIdle: idle},
		}}
	}
	var err error
	f.functions, err = platform.OpenFunctions(platform.FunctionsOptions{
		Dir: filepath.Join(f.dir, "functions"), Own: []platform.OwnFunction{own("own", "30s", 2), own("greedy", "1h", 19)},
		Env: []string{functionEnv + "=1", "PATH=" + os.Getenv("PATH")}, Connections: connections, Now: f.clock.now, Secret: f.secret,
	})
	require.NoError(f.t, err)
	f.server = httptest.NewServer(platform.Gateway(platform.GatewayOptions{
		Functions: f.functions, Calls: f.calls, Wake: func() {}, Callback: platform.Callbacks{}.Check,
		Hint:   func(_ context.Context, name string) { f.hinted <- name },
		Signed: func(*http.Request) error { return f.signed },
		Access: platform.Access{User: "admin", Password: secret.New([]byte(faasPassword)), Authorize: f.authorize},
		Git:    http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "git "+r.URL.Path) }),
	}))
	f.t.Cleanup(f.close)
}

func (f *faas) close() {
	f.server.Close()
	f.functions.Close()
}

func (f *faas) authorize(_ context.Context, action, resource string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, action)
	if f.denied[action] {
		return platform.Forbidden(fmt.Errorf("%s of %s", action, resource))
	}
	return nil
}

func (f *faas) secret(name string) (secret.Secret, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, ok := f.secrets[name]
	if !ok {
		return secret.Secret{}, os.ErrNotExist
	}
	return secret.New([]byte(v)), nil
}

// sdk is the client of OpenFaaS.
func (f *faas) sdk(password string) *sdk.Client {
	u, err := url.Parse(f.server.URL)
	require.NoError(f.t, err)
	return sdk.NewClient(u, &sdk.BasicAuth{Username: "admin", Password: password}, f.server.Client())
}

// image registers the test binary as an image.
func (f *faas) image(name string) {
	f.t.Helper()
	require.NoError(f.t, f.functions.AddImage(name, os.Args[0]))
}

func (f *faas) deploy(d types.FunctionDeployment) (int, error) {
	if d.EnvVars == nil {
		d.EnvVars = map[string]string{}
	}
	return f.sdk(faasPassword).Deploy(f.t.Context(), d)
}

// gate is a file that a process with STARTS_BEHIND reads to its end before it starts: at once,
// unless shut has shut it.
type gate struct {
	t    *testing.T
	path string
}

func newGate(t *testing.T) gate {
	t.Helper()
	g := gate{t, filepath.Join(t.TempDir(), "gate")}
	require.NoError(t, os.WriteFile(g.path, nil, 0o600))
	return g
}

// shut makes the next process wait.
func (g gate) shut() {
	g.t.Helper()
	require.NoError(g.t, os.Remove(g.path))
	require.NoError(g.t, syscall.Mkfifo(g.path, 0o600))
}

// reached waits until a process stands before the gate, and returns what opens it.
func (g gate) reached() (open func()) {
	g.t.Helper()
	var w *os.File
	require.Eventually(g.t, func() (there bool) {
		var err error
		w, err = os.OpenFile(g.path, os.O_WRONLY|syscall.O_NONBLOCK, 0) // ENXIO while nobody reads
		return err == nil
	}, 20*time.Second, time.Millisecond, "no process stands before the gate")
	return func() { require.NoError(g.t, w.Close()) }
}

// sleeps waits until a call of /slow is in a process of the function.
func (f *faas) sleeps(name string) {
	f.t.Helper()
	require.Eventually(f.t, func() bool {
		lines, err := f.functions.Query(f.t.Context(), logs.Request{Name: name})
		if err != nil {
			return false
		}
		there := false
		for l := range lines {
			there = there || l.Text == "sleeping"
		}
		return there
	}, 10*time.Second, time.Millisecond, "a call sleeps in %s", name)
}

// An answer of the gateway.
type answer struct {
	status int
	body   string
	header http.Header
}

// do sends a request as it is; header is name, value, …
func (f *faas) do(method, path, body string, header ...string) answer {
	f.t.Helper()
	a, err := f.try(f.t.Context(), method, path, body, header...)
	require.NoError(f.t, err)
	return a
}

func (f *faas) try(ctx context.Context, method, path, body string, header ...string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, f.server.URL+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	got, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer got.Body.Close()
	b, err := io.ReadAll(got.Body)
	return answer{got.StatusCode, string(b), got.Header}, err
}

// basic is the header of who has the password.
func basic(password string) []string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth("admin", password)
	return []string{"Authorization", r.Header.Get("Authorization")}
}
