// Package e2e drives the real programs: hotswap, git, PostgreSQL, node agents
// and the sample module, each in a process of its own, as a person would.
package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/tests/pgtest"
)

// built is what TestMain built: the program, and the versions of the sample module.
var built struct {
	dir     string
	hotswap string
}

const root = "../.."

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "hotswap-e2e-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	built.dir, built.hotswap = dir, filepath.Join(dir, "hotswap")
	build(built.hotswap, "", "./cmd/hotswap")
	for _, v := range []string{"1.4.2", "1.5.0"} {
		build(filepath.Join(dir, v, "checkout"), "-X main.version="+v, "./deploy/demo/checkout")
	}
	pgtest.Main(m, store.Migrate)
}

func build(out, ldflags, pkg string) {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", ldflags, "-o", out, pkg)
	cmd.Dir = root
	if text, err := cmd.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build %s: %v\n%s", pkg, err, text))
	}
}

// A world is an installation with its database, repository, keys and modules.
type world struct {
	t     *testing.T
	db    *pgtest.DB
	dir   string
	url   string
	serve *process
	// program is the hotswap that is run: that of this source, when it is empty.
	program string
	// functions is where the functions are, when that is not url.
	functions string
	// with are more arguments of serve.
	with []string
	// patience is how long something that must come may take.
	patience time.Duration
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := newFolder(t)
	w.startServe()
	w.clone()
	return w
}

// newFolder is a world in which nothing runs yet.
func newFolder(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, db: pgtest.New(t), dir: t.TempDir(), patience: 30 * time.Second}
	w.write("db.url", w.db.DSN("hotswap_app"))
	w.write("admin.url", w.db.AdminDSN())
	w.hotswap(0, "module", "keygen", w.path("release"))
	return w
}

func (w *world) path(elements ...string) string {
	return filepath.Join(append([]string{w.dir}, elements...)...)
}

func (w *world) write(name, text string) {
	w.t.Helper()
	require.NoError(w.t, os.MkdirAll(filepath.Dir(w.path(name)), 0o700))
	require.NoError(w.t, os.WriteFile(w.path(name), []byte(text), 0o600))
}

// hotswap runs the program to its end and returns what it printed on standard output.
func (w *world) hotswap(code int, args ...string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, cmp.Or(w.program, built.hotswap), args...)
	cmd.Dir = w.dir
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	err := cmd.Run()
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		require.NoError(w.t, err)
	}
	require.Equal(w.t, code, got, "hotswap %s\n%s%s", strings.Join(args, " "), out.String(), talk.String())
	return out.String()
}

// data is hotswap with the world's data folder.
func (w *world) data(code int, args ...string) string {
	w.t.Helper()
	return w.hotswap(code, append(args, "--data", w.path("data"))...)
}

// A process is a child of the test with its log.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan error
}

