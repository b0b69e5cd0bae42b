package platform_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/platform"
	"hotswap.dev/hotswap/pkg/store"
)

func TestAFunctionStartsWhenItIsCalledAndEndsWhenItIsIdle(t *testing.T) {
	f := newFaas(t)
	require.Zero(t, f.functions.Running(), "nothing runs that nobody called")
	first := f.do(http.MethodGet, "/function/own/pid", "")
	require.Equal(t, http.StatusOK, first.status)
	require.Equal(t, first.body, f.do(http.MethodGet, "/function/own/pid", "").body, "the process stays")
	require.Equal(t, 1, f.functions.Running())

	f.clock.add(29 * time.Second)
	f.functions.Tick()
	require.Equal(t, 1, f.functions.Running())
	require.Eventually(t, func() bool { // a call is over for the platform a moment after its answer was read, by the clock of then
		f.clock.add(time.Second)
		f.functions.Tick()
		return f.functions.Running() == 0
	}, 5*time.Second, time.Millisecond)
	pid, err := strconv.Atoi(first.body)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }, 10*time.Second, 10*time.Millisecond, "its process ends")
	require.NotEqual(t, first.body, f.do(http.MethodGet, "/function/own/pid", "").body)
}

func TestACallUnderWayKeepsItsProcessAlthoughNothingElseCalls(t *testing.T) {
	f := newFaas(t)
	f.do(http.MethodGet, "/function/own/pid", "")
	ended := make(chan answer, 1)
	go func() { a, _ := f.try(context.Background(), http.MethodGet, "/function/own/slow/1s", ""); ended <- a }()
	f.sleeps("own")
	f.clock.add(time.Hour)
	f.functions.Tick()
	require.Equal(t, "slept", (<-ended).body)
}

func TestManyCallsAtOnceStartOneProcess(t *testing.T) {
	f := newFaas(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	pids := map[string]int{}
	for range 32 {
		wg.Go(func() {
			a, err := f.try(context.Background(), http.MethodGet, "/function/own/pid", "")
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				pids[a.body]++
			}
		})
	}
	wg.Wait()
	require.Len(t, pids, 1)
	for _, n := range pids {
		require.Equal(t, 32, n)
	}
}

func TestACallPassesThroughAsItWasMade(t *testing.T) {
	f := newFaas(t)
	a := f.do(http.MethodPut, "/function/own/a%2Fb/c?x=1&y=%20", "12345", "X-Call-Id", "abc-1", "Authorization", "Bearer t", "X-Forwarded-For", "6.6.6.6")
	require.Equal(t, "own PUT /a%2Fb/c?x=1&y=%20 5", a.body)
	require.Equal(t, "abc-1", a.header.Get("X-Call-Id"))
	require.Equal(t, []string{"abc-1"}, a.header.Values("X-Call-Id"))
	require.Equal(t, "abc-1", a.header.Get("X-Seen-Call-Id"))
	require.Equal(t, "Bearer t", a.header.Get("X-Seen-Authorization"), "a public function asks its callers itself")
	require.Equal(t, "127.0.0.1", a.header.Get("X-Seen-Forwarded-For"), "what a caller says of itself is not passed on")
	require.NotEmpty(t, a.header.Get("X-Start-Time"))
	require.Empty(t, a.header.Get("X-OpenFaaS-Internal"))

	require.Equal(t, "unclean /a//b/../c", f.do(http.MethodGet, "/function/own/a//b/../c", "").body, "a path is the function's to understand")
	made := f.do(http.MethodGet, "/function/own", "", "X-Call-Id", "no id\t")
	require.Equal(t, "own GET / 0", made.body)
	require.Regexp(t, "^[0-9a-f]{32}$", made.header.Get("X-Call-Id"))
	require.Equal(t, made.header.Get("X-Call-Id"), made.header.Get("X-Seen-Call-Id"))
	require.Equal(t, "own GET /x 0", f.do(http.MethodGet, "/function/own.openfaas-fn/x", "").body)
	require.Equal(t, "own POST / 8388608", f.do(http.MethodPost, "/function/own/", strings.Repeat("x", 8<<20)).body, "large bodies are streamed")
	require.Equal(t, http.StatusTeapot, f.do(http.MethodGet, "/function/own/status/418", "").status)
	require.Equal(t, http.StatusFound, f.do(http.MethodGet, "/function/own/status/302", "").status, "redirects are the caller's")
}

