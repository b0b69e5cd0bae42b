package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"hotswap.dev/hotswap/functions"
	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/platform"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/tests/load/constant"
)

// The demo's cast.
const (
	demoTenant     = "acme"
	demoRepository = "deploy"
	demoDeployment = "checkout"
	demoListen     = "127.0.0.1:7080"
	demoNodePorts  = 7181 // and following, or the next free ones
	demoRate       = 400  // requests per second of the load
)

// A demoNode is a node agent of the demo.
type demoNode struct {
	name, environment string
	address           string // of the proxy in front of the module
}

// A demoEnvironment is an environment with its number of nodes.
type demoEnvironment struct {
	environment, short string
	nodes              int
}

// fleet is the demo's fleet, in the order of its stages. Under chaos it is small:
// of 17 nodes none would be killed often.
func (o demoOptions) fleet() []demoEnvironment {
	if o.chaos {
		return []demoEnvironment{{"development", "dev", 1}, {"qa", "qa", 1}, {"staging", "stage", 1}, {"production", "prod", 2}}
	}
	return []demoEnvironment{{"development", "dev", 1}, {"qa", "qa", 4}, {"staging", "stage", 2}, {"production", "prod", 10}}
}

// demoParts are what the demo has started, beside its child processes.
type demoParts struct {
	cluster      *platform.Cluster
	installation *installation
	nodes        []demoNode
	modules      map[string]demoModule // by version
	url          string
	people       demoPeople
	reserved     []*os.File // locks of the ports, until the end
}

func (d *demo) repositoryURL() string {
	return d.parts.url + "/git/" + demoTenant + "/" + demoRepository + ".git"
}

// path is a place in the demo's own part of the data folder.
func (d *demo) path(elements ...string) string {
	return filepath.Join(append([]string{d.data, "demo"}, elements...)...)
}

// start starts everything and waits until the first version is live.
func (d *demo) start(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		d.startPostgres, d.startFunctions, d.startPeople, d.buildModules, d.startNodes, d.firstVersion, d.startLoad,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// startPostgres starts the database in this process, so that it outlives the
// functions that the chaos kills.
func (d *demo) startPostgres(ctx context.Context) error {
	began := time.Now()
	dir, err := platform.OpenDataDir(d.data)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.path(), 0o700); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	cluster, err := privateCluster(ctx, dir)
	if err != nil {
		return err
	}
	d.parts.cluster = cluster
	if err := migrate(ctx, cluster); err != nil {
		return err
	}
	if err := os.WriteFile(d.path("database-url"), []byte(appDSN(cluster)+"\n"), 0o600); err != nil {
		return err
	}
	version, err := store.ServerVersion(ctx, appDSN(cluster))
	if err != nil {
		return err
	}
	d.component("postgres", version+", unix socket only", "ready in "+since(began))
	return nil
}

// startFunctions starts `hotswap serve` and opens its data folder as a local
// operator would.
func (d *demo) startFunctions(ctx context.Context) error {
	began := time.Now()
	address, err := d.reserve(demoListen)
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(d.data, serveFileName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	err = d.children.start(d.binary, d.path("logs"), childSpec{name: "functions", args: []string{
		"serve", "--data", d.data, "--listen", address, "--tenant", demoTenant, "--repository", demoRepository,
		"--database-url-file", d.path("database-url"), "--tick", "1s",
	}})
	if err != nil {
		return err
	}
	d.parts.url = "http://" + address
	if err := waitFor(ctx, "the functions", d.path("logs", "functions.log"), func(ctx context.Context) bool { return answers(ctx, d.parts.url+"/healthz") }); err != nil {
		return err
	}
	if d.parts.installation, err = openInstallation(ctx, d.data); err != nil {
		return err
	}
	d.component("git", d.repositoryURL(), "1 repository")
	d.component("functions", d.parts.url+"/function/NAME/", fmt.Sprintf("%d functions, started on demand; gateway ready in %s", len(functions.Specs()), since(began)))
	return nil
}

// startNodes joins and starts the node agents.
func (d *demo) startNodes(ctx context.Context) error {
	var fleet []string
	for _, e := range d.fleet() {
		for i := range e.nodes {
			d.parts.nodes = append(d.parts.nodes, demoNode{name: fmt.Sprintf("%s-%d", e.short, i+1), environment: e.environment})
		}
		fleet = append(fleet, fmt.Sprintf("%s %d", e.environment, e.nodes))
	}
	for i := range d.parts.nodes {
		n := &d.parts.nodes[i]
		var err error
		if n.address, err = d.nodeAddress(n.name); err != nil {
			return err
		}
		if err := d.startNode(ctx, *n); err != nil {
			return err
		}
	}
	d.component("nodes", strings.Join(fleet, " · "), fmt.Sprintf("%d node agents, modules from file:// signed by the demo's key", len(d.parts.nodes)))
	return nil
}

// nodeAddress is where a node listens: as in the last run, or the next free port.
func (d *demo) nodeAddress(name string) (string, error) {
	file := d.path(name + ".address")
	want := fmt.Sprintf("127.0.0.1:%d", demoNodePorts)
	if b, err := os.ReadFile(file); err == nil {
		want = strings.TrimSpace(string(b))
	}
	address, err := d.reserve(want)
	if err != nil {
		return "", err
	}
	return address, os.WriteFile(file, []byte(address+"\n"), 0o600)
}

// reserve returns the address, or the one with the next port that is free and
// that no other demo of this machine has reserved: its child listens only later.
// The reservation ends with this process.
func (d *demo) reserve(address string) (string, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	first, err := strconv.Atoi(text)
	if err != nil {
		return "", err
	}
	for port := first; port < first+portsToTry; port++ {
		lock, err := os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("hotswap-demo-%d-%d.lock", os.Getuid(), port)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return "", fmt.Errorf("reserve port %d: %w", port, err)
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			free := net.JoinHostPort(host, strconv.Itoa(port))
			if l, err := net.Listen("tcp", free); err == nil {
				_ = l.Close()
				d.parts.reserved = append(d.parts.reserved, lock)
				return free, nil
			}
		}
		_ = lock.Close()
	}
	return "", fmt.Errorf("no free port from %d to %d", first, first+portsToTry-1)
}

