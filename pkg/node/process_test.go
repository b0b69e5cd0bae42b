package node

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStatIsReadWhateverACommandIsCalled(t *testing.T) {
	line := "42 (a) b (c)) S 1 40 42 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 777 1000 55 18446744073709551615 1 1"
	s, err := parseStat([]byte(line))
	require.NoError(t, err)
	require.Equal(t, procStat{Group: 40, Ticks: 100, Start: 777, Pages: 55}, s)
	for _, bad := range []string{"", "42 (a", "42 (a) S 1", strings.Replace(line, "777", "x", 1)} {
		_, err := parseStat([]byte(bad))
		require.ErrorIs(t, err, errStat, bad)
	}
}

func TestPrivatePortsAreNotAmongThoseOfOutgoingConnections(t *testing.T) {
	p := newPorts()
	seen := map[int]bool{}
	for range 50 {
		port, err := p.take()
		require.NoError(t, err)
		require.False(t, seen[port])
		require.GreaterOrEqual(t, port, lowestPort)
		require.LessOrEqual(t, port, 32_767)
		seen[port] = true
	}
}

// strayed starts a process as an agent that is gone would have left it.
func strayed(t *testing.T, marker string, script string) (*exec.Cmd, procStat) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Env = []string{"PATH=/bin:/usr/bin"}
	if marker != "" {
		cmd.Env = append(cmd.Env, markerVariable+"="+marker)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	})
	s, err := readStat(cmd.Process.Pid)
	require.NoError(t, err)
	return cmd, s
}

func alive(pid int) bool {
	s, err := readStat(pid)
	return err == nil && !s.Zombie
}

// aliveIn lists the processes of a group, but not those that nobody has reaped.
func aliveIn(t *testing.T, group int) []int {
	t.Helper()
	all, err := pids()
	require.NoError(t, err)
	var out []int
	for _, pid := range all {
		if s, err := readStat(pid); err == nil && s.Group == group && !s.Zombie {
			out = append(out, pid)
		}
	}
	return out
}

func TestTheSweepEndsLeftoversAndNeverSomebodyElse(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	run := t.TempDir()
	boot, err := bootID()
	require.NoError(t, err)
	record := func(name string, pid int, start int64, boot string) {
		require.NoError(t, os.WriteFile(filepath.Join(run, name), fmt.Appendf(nil, "%d %d %s\n", pid, start, boot), 0o600))
	}
	byMarker, _ := strayed(t, id+".dead.1", "sleep 1000 & wait")
	byRecord, recorded := strayed(t, "", "for i in $(seq 50); do sleep 1000 & done; wait") // has thrown its environment away
	record(id+".dead.2", byRecord.Process.Pid, recorded.Start, boot)
	require.Eventually(t, func() bool { return len(aliveIn(t, byRecord.Process.Pid)) == 51 }, 10*time.Second, time.Millisecond)
	reused, other := strayed(t, "", "sleep 1000") // has the pid of a module that ended long ago
	record(id+".dead.3", reused.Process.Pid, other.Start-1, boot)
	rebooted, other := strayed(t, "", "sleep 1000")
	record(id+".dead.4", rebooted.Process.Pid, other.Start, "another-boot")
	spared, _ := strayed(t, id+".live.1", "sleep 1000")
	record(id+".live.1", spared.Process.Pid, 1, boot)
	stranger, _ := strayed(t, strings.Repeat("f", 32)+".dead.1", "sleep 1000") // of another state folder
	record("nonsense", 0, 0, "")

	require.NoError(t, sweep(t.Context(), run, id, spareAgents(id+".live")))
	for _, gone := range []*exec.Cmd{byMarker, byRecord} {
		require.Eventually(t, func() bool { return !alive(gone.Process.Pid) }, 5*time.Second, time.Millisecond)
		require.Empty(t, aliveIn(t, gone.Process.Pid), "its group")
	}
	for name, kept := range map[string]*exec.Cmd{"reused": reused, "rebooted": rebooted, "spared": spared, "stranger": stranger} {
		require.True(t, alive(kept.Process.Pid), name)
	}
	left, err := os.ReadDir(run)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Equal(t, id+".live.1", left[0].Name())
}

func TestTheEndOfTheSpawnerIsTheEndOfWhatItStarted(t *testing.T) {
	s := newSpawner()
	p, err := startProcess(s, command{
		path: "/bin/sleep", args: []string{"1000"}, folder: "/", output: discard{}, marker: "m", run: t.TempDir(),
	})
	require.NoError(t, err)
	s.close()
	select {
	case <-p.exited:
	case <-time.After(10 * time.Second):
		require.Fail(t, "the process outlives its spawner")
	}
}

func TestALogIsBoundedAndItsLastLinesAreRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	to := &placeLog{path: path, limit: 20_000}
	l := &instanceLog{to: to, version: "1.5.0"}
	require.Equal(t, "it wrote nothing", l.tail())
	for n := range 2000 {
		fmt.Fprintf(l, "line %d of ", n)
		fmt.Fprintf(l, "many\n")
	}
	_, err := l.Write([]byte(strings.Repeat("x", 10_000)))
	require.NoError(t, err)
	to.close()
	total := int64(0)
	for _, name := range []string{path, path + ".1"} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		total += info.Size()
	}
	require.LessOrEqual(t, total, int64(20_000))
	fmt.Fprintf(l, "\nlast words")
	to.close()
	require.Contains(t, l.tail(), "| last words")
}
