package lambda

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/tests/pgtest"
)

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "hotswap-lambda-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(folder)
	shared.folder = folder
	pgtest.Main(m, store.Migrate)
}

// patience bounds everything that a test waits for.
const patience = 30 * time.Second

// An invocation is an event for a function, and how long Lambda gives it.
type invocation struct {
	event []byte
	time  time.Duration
}

// An outcome is what a function posted for an invocation.
type outcome struct {
	failed bool // it posted an error
	body   string
	header http.Header
	took   time.Duration
}

// A lambda is a process of the program as AWS Lambda runs one: it asks the Runtime API on
// loopback for one event at a time. https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
type lambda struct {
	t       *testing.T
	next    chan invocation
	out     chan outcome
	started time.Time
	log     logFile
	ended   chan struct{}
	pid     int
}

// peak is the most memory that the process ever had, in MiB.
func (l *lambda) peak() int {
	l.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.pid))
	require.NoError(l.t, err)
	_, line, ok := strings.Cut(string(text), "VmHWM:")
	require.True(l.t, ok)
	var kilobytes int
	_, err = fmt.Sscanf(line, "%d kB", &kilobytes)
	require.NoError(l.t, err)
	return kilobytes >> 10
}

// A logFile is what a process writes to its standard error: a file, so that what was
// written before an answer is there when the answer is.
type logFile struct{ *os.File }

func (l logFile) String() string {
	b, err := os.ReadFile(l.Name())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// start starts the program as the function; it is killed when the test ends.
func start(t *testing.T, function string, env map[string]string) *lambda {
	t.Helper()
	said, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	l := &lambda{t: t, next: make(chan invocation), out: make(chan outcome, 1), log: logFile{said}, ended: make(chan struct{})}
	api := httptest.NewServer(l.api())
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	c := exec.CommandContext(ctx, bootstrap(t))
	c.Dir = t.TempDir()
	c.Env = []string{
		"AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(api.URL, "http://"), "AWS_LAMBDA_FUNCTION_NAME=hotswap-" + function, "AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128", "AWS_REGION=eu-west-1", "AWS_SESSION_TOKEN=" + sessionToken, "_HANDLER=" + function, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + t.TempDir(),
	}
	for name, value := range env {
		c.Env = append(c.Env, name+"="+value)
	}
	c.Stdout, c.Stderr = said, said
	l.started = time.Now()
	require.NoError(t, c.Start())
	l.pid = c.Process.Pid
	go func() {
		_ = c.Wait() // it is killed
		close(l.ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-l.ended
		api.CloseClientConnections()
		api.Close()
		if t.Failed() {
			t.Logf("the process said:\n%s", l.log)
		}
		require.NoError(t, said.Close())
	})
	return l
}

// api is the Runtime API, and what of the Extensions API the program uses to hear of its end.
func (l *lambda) api() http.Handler {
	mux := http.NewServeMux()
	var mu sync.Mutex
	n, given := 0, time.Time{} // of the invocation under way
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", func(w http.ResponseWriter, r *http.Request) {
		select {
		case i := <-l.next:
			mu.Lock()
			defer mu.Unlock()
			n++
			given = time.Now()
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", fmt.Sprintf("request-%d", n))
			w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(given.Add(i.time).UnixMilli()))
			w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-west-1:123456789012:function:hotswap")
			_, _ = w.Write(i.event)
		case <-r.Context().Done():
		}
	})
	post := func(failed bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			header := r.Header.Clone()
			for name, values := range r.Trailer {
				header[name] = values
			}
			mu.Lock()
			defer mu.Unlock()
			if id := r.PathValue("id"); id != fmt.Sprintf("request-%d", n) {
				l.t.Errorf("an answer to %s, asked was %d", id, n)
			}
			l.out <- outcome{failed: failed, body: string(body), header: header, took: time.Since(given)}
			w.WriteHeader(http.StatusAccepted)
		}
	}
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", post(false))
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", post(true))
	mux.HandleFunc("POST /2020-01-01/extension/register", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Lambda-Extension-Identifier", "1")
	})
	mux.HandleFunc("GET /2020-01-01/extension/event/next", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	return mux
}