func TestAStreamIsSentAsItIsWritten(t *testing.T) {
	f := newFaas(t)
	for _, accept := range []string{"text/event-stream", "*/*"} {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.server.URL+"/function/own/stream", nil)
		require.NoError(t, err)
		r.Header.Set("Accept", accept)
		got, err := f.server.Client().Do(r)
		require.NoError(t, err)
		lines := bufio.NewScanner(got.Body)
		for i := range 3 {
			require.True(t, lines.Scan(), "a line comes although the function goes on for ever")
			require.Equal(t, fmt.Sprintf("line %d", i), lines.Text())
		}
		cancel()
		got.Body.Close()
	}
}

func TestAProcessThatEndsDuringACallIsAnAnswerAndTheNextCallStartsAnother(t *testing.T) {
	f := newFaas(t)
	first := f.do(http.MethodGet, "/function/own/pid", "").body
	f.clock.add(11 * time.Second) // it has lived well
	a := f.do(http.MethodPost, "/function/own/crash", "x")
	require.Equal(t, http.StatusBadGateway, a.status)
	require.Equal(t, "gateway", a.header.Get("X-OpenFaaS-Internal"))
	require.NotEqual(t, first, f.do(http.MethodGet, "/function/own/pid", "").body)
}

func TestAKilledProcessIsReplacedWithoutAFailedCall(t *testing.T) {
	f := newFaas(t)
	for range 3 {
		pid, err := strconv.Atoi(f.do(http.MethodGet, "/function/own/pid", "").body)
		require.NoError(t, err)
		f.clock.add(11 * time.Second)
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		require.Eventually(t, func() bool { return f.functions.Running() == 0 }, 10*time.Second, time.Millisecond)
		require.Equal(t, http.StatusOK, f.do(http.MethodPost, "/function/own/", "x").status)
	}
}

func TestAFunctionThatDoesNotStartIsTriedLaterAndLater(t *testing.T) {
	f := newFaas(t)
	f.image("broken")
	_, err := f.deploy(types.FunctionDeployment{Service: "broken", Image: "broken", EnvVars: map[string]string{"FAILS_TO_START": "1"}})
	require.ErrorContains(t, err, "exit status 7", "a deployment that does not start is refused, and says why")
	require.Equal(t, http.StatusNotFound, f.do(http.MethodGet, "/function/broken", "", basic(faasPassword)...).status)

	for i := range 3 { // ends three times within moments of its start
		require.Equal(t, http.StatusBadGateway, f.do(http.MethodPost, "/function/own/crash", "").status, "crash %d", i)
		require.Eventually(t, func() bool { return f.functions.Running() == 0 }, 5*time.Second, time.Millisecond)
		f.clock.add(199 * time.Millisecond << i)
		a := f.do(http.MethodGet, "/function/own/pid", "")
		require.Equal(t, http.StatusServiceUnavailable, a.status)
		require.NotEmpty(t, a.header.Get("Retry-After"))
		f.clock.add(time.Second)
	}
	require.Equal(t, http.StatusOK, f.do(http.MethodGet, "/function/own/pid", "").status)
}

