package platform_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/platform"
)

// ends fails the test when what is done does not end.
func ends(t *testing.T, what func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); what() }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		require.Fail(t, "it does not end")
	}
}

// alive reports whether there is a process of that id.
func alive(pid string) bool {
	n, err := strconv.Atoi(pid)
	return err == nil && !errors.Is(syscall.Kill(n, 0), syscall.ESRCH)
}

// children are the ids of the processes that this one has.
func children(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", os.Getpid()))
	require.NoError(t, err)
	var out []string
	for _, file := range files {
		b, _ := os.ReadFile(file)
		out = append(out, strings.Fields(string(b))...)
	}
	return out
}

func TestDeploymentsOfOneNameAtOnceLeaveOneProcessAndNothingBehind(t *testing.T) {
	f := newFaas(t)
	f.image("f")
	before := len(children(t))
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f", EnvVars: map[string]string{"VERSION": fmt.Sprint(i)}})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, 1, f.functions.Running())
	require.Eventually(t, func() bool { return len(children(t)) == before+1 }, 20*time.Second, 10*time.Millisecond, "the former ones end")
	ends(t, f.functions.Close)
	require.Len(t, children(t), before)
}

func TestTheEndOfThePlatformEndsWhateverStartsOrIsChangedMeanwhile(t *testing.T) {
	for i := range 4 {
		f := newFaas(t)
		f.image("f")
		before := len(children(t))
		_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f", Labels: &map[string]string{platform.LabelMax: "4"}})
		require.NoError(t, err)
		var wg sync.WaitGroup
		for n := range 4 {
			wg.Go(func() { _, _ = f.deploy(types.FunctionDeployment{Service: fmt.Sprintf("f%d", n%3), Image: "f"}) })
			wg.Go(func() { _ = f.functions.Scale(context.Background(), "f", n) })
			wg.Go(func() { _, _ = f.try(context.Background(), http.MethodGet, "/function/own/pid", "") })
			wg.Go(func() { f.functions.Tick() })
		}
		require.Eventually(t, func() bool { return len(children(t)) >= before+i }, 20*time.Second, time.Millisecond)
		ends(t, f.functions.Close)
		wg.Wait()
		require.Len(t, children(t), before, "no process survives the end")
		f.close()
	}
}

func TestACallerWhoLeavesDoesNotEndTheStartThatOthersWaitFor(t *testing.T) {
	f := newFaas(t)
	f.image("f")
	g := newGate(t)
	_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f", EnvVars: map[string]string{"STARTS_BEHIND": g.path}})
	require.NoError(t, err)
	require.NoError(t, f.functions.Scale(t.Context(), "f", 0))
	g.shut()
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := f.try(ctx, http.MethodGet, "/function/f/pid", "", basic(faasPassword)...)
		left <- err
	}()
	open := g.reached()
	leave()
	require.Error(t, <-left)
	started := children(t)
	open()
	a := f.do(http.MethodGet, "/function/f/pid", "", basic(faasPassword)...)
	require.Equal(t, http.StatusOK, a.status)
	require.Contains(t, started, a.body, "it is the process that the first one had started")
}

func TestAVersionThatDoesNotStartChangesNothing(t *testing.T) {
	f := newFaas(t)
	f.image("f")
	require.Equal(t, http.StatusCreated, f.do(http.MethodPost, "/system/secrets", `{"name":"token","value":"one"}`, basic(faasPassword)...).status)
	_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f", Secrets: []string{"token"}})
	require.NoError(t, err)
	_, err = f.deploy(types.FunctionDeployment{Service: "f", Image: "f", EnvVars: map[string]string{"FAILS_TO_START": "1"}})
	require.Error(t, err)
	require.Equal(t, "0700 token=one", f.do(http.MethodGet, "/function/f/secrets", "", basic(faasPassword)...).body, "its secrets are there")
	require.NoError(t, f.functions.Scale(t.Context(), "f", 0))
	_, err = f.deploy(types.FunctionDeployment{Service: "f", Image: "f", EnvVars: map[string]string{"FAILS_TO_START": "1"}})
	require.Error(t, err)
	require.Equal(t, http.StatusOK, f.do(http.MethodGet, "/function/f", "", basic(faasPassword)...).status, "the next call is not put off")
}

