package node

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/target"
)

func TestAModuleIsStartedWithItsOwnEnvironmentAndNothingOfTheAgents(t *testing.T) {
	t.Setenv("AGENTS_SECRET", "do-not-show")
	s := newStory(t)
	s.start()
	i := s.instance("1.5.0")
	i.Config.Env = map[string]string{"LOG": "info", "PATH": "/bin:/usr/bin"}
	s.sign(i)
	address := s.order(i, nil).Address
	_, env := s.get(address, "/env")
	require.NotContains(t, env, "do-not-show")
	var names []string
	for line := range strings.Lines(env) {
		name, _, _ := strings.Cut(line, "=")
		names = append(names, name)
	}
	require.ElementsMatch(t, []string{"HOME", "HOTSWAP_ADDRESS", "HOTSWAP_INSTANCE", "LOG", "PATH", "PORT", "PWD", "TMPDIR", "VERSION"}, names)
	require.Equal(t, "127.0.0.1:"+s.env(address, "PORT"), s.env(address, "HOTSWAP_ADDRESS"))
	require.Equal(t, "/bin:/usr/bin", s.env(address, "PATH"))
	require.NotEqual(t, address, s.env(address, "HOTSWAP_ADDRESS"), "the module's port is its own")
}

func TestAReportSaysWhatTheModuleUsesAndHowItAnswers(t *testing.T) {
	s := newStory(t)
	s.start()
	address := s.order(s.instance("1.5.0"), nil).Address
	for range 9 {
		s.get(address, "/pid")
	}
	status, _ := s.get(address, "/fail")
	require.Equal(t, http.StatusInternalServerError, status)
	p := s.await(func(p target.PlaceReport) bool { return p.Active.Requests == 10 })
	require.Equal(t, int64(1), p.Active.Errors)
	require.Len(t, p.Active.Latency, len(target.LatencyBounds)+1)
	sum := int64(0)
	for _, n := range p.Active.Latency {
		sum += n
	}
	require.Equal(t, int64(10), sum)
	require.Greater(t, p.Active.Memory, int64(1<<20))
	require.Equal(t, "1.5.0", p.Active.Version)
	require.Zero(t, p.Active.Restarts)
	require.Empty(t, p.Refused)
	all := s.server.Reports(storyNode)
	for n := range len(all) - 1 {
		require.Equal(t, all[n].Boot, all[n+1].Boot)
		require.Equal(t, all[n].Seq+1, all[n+1].Seq)
	}
}

func TestGoingBackToAWarmStandbyStartsNothing(t *testing.T) {
	s := newStory(t)
	s.start()
	old, next := s.instance("1.4.2"), s.instance("1.5.0")
	address := s.order(old, next).Address
	first := s.pid(address)
	require.Equal(t, "1.4.2", s.env(address, "VERSION"))
	s.order(next, old)
	second := s.pid(address)
	require.Equal(t, "1.5.0", s.env(address, "VERSION"))
	s.order(old, next)
	require.Equal(t, first, s.pid(address))
	s.order(next, nil)
	require.Equal(t, second, s.pid(address))
	s.requireEnded(first)
}

func TestAnActiveThatIsNeverHealthyLeavesTheOldOneServing(t *testing.T) {
	s := newStory(t)
	s.start()
	old := s.instance("1.4.2")
	address := s.order(old, nil).Address
	pid := s.pid(address)
	broken := s.instance("1.5.0", "-never-healthy")
	broken.Config.StartWithin = 200 * time.Millisecond
	s.sign(broken)
	s.send(broken, nil)
	p := s.await(func(p target.PlaceReport) bool { return p.Refused != "" })
	require.Equal(t, target.NeverHealthy, p.Standby.Reason)
	require.Equal(t, target.Failed, p.Standby.Phase)
	require.Equal(t, broken.Digest, p.Standby.Digest)
	require.Contains(t, p.Standby.Detail, "not healthy within 200ms")
	require.Contains(t, p.Refused, "1.5.0 cannot be had: never-healthy")
	require.True(t, runs(p.Active, old))
	require.Equal(t, pid, s.pid(address))
	s.order(old, nil) // and back, without a restart
	require.Equal(t, pid, s.pid(address))
}