func TestADeploymentReplacesTheFormerVersionWithoutAFailedCall(t *testing.T) {
	f := newFaas(t)
	f.image("f:1")
	_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f:1", EnvVars: map[string]string{"VERSION": "v0"}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan string, 1)
	var calls int
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			a, err := f.try(context.Background(), http.MethodPost, "/function/f/x", "body", basic(faasPassword)...)
			calls++
			if err != nil || a.status != http.StatusOK {
				select {
				case failed <- fmt.Sprintf("%v %d %s", err, a.status, a.body):
				default:
				}
			}
		}
	}()
	for i := range 5 {
		_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f:1", EnvVars: map[string]string{"VERSION": fmt.Sprintf("v%d", i+1)}})
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("v%d GET /y 0", i+1), f.do(http.MethodGet, "/function/f/y", "", basic(faasPassword)...).body, "who was told that it is deployed reaches it")
	}
	cancel()
	<-done
	select {
	case why := <-failed:
		require.Fail(t, "a call failed", why)
	default:
	}
	require.Greater(t, calls, 5)
}

func TestWhatIsDeployedIsThereAfterARestartAndStartsWhenItIsCalled(t *testing.T) {
	f := newFaas(t)
	f.image("f")
	_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f", EnvVars: map[string]string{"VERSION": "kept"}, Labels: &map[string]string{platform.LabelMax: "2"}})
	require.NoError(t, err)
	f.close()
	f.open(20)
	require.Contains(t, f.functions.Names(), "f")
	require.Zero(t, f.functions.Running())
	require.Equal(t, "kept GET / 0", f.do(http.MethodGet, "/function/f", "", basic(faasPassword)...).body)
	require.NoError(t, f.sdk(faasPassword).DeleteFunction(t.Context(), "f", ""))
	f.close()
	f.open(20)
	require.NotContains(t, f.functions.Names(), "f")
}

func TestScalingStartsAndStopsProcesses(t *testing.T) {
	f := newFaas(t)
	f.image("f")
	_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f", Labels: &map[string]string{platform.LabelMax: "3"}})
	require.NoError(t, err)
	c := f.sdk(faasPassword)
	require.NoError(t, c.ScaleFunction(t.Context(), "f", "", 3))
	status, err := c.GetFunction(t.Context(), "f", "")
	require.NoError(t, err)
	require.EqualValues(t, 3, status.AvailableReplicas)
	require.ErrorContains(t, c.ScaleFunction(t.Context(), "f", "", 4), "400")
	require.ErrorContains(t, c.ScaleFunction(t.Context(), "none", "", 1), "not found")

	pids := map[string]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if a, err := f.try(context.Background(), http.MethodGet, "/function/f/slow/300ms", "", basic(faasPassword)...); err != nil || a.status != 200 {
				t.Errorf("%v %v", a, err)
			}
		})
	}
	f.sleeps("f")
	for range 3 {
		a := f.do(http.MethodGet, "/function/f/pid", "", basic(faasPassword)...)
		mu.Lock()
		pids[a.body] = true
		mu.Unlock()
	}
	wg.Wait()
	require.NotEmpty(t, pids)
	require.NoError(t, c.ScaleFunction(t.Context(), "f", "", 0))
	require.Zero(t, f.functions.Running())
	require.Equal(t, http.StatusOK, f.do(http.MethodGet, "/function/f/pid", "", basic(faasPassword)...).status, "the next call starts one")
}

func TestMoreCallsThanAFunctionTakesAreAskedToComeAgain(t *testing.T) {
	f := newFaas(t)
	f.image("f")
	_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f", EnvVars: map[string]string{"max_inflight": "1"}})
	require.NoError(t, err)
	ended := make(chan answer, 1)
	go func() {
		a, _ := f.try(context.Background(), http.MethodGet, "/function/f/slow/2s", "", basic(faasPassword)...)
		ended <- a
	}()
	f.sleeps("f")
	a := f.do(http.MethodGet, "/function/f/pid", "", basic(faasPassword)...)
	require.Equal(t, http.StatusTooManyRequests, a.status)
	require.NotEmpty(t, a.header.Get("Retry-After"))
	require.Equal(t, "slept", (<-ended).body)
	require.Equal(t, http.StatusOK, f.do(http.MethodGet, "/function/f/pid", "", basic(faasPassword)...).status)
}