func TestADeploymentThatCannotBeKeptIsNotServed(t *testing.T) {
	f := newFaas(t)
	f.image("f")
	before := len(children(t))
	deployments := filepath.Join(f.dir, "functions", "deployments")
	require.NoError(t, os.Rename(deployments, deployments+".away"))
	require.NoError(t, os.WriteFile(deployments, nil, 0o600)) // nothing can be written there, as on a full disk
	_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f"})
	require.ErrorContains(t, err, "500")
	require.NotContains(t, err.Error(), f.dir, "where our files are is nobody's business")
	require.Eventually(t, func() bool { return len(children(t)) == before }, 20*time.Second, 10*time.Millisecond, "its process ends")
	require.NotContains(t, f.functions.Names(), "f")
	require.NoError(t, os.Remove(deployments))
	require.NoError(t, os.Rename(deployments+".away", deployments))
	_, err = f.deploy(types.FunctionDeployment{Service: "f", Image: "f"})
	require.NoError(t, err)

	_, err = f.deploy(types.FunctionDeployment{Service: "large", Image: "f", EnvVars: map[string]string{"X": strings.Repeat("x", 70<<10)}})
	require.ErrorContains(t, err, "400", "what could not be read again after a restart")
}

func TestAStartThatWasUnderWayDuringADeploymentServesNothingAfterIt(t *testing.T) {
	f := newFaas(t)
	f.image("f")
	before, g := len(children(t)), newGate(t)
	_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f", EnvVars: map[string]string{"VERSION": "old", "STARTS_BEHIND": g.path}})
	require.NoError(t, err)
	require.NoError(t, f.functions.Scale(t.Context(), "f", 0))
	g.shut()
	waits := make(chan answer, 1)
	go func() {
		a, _ := f.try(context.Background(), http.MethodGet, "/function/f", "", basic(faasPassword)...)
		waits <- a
	}()
	open := g.reached()
	_, err = f.deploy(types.FunctionDeployment{Service: "f", Image: "f", EnvVars: map[string]string{"VERSION": "new"}})
	require.NoError(t, err)
	open()
	for end := time.Now().Add(20 * time.Second); len(children(t)) != before+1; { // the old one has started, and is ended
		require.Equal(t, "new GET / 0", f.do(http.MethodGet, "/function/f", "", basic(faasPassword)...).body)
		require.True(t, time.Now().Before(end), "the old one goes on")
	}
	require.Equal(t, "new GET / 0", f.do(http.MethodGet, "/function/f", "", basic(faasPassword)...).body)
	require.Equal(t, "new GET / 0", (<-waits).body)
	require.Equal(t, 1, f.functions.Running())
}

func TestWhatAProcessStartedEndsWithIt(t *testing.T) {
	f := newFaas(t)
	grandchild := f.do(http.MethodPost, "/function/own/spawn", "").body
	require.True(t, alive(grandchild))
	f.do(http.MethodPost, "/function/own/crash", "")
	require.Eventually(t, func() bool { return !alive(grandchild) || zombie(grandchild) }, 10*time.Second, 10*time.Millisecond)
}

// zombie reports whether a process has ended and only waits for whoever took it over.
func zombie(pid string) bool {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	return err != nil || bytes.Contains(b, []byte(") Z "))
}

func TestAProcessInheritsItsSocketAndNothingElseThatIsOpen(t *testing.T) {
	f := newFaas(t)
	f.image("f")
	_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f"})
	require.NoError(t, err)
	own := f.do(http.MethodGet, "/function/own/files", "").body
	require.NotContains(t, own, f.dir)
	require.NotContains(t, f.do(http.MethodGet, "/function/f/files", "", basic(faasPassword)...).body, f.dir)
}

func TestTheSecretsOfAProcessAreGoneWhenItHasEnded(t *testing.T) {
	f := newFaas(t)
	kept := func() []string {
		files, err := filepath.Glob(filepath.Join(f.dir, "functions", "run", "*", "credentials*"))
		require.NoError(t, err)
		return files
	}
	f.do(http.MethodGet, "/function/own/pid", "")
	require.Len(t, kept(), 1)
	f.do(http.MethodPost, "/function/own/crash", "")
	require.Eventually(t, func() bool { return len(kept()) == 0 }, 10*time.Second, time.Millisecond)
	f.image("broken")
	_, err := f.deploy(types.FunctionDeployment{Service: "broken", Image: "broken", EnvVars: map[string]string{"FAILS_TO_START": "1"}})
	require.Error(t, err)
	require.Empty(t, kept())
}

