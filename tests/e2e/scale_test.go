package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/functions"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/forge/builtin"
)

// TestFourReplicasOfEveryFunctionDoNothingTwice lets four processes of each function work on
// one database, kills some of them, and delivers every webhook more than once.
func TestFourReplicasOfEveryFunctionDoNothingTwice(t *testing.T) {
	const deployments, replicas = 10, 4
	w := newFolder(t)
	w.patience = 90 * time.Second
	w.with = []string{"--function-connections", "100"}
	w.startServe()
	w.clone()
	w.node("prod-1")
	for _, f := range functions.Specs() {
		w.data(0, "function", "scale", f.Name, strconv.Itoa(replicas))
	}
	before := w.processes()
	require.Len(t, before, replicas*len(functions.Specs()))

	a := w.artifact("1.4.2")
	for i := range deployments {
		name := fmt.Sprintf("shop-%d", i)
		w.write("clone/deployments/"+name+".yaml", strings.Replace(a.intent(), "metadata: {name: checkout}", "metadata: {name: "+name+"}", 1))
	}
	w.git("add", "-A")
	w.git("commit", "-q", "-m", "ten at once")
	w.git("push", "-q", "origin", "HEAD:main")
	body, err := forge.NewPushBody(builtin.RepositoryID("acme/deploy"), forge.Push{Repository: "acme/deploy", Ref: "refs/heads/main", After: w.git("rev-parse", "HEAD")})
	require.NoError(t, err)
	for i := range 6 { // the forge sends it again, and again
		require.Equal(t, 202, w.post(fmt.Sprintf("again-%d", i/3), w.secret(), string(body)))
	}
	for i, pid := range before { // every third dies, at whatever it was doing
		if i%3 == 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	for i := range deployments {
		w.promotion(fmt.Sprintf("shop-%d-1/production/promote-1", i), "succeeded")
	}
	for _, query := range []string{
		"SELECT count(*)::text FROM releases", "SELECT count(*)::text FROM promotions", "SELECT count(*)::text FROM audit WHERE action = 'release.created'",
		"SELECT count(*)::text FROM audit WHERE action = 'promotion.succeeded'", "SELECT count(*)::text FROM wanted",
	} {
		require.Equal(t, strconv.Itoa(deployments), w.sql(query), query)
	}
	w.verified()
}

// processes are those of the functions, by their ids.
func (w *world) processes() (pids []int) {
	w.t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(w.t, err)
	for _, e := range entries {
		cmdline, err := os.ReadFile(e)
		if err != nil || !strings.HasPrefix(string(cmdline), built.hotswap+"\x00function\x00") {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(filepath.Dir(e), "stat"))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(w.serve.cmd.Process.Pid) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(e)))
			require.NoError(w.t, err)
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// formerVersion is a commit of the version before this one's schema.
const formerVersion = "fa41667"

// TestTheNextVersionTakesOverDuringARollout starts this version beside the former one, on
// its database and in the middle of a rollout, lets both work, and ends the former.
func TestTheNextVersionTakesOverDuringARollout(t *testing.T) {
	former := buildFormer(t)
	w := newFolder(t)
	w.patience = time.Minute
	next := built.hotswap
	w.program = former
	w.startServe()
	w.clone()
	_, address := w.node("prod-1")
	for i := range 3 {
		w.node(fmt.Sprintf("prod-%d", i+2))
	}
	w.write("clone/pipelines/one.yaml", `apiVersion: hotswap.dev/v1
kind: Pipeline
metadata: {name: one}
spec:
  stages:
    - {name: production, environment: production, strategy: {type: rolling, maxUnavailable: 25%, stabilization: quick, deadline: 60s}}
`)
	w.write("clone/analyses/quick.yaml", quick)
	w.push(w.artifact("1.4.2").intent())
	w.promotion("checkout-1/production/promote-1", "succeeded")
	load := w.spawn("load", "demo-load", "http://"+address+"/", "--rate", "50", "--workers", "2", "--progress", w.path("load.json"))
	w.push(w.artifact("1.5.0").intent())
	w.eventually("the rollout is in its second wave", func() bool {
		return strings.Contains(w.data(0, "status"), "wave 2 of 4")
	})

	w.program = next
	url, serve := w.url, w.serve
	w.url = ""
	w.startServe() // brings the schema up to date beside the former version, which goes on
	require.NotEqual(t, url, w.url)
	w.eventually("the rollout is in its third wave", func() bool {
		return strings.Contains(w.data(0, "status"), "wave 3 of 4")
	})
	select {
	case err := <-serve.done:
		require.Fail(t, "the former version ended", "%v", err)
	default:
	}
	serve.stop(syscall.SIGTERM)
	w.serve.stop(syscall.SIGTERM)
	w.url = url // where the nodes ask
	w.startServe()
	w.promotion("checkout-2/production/promote-1", "succeeded")
	require.Equal(t, "1.5.0", answers(address))
	load.stop(syscall.SIGTERM)
	var counted struct {
		Requests, Failed int64
		FirstError       string
	}
	raw, err := os.ReadFile(w.path("load.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &counted))
	require.Zero(t, counted.Failed, counted.FirstError)
	require.Greater(t, counted.Requests, int64(100))
	w.verified()
}

// quick is a stabilisation of seconds.
const quick = `apiVersion: hotswap.dev/v1
kind: Analysis
metadata: {name: quick}
spec:
  stabilization: {interval: 1s, checks: 2, minimum: 2s, maximum: 30s}
`

// buildFormer builds the former version from the history of this repository.
func buildFormer(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	archive := exec.Command("sh", "-c", "git archive "+formerVersion+" | tar -x -C "+dir)
	archive.Dir = root
	if out, err := archive.CombinedOutput(); err != nil || len(out) > 0 {
		t.Skipf("the history of this checkout does not go back to %s: %s", formerVersion, out)
	}
	out := filepath.Join(dir, "hotswap-former")
	cmd := exec.Command("go", "build", "-trimpath", "-o", out, "./cmd/hotswap")
	cmd.Dir = dir
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", text)
	return out
}
