package swap

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/target"
)

func digestOf(path string) (string, error) {
	raw, err := os.ReadFile(path)
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:]), err
}

func TestNoRequestFailsWhileVersionsAreSwappedTwoHundredTimes(t *testing.T) {
	s := newStage(t)
	agent := s.agent(false)
	old, next := s.instance("1.4.2"), s.instance("1.5.0")
	address := s.order(old, nil).Address
	load := s.load(address)
	begun := time.Now()
	for n := range 100 {
		if n%4 == 3 { // nothing kept warm: each time a process starts, and one ends
			s.order(next, nil)
			s.order(old, nil)
			continue
		}
		s.order(next, old)
		s.order(old, next)
	}
	t.Logf("200 swaps took %s", time.Since(begun))
	r := s.result(load)
	require.Zero(t, r.Failed, r.FirstError)
	require.Greater(t, r.Requests, int64(500))
	require.Greater(t, r.Versions["1.4.2"], int64(50))
	require.Greater(t, r.Versions["1.5.0"], int64(50))
	require.Empty(t, s.server.Refused())
	s.end(agent)
	s.requireGone()
}

func TestNoRequestFailsWhileTheAgentIsReplacedAgainAndAgain(t *testing.T) {
	s := newStage(t)
	agent := s.agent(false)
	old, next := s.instance("1.4.2"), s.instance("1.5.0")
	address := s.order(old, next).Address
	load := s.load(address)
	for n := range 8 {
		successor := s.agent(n%2 == 0)
		s.ended(agent)
		agent = successor
		wanted := old
		if n%2 == 0 {
			wanted = next
			s.order(next, old)
		} else {
			s.order(old, next)
		}
		s.await(func(p target.PlaceReport) bool { return p.Active.Digest == wanted.Digest && p.Active.Requests >= 70 })
		require.Len(t, s.modules(), 2, "the former agent's processes are gone")
	}
	r := s.result(load)
	require.Zero(t, r.Failed, r.FirstError)
	require.Greater(t, r.Requests, int64(500))
	require.Greater(t, r.Versions["1.4.2"], int64(50))
	require.Greater(t, r.Versions["1.5.0"], int64(50))
	require.Equal(t, 1, s.server.Joins(), "a new agent is the same node")
	s.end(agent)
	s.requireGone()
}

func TestAKilledAgentLeavesNothingAndComesBackWithoutTheServer(t *testing.T) {
	s := newStage(t)
	agent := s.agent(false)
	address := s.order(s.instance("1.4.2"), s.instance("1.5.0")).Address
	require.True(t, answers(address))
	require.Len(t, s.modules(), 2)

	require.NoError(t, agent.cmd.Process.Signal(syscall.SIGKILL))
	<-agent.done
	s.requireGone()

	s.server.Close()
	again := s.agent(false)
	require.Eventually(t, func() bool { return answers(address) }, 20*time.Second, 20*time.Millisecond, "on the same address")
	s.end(again)
	s.requireGone()
}

func TestAnAgentThatWasAskedToTakeOverFromNobodySaysSo(t *testing.T) {
	s := newStage(t)
	agent := s.agent(true)
	<-agent.done
	require.Error(t, agent.err)
	require.Contains(t, agent.stderr.String(), "no agent lives on the state folder")
}

func TestASuccessorThatCannotServeLeavesEverythingAsItWas(t *testing.T) {
	s := newStage(t)
	agent := s.agent(false)
	old := s.instance("1.4.2", "-ready-after=1ms")
	address := s.order(old, nil).Address
	load := s.load(address)

	trusted := s.settings.Trusted
	s.settings.Trusted = make([]byte, len(trusted)) // the successor would not run the module
	successor := s.agent(true)
	<-successor.done
	require.Error(t, successor.err)
	require.Contains(t, successor.stderr.String(), string(target.SignatureInvalid))
	s.settings.Trusted = trusted

	s.order(s.instance("1.5.0"), nil) // the first one obeys again
	r := s.result(load)
	require.Zero(t, r.Failed, r.FirstError)
	require.Positive(t, r.Versions["1.5.0"])
	s.end(agent)
	s.requireGone()
}