func TestWhatAKilledPlatformLeftHalfDoneIsSweptAndTheRestIsThere(t *testing.T) {
	f := newFaas(t)
	f.image("f")
	_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f"})
	require.NoError(t, err)
	f.close()
	dir := filepath.Join(f.dir, "functions")
	write := func(name, content string) string {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
		return filepath.Join(dir, name)
	}
	saved, err := os.ReadFile(filepath.Join(dir, "deployments", "f.json"))
	require.NoError(t, err)
	left := []string{
		write("deployments/.f.json.123", string(saved[:len(saved)/2])), write("secrets/.token.123", "half"),
		write("run/own/credentials-1/hotswap-database-url", "dsn"), write("run/gone/state/x", "of a function that is no more"),
	}
	write("deployments/broken.json", string(saved[:len(saved)/2]))
	write("deployments/other.json", string(saved))
	require.NoError(t, os.Symlink("/etc/hosts", filepath.Join(dir, "deployments", "link.json")))
	state := write("run/f/state/mirror", "kept")
	f.open(20)
	require.Equal(t, []string{"f", "greedy", "own"}, f.functions.Names(), "files that cannot be read, are of others or lead elsewhere deploy nothing")
	for _, file := range left {
		require.NoFileExists(t, file)
	}
	require.FileExists(t, state)
	require.Equal(t, http.StatusOK, f.do(http.MethodGet, "/function/f", "", basic(faasPassword)...).status)
}

func TestOneFolderIsServedByOneProcess(t *testing.T) {
	f := newFaas(t)
	_, err := platform.OpenFunctions(platform.FunctionsOptions{Dir: filepath.Join(f.dir, "functions")})
	require.ErrorIs(t, err, platform.ErrClusterInUse)
	f.close()
	f.open(20)
}

func TestTheGatewaysPasswordReachesNoFunction(t *testing.T) {
	f := newFaas(t)
	require.Empty(t, f.do(http.MethodGet, "/function/own/x", "", basic(faasPassword)...).header.Get("X-Seen-Authorization"), "a public one neither")
	require.NotEmpty(t, f.do(http.MethodGet, "/function/own/x", "", basic("its own")...).header.Get("X-Seen-Authorization"))
}

func TestAPageOfAnotherPlaceDoesNothingWithAPasswordThatABrowserKeeps(t *testing.T) {
	f := newFaas(t)
	f.image("f")
	_, err := f.deploy(types.FunctionDeployment{Service: "f", Image: "f"})
	require.NoError(t, err)
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
		for _, path := range []string{"/system/secrets", "/system/scale-function/f", "/function/f", "/async-function/f"} {
			require.Equal(t, http.StatusForbidden, f.do(http.MethodPost, path, "{}", append(basic(faasPassword), header...)...).status, path)
		}
	}
	require.Empty(t, f.calls.taken)
}

func TestWhatAFunctionAnswersIsNotTakenForThePlatforms(t *testing.T) {
	f := newFaas(t)
	a := f.do(http.MethodGet, "/function/own/pretend", "")
	require.Empty(t, a.header.Get("X-OpenFaaS-Internal"))
	require.Len(t, a.header.Values("X-Start-Time"), 1)
	require.NotEqual(t, "1", a.header.Get("X-Start-Time"))
	require.Len(t, a.header.Values("X-Call-Id"), 1)
}

