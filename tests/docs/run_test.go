package docs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/platform"
)

const (
	pageTime   = 3 * time.Minute // a page that takes longer hangs
	maxSkipped = 10              // blocks that no test runs
)

var localPort = regexp.MustCompile(`127\.0\.0\.1:(\d+)`)

// A bench is where scripts run: the program, and an environment that is the
// same on every machine.
type bench struct {
	environment []string
}

// newBench builds the program as `make build` does, so that the build is shared.
func newBench(t *testing.T) bench {
	t.Helper()
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", filepath.Join(bin, "hotswap"), "./cmd/hotswap")
	build.Dir = root
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	b := bench{environment: []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0", "TMPDIR=" + os.TempDir(),
	}}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOROOT"} {
		value, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
		require.NoError(t, err)
		b.environment = append(b.environment, name+"="+strings.TrimSpace(string(value)))
	}
	b.environment = append(b.environment, "GOPROXY=off", "GOFLAGS=-mod=readonly", "GOTOOLCHAIN=local")
	return b
}

// ended is what a script begins with: the first command that fails ends it, and
// its background jobs end with it.
const ended = `set -euo pipefail
trap 'code=$?; trap - EXIT; jobs=$(jobs -p); [ -z "$jobs" ] || kill $jobs 2>/dev/null || true; wait; exit $code' EXIT
`

// run runs a script in a folder. Its talk is shown when it fails.
func (b bench) run(t *testing.T, folder, script string, more ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), pageTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", ended+withFreePorts(t, script))
	cmd.Dir = folder
	cmd.Env = append(slices.Clone(b.environment), more...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	talk, err := os.Create(filepath.Join(t.TempDir(), "talk")) // a file: a process left behind must not hold us
	require.NoError(t, err)
	defer talk.Close()
	cmd.Stdout, cmd.Stderr = talk, talk
	err = cmd.Run()
	if group := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); !errors.Is(group, syscall.ESRCH) {
		err = errors.Join(err, fmt.Errorf("the script left processes behind: %v", group))
	}
	said, readErr := os.ReadFile(talk.Name())
	require.NoError(t, readErr)
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	t.Logf("%s", said)
}

// withFreePorts replaces every port on 127.0.0.1 by one that is free here.
func withFreePorts(t *testing.T, script string) string {
	t.Helper()
	ports := map[string]string{}
	var held []net.Listener // until all are chosen, so that none is chosen twice
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	return localPort.ReplaceAllStringFunc(script, func(address string) string {
		if ports[address] == "" {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			held = append(held, l)
			ports[address] = l.Addr().String()
		}
		return ports[address]
	})
}

// script is what a reader of the page would type, block by block.
func (p page) script() string {
	var b strings.Builder
	for _, s := range p.shell() {
		if s.skipped == "" {
			fmt.Fprintf(&b, "echo '### %s:%d'\n%s", p.path, s.line, s.code)
		}
	}
	return b.String()
}

// inWorld reports whether a page needs an installation that has seen something.
func (p page) inWorld() bool { return strings.HasPrefix(p.path, "docs/runbooks/") }

func TestEveryShellBlockOfTheDocsRuns(t *testing.T) {
	b := newBench(t)
	executed, skipped := 0, 0
	for _, p := range pages(t) {
		for _, s := range p.shell() {
			if s.skipped != "" {
				skipped++
				t.Logf("not executed: %s:%d: %s", p.path, s.line, s.skipped)
			} else {
				executed++
			}
		}
		if p.script() == "" || p.inWorld() || p.path == reference {
			continue
		}
		t.Run(p.path, func(t *testing.T) {
			t.Parallel()
			folder, more := t.TempDir(), []string{}
			switch p.path {
			case "README.md":
				copyRepository(t, folder)
			case "docs/how-to/existing-postgresql.md":
				more = postgres(t)
			}
			b.run(t, folder, p.script(), more...)
		})
	}
	t.Run("runbooks", func(t *testing.T) {
		t.Parallel()
		b.run(t, t.TempDir(), world(t, runbooks(t)))
	})
	t.Run("examples of the command line", func(t *testing.T) {
		t.Parallel()
		b.run(t, t.TempDir(), world(t, typed(t)))
	})
	t.Logf("%d blocks executed, %d not", executed, skipped)
	require.LessOrEqual(t, skipped, maxSkipped)
	require.Greater(t, executed, 30)
}

// postgres starts a server, and says how its superuser reaches it.
func postgres(t *testing.T) []string {
	t.Helper()
	c, err := platform.StartCluster(t.Context(), platform.ClusterOptions{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		require.NoError(t, c.Stop(ctx))
	})
	to := c.Connection("postgres", "postgres")
	return []string{"PGHOST=" + to.Host, fmt.Sprintf("PGPORT=%d", to.Port), "PGUSER=" + to.User, "PGPASSFILE=" + to.PasswordFile}
}

// copyRepository copies the sources, so that what README.md does in a checkout
// meets no data of the person who has one.
func copyRepository(t *testing.T, to string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		switch {
		case err != nil:
			return err
		case name == ".git" || name == ".hotswap" || name == "bin":
			return fs.SkipDir
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		case !entry.Type().IsRegular():
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), content, info.Mode().Perm())
	})
	require.NoError(t, err)
}