func TestTheConnectionsToTheDatabaseAreABudget(t *testing.T) {
	f := newFaas(t) // 20: greedy takes 19, own 2
	require.Equal(t, http.StatusOK, f.do(http.MethodGet, "/function/greedy/pid", "").status)
	a := f.do(http.MethodGet, "/function/own/pid", "")
	require.Equal(t, http.StatusTooManyRequests, a.status)
	require.Equal(t, "1", a.header.Get("Retry-After"))
	require.NoError(t, f.sdk(faasPassword).ScaleFunction(t.Context(), "greedy", "", 0))
	require.Eventually(t, func() bool { return f.do(http.MethodGet, "/function/own/pid", "").status == http.StatusOK }, 10*time.Second, 10*time.Millisecond, "what a process held comes back")
}

func TestAFunctionGetsExactlyTheSecretsThatItNamesAndThoseThatChange(t *testing.T) {
	f := newFaas(t)
	require.Equal(t, "0700 hotswap-database-url=dsn-1", f.do(http.MethodGet, "/function/own/secrets", "").body, "an optional one that is not there is left out")
	f.mu.Lock()
	f.secrets = map[string]string{"hotswap-database-url": "dsn-2", "hotswap-optional": "o", "hotswap-webhook": "not named"}
	f.mu.Unlock()
	f.clock.add(5 * time.Second)
	f.functions.Tick()
	require.Equal(t, "0700 hotswap-database-url=dsn-2 hotswap-optional=o", f.do(http.MethodGet, "/function/own/secrets", "").body, "without a restart")

	c := f.sdk(faasPassword)
	f.image("f")
	_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f", Secrets: []string{"token"}})
	require.ErrorContains(t, err, "token", "a secret that is not there")
	status, err := c.CreateSecret(t.Context(), types.Secret{Name: "token", Value: "one"})
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, status)
	_, err = f.deploy(types.FunctionDeployment{Service: "f", Image: "f", Secrets: []string{"token"}})
	require.NoError(t, err)
	_, err = c.UpdateSecret(t.Context(), types.Secret{Name: "token", RawValue: []byte("two")})
	require.NoError(t, err)
	require.Equal(t, "0700 token=two", f.do(http.MethodGet, "/function/f/secrets", "", basic(faasPassword)...).body)
	for _, name := range []string{"hotswap-database-url", "../x", "", "UPPER"} {
		_, err := c.CreateSecret(t.Context(), types.Secret{Name: name, Value: "x"})
		require.Error(t, err, name)
		_, err = f.deploy(types.FunctionDeployment{Service: "g", Image: "f", Secrets: []string{name}})
		require.Error(t, err, "a function of a user gets none of the platform's: %s", name)
	}
	list, err := c.GetSecrets(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, []types.Secret{{Name: "token", Namespace: platform.Namespace}}, list, "names, never values, and not the platform's")
	require.ErrorContains(t, c.DeleteSecret(t.Context(), "token", ""), "uses secret")
	require.NoError(t, c.DeleteFunction(t.Context(), "f", ""))
	require.NoError(t, c.DeleteSecret(t.Context(), "token", ""))
}

func TestAProcessGetsNothingOfOurEnvironmentThatWasNotMeantForIt(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "of the person who started us")
	f := newFaas(t)
	env := f.do(http.MethodGet, "/function/own/env", "").body
	require.NotContains(t, env, "AWS_SECRET_ACCESS_KEY")
	require.Contains(t, env, "CREDENTIALS_DIRECTORY=")
	require.Contains(t, env, "LISTEN_FDS=1")
}