func TestHeadersOfACallerDoNotPassForThePlatforms(t *testing.T) {
	f := newFaas(t)
	send := func(header string) string {
		c, err := net.Dial("tcp", f.server.Listener.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		_, err = io.WriteString(c, "GET /function/own/headers?a;b=%zz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"+header+"\r\n")
		require.NoError(t, err)
		b, err := io.ReadAll(c)
		require.NoError(t, err)
		return string(b)
	}
	got := send("X-Call-Id: good\r\nX-Call-Id: <bad>\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\nForwarded: for=6.6.6.6\r\n")
	require.Contains(t, got, "X-Call-Id=[good]")
	require.NotContains(t, got, "bad")
	require.NotContains(t, got, "6.6.6.6")
	require.NotContains(t, got, "evil")
	require.Contains(t, got, "/headers?a;b=%zz", "the query is what the caller signed")
	require.Contains(t, send("X-Forwarded-For: 6.6.6.6\r\nConnection: X-Forwarded-For\r\n"), "X-Forwarded-For=[127.0.0.1]")
	require.Contains(t, send("Content-Length: 0\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), " 501 ", "which of two lengths holds is not guessed")
	require.Contains(t, send("X-Big: "+strings.Repeat("x", 200<<10)+"\r\n"), " 431 ")
}

func TestAHintIsRefusedWithoutReadingFromWhoSendsNothing(t *testing.T) {
	f := newFaas(t)
	for _, header := range []string{"Content-Length: 1", "Transfer-Encoding: chunked"} {
		c, err := net.Dial("tcp", f.server.Listener.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(5*time.Second)))
		_, err = io.WriteString(c, "POST /async-function/own HTTP/1.1\r\nHost: h\r\nHotSwap-Hint: look\r\n"+header+"\r\n\r\n")
		require.NoError(t, err)
		b := make([]byte, 20)
		_, err = io.ReadFull(c, b)
		require.NoError(t, err, "who signed nothing holds nothing")
		require.Contains(t, string(b), "400")
	}
}

func TestAnAsynchronousCallKeepsItsPathAsItCame(t *testing.T) {
	f := newFaas(t)
	for _, path := range []string{"", "/", "/a%2Fb", "/%00", "/%ff", "//x", "/a%3Fb"} {
		require.Equal(t, http.StatusAccepted, f.do(http.MethodPost, "/async-function/own"+path, "", basic(faasPassword)...).status, path)
		if path == "" {
			path = "/"
		}
		require.Equal(t, path, f.calls.taken[len(f.calls.taken)-1].Request.Path)
	}
}

func TestAFloodOfLinesIsKeptInBoundsAndTheLastLineIsTold(t *testing.T) {
	f := newFaas(t)
	start := time.Now()
	f.do(http.MethodPost, "/function/own/flood", "")
	lines := func() (n int, last string) {
		all, err := f.sdk(faasPassword).GetLogs(t.Context(), "own", "", false, 0, nil)
		require.NoError(t, err)
		size := 0
		for l := range all {
			n, size, last = n+1, size+len(l.Text), l.Text
		}
		require.LessOrEqual(t, n, 1000)
		require.LessOrEqual(t, size, 256<<10)
		return n, last
	}
	require.Eventually(t, func() bool { n, _ := lines(); return n > 10 }, 20*time.Second, 10*time.Millisecond)
	require.Less(t, time.Since(start), 20*time.Second)
	f.do(http.MethodPost, "/function/own/crash", "")
	require.Eventually(t, func() bool { _, last := lines(); return last == "no end of line" }, 10*time.Second, 10*time.Millisecond)
}

func TestManyCallsAtOnceEndAndLeaveNothing(t *testing.T) {
	f := newFaas(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	gate := make(chan struct{}, 100)
	for range 2000 {
		wg.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			a, err := f.try(ctx, http.MethodPost, "/function/own/x", "body")
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				statuses[a.status]++
			}
		})
	}
	wg.Wait()
	require.Equal(t, map[int]int{http.StatusOK: 2000}, statuses)
	require.Equal(t, 1, f.functions.Running())
	require.Eventually(t, func() bool { f.clock.add(time.Minute); f.functions.Tick(); return f.functions.Running() == 0 }, 10*time.Second, time.Millisecond, "no call is counted that is over")
}

func TestCallersWhoLeaveEndNoProcess(t *testing.T) {
	f := newFaas(t)
	pid := f.do(http.MethodGet, "/function/own/pid", "").body
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*50*time.Microsecond)
			defer cancel()
			_, _ = f.try(ctx, http.MethodGet, "/function/own/slow/5ms", "")
		})
	}
	wg.Wait()
	require.Equal(t, pid, f.do(http.MethodGet, "/function/own/pid", "").body)
}

func TestNoSpecialAddressIsTold(t *testing.T) {
	for _, host := range []string{
		"0.1.2.3", "192.0.0.1", "198.18.0.1", "240.0.0.1", "255.255.255.255", "[::127.0.0.1]", "[64:ff9b:1::a00:1]", "[2001::1]", "[2002:7f00:1::]", "[fec0::1]",
		"[fe80::1]", "[fe80::1%25eth0]", "[fd00::1]", "[ff02::1]", "224.0.0.1", "[::]", "0.0.0.0", "[100::1]",
	} {
		u, err := url.Parse("http://" + host + "/")
		require.NoError(t, err, host)
		require.Error(t, platform.Callbacks{}.Check(u), host)
	}
}
