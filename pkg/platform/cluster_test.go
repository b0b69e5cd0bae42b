package platform_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/platform"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/tests/pgtest"
)

// holdEnv makes the test binary a process that holds a cluster until it is killed; its value is the folder.
const holdEnv = "PLATFORM_TEST_HOLD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdEnv); dir != "" {
		holdCluster(dir)
		return
	}
	if os.Getenv(functionEnv) != "" {
		beFunction()
		return
	}
	pgtest.Main(m, store.Migrate)
}

func holdCluster(dir string) {
	c, err := platform.StartCluster(context.Background(), platform.ClusterOptions{Dir: dir})
	if err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	fmt.Println("ready", c.Pid())
	<-c.Done()
}

// startHolder runs another process with a cluster in dir, and returns it with its server's process id.
func startHolder(t *testing.T, dir string) (*exec.Cmd, int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(line), "ready "))
	require.NoError(t, err, line)
	return cmd, pid
}

// rootOnly is a folder below one that only its owner can enter.
func rootOnly(t *testing.T) string {
	t.Helper()
	outer, err := os.MkdirTemp("", "closed-") // mode 0700
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(outer) })
	return filepath.Join(outer, "pg")
}

func start(t *testing.T, o platform.ClusterOptions) *platform.Cluster {
	t.Helper()
	c, err := platform.StartCluster(limit(t), o)
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, c) })
	return c
}

func stop(t *testing.T, c *platform.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(t, c.Stop(ctx))
}