func TestEveryRouteBelowSystemNeedsThePasswordAndAnAction(t *testing.T) {
	f := newFaas(t)
	routes := map[string]string{
		"GET /system/functions": "function.read", "POST /system/functions": "function.deploy", "PUT /system/functions": "function.deploy",
		"DELETE /system/functions": "function.delete", "GET /system/function/own": "function.read", "POST /system/scale-function/own": "function.scale",
		"GET /system/secrets": "function.read", "POST /system/secrets": "function.secret", "PUT /system/secrets": "function.secret", "DELETE /system/secrets": "function.secret",
		"GET /system/namespaces": "function.read", "GET /system/namespace/openfaas-fn": "function.read", "GET /system/info": "function.read", "GET /system/logs?name=own": "function.read",
	}
	for route, action := range routes {
		method, path, _ := strings.Cut(route, " ")
		for _, header := range [][]string{nil, basic("wrong"), basic(""), {"Authorization", "Bearer " + faasPassword}} {
			a := f.do(method, path, "{}", header...)
			require.Equal(t, http.StatusUnauthorized, a.status, route)
			require.Contains(t, a.header.Get("WWW-Authenticate"), "Basic")
		}
		f.denied[action] = true
		require.Equal(t, http.StatusForbidden, f.do(method, path, "{}", basic(faasPassword)...).status, route)
		f.denied = map[string]bool{}
	}
	require.Equal(t, http.StatusNotFound, f.do(http.MethodGet, "/system/anything", "", basic(faasPassword)...).status)
	require.Equal(t, "ok\n", f.do(http.MethodGet, "/healthz", "").body, "that the gateway lives is everybody's to know")
	require.Equal(t, "git /git/acme/deploy.git/info/refs", f.do(http.MethodGet, "/git/acme/deploy.git/info/refs", "").body)
}

func TestAFunctionThatIsNotPublicIsCalledWithThePasswordWhichItDoesNotSee(t *testing.T) {
	f := newFaas(t)
	f.image("f")
	for _, public := range []bool{false, true} {
		_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f", Annotations: &map[string]string{platform.AnnotationPublic: strconv.FormatBool(public)}})
		require.NoError(t, err)
		a := f.do(http.MethodGet, "/function/f", "")
		require.Equal(t, map[bool]int{false: http.StatusUnauthorized, true: http.StatusOK}[public], a.status)
	}
	_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f"})
	require.NoError(t, err)
	a := f.do(http.MethodGet, "/function/f", "", basic(faasPassword)...)
	require.Equal(t, http.StatusOK, a.status)
	require.Empty(t, a.header.Get("X-Seen-Authorization"))
	f.denied["function.call"] = true
	require.Equal(t, http.StatusForbidden, f.do(http.MethodGet, "/function/f", "", basic(faasPassword)...).status)
}

func TestTheClientOfOpenFaaSFindsWhatItKnows(t *testing.T) {
	f := newFaas(t)
	c := f.sdk(faasPassword)
	info, err := c.GetInfo(t.Context())
	require.NoError(t, err)
	require.Equal(t, "hotswap", info.Provider.Provider)
	require.NotEmpty(t, info.Version.Release)
	namespaces, err := c.GetNamespaces(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"openfaas-fn"}, namespaces)
	ns, err := c.GetNamespace(t.Context(), "openfaas-fn")
	require.NoError(t, err)
	require.Equal(t, "openfaas-fn", ns.Name)
	f.image("f:1.0")
	code, err := c.Update(t.Context(), types.FunctionDeployment{Service: "f", Image: "f:1.0"})
	require.Error(t, err)
	require.Equal(t, http.StatusNotFound, code, "a client deploys what it could not update")
	limits := &types.FunctionResources{Memory: "64Mi", CPU: "100m"}
	code, err = c.Deploy(t.Context(), types.FunctionDeployment{Service: "f", Image: "f:1.0", Limits: limits, Labels: &map[string]string{"a": "b"}})
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, code)
	got, err := c.GetFunction(t.Context(), "f", "")
	require.NoError(t, err)
	require.Equal(t, "f:1.0", got.Image)
	require.Equal(t, limits, got.Limits)
	require.EqualValues(t, 1, got.AvailableReplicas)
	all, err := c.GetFunctions(t.Context(), "openfaas-fn")
	require.NoError(t, err)
	require.Len(t, all, 3)
	_, err = c.GetFunctions(t.Context(), "other")
	require.Error(t, err)

	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "", strings.NewReader("ping"))
	require.NoError(t, err)
	r.SetBasicAuth("admin", faasPassword)
	res, err := c.InvokeFunction("f", "", false, false, r)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	res.Body.Close()
	logs, err := c.GetLogs(t.Context(), "f", "", false, 5, nil)
	require.NoError(t, err)
	var lines []string
	for l := range logs {
		lines = append(lines, l.Text)
	}
	require.Equal(t, []string{"called /"}, lines)
	_, err = c.GetLogs(t.Context(), "none", "", false, 5, nil)
	require.ErrorContains(t, err, "not found")
	require.ErrorContains(t, c.DeleteFunction(t.Context(), "none", ""), "not found")
	_, err = c.GetFunction(t.Context(), "none", "")
	require.Error(t, err)
}

