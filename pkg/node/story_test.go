package node

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/canonical"
	"hotswap.dev/hotswap/pkg/node/nodetest"
	"hotswap.dev/hotswap/pkg/target"
)

const storyNode = "id-of-node-1"

// A story is an agent in this process, its server, and modules that are this
// binary in another role.
type story struct {
	*testing.T
	server   *nodetest.Server
	o        Options
	key      ed25519.PrivateKey
	position target.Position
	stop     func() // ends the agent and waits; harmless twice
}

func newStory(t *testing.T) *story {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	s := &story{T: t, server: nodetest.Start(), key: key, position: target.Position{Epoch: 1, Token: 1}, stop: func() {}}
	t.Cleanup(s.server.Close)
	files := t.TempDir()
	token := filepath.Join(files, "token")
	require.NoError(t, os.WriteFile(token, []byte(nodetest.Token+"\n"), 0o600))
	s.o = Options{
		Server: s.server.URL, Name: "node-1", State: filepath.Join(t.TempDir(), "state"), TokenFile: token,
		FileArtifacts: files, Trusted: []ed25519.PublicKey{public}, Labels: map[string]string{"site": "fra"},
		ReportInterval: 100 * time.Millisecond, PollWait: 5 * time.Second,
		Restart: Restart{First: time.Millisecond, Longest: 5 * time.Millisecond},
	}
	return s
}

// start runs an agent until stop or the end of the test.
func (s *story) start() {
	s.Helper()
	done := s.run()
	s.stop = func() {
		done.cancel()
		require.NoError(s, done.wait(s.T))
		s.stop = func() {}
	}
	s.Cleanup(func() { s.stop() })
}

type running struct {
	cancel context.CancelFunc
	err    chan error
}

func (r running) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.err:
		r.err <- err
		return err
	case <-time.After(30 * time.Second):
		require.Fail(t, "the agent does not end")
		return nil
	}
}

func (s *story) run() running {
	s.Helper()
	s.o.Log = slog.New(slog.NewTextHandler(testLog{s.T}, nil))
	a, err := New(s.o)
	require.NoError(s, err)
	ctx, cancel := context.WithCancel(context.Background())
	r := running{cancel, make(chan error, 1)}
	go func() { r.err <- a.Run(ctx) }()
	return r
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// instance makes a signed artifact of the module role on the disk.
func (s *story) instance(version string, args ...string) *target.Instance {
	s.Helper()
	program, err := os.Executable()
	require.NoError(s, err)
	script := fmt.Sprintf("#!/bin/sh\nVERSION=%s exec %s %s \"$@\"\n", version, program, moduleRole)
	return s.signed(version, archiveOf(s.T, member{name: "bin/checkout", content: script, mode: 0o755}), args...)
}

func (s *story) signed(version string, archive []byte, args ...string) *target.Instance {
	s.Helper()
	path := filepath.Join(s.o.FileArtifacts, version+".tar.gz")
	require.NoError(s, os.WriteFile(path, archive, 0o600))
	i := &target.Instance{
		Release: "r-" + version,
		Module:  target.Module{Name: "checkout", Version: version, Artifact: "file://" + path, Digest: digestOfBytes(archive), Size: int64(len(archive))},
		Config: target.Config{
			Args: args, HealthPath: "/healthz", Interval: 20 * time.Millisecond, Timeout: 5 * time.Second,
			StartWithin: 20 * time.Second, Drain: 5 * time.Second,
		},
	}
	s.sign(i)
	return i
}

// sign makes signature and digest fit after a change.
func (s *story) sign(i *target.Instance) {
	s.Helper()
	var err error
	i.Module.Signature, err = target.SignModule(i.Module, s.key)
	require.NoError(s, err)
	i.Digest, err = canonical.Digest("test", []any{i.Module, i.Config})
	require.NoError(s, err)
}

func (s *story) send(active, standby *target.Instance) {
	s.position.Generation++
	s.server.Order(storyNode, target.Order{Place: testPlace, Position: s.position, Active: active, Standby: standby})
}

// order returns the report that shows the order followed.
func (s *story) order(active, standby *target.Instance) target.PlaceReport {
	s.Helper()
	s.send(active, standby)
	return s.await(func(p target.PlaceReport) bool { return runs(p.Active, active) && runs(p.Standby, standby) })
}

func runs(r *target.InstanceReport, want *target.Instance) bool {
	if r == nil || want == nil {
		return r == nil && want == nil
	}
	return r.Digest == want.Digest && r.Phase == target.Healthy
}

// await returns the first report after the last order that ok accepts.
func (s *story) await(ok func(target.PlaceReport) bool) target.PlaceReport {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 20*time.Second)
	defer cancel()
	p, err := s.server.Await(ctx, storyNode, testPlace, func(p target.PlaceReport) bool { return p.Position == s.position && ok(p) })
	require.NoError(s, err)
	return p
}

func (s *story) get(address, path string) (int, string) {
	s.Helper()
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + address + path)
	require.NoError(s, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(s, err)
	return resp.StatusCode, string(text)
}

// awaitAnswer waits until the module answers, for agents that come back.
func (s *story) awaitAnswer(address string) {
	s.Helper()
	require.Eventually(s, func() bool {
		resp, err := http.Get("http://" + address + "/pid")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, 10*time.Second, 5*time.Millisecond)
}

func (s *story) pid(address string) int {
	s.Helper()
	_, text := s.get(address, "/pid")
	pid, err := strconv.Atoi(text)
	require.NoError(s, err)
	return pid
}

// env returns one variable of the module's environment.
func (s *story) env(address, name string) string {
	s.Helper()
	_, text := s.get(address, "/env")
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			return value
		}
	}
	return ""
}

func (s *story) requireEnded(pid int) {
	s.Helper()
	require.Eventually(s, func() bool {
		p, err := readStat(pid)
		return err != nil || p.Zombie
	}, 10*time.Second, 5*time.Millisecond, "process %d still runs", pid)
}
