package swap

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/canonical"
	"hotswap.dev/hotswap/pkg/node"
	"hotswap.dev/hotswap/pkg/node/nodetest"
	"hotswap.dev/hotswap/pkg/target"
	"hotswap.dev/hotswap/tests/load/constant"
)

const nodeID = "id-of-node-1"

var place = target.Place{Environment: "production", Deployment: "checkout"}

// A stage is everything around one test: the server, signed artifacts, a state folder.
type stage struct {
	t        testing.TB
	server   *nodetest.Server
	settings settings
	key      ed25519.PrivateKey
	position target.Position
}

func newStage(t testing.TB) *stage {
	public, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	s := &stage{t: t, server: nodetest.Start(), key: key, position: target.Position{Epoch: 1, Token: 1}}
	t.Cleanup(s.server.Close)
	files := t.TempDir()
	token := filepath.Join(files, "token")
	require.NoError(t, os.WriteFile(token, []byte(nodetest.Token+"\n"), 0o600))
	s.settings = settings{
		Server: s.server.URL, State: filepath.Join(t.TempDir(), "state"), TokenFile: token, Files: files, Trusted: public,
	}
	return s
}

// built is built once for all tests: it takes seconds.
var built = sync.OnceValues(func() (map[string][]byte, error) {
	folder, err := os.MkdirTemp("", "checkout")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	out := map[string][]byte{}
	for _, version := range []string{"1.4.2", "1.5.0"} {
		path := filepath.Join(folder, "checkout-"+version)
		cmd := exec.Command("go", "build", "-ldflags", "-s -w -X main.version="+version, "-o", path, "hotswap.dev/hotswap/deploy/demo/checkout")
		if text, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, text)
		}
		var archive bytes.Buffer
		if _, err := node.Pack(&archive, path, "checkout"); err != nil {
			return nil, err
		}
		out[version] = archive.Bytes()
	}
	return out, nil
})

// instance returns a signed version of the sample module, on disk for the agent.
func (s *stage) instance(version string, args ...string) *target.Instance {
	archives, err := built()
	require.NoError(s.t, err)
	path := filepath.Join(s.settings.Files, version+".tar.gz")
	require.NoError(s.t, os.WriteFile(path, archives[version], 0o600))
	digest, err := digestOf(path)
	require.NoError(s.t, err)
	m := target.Module{Name: "checkout", Version: version, Artifact: "file://" + path, Digest: digest, Size: int64(len(archives[version]))}
	m.Signature, err = target.SignModule(m, s.key)
	require.NoError(s.t, err)
	i := &target.Instance{Release: "r-" + version, Module: m, Config: target.Config{
		Args: args, HealthPath: "/healthz", Interval: 250 * time.Millisecond, Timeout: 2 * time.Second,
		StartWithin: 20 * time.Second, Drain: 5 * time.Second,
	}}
	i.Digest, err = canonical.Digest("test", []any{i.Module, i.Config})
	require.NoError(s.t, err)
	return i
}

// order gives the next order and returns when the node reports that it is
// followed: traffic at active, and standby, if any, healthy too.
func (s *stage) order(active, standby *target.Instance) target.PlaceReport {
	s.t.Helper()
	s.position.Generation++
	s.server.Order(nodeID, target.Order{Place: place, Position: s.position, Active: active, Standby: standby})
	return s.await(func(p target.PlaceReport) bool {
		return p.Position == s.position && isHealthy(p.Active, active) && (standby == nil || isHealthy(p.Standby, standby))
	})
}

func isHealthy(r *target.InstanceReport, want *target.Instance) bool {
	return r != nil && r.Digest == want.Digest && r.Phase == target.Healthy
}

func (s *stage) await(ok func(target.PlaceReport) bool) target.PlaceReport {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	p, err := s.server.Await(ctx, nodeID, place, ok)
	require.NoError(s.t, err)
	return p
}

// A child is a process of this test in another role.
type child struct {
	cmd    *exec.Cmd
	stdout bytes.Buffer
	stderr bytes.Buffer
	done   chan struct{}
	err    error // after done
}

func (s *stage) child(role string, args ...string) *child {
	c := &child{cmd: exec.Command(os.Args[0], args...), done: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), roleVariable+"="+role)
	c.cmd.Stdout, c.cmd.Stderr = &c.stdout, &c.stderr
	require.NoError(s.t, c.cmd.Start())
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	s.t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.done
		if s.t.Failed() {
			s.t.Logf("%s:\n%s", role, lastOf(c.stderr.String()))
		}
	})
	return c
}

func lastOf(text string) string { return text[max(0, len(text)-6000):] }

func (s *stage) agent(takeover bool) *child {
	settings := s.settings
	settings.Takeover = takeover
	text, err := json.Marshal(settings)
	require.NoError(s.t, err)
	return s.child("agent", string(text))
}

func (s *stage) load(address string) *child {
	return s.child("load", "http://"+address+"/")
}

// end asks a process to end and waits for it.
func (s *stage) end(c *child) {
	s.t.Helper()
	require.NoError(s.t, c.cmd.Process.Signal(syscall.SIGTERM))
	s.ended(c)
}

func (s *stage) ended(c *child) {
	s.t.Helper()
	select {
	case <-c.done:
		require.NoError(s.t, c.err, lastOf(c.stderr.String()))
	case <-time.After(40 * time.Second):
		require.Fail(s.t, "the process does not end", lastOf(c.stderr.String()))
	}
}

func (s *stage) result(load *child) constant.Result {
	s.t.Helper()
	s.end(load)
	var r constant.Result
	require.NoError(s.t, json.Unmarshal(load.stdout.Bytes(), &r))
	s.t.Logf("load: %+v", r)
	return r
}

// requireGone waits until no process of the state folder's modules is left.
func (s *stage) requireGone() {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return len(s.modules()) == 0 }, 10*time.Second, 20*time.Millisecond, "processes are left")
}

// modules returns the command lines of the processes that run from the state folder.
func (s *stage) modules() []string {
	var out []string
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		if path, err := os.Readlink(link); err == nil && strings.HasPrefix(path, s.settings.State) {
			out = append(out, link+" → "+path)
		}
	}
	return out
}

func answers(address string) bool {
	resp, err := http.Get("http://" + address + "/")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