func TestOurOwnFunctionsAreNobodysToChange(t *testing.T) {
	f := newFaas(t)
	f.image("hotswap")
	c := f.sdk(faasPassword)
	code, err := c.Deploy(t.Context(), types.FunctionDeployment{Service: "own", Image: "hotswap"})
	require.Equal(t, http.StatusConflict, code)
	require.Error(t, err)
	require.ErrorContains(t, c.DeleteFunction(t.Context(), "own", ""), "409")
}

func TestADeploymentThatIsNotOneIsRefusedWithAReason(t *testing.T) {
	f := newFaas(t)
	f.image("f")
	for name, d := range map[string]types.FunctionDeployment{
		"no DNS label":          {Service: "Bad_Name", Image: "f"},
		"the only namespace":    {Service: "g", Image: "f", Namespace: "other"},
		"is not registered":     {Service: "g", Image: "ghcr.io/openfaas/figlet:latest"},
		"not NAME or NAME:TAG":  {Service: "g", Image: "../../etc/passwd"},
		"watchdog":              {Service: "g", Image: "f", EnvProcess: "cat"},
		"environment variable":  {Service: "g", Image: "f", EnvVars: map[string]string{"A=B": "c"}},
		"scale.max":             {Service: "g", Image: "f", Labels: &map[string]string{platform.LabelMax: "1000"}},
		"zero-duration":         {Service: "g", Image: "f", Labels: &map[string]string{platform.LabelIdle: "never"}},
		"database-connections":  {Service: "g", Image: "f", Annotations: &map[string]string{platform.AnnotationConnections: "-1"}},
		"longer than nothing":   {Service: "g", Image: "f", EnvVars: map[string]string{"write_timeout": "0s"}},
		"hotswap.dev/public":    {Service: "g", Image: "f", Annotations: &map[string]string{platform.AnnotationPublic: "perhaps"}},
		"lower-case letters, d": {Service: "g", Image: "f", Secrets: []string{"../../secrets/audit"}},
	} {
		code, err := f.deploy(d)
		require.Equal(t, http.StatusBadRequest, code, name)
		if name != "no DNS label" {
			require.ErrorContains(t, err, name)
		}
	}
	for _, body := range []string{"", "{", "[]", `{"service":1}`} {
		require.Equal(t, http.StatusBadRequest, f.do(http.MethodPost, "/system/functions", body, basic(faasPassword)...).status, body)
	}
	require.Equal(t, http.StatusRequestEntityTooLarge, f.do(http.MethodPost, "/system/functions", strings.Repeat(" ", 300<<10), basic(faasPassword)...).status)
}

