package node

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/target"
)

func TestOnlyOneAgentObeysAndTheFirstGoesOnIfTheSecondGivesUp(t *testing.T) {
	s := newStory(t)
	s.start()
	old := s.instance("1.4.2")
	address := s.order(old, nil).Address
	second, err := knock(s.o.State)
	require.NoError(t, err)
	require.Equal(t, []target.Place{testPlace}, second.healthy)

	before, err := os.ReadFile(filepath.Join(s.o.State, stateFile))
	require.NoError(t, err)
	s.send(s.instance("1.5.0"), nil)
	at := len(s.server.Reports(storyNode))
	require.Eventually(t, func() bool { return len(s.server.Reports(storyNode)) > at+3 }, 10*time.Second, time.Millisecond)
	after, err := os.ReadFile(filepath.Join(s.o.State, stateFile))
	require.NoError(t, err)
	require.Equal(t, string(before), string(after), "nothing is obeyed meanwhile")
	require.Equal(t, "1.4.2", s.env(address, "VERSION"), "and what runs serves on")

	second.close()
	s.await(func(p target.PlaceReport) bool { return p.Active != nil && p.Active.Version == "1.5.0" })
}

func TestASecondAgentTakesOverListenersStateAndLock(t *testing.T) {
	s := newStory(t)
	first := s.run()
	defer first.cancel()
	old, next := s.instance("1.4.2"), s.instance("1.5.0")
	address := s.order(old, next).Address
	pid := s.pid(address)
	s.o.Takeover = true
	s.start()
	require.NoError(t, first.wait(t), "the first one ends by itself, well")
	require.NotEqual(t, pid, s.pid(address))
	s.requireEnded(pid)
	_, err := lockFolder(s.o.State)
	require.ErrorIs(t, err, ErrLocked)
	require.Equal(t, address, s.order(next, old).Address)
	require.Equal(t, 1, s.server.Joins())
}

func TestAnAgentWhosePredecessorDiesDuringTheHandOverGoesOnAlone(t *testing.T) {
	s := newStory(t)
	s.start()
	address := s.order(s.instance("1.4.2"), nil).Address
	s.stop()

	lock, err := lockFolder(s.o.State)
	require.NoError(t, err)
	d, err := openDoor(s.o.State)
	require.NoError(t, err)
	died := make(chan error, 1)
	go func() { // a predecessor that says it serves, and then is no more
		conn, err := d.listener.AcceptUnix()
		if err == nil {
			err = expect(conn, "begin", 10*time.Second)
		}
		if err == nil {
			err = send(conn, message{Op: "place", Place: &testPlace}, nil)
		}
		if err == nil {
			err = send(conn, message{Op: "ready"}, nil)
		}
		lock.Close()
		d.close()
		conn.Close()
		died <- err
	}()
	s.start()
	require.NoError(t, <-died)
	s.awaitAnswer(address)
	s.order(s.instance("1.5.0"), nil)
}

func TestAnAgentThatNeitherAnswersNorEndsIsNotReplaced(t *testing.T) {
	s := newStory(t)
	require.NoError(t, openFolders(s.o.State))
	lock, err := lockFolder(s.o.State)
	require.NoError(t, err)
	defer lock.Close()
	running := s.run()
	running.cancel() // as after knockTime
	require.ErrorIs(t, running.wait(t), ErrLocked)
}

func TestTheDoorIsClosedToOthersAndItsNameMayBeLong(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "a-folder-with-a-name-that-is-longer-than-any-socket-may-have",
		"and-another-one-so-that-the-path-as-a-whole-does-not-fit-into-one-hundred-and-eight-bytes")
	require.NoError(t, os.MkdirAll(folder, 0o700))
	d, err := openDoor(folder)
	require.NoError(t, err)
	defer d.close()
	info, err := os.Stat(filepath.Join(folder, socketFile))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(socketMode), info.Mode().Perm())
	again, err := openDoor(folder) // a successor replaces it
	require.NoError(t, err)
	defer again.close()
	accepted := make(chan error, 1)
	go func() {
		conn, err := again.listener.AcceptUnix()
		if err == nil {
			err = samePerson(conn)
			conn.Close()
		}
		accepted <- err
	}()
	_, err = knock(folder)
	require.Error(t, err, "it hangs up")
	require.NoError(t, <-accepted)
}

func TestADescriptorArrivesWithItsMessage(t *testing.T) {
	folder := t.TempDir()
	d, err := openDoor(folder)
	require.NoError(t, err)
	defer d.close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		conn, err := d.listener.AcceptUnix()
		if err != nil {
			return
		}
		_ = send(conn, message{Op: "listener", Place: &testPlace, Address: "x:1"}, l.(*net.TCPListener))
		conn.Close()
	}()
	conn, err := net.DialUnix(socketFamily, nil, &net.UnixAddr{Net: socketFamily, Name: filepath.Join(folder, socketFile)})
	require.NoError(t, err)
	defer conn.Close()
	m, f, err := receive(conn, 10*time.Second)
	require.NoError(t, err)
	require.Equal(t, message{Op: "listener", Place: &testPlace, Address: "x:1"}, m)
	defer f.Close()
	got, err := net.FileListener(f)
	require.NoError(t, err)
	defer got.Close()
	require.Equal(t, l.Addr().String(), got.Addr().String())
	_, _, err = receive(conn, 10*time.Second)
	require.Error(t, err, "the end is an error")
}