func limit(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// query runs a statement that returns one text.
func query(t *testing.T, dsn, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(limit(t), dsn)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	var text string
	require.NoError(t, conn.QueryRow(limit(t), sql).Scan(&text))
	return text
}

func TestAClusterKeepsDataAndPasswordsOverARestartBelowAFolderThatOnlyItsOwnerCanEnter(t *testing.T) {
	o := platform.ClusterOptions{Dir: rootOnly(t), Roles: []string{"hotswap_app"}}
	c := start(t, o)
	admin := c.Connection("postgres", "postgres")
	require.Equal(t, "hotswap_app", query(t, c.Connection("hotswap_app", "postgres").DSN(), "SELECT current_user::text"))
	query(t, admin.DSN(), "WITH x AS (SELECT set_config('a.b', 'c', false)) SELECT * FROM x")
	exec1(t, admin.DSN(), "CREATE TABLE t AS SELECT 'kept'::text AS v")
	stop(t, c)
	requireGone(t, c.Pid())

	o.Roles = append(o.Roles, "hotswap_reader") // a role that comes later
	c = start(t, o)
	require.Equal(t, "kept", query(t, admin.DSN(), "SELECT v FROM t"))
	require.Equal(t, "hotswap_app", query(t, c.Connection("hotswap_app", "postgres").DSN(), "SELECT current_user::text"))
	require.Equal(t, "hotswap_reader", query(t, c.Connection("hotswap_reader", "postgres").DSN(), "SELECT current_user::text"))
	require.Equal(t, "on", query(t, admin.DSN(), "SHOW fsync"))
	require.Empty(t, query(t, admin.DSN(), "SHOW listen_addresses"))
}

func TestPasswordsAreAskedForAndAppearInNoArgumentEnvironmentOrLog(t *testing.T) {
	c := start(t, platform.ClusterOptions{Dir: rootOnly(t), Roles: []string{"app"}, Fast: true})
	conn := c.Connection("app", "postgres")
	line, err := os.ReadFile(conn.PasswordFile)
	require.NoError(t, err)
	password := strings.TrimPrefix(strings.TrimSpace(string(line)), "*:*:*:app:")
	require.Len(t, password, 48)
	require.NotContains(t, conn.DSN(), password)

	conn.PasswordFile = filepath.Join(t.TempDir(), "wrong")
	require.NoError(t, os.WriteFile(conn.PasswordFile, []byte("*:*:*:app:wrong\n"), 0o600))
	_, err = pgx.Connect(limit(t), conn.DSN())
	require.ErrorContains(t, err, "password authentication failed")

	seen := ""
	for _, file := range []string{
		fmt.Sprintf("/proc/%d/cmdline", c.Pid()), fmt.Sprintf("/proc/%d/environ", c.Pid()),
		filepath.Join(filepath.Dir(conn.Host), "postgres.log"),
	} {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		seen += string(b)
	}
	require.NotContains(t, seen, password)
	require.NotContains(t, seen, "SCRAM-SHA-256$")
	require.NoFileExists(t, filepath.Join(conn.Host, "initial-password"))
}

func TestASecondStartSaysWhoHoldsTheFolder(t *testing.T) {
	dir := rootOnly(t)
	holder, _ := startHolder(t, dir)
	_, err := platform.StartCluster(limit(t), platform.ClusterOptions{Dir: dir, LockWait: 50 * time.Millisecond})
	require.ErrorIs(t, err, platform.ErrClusterInUse)
	require.ErrorContains(t, err, fmt.Sprintf("process %d", holder.Process.Pid))
}

func TestWhenTheProcessIsKilledTheServerEndsAndTheNextStartHasWhatWasCommitted(t *testing.T) {
	dir := rootOnly(t)
	holder, server := startHolder(t, dir)
	dsn := platform.Connection{Host: filepath.Join(dir, "run"), Port: 5432, User: "postgres", Database: "postgres", PasswordFile: filepath.Join(dir, "passwords", "postgres.pgpass")}.DSN()
	exec1(t, dsn, "CREATE TABLE t AS SELECT 'committed'::text AS v")

	require.NoError(t, holder.Process.Kill())
	_ = holder.Wait()
	start(t, platform.ClusterOptions{Dir: dir, LockWait: 20 * time.Second}) // waits for the former server's end
	require.Equal(t, "committed", query(t, dsn, "SELECT v FROM t"))
	requireGone(t, server)
}

func TestAKilledServerIsRecoveredThoughItsProcessIdNowIsAnotherProcess(t *testing.T) {
	o := platform.ClusterOptions{Dir: rootOnly(t)}
	c := start(t, o)
	dsn := c.Connection("postgres", "postgres").DSN()
	exec1(t, dsn, "CREATE TABLE t AS SELECT 'committed'::text AS v")
	require.NoError(t, syscall.Kill(c.Pid(), syscall.SIGKILL))
	<-c.Done()
	stop(t, c)

	other := exec.Command("sleep", "60")
	other.SysProcAttr = &syscall.SysProcAttr{Credential: ownerOf(t, filepath.Join(o.Dir, "data"))}
	require.NoError(t, other.Start())
	t.Cleanup(func() { _ = other.Process.Kill(); _ = other.Wait() })
	pidFile := filepath.Join(o.Dir, "data", "postmaster.pid")
	content, err := os.ReadFile(pidFile)
	require.NoError(t, err)
	content = []byte(strings.Replace(string(content), strconv.Itoa(c.Pid()), strconv.Itoa(other.Process.Pid), 1))
	require.NoError(t, os.WriteFile(pidFile, content, 0o600))

	start(t, o)
	require.Equal(t, "committed", query(t, dsn, "SELECT v FROM t"))
}

func TestAServerThatSomebodyStartedByHandIsNotPushedAside(t *testing.T) {
	o := platform.ClusterOptions{Dir: rootOnly(t), Fast: true}
	stop(t, start(t, o))
	other := exec.Command("sleep", "60")
	other.Dir = filepath.Join(o.Dir, "data")
	require.NoError(t, other.Start())
	t.Cleanup(func() { _ = other.Process.Kill(); _ = other.Wait() })
	require.NoError(t, os.WriteFile(filepath.Join(o.Dir, "data", "postmaster.pid"), []byte(strconv.Itoa(other.Process.Pid)+"\n"), 0o600))

	_, err := platform.StartCluster(limit(t), o)
	require.ErrorIs(t, err, platform.ErrClusterInUse)
	require.ErrorContains(t, err, strconv.Itoa(other.Process.Pid))
}

func TestTheSocketOfADeepFolderIsInTheTemporaryFolder(t *testing.T) {
	temporary, err := os.MkdirTemp("", "s-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(temporary, 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(temporary) })
	dir := filepath.Join(rootOnly(t), strings.Repeat("deep/", 25))

	c := start(t, platform.ClusterOptions{Dir: dir, TempDir: temporary, Fast: true})
	conn := c.Connection("postgres", "postgres")
	require.Equal(t, temporary, filepath.Dir(conn.Host))
	require.Equal(t, "ok", query(t, conn.DSN(), "SELECT 'ok'"))
	noted, err := os.ReadFile(filepath.Join(dir, "socket-folder"))
	require.NoError(t, err)
	require.Equal(t, conn.Host+"\n", string(noted))
	info, err := os.Stat(conn.Host)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())

	stop(t, c)
	require.NoError(t, os.RemoveAll(conn.Host))
	require.NoError(t, os.Symlink(t.TempDir(), conn.Host), "somebody else was there first")
	_, err = platform.StartCluster(limit(t), platform.ClusterOptions{Dir: dir, TempDir: temporary, Fast: true})
	require.ErrorContains(t, err, "not a folder of ours")
}

func TestAServerOutlivesTheThreadThatAskedForIt(t *testing.T) {
	o := platform.ClusterOptions{Dir: rootOnly(t), Fast: true}
	var c *platform.Cluster
	thread := onDyingThread(func() { c, _ = platform.StartCluster(limit(t), o) })
	require.NotNil(t, c)
	t.Cleanup(func() { stop(t, c) })
	require.Eventually(t, func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", thread))
		return os.IsNotExist(err)
	}, 5*time.Second, time.Millisecond)
	exec1(t, c.Connection("postgres", "postgres").DSN(), "SELECT pg_sleep(0.3)") // a dying server would break this off
}