func (w *world) spawn(name string, args ...string) *process {
	w.t.Helper()
	log, err := os.OpenFile(w.path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(w.t, err)
	defer log.Close()
	p := &process{cmd: exec.Command(cmp.Or(w.program, built.hotswap), args...), log: log.Name(), done: make(chan error, 1)}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = w.dir, log, log
	require.NoError(w.t, p.cmd.Start())
	go func() { p.done <- p.cmd.Wait(); close(p.done) }()
	w.t.Cleanup(func() {
		p.stop(syscall.SIGTERM)
		if w.t.Failed() {
			text, _ := os.ReadFile(p.log)
			w.t.Logf("%s:\n%s", name, text[max(0, len(text)-4000):])
		}
	})
	return p
}

// stop signals the process and waits until it has ended.
func (p *process) stop(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s)
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// startServe starts the platform on the world's database and waits until it answers.
func (w *world) startServe() {
	w.t.Helper()
	listen := "127.0.0.1:0"
	if w.url != "" {
		listen = strings.TrimPrefix(w.url, "http://")
	} else {
		listen = freeAddress(w.t)
		w.url = "http://" + listen
	}
	w.serve = w.spawn("serve", append([]string{
		"serve", "--data", w.path("data"), "--listen", listen, "--tenant", "acme",
		"--database-url-file", w.path("db.url"), "--migrate-url-file", w.path("admin.url"), "--tick", "500ms", "--reconcile", "1s",
	}, w.with...)...)
	w.eventually("the platform answers", func() bool {
		resp, err := http.Get(w.url + "/healthz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// lastPort is the port that was handed out last: whoever got it may not listen yet.
var lastPort atomic.Int32

// freeAddress is a loopback address below the ephemeral ports that nobody has.
func freeAddress(t *testing.T) string {
	t.Helper()
	lastPort.CompareAndSwap(0, int32(20000+os.Getpid()%8000))
	for port := lastPort.Add(1); port < 32768; port = lastPort.Add(1) {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	end := time.Now().Add(w.patience)
	for !ok() {
		if time.Now().After(end) {
			w.t.Fatalf("not seen within %s: %s\n%s", w.patience, what, w.data(0, "status"))
		}
		select {
		case err := <-w.serve.done:
			text, _ := os.ReadFile(w.serve.log)
			w.t.Fatalf("serve ended (%v) while waiting for: %s\n%s", err, what, text)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// git runs the real git in the clone, with the password from a file.
func (w *world) git(args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "git", append([]string{
		"-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-c", "credential.helper=store --file=" + w.path("credentials"),
	}, args...)...)
	cmd.Dir = w.path("clone")
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "HOME="+w.dir)
	out, err := cmd.CombinedOutput()
	require.NoError(w.t, err, "git %v\n%s", args, out)
	return strings.TrimSpace(string(out))
}

// clone clones the repository over HTTP and fills it with the demo's pipeline and environments.
func (w *world) clone() {
	w.t.Helper()
	password, err := os.ReadFile(w.path("data", "secrets", "git-admin"))
	require.NoError(w.t, err)
	w.write("credentials", strings.Replace(w.url, "http://", "http://admin:"+strings.TrimSpace(string(password))+"@", 1)+"\n")
	require.NoError(w.t, os.MkdirAll(w.path("clone"), 0o700))
	w.git("clone", "-q", w.url+"/git/acme/deploy.git", ".")
	w.write("clone/pipelines/one.yaml", `apiVersion: hotswap.dev/v1
kind: Pipeline
metadata: {name: one}
spec:
  stages:
    - {name: production, environment: production, strategy: {type: direct, deadline: 30s}}
`)
	w.write("clone/environments/production.yaml", production)
}

// production is the environment of the world's node.
const production = `apiVersion: hotswap.dev/v1
kind: Environment
metadata: {name: production}
spec: {selector: {environment: production}}
`

// An artifact is a packed and signed version of the sample module.
type artifact struct{ version, url, digest, signature string }

// artifact packs and signs a version with the program itself.
func (w *world) artifact(version string) artifact {
	w.t.Helper()
	file := w.path("artifacts", "checkout-"+version+".tar.gz")
	require.NoError(w.t, os.MkdirAll(filepath.Dir(file), 0o700))
	var packed struct{ Digest string }
	out := w.hotswap(0, "module", "pack", filepath.Join(built.dir, version, "checkout"), "--name", "checkout", "--out", file, "-o", "json")
	require.NoError(w.t, json.Unmarshal([]byte(out), &packed))
	signature := w.hotswap(0, "module", "sign", "--key", w.path("release.key"), "--name", "checkout", "--version", version, "--digest", packed.Digest)
	return artifact{version, "file://" + file, packed.Digest, strings.TrimSpace(strings.TrimPrefix(signature, "signature:"))}
}

// intent is a deployment of an artifact with more lines of configuration.
func (a artifact) intent(config ...string) string {
	return strings.Join(append([]string{
		"apiVersion: hotswap.dev/v1", "kind: Deployment", "metadata: {name: checkout}", "spec:", "  pipeline: one", "  module:",
		"    name: checkout", `    version: "` + a.version + `"`, "    artifact: " + a.url, "    digest: " + a.digest, "    signature: " + a.signature,
		"  config:",
	}, append(config, "    drain: 1s", "")...), "\n")
}

// push commits the intent and pushes it over HTTP; it returns the commit.
func (w *world) push(intent string) string {
	w.t.Helper()
	w.write("clone/deployments/checkout.yaml", intent)
	w.git("add", "-A")
	w.git("commit", "-q", "-m", "change")
	w.git("push", "-q", "origin", "HEAD:main")
	return w.git("rev-parse", "HEAD")
}

// node joins and starts an agent; its module answers on the address.
func (w *world) node(name string) (*process, string) {
	w.t.Helper()
	w.data(0, "join-token", "create", w.path(name+".token"), "--label", "environment=production")
	address := freeAddress(w.t)
	return w.startNode(name, address), address
}

func (w *world) startNode(name, address string) *process {
	w.t.Helper()
	return w.spawn(name, "node", "--server", cmp.Or(w.functions, w.url)+"/function/nodes", "--name", name, "--state", w.path("state-"+name),
		"--join-token-file", w.path(name+".token"), "--trusted-keys", w.path("release.pub"), "--file-artifacts", w.path("artifacts"),
		"--route", "checkout="+address, "--report-interval", "500ms")
}

// answers is the version that answers on an address, empty when none does.
func answers(address string) string {
	resp, err := (&http.Client{Timeout: 2 * time.Second}).Get("http://" + address + "/")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.Header.Get("HotSwap-Version")
}

// A seen status is what `hotswap status -o json` says.
type seenStatus struct {
	Promotions []struct {
		ID, Status, Reason string
		WaitingFor         *struct{ What, Evidence, Command string }
	}
	Commits []struct {
		Commit, Description, Detail string
		OK                          bool
	}
}

func (w *world) status() seenStatus {
	w.t.Helper()
	var s seenStatus
	require.NoError(w.t, json.Unmarshal([]byte(w.data(0, "status", "-o", "json")), &s))
	return s
}

// promotion waits until the newest promotion has one of the states, and returns its reason.
func (w *world) promotion(id, status string) string {
	w.t.Helper()
	reason := ""
	w.eventually("promotion "+id+" "+status, func() bool {
		for _, p := range w.status().Promotions {
			if p.ID == id && p.Status == status {
				reason = p.Reason
				return true
			}
		}
		return false
	})
	return reason
}

// live takes a first version to a node.
func (w *world) live(version string) (*process, string) {
	w.t.Helper()
	p, address := w.node("shop-1")
	w.push(w.artifact(version).intent())
	w.promotion("checkout-1/production/promote-1", "succeeded")
	require.Equal(w.t, version, answers(address))
	return p, address
}

// verified runs the audit commands of an auditor.
func (w *world) verified() {
	w.t.Helper()
	require.Contains(w.t, w.data(0, "audit", "verify"), "verified: ")
	require.Contains(w.t, w.data(0, "audit", "replay"), " 0 differ")
}

// gitFails runs git as [world.git] does, and returns why it does not work.
func (w *world) gitFails(args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "git", append([]string{"-c", "credential.helper=store --file=" + w.path("credentials")}, args...)...)
	cmd.Dir = w.path("clone")
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "HOME="+w.dir)
	out, err := cmd.CombinedOutput()
	require.Error(w.t, err, "git %v", args)
	return string(out)
}

// token of an account.
func (w *world) token(login string) string {
	w.t.Helper()
	text, err := os.ReadFile(w.path(login + ".token"))
	require.NoError(w.t, err)
	return strings.TrimSpace(string(text))
}

// audit requires rows of these actions.
func (w *world) audit(actions ...string) {
	w.t.Helper()
	list := w.data(0, "audit", "list", "--limit", "1000")
	for _, a := range actions {
		require.Contains(w.t, list, a)
	}
}