func TestAStandbyIsPreparedAndSeenBesideAnActiveThatCannotBeHad(t *testing.T) {
	for name, serves := range map[string]bool{"nothing serves": false, "an older one serves": true} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			s.o.Restart.Tries = 1
			s.start()
			if serves {
				s.order(s.instance("1.4.2"), nil)
			}
			broken, mended := s.instance("1.5.0", "-exit=no"), s.instance("1.5.1")
			s.send(broken, nil)
			s.await(func(p target.PlaceReport) bool { return p.RefusedFor == broken.Digest })
			s.send(broken, mended)
			p := s.await(func(p target.PlaceReport) bool { return p.Refused != "" && runs(p.Standby, mended) })
			require.Equal(t, broken.Digest, p.RefusedFor)
			s.send(mended, broken)
			p = s.await(func(p target.PlaceReport) bool { return runs(p.Active, mended) })
			require.Empty(t, p.Refused+p.RefusedFor)
		})
	}
}

func TestAModuleThatKeepsExitingFailsWithItsLastWords(t *testing.T) {
	s := newStory(t)
	s.o.Restart.Tries = 2
	s.start()
	s.send(s.instance("1.5.0", "-exit=database is not there"), nil)
	p := s.await(func(p target.PlaceReport) bool { return p.Active != nil && p.Active.Phase == target.Failed })
	require.Equal(t, target.StartFailed, p.Active.Reason)
	require.Equal(t, 2, p.Active.Restarts)
	require.Contains(t, p.Active.Detail, "exited with code 7")
	require.Contains(t, p.Active.Detail, "database is not there")
	log, err := os.ReadFile(filepath.Join(s.o.State, "logs", "production.checkout.log"))
	require.NoError(t, err)
	require.Contains(t, string(log), " 1.5.0 database is not there\n")
}

func TestAModuleThatCrashesIsStartedAgain(t *testing.T) {
	s := newStory(t)
	s.start()
	address := s.order(s.instance("1.5.0"), nil).Address
	pid := s.pid(address)
	status, _ := s.get(address, "/crash")
	require.GreaterOrEqual(t, status, http.StatusBadGateway)
	p := s.await(func(p target.PlaceReport) bool { return p.Active.Restarts == 1 && p.Active.Phase == target.Healthy })
	require.Empty(t, p.Active.Detail)
	require.NotEqual(t, pid, s.pid(address))
}

func TestAFailedModuleIsTriedAgainByANewerOrder(t *testing.T) {
	s := newStory(t)
	s.start()
	i := s.instance("1.5.0")
	path := strings.TrimPrefix(i.Module.Artifact, "file://")
	require.NoError(t, os.Rename(path, path+".away"))
	s.send(i, nil)
	p := s.await(func(p target.PlaceReport) bool { return p.Active != nil && p.Active.Phase == target.Failed })
	require.Equal(t, target.ArtifactMissing, p.Active.Reason)
	require.Contains(t, p.Active.Detail, "does not exist")
	require.NoError(t, os.Rename(path+".away", path))
	s.order(i, nil)
}

func TestAPlaceWithoutAnOrderAnswers503AndRunsNothing(t *testing.T) {
	s := newStory(t)
	s.start()
	address := s.order(s.instance("1.4.2"), s.instance("1.5.0")).Address
	pid := s.pid(address)
	s.order(nil, nil)
	s.requireEnded(pid)
	status, text := s.get(address, "/")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, text, "checkout is not deployed on this node")
}

func TestARequestUnderWayEndsWhereItBegan(t *testing.T) {
	s := newStory(t)
	s.start()
	address := s.order(s.instance("1.4.2"), nil).Address
	pid, private := s.pid(address), s.env(address, "HOTSWAP_ADDRESS")
	resp, err := http.Get("http://" + address + "/hold") // returns with the header
	require.NoError(t, err)
	defer resp.Body.Close()
	s.order(s.instance("1.5.0"), nil)
	require.NotEqual(t, pid, s.pid(address), "new requests go to the new one")
	s.get(private, "/release")
	text, err := bufio.NewReader(resp.Body).ReadString(0)
	require.Equal(t, "released", text, err)
	s.requireEnded(pid)
}

func TestAConnectionThatIsUpgradedPassesThrough(t *testing.T) {
	s := newStory(t)
	s.start()
	address := s.order(s.instance("1.5.0"), nil).Address
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = fmt.Fprint(conn, "GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	require.NoError(t, err)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	_, err = fmt.Fprint(conn, "hello\n")
	require.NoError(t, err)
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "echo hello\n", line)
}

