package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/functions"
)

// lambda is AWS Lambda as a function sees it: a Runtime API for each of its processes, one
// event at a time in each, more processes when all are busy, secrets by the extension, a
// schedule, and an HTTP API in front. It runs the real program as `bootstrap`. Its
// functions share the data folder of the built-in forge, as no Lambda could.
type lambda struct {
	w    *world
	url  string
	mu   sync.Mutex
	idle map[string][]*instance
	all  []*instance

	ticks atomic.Int64 // of the schedule, that were taken
}

// An instance is one process with its Runtime API.
type instance struct {
	next   chan invocation
	server *http.Server
	cmd    *exec.Cmd
	done   chan struct{}
	mu     sync.Mutex
	wait   map[string]chan []byte // answers, by request
}

type invocation struct {
	id       string
	event    []byte
	deadline time.Time
}

// schedule is how often the cron functions are called: Lambda's shortest is a minute, and what
// waits for nothing but the schedule waits as long here in proportion.
const schedule = 5 * time.Second

func (l *lambda) start(w *world) {
	l.w, l.idle = w, map[string][]*instance{}
	listener, err := net.Listen("tcp", freeAddress(w.t))
	require.NoError(w.t, err)
	l.url = "http://" + listener.Addr().String()
	w.functions = l.url
	mux := http.NewServeMux()
	mux.HandleFunc("/function/{name}/{path...}", l.http)
	mux.HandleFunc("/function/{name}", l.http)
	mux.HandleFunc("GET /secretsmanager/get", l.secret)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(listener) }()
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for _, f := range functions.Specs() {
		if f.Cron {
			group.Go(func() { l.cron(ctx, f.Name) })
		}
	}
	w.t.Cleanup(func() {
		cancel()
		_ = s.Close()
		l.stop()
		group.Wait()
	})
}

func (l *lambda) ready() {}

func (l *lambda) calledByCron(t *testing.T) {
	require.Eventually(t, func() bool { return l.ticks.Load() >= 3 }, time.Minute, 100*time.Millisecond)
}

// cron sends what an EventBridge schedule sends.
func (l *lambda) cron(ctx context.Context, name string) {
	t := time.NewTicker(schedule)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if _, err := os.Stat(l.w.path("data", "serve.json")); err != nil {
				continue // nothing is set up yet
			}
			event, _ := json.Marshal(events.EventBridgeEvent{Version: "0", Source: "aws.events", DetailType: "Scheduled Event", Time: time.Now(), Detail: json.RawMessage("{}")})
			if _, err := l.invoke(ctx, name, event); err == nil {
				l.ticks.Add(1)
			}
		case <-ctx.Done():
			return
		}
	}
}

// secret answers as the extension for secrets does.
func (l *lambda) secret(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutPrefix(r.URL.Query().Get("secretId"), "hotswap/hotswap-")
	if r.Header.Get("X-Aws-Parameters-Secrets-Token") != "session" || !ok {
		http.Error(w, "not authorised", http.StatusUnauthorized)
		return
	}
	file := l.w.path("data", "secrets", name)
	if name == "database-url" {
		file = l.w.path("db.url")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		http.Error(w, "ResourceNotFoundException", http.StatusBadRequest)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"SecretString": string(b)})
}

// http is what an HTTP API makes of a request: payload format 2.0.
func (l *lambda) http(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if _, ok := functions.Find(name); !ok {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	q := events.LambdaFunctionURLRequest{Version: "2.0", RawPath: r.URL.EscapedPath(), RawQueryString: r.URL.RawQuery, Headers: map[string]string{}}
	for key, values := range r.Header {
		q.Headers[strings.ToLower(key)] = strings.Join(values, ",")
	}
	q.RequestContext.DomainName, q.RequestContext.HTTP.Method, q.RequestContext.HTTP.SourceIP = r.Host, r.Method, "127.0.0.1"
	q.Body, q.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), true
	event, _ := json.Marshal(q)
	// What was begun goes on although the caller is gone, as it does there.
	raw, err := l.invoke(context.WithoutCancel(r.Context()), name, event)
	if err != nil {
		http.Error(w, `{"message":"Internal Server Error"}`, http.StatusInternalServerError)
		return
	}
	var answer events.LambdaFunctionURLResponse
	if err := json.Unmarshal(raw, &answer); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	for key, value := range answer.Headers {
		w.Header().Set(key, value)
	}
	text := []byte(answer.Body)
	if answer.IsBase64Encoded {
		text, _ = base64.StdEncoding.DecodeString(answer.Body)
	}
	w.WriteHeader(answer.StatusCode)
	_, _ = w.Write(text)
}