func TestAnAsynchronousCallIsKeptBeforeItIsAnsweredAndOnlyForWhoMayCall(t *testing.T) {
	f := newFaas(t)
	require.Equal(t, http.StatusNotFound, f.do(http.MethodPost, "/async-function/none", "", basic(faasPassword)...).status, "an unknown function is not found at once")
	require.Equal(t, http.StatusUnauthorized, f.do(http.MethodPost, "/async-function/own", "x").status, "who may not call fills nothing")
	require.Empty(t, f.calls.taken)
	a := f.do(http.MethodPost, "/async-function/own/a/b?x=1", "body", append(basic(faasPassword), "X-Call-Id", "id-1", "X-Callback-Url", "https://example.com/done", "Content-Type", "text/plain")...)
	require.Equal(t, http.StatusAccepted, a.status)
	require.Equal(t, "id-1", a.header.Get("X-Call-Id"))
	require.Len(t, f.calls.taken, 1)
	got := f.calls.taken[0]
	require.Equal(t, "own", got.Function)
	require.Equal(t, "/a/b", got.Request.Path)
	require.Equal(t, "x=1", got.Request.Query)
	require.Equal(t, "body", string(got.Body))
	require.Equal(t, "https://example.com/done", got.Callback)
	require.Equal(t, "text/plain", got.Request.Header.Get("Content-Type"))
	require.Empty(t, got.Request.Header.Get("Authorization"), "the password is not kept")
	require.Empty(t, got.Request.Header.Get("X-Callback-Url"))

	for _, callback := range []string{"http://127.0.0.1/x", "http://169.254.169.254/latest", "http://[::1]/", "http://10.0.0.1/", "http://[::ffff:10.0.0.1]/", "ftp://example.com", "http://user@example.com", "http://100.64.0.1", "http://[64:ff9b::7f00:1]/", "nonsense"} {
		require.Equal(t, http.StatusBadRequest, f.do(http.MethodPost, "/async-function/own", "", append(basic(faasPassword), "X-Callback-Url", callback)...).status, callback)
	}
	require.Equal(t, http.StatusRequestEntityTooLarge, f.do(http.MethodPost, "/async-function/own", strings.Repeat("x", 5<<20+1), basic(faasPassword)...).status)
	f.calls.err = store.ErrConflict
	require.Equal(t, http.StatusConflict, f.do(http.MethodPost, "/async-function/own", "", basic(faasPassword)...).status)
	f.calls.err = errors.New("database is away")
	a = f.do(http.MethodPost, "/async-function/own", "", basic(faasPassword)...)
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.NotContains(t, a.body, "database")
}

func TestAHintOfOneOfOurFunctionsIsTakenWithoutARow(t *testing.T) {
	f := newFaas(t)
	a := f.do(http.MethodPost, "/async-function/own", "", "HotSwap-Hint", "look")
	require.Equal(t, http.StatusAccepted, a.status)
	require.Equal(t, "own", <-f.hinted)
	require.Empty(t, f.calls.taken)
	require.Equal(t, http.StatusBadRequest, f.do(http.MethodPost, "/async-function/own", "body", "HotSwap-Hint", "look").status)
	require.Equal(t, http.StatusBadRequest, f.do(http.MethodPost, "/async-function/own/path", "", "HotSwap-Hint", "look").status)
	f.signed = errors.New("wrong")
	require.Equal(t, http.StatusUnauthorized, f.do(http.MethodPost, "/async-function/own", "", "HotSwap-Hint", "look").status)
	require.Empty(t, f.hinted)
	f.image("f")
	_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f"})
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, f.do(http.MethodPost, "/async-function/f", "", "HotSwap-Hint", "look").status, "functions of users take no hints")
}

func TestACallThatTakesTooLongIsEnded(t *testing.T) {
	f := newFaas(t)
	f.image("f")
	_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f", EnvVars: map[string]string{"write_timeout": "300ms"}})
	require.NoError(t, err)
	a := f.do(http.MethodGet, "/function/f/slow/20s", "", basic(faasPassword)...)
	require.Equal(t, http.StatusGatewayTimeout, a.status)
}

func TestTheEndOfThePlatformEndsItsProcessesAfterTheirCalls(t *testing.T) {
	f := newFaas(t)
	pid, err := strconv.Atoi(f.do(http.MethodGet, "/function/own/pid", "").body)
	require.NoError(t, err)
	ended := make(chan answer, 1)
	go func() {
		a, _ := f.try(context.Background(), http.MethodGet, "/function/own/slow/500ms", "")
		ended <- a
	}()
	f.sleeps("own")
	f.functions.Close()
	require.Equal(t, "slept", (<-ended).body)
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
	require.Equal(t, http.StatusServiceUnavailable, f.do(http.MethodGet, "/function/own/pid", "").status)
}