// onDyingThread runs f on a thread that then ends, and returns the thread's id. The process's first thread never ends
// in Go, so a goroutine that got that one passes on to another while it keeps it.
func onDyingThread(f func()) (thread int) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if syscall.Gettid() == syscall.Getpid() {
			thread = onDyingThread(f)
			return
		}
		thread = syscall.Gettid()
		f()
	}()
	<-done
	return thread
}

func TestMissingProgramsAreNamedWithTheLineThatInstallsThem(t *testing.T) {
	_, err := platform.StartCluster(limit(t), platform.ClusterOptions{Dir: rootOnly(t), BinDir: t.TempDir()})
	require.ErrorIs(t, err, platform.ErrPostgresMissing)
	require.ErrorContains(t, err, "initdb")
}

func TestAServerThatCannotStartSaysWhy(t *testing.T) {
	o := platform.ClusterOptions{Dir: rootOnly(t), Fast: true, Settings: map[string]string{"shared_buffers": "a lot"}}
	_, err := platform.StartCluster(limit(t), o)
	require.ErrorContains(t, err, `invalid value for parameter "shared_buffers"`)
	o.Settings = nil
	start(t, o) // and its folder is free again
}

func TestAnInterruptedInitdbIsDoneAgain(t *testing.T) {
	o := platform.ClusterOptions{Dir: rootOnly(t), Fast: true}
	require.NoError(t, os.MkdirAll(filepath.Join(o.Dir, "data.new"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(o.Dir, "data.new", "half"), nil, 0o600))
	c := start(t, o)
	require.Equal(t, "ok", query(t, c.Connection("postgres", "postgres").DSN(), "SELECT 'ok'"))
}

func exec1(t *testing.T, dsn, sql string) {
	t.Helper()
	conn, err := pgx.Connect(limit(t), dsn)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(limit(t), sql)
	require.NoError(t, err)
}

func requireGone(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool { return syscall.Kill(pid, 0) != nil }, 20*time.Second, 10*time.Millisecond)
}

func ownerOf(t *testing.T, path string) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	stat := info.Sys().(*syscall.Stat_t)
	require.NotZero(t, stat.Uid, "root's cluster runs as somebody else")
	return &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}
}