// invoke gives the event to a process that is idle, or to a new one.
func (l *lambda) invoke(ctx context.Context, name string, event []byte) ([]byte, error) {
	l.mu.Lock()
	var i *instance
	if n := len(l.idle[name]); n > 0 {
		i, l.idle[name] = l.idle[name][n-1], l.idle[name][:n-1]
	}
	l.mu.Unlock()
	if i == nil {
		var err error
		if i, err = l.launch(name); err != nil {
			return nil, err
		}
	}
	spec, _ := functions.Find(name)
	ctx, cancel := context.WithTimeout(ctx, spec.Timeouts.Write)
	defer cancel()
	answer, err := i.invoke(ctx, event, spec.Timeouts.Write)
	if err != nil {
		i.kill()
		return nil, err
	}
	l.mu.Lock()
	l.idle[name] = append(l.idle[name], i)
	l.mu.Unlock()
	return answer, nil
}

func (l *lambda) launch(name string) (*instance, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	i := &instance{next: make(chan invocation), done: make(chan struct{}), wait: map[string]chan []byte{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", i.give)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", i.take)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", i.take)
	i.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = i.server.Serve(listener) }()
	spec, _ := functions.Find(name)
	i.cmd = exec.Command(built.hotswap, "function", name)
	i.cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "AWS_LAMBDA_RUNTIME_API=" + listener.Addr().String(), "AWS_LAMBDA_FUNCTION_NAME=" + name, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256",
		"AWS_LAMBDA_FUNCTION_VERSION=$LATEST", "AWS_REGION=eu-west-1", "AWS_SESSION_TOKEN=session", "_HANDLER=" + name,
		"PARAMETERS_SECRETS_EXTENSION_HTTP_PORT=" + l.url[strings.LastIndex(l.url, ":")+1:],
		"HOTSWAP_TENANT=acme", "HOTSWAP_REPOSITORY=deploy", "HOTSWAP_DATA=" + l.w.path("data"), "HOTSWAP_URL=" + l.url,
		"HOTSWAP_HINT_URL=" + l.url + "/function/{function}", "HOTSWAP_RECONCILE=1s",
		"exec_timeout=" + spec.Timeouts.Exec.String(), "read_timeout=" + spec.Timeouts.Read.String(), "write_timeout=" + spec.Timeouts.Write.String(),
	}
	log, err := os.OpenFile(l.w.path("lambda-"+name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	i.cmd.Stdout, i.cmd.Stderr = log, log
	if err := i.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = i.cmd.Wait(); close(i.done) }()
	l.mu.Lock()
	l.all = append(l.all, i)
	l.mu.Unlock()
	return i, nil
}

// give hands an event to the process that asks for the next one.
func (i *instance) give(w http.ResponseWriter, r *http.Request) {
	select {
	case v := <-i.next:
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", v.id)
		w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(v.deadline.UnixMilli(), 10))
		w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-west-1:123456789012:function:f")
		_, _ = w.Write(v.event)
	case <-r.Context().Done():
	}
}

func (i *instance) take(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	i.mu.Lock()
	c := i.wait[r.PathValue("id")]
	delete(i.wait, r.PathValue("id"))
	i.mu.Unlock()
	if c != nil {
		c <- body
	}
	w.WriteHeader(http.StatusAccepted)
}

func (i *instance) invoke(ctx context.Context, event []byte, limit time.Duration) ([]byte, error) {
	v := invocation{id: fmt.Sprintf("%p-%d", i, time.Now().UnixNano()), event: event, deadline: time.Now().Add(limit)}
	answer := make(chan []byte, 1)
	i.mu.Lock()
	i.wait[v.id] = answer
	i.mu.Unlock()
	select {
	case i.next <- v:
	case <-i.done:
		return nil, errors.New("the process ended")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case b := <-answer:
		if bytes.Contains(b, []byte(`"errorMessage"`)) {
			return nil, fmt.Errorf("%s", b)
		}
		return b, nil
	case <-i.done:
		return nil, errors.New("the process ended")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (i *instance) kill() {
	_ = i.cmd.Process.Signal(syscall.SIGKILL)
	<-i.done
	_ = i.server.Close()
}

func (l *lambda) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, i := range l.all {
		i.kill()
	}
	if l.w.t.Failed() {
		for _, f := range functions.Specs() {
			text, _ := os.ReadFile(l.w.path("lambda-" + f.Name + ".log"))
			l.w.t.Logf("lambda %s:\n%s", f.Name, text[max(0, len(text)-2000):])
		}
	}
}
