package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hotswap.dev/hotswap/pkg/target"
)

// The hand-over of a state folder from one agent to the next, over a socket in it:
//
//	next                      agent that lives
//	begin            ──▶      stops obeying, makes no decision any more, serves on
//	                 ◀──      place …   one per place that serves and is healthy
//	                 ◀──      ready
//	starts its own instances, waits until they are healthy
//	take             ──▶
//	                 ◀──      lock      with the open lock file
//	                 ◀──      listener … one per place, with the listening socket
//	                 ◀──      end
//	serves on them
//	done             ──▶      stops accepting, lets requests finish, ends its instances,
//	                          and ends
//
// If the connection ends before done, the agent that lives obeys again.

// errHandedOver ends an agent whose folder another one has taken.
var errHandedOver = errors.New("handed over")

const (
	socketFile   = "agent.sock"
	socketMode   = 0o600
	maxMessage   = 8 << 10          // bytes
	prepareTime  = 15 * time.Minute // for the next agent to become healthy
	messageTime  = 30 * time.Second // between messages otherwise
	socketFamily = "unixpacket"     // keeps messages apart, and descriptors with theirs
)

// A message is what the two say; fields that do not belong to Op are empty.
type message struct {
	Op      string        `json:"op"`
	Place   *target.Place `json:"place,omitempty"`
	Address string        `json:"address,omitempty"`
}

// A door is where the next agent knocks.
type door struct{ listener *net.UnixListener }

// openDoor replaces the socket of the state folder by one of this agent.
func openDoor(folder string) (*door, error) {
	next := socketFile + "." + strconv.Itoa(os.Getpid())
	_ = os.Remove(filepath.Join(folder, next))
	var l *net.UnixListener
	err := inFolder(folder, func(short string) (err error) {
		l, err = net.ListenUnix(socketFamily, &net.UnixAddr{Net: socketFamily, Name: filepath.Join(short, next)})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open hand-over socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // by then the name may be the next agent's
	if err = os.Chmod(filepath.Join(folder, next), socketMode); err == nil {
		err = os.Rename(filepath.Join(folder, next), filepath.Join(folder, socketFile))
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("open hand-over socket: %w", err)
	}
	return &door{l}, nil
}

func (d *door) close() { d.listener.Close() }

// inFolder calls f with a short name of folder: a socket's path has at most 107 bytes.
func inFolder(folder string, f func(short string) error) error {
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer d.Close()
	return f("/proc/self/fd/" + strconv.Itoa(int(d.Fd())))
}

// answerDoor serves one knocking agent after the other until one has taken over.
func (a *Agent) answerDoor(ctx context.Context, d *door, stop context.CancelCauseFunc) {
	for {
		conn, err := d.listener.AcceptUnix()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) && sleep(ctx, time.Second) == nil {
				continue
			}
			return
		}
		if err := samePerson(conn); err != nil {
			a.log.Warn("hand-over refused", "error", err)
			conn.Close()
			continue
		}
		if err := a.handOver(ctx, conn); err != nil {
			conn.Close()
			if ctx.Err() == nil {
				a.log.Warn("hand-over came to nothing", "error", err)
			}
			continue
		}
		a.successor = conn // stays open: its end tells the next agent of ours
		stop(errHandedOver)
		return
	}
}

// samePerson refuses whoever is neither root nor the user of this process.
func samePerson(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var who *unix.Ucred
	var whoErr error
	err = raw.Control(func(fd uintptr) { who, whoErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, whoErr); err != nil {
		return err
	}
	if who.Uid != 0 && int(who.Uid) != os.Geteuid() {
		return fmt.Errorf("user %d may not take over", who.Uid)
	}
	return nil
}

// handOver returns nil if the other agent has everything. Otherwise this one
// obeys again.
func (a *Agent) handOver(ctx context.Context, conn *net.UnixConn) (err error) {
	unblock := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer unblock()
	if err := expect(conn, "begin", messageTime); err != nil {
		return err
	}
	a.log.Info("another agent takes over")
	a.obeying.stop()
	places := a.allPlaces()
	for _, p := range places {
		p.freeze()
	}
	defer func() {
		if err != nil && ctx.Err() == nil {
			for _, p := range places {
				p.thaw()
			}
			a.obeying.resume()
		}
	}()
	for _, p := range places {
		if serving, healthy, _ := p.servingHealth(); serving && healthy {
			if err := send(conn, message{Op: "place", Place: &p.key}, nil); err != nil {
				return err
			}
		}
	}
	if err := send(conn, message{Op: "ready"}, nil); err != nil {
		return err
	}
	if err := expect(conn, "take", prepareTime); err != nil {
		return err
	}
	if err := a.sendAll(conn, places); err != nil {
		return err
	}
	return expect(conn, "done", messageTime)
}

func (a *Agent) sendAll(conn *net.UnixConn, places []*runningPlace) error {
	if err := send(conn, message{Op: "lock"}, a.lock); err != nil {
		return err
	}
	for _, p := range places {
		asked, l := p.listening()
		if l == nil {
			continue
		}
		if err := send(conn, message{Op: "listener", Place: &p.key, Address: asked}, l); err != nil {
			return err
		}
	}
	return send(conn, message{Op: "end"}, nil)
}

func expect(conn *net.UnixConn, op string, within time.Duration) error {
	m, f, err := receive(conn, within)
	if f != nil {
		f.Close()
	}
	if err != nil {
		return fmt.Errorf("wait for %s: %w", op, err)
	}
	if m.Op != op {
		return fmt.Errorf("the other agent says %q, not %q", m.Op, op)
	}
	return nil
}

// send writes one message, with a descriptor if there is one. The descriptor is
// taken by Control, because File would set the socket that is still in use to
// blocking.
func send(conn *net.UnixConn, m message, with syscall.Conn) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(messageTime)); err != nil {
		return err
	}
	if with == nil {
		_, _, err = conn.WriteMsgUnix(raw, nil, nil)
		return err
	}
	c, err := with.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = c.Control(func(fd uintptr) { _, _, sendErr = conn.WriteMsgUnix(raw, unix.UnixRights(int(fd)), nil) })
	return errors.Join(err, sendErr)
}

// receive reads one message and the descriptor that came with it, or nil.
func receive(conn *net.UnixConn, within time.Duration) (message, *os.File, error) {
	if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return message{}, nil, err
	}
	raw, rights := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
	n, nRights, _, _, err := conn.ReadMsgUnix(raw, rights)
	if err != nil {
		return message{}, nil, err
	}
	file, err := descriptor(rights[:nRights])
	if err != nil {
		return message{}, nil, err
	}
	var m message
	if err := json.Unmarshal(raw[:n], &m); err != nil {
		if file != nil {
			file.Close()
		}
		return message{}, nil, err
	}
	return m, file, nil
}

func descriptor(rights []byte) (*os.File, error) {
	if len(rights) == 0 {
		return nil, nil
	}
	control, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(control) != 1 {
		return nil, fmt.Errorf("descriptor: %d control messages: %w", len(control), err)
	}
	fds, err := unix.ParseUnixRights(&control[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("descriptor: %d of them: %w", len(fds), err)
	}
	unix.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), "handed-over"), nil
}

// A predecessor is the agent that lived on the state folder before this one.
type predecessor struct {
	conn    *net.UnixConn
	healthy []target.Place // that it serves, and well
	once    sync.Once
}

func (p *predecessor) close() { p.once.Do(func() { p.conn.Close() }) }