func TestAnImageIsWhatItWasWhenItWasDeployed(t *testing.T) {
	f := newFaas(t)
	f.image("f")
	_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f", EnvVars: map[string]string{"VERSION": "1"}})
	require.NoError(t, err)
	other := t.TempDir() + "/other"
	require.NoError(t, os.WriteFile(other, []byte("#!/bin/sh\nexit 9\n"), 0o700))
	require.NoError(t, f.functions.AddImage("f", other))
	require.NoError(t, f.sdk(faasPassword).ScaleFunction(t.Context(), "f", "", 0))
	require.Equal(t, "1 GET / 0", f.do(http.MethodGet, "/function/f", "", basic(faasPassword)...).body)
	_, err = f.deploy(types.FunctionDeployment{Service: "f", Image: "f"})
	require.ErrorContains(t, err, "exit status 9")
	require.Equal(t, "1 GET / 0", f.do(http.MethodGet, "/function/f", "", basic(faasPassword)...).body, "what did not start has replaced nothing")
	require.ErrorIs(t, f.functions.AddImage("f", t.TempDir()), platform.ErrInvalid)
}

func TestProgramsThatNothingStandsForAreDeleted(t *testing.T) {
	f := newFaas(t)
	programs := func() (n int) {
		for _, pattern := range []string{"sha256-*", ".new-*"} {
			files, err := filepath.Glob(filepath.Join(f.dir, "functions", "images", pattern))
			require.NoError(t, err)
			n += len(files)
		}
		return n
	}
	script := func(content string) string {
		file := filepath.Join(t.TempDir(), "program")
		require.NoError(t, os.WriteFile(file, []byte(content), 0o700))
		return file
	}
	forget := func(after time.Duration) { require.NoError(t, f.functions.ForgetImages(time.Now().Add(after))) }
	f.image("f")
	_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f"})
	require.NoError(t, err)
	require.NoError(t, f.functions.AddImage("f", script("one")))
	require.NoError(t, f.functions.AddImage("f", script("two")))
	require.NoError(t, f.functions.AddImage("f:old", script("three")))
	require.NoError(t, os.WriteFile(filepath.Join(f.dir, "functions", "images", ".new-1"), nil, 0o600))
	require.Equal(t, 5, programs())
	forget(59 * time.Minute)
	require.Equal(t, 5, programs(), "somebody may be about to name it")

	broken := filepath.Join(f.dir, "functions", "deployments", "broken.json")
	require.NoError(t, os.WriteFile(broken, []byte("{"), 0o600))
	require.ErrorContains(t, f.functions.ForgetImages(time.Now().Add(2*time.Hour)), "broken.json")
	require.Equal(t, 5, programs(), "what it needs is not known")
	require.NoError(t, os.Remove(broken))

	forget(2 * time.Hour)
	require.Equal(t, 3, programs(), "one and .new-1 are gone")
	require.Equal(t, " GET / 0", f.do(http.MethodGet, "/function/f", "", basic(faasPassword)...).body, "what is deployed stays, whatever its image is now")
	require.NoError(t, f.functions.Delete(t.Context(), "f"))
	forget(2 * time.Hour)
	require.Equal(t, 2, programs(), "images that have a name stay")
}

func TestAProgramThatCannotBeRunIsSaidToBe(t *testing.T) {
	for content, why := range map[string]string{
		"no program": "not one for linux/" + runtime.GOARCH, "": "not one for linux/",
		"#!/no/such/interpreter\n": "an interpreter", "#!/tmp\n": "permission denied",
	} {
		f := newFaas(t)
		file := filepath.Join(t.TempDir(), "program")
		require.NoError(t, os.WriteFile(file, []byte(content), 0o700))
		require.NoError(t, f.functions.AddImage("f", file))
		_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f"})
		require.ErrorContains(t, err, "does not start")
		require.ErrorContains(t, err, why, content)
		require.NotContains(t, err.Error(), f.dir, "where our files are is nobody's business")
	}
}