func TestAllThatAModuleHasStartedEndsWithIt(t *testing.T) {
	s := newStory(t)
	s.start()
	i := s.instance("1.5.0", "-children", "-ignore-term")
	i.Config.Drain = 50 * time.Millisecond
	s.sign(i)
	address := s.order(i, nil).Address
	marker := s.env(address, markerVariable)
	require.Len(t, processesOf(t, marker), 3, "the module, a child and a daemon")
	s.order(nil, nil)
	require.Eventually(t, func() bool { return len(processesOf(t, marker)) == 0 }, 10*time.Second, 10*time.Millisecond)
}

func processesOf(t *testing.T, marker string) []int {
	t.Helper()
	all, err := pids()
	require.NoError(t, err)
	var out []int
	for _, pid := range all {
		if value, ok := marked(pid, marker); ok && value == marker {
			if s, err := readStat(pid); err == nil && !s.Zombie {
				out = append(out, pid)
			}
		}
	}
	return out
}

func TestAPortThatIsTakenFailsTheNewOneAndKeepsTheOld(t *testing.T) {
	s := newStory(t)
	s.start()
	old := s.instance("1.4.2")
	address := s.order(old, nil).Address
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	next := s.instance("1.5.0")
	next.Config.Port = taken.Addr().(*net.TCPAddr).Port
	s.sign(next)
	s.send(next, nil)
	p := s.await(func(p target.PlaceReport) bool { return p.Standby != nil && p.Standby.Phase == target.Failed })
	require.Equal(t, target.AddressUnavailable, p.Standby.Reason)
	require.Contains(t, p.Refused, "address already in use")
	require.True(t, runs(p.Active, old))
	require.Equal(t, "1.4.2", s.env(address, "VERSION"))

	require.NoError(t, taken.Close()) // and by itself as soon as the port is free
	p = s.await(func(p target.PlaceReport) bool { return runs(p.Active, next) })
	require.Equal(t, taken.Addr().String(), p.Address)
	require.Equal(t, "1.5.0", s.env(p.Address, "VERSION"))
}

func TestARouteSaysWhereADeploymentIsServed(t *testing.T) {
	port, err := newPorts().take()
	require.NoError(t, err)
	s := newStory(t)
	s.o.Routes = map[string]string{"checkout": fmt.Sprintf("localhost:%d", port)}
	s.start()
	p := s.order(s.instance("1.5.0"), nil)
	require.Equal(t, fmt.Sprintf("127.0.0.1:%d", port), p.Address)
	s.order(s.instance("1.4.2"), nil)
}

func TestAnAgentThatStartsAgainServesOnTheSameAddressWithoutTheServer(t *testing.T) {
	s := newStory(t)
	s.start()
	address := s.order(s.instance("1.4.2"), nil).Address
	pid := s.pid(address)
	s.stop()
	s.requireEnded(pid)
	s.server.Close()
	s.start()
	s.awaitAnswer(address)
}

func TestWhatServedServesAgainWhileTheNewOneCannotBeHad(t *testing.T) {
	s := newStory(t)
	s.start()
	old := s.instance("1.4.2")
	address := s.order(old, nil).Address
	s.send(s.instance("1.5.0", "-exit=no"), nil)
	s.await(func(p target.PlaceReport) bool { return p.Standby != nil && p.Standby.Phase == target.Failed })
	s.stop()
	s.start()
	s.awaitAnswer(address)
	require.Equal(t, "1.4.2", s.env(address, "VERSION"))
}

func TestAnAgentThatEndsLetsRequestsFinish(t *testing.T) {
	s := newStory(t)
	running := s.run()
	defer running.cancel()
	address := s.order(s.instance("1.5.0"), nil).Address
	private := s.env(address, "HOTSWAP_ADDRESS")
	resp, err := http.Get("http://" + address + "/hold")
	require.NoError(t, err)
	defer resp.Body.Close()
	running.cancel()
	require.Eventually(t, func() bool { // it accepts no more
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err != nil
	}, 10*time.Second, time.Millisecond)
	s.get(private, "/release")
	text, err := bufio.NewReader(resp.Body).ReadString(0)
	require.Equal(t, "released", text, err)
	require.NoError(t, running.wait(t))
}