// invoke has the process work on one event, and returns what it posted.
func (l *lambda) invoke(event string, limit ...time.Duration) outcome {
	l.t.Helper()
	i := invocation{event: []byte(event), time: patience}
	if len(limit) > 0 {
		i.time = limit[0]
	}
	deadline := time.After(2 * patience)
	select {
	case l.next <- i:
	case <-l.ended:
		require.FailNow(l.t, "the process ended")
	case <-deadline:
		require.FailNow(l.t, "the process asks for no event")
	}
	select {
	case o := <-l.out:
		return o
	case <-l.ended:
		require.FailNow(l.t, "the process ended in the middle of an event")
	case <-deadline:
		require.FailNow(l.t, "the process does not answer")
	}
	return outcome{}
}

// An answer is one of payload format 2.0.
type answer struct {
	Status  int               `json:"statusCode"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
	Base64  bool              `json:"isBase64Encoded"`
	took    time.Duration
}

// ask sends a request, and returns the answer to it.
func (l *lambda) ask(q request) answer {
	l.t.Helper()
	o := l.invoke(q.event())
	require.False(l.t, o.failed, o.body)
	var a answer
	require.NoError(l.t, json.Unmarshal([]byte(o.body), &a), o.body)
	a.took = o.took
	return a
}

// A request is one of a Function URL or of API Gateway.
type request struct {
	method, path string
	header       http.Header
	body         string
	base64       bool
	cookies      []string
}

func (q request) event() string {
	headers := map[string]string{"host": "hooks.example"}
	for name, values := range q.header {
		headers[strings.ToLower(name)] = strings.Join(values, ",")
	}
	b, err := json.Marshal(map[string]any{
		"version": "2.0", "rawPath": q.path, "rawQueryString": "", "headers": headers, "cookies": q.cookies, "body": q.body, "isBase64Encoded": q.base64,
		"requestContext": map[string]any{"domainName": "hooks.example", "stage": "$default", "http": map[string]any{"method": q.method, "path": q.path, "sourceIp": "203.0.113.7"}},
	})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// sample is an event of the library's own test data.
func sample(t *testing.T, name string) string {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-lambda-go").Output()
	require.NoError(t, err)
	b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "events", "testdata", name))
	require.NoError(t, err)
	return string(b)
}

// sessionToken is what the extension for secrets asks of who calls it.
const sessionToken = "session-token"

// A keeper stands for the AWS Parameters and Secrets Lambda Extension.
type keeper struct {
	mu     sync.Mutex
	values map[string]string
	asked  map[string]int
	wrong  int           // calls without the token
	slow   chan struct{} // while it is open no call is answered
	port   string
}

func newKeeper(t *testing.T, values map[string]string) *keeper {
	t.Helper()
	k := &keeper{values: values, asked: map[string]int{}}
	server := httptest.NewServer(http.HandlerFunc(k.get))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	_, port, err := net.SplitHostPort(strings.TrimPrefix(server.URL, "http://"))
	require.NoError(t, err)
	k.port = port
	return k
}

func (k *keeper) get(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	slow := k.slow
	k.mu.Unlock()
	if slow != nil {
		select {
		case <-slow:
		case <-r.Context().Done():
			return
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.Header.Get("X-Aws-Parameters-Secrets-Token") != sessionToken || r.URL.Path != "/secretsmanager/get" {
		k.wrong++
		http.Error(w, "not authorized", http.StatusUnauthorized)
		return
	}
	id := r.URL.Query().Get("secretId")
	k.asked[id]++
	switch value, ok := k.values[strings.TrimPrefix(id, "hotswap/")]; {
	case ok && strings.HasPrefix(id, "hotswap/"):
		_ = json.NewEncoder(w).Encode(map[string]any{"ARN": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:" + id + "-AbCdEf", "Name": id, "SecretString": value, "VersionStages": []string{"AWSCURRENT"}})
	case strings.HasSuffix(id, "-previous"): // the policy names only those that exist
		http.Error(w, `{"__type":"AccessDeniedException","Message":"is not authorized to perform: secretsmanager:GetSecretValue on resource: `+id+`"}`, http.StatusBadRequest)
	default:
		http.Error(w, "an unexpected error occurred while executing request: ResourceNotFoundException: Secrets Manager can't find the specified secret.", http.StatusBadRequest)
	}
}

func (k *keeper) set(name, value string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.values[name] = value
}

func (k *keeper) times(name string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.asked["hotswap/"+name]
}