func (d *demo) startNode(ctx context.Context, n demoNode) error {
	token := d.path(n.name + ".token")
	if _, err := os.Stat(token); errors.Is(err, os.ErrNotExist) {
		in := d.parts.installation
		text, err := in.store.CreateJoinToken(ctx, in.Tenant, map[string]string{"environment": n.environment}, time.Hour, in.operator.Actor)
		if err != nil {
			return err
		}
		if err := writeToken(token, text); err != nil {
			return err
		}
	}
	return d.children.start(d.binary, d.path("logs"), childSpec{name: n.name, args: []string{
		"node", "--server", d.parts.url + "/function/nodes", "--name", n.name, "--state", d.path(n.name),
		"--join-token-file", token, "--trusted-keys", d.path("release.pub"), "--file-artifacts", d.path("artifacts"),
		"--route", demoDeployment + "=" + n.address, "--report-interval", "1s",
	}})
}

// startLoad starts asking, in a process of its own, and never lets go until the end.
func (d *demo) startLoad(ctx context.Context) error {
	rate := demoRate
	if d.chaos {
		rate = demoRate / 4
	}
	args := []string{"demo-load", "--rate", fmt.Sprint(rate), "--workers", "8", "--progress", d.path("load.json")}
	for _, n := range d.parts.nodes {
		args = append(args, "http://"+n.address+"/")
	}
	if err := os.Remove(d.path("load.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := d.children.start(d.binary, d.path("logs"), childSpec{name: "load", args: args, out: d.path("load.out")}); err != nil {
		return err
	}
	err := waitFor(ctx, "the load", d.path("logs", "load.log"), func(context.Context) bool {
		r, err := readLoad(d.path("load.json"))
		return err == nil && r.Requests > 0
	})
	if err != nil {
		return err
	}
	d.component("load", fmt.Sprintf("%d requests per second to %d addresses", rate, len(d.parts.nodes)), "from a process of its own, until the end")
	return nil
}

// startTime bounds how long a part may take to be ready.
const startTime = 60 * time.Second

// waitFor waits until ready is true.
func waitFor(ctx context.Context, what, log string, ready func(ctx context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for !ready(ctx) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not become ready in %s; look into %s", what, startTime, log)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

func answers(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := (&http.Client{Timeout: time.Second}).Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode == http.StatusOK
}

func since(t time.Time) string { return fmt.Sprintf("%.1f s", time.Since(t).Seconds()) }

// serves reports whether the node's address answers with the version. It asks
// the node: what was reported last may be from before it was stopped.
func (n demoNode) serves(ctx context.Context, version string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.address+"/", http.NoBody)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK && resp.Header.Get(constant.VersionHeader) == version
}

// verified verifies and replays the audit trail.
func (d *demo) verified(ctx context.Context) (audit.Report, replayResult, error) {
	rep, err := verifyAudit(ctx, d.parts.installation, "")
	if err != nil {
		return rep, replayResult{}, err
	}
	res, err := replay(ctx, d.parts.installation)
	return rep, res, err
}
