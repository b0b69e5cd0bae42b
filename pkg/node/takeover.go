package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// ErrNobody means that a takeover was asked for and there is no agent to take
// over from.
var ErrNobody = errors.New("no agent lives on the state folder")

// errGone means that the agent before has ended without handing over.
var errGone = errors.New("the agent before has ended")

const knockTime = 30 * time.Second // for an agent that starts or ends to answer or go

// takeFolder takes the lock, or begins to take over from the agent that holds
// it, which obeys no more when takeFolder returns.
func (a *Agent) takeFolder(ctx context.Context) (*predecessor, error) {
	ctx, cancel := context.WithTimeout(ctx, knockTime)
	defer cancel()
	for {
		lock, err := lockFolder(a.o.State)
		if err == nil {
			if a.o.Takeover {
				lock.Close()
				return nil, ErrNobody
			}
			a.lock = lock
			return nil, nil
		}
		if !errors.Is(err, ErrLocked) {
			return nil, err
		}
		before, knockErr := knock(a.o.State)
		if knockErr == nil {
			return before, nil
		}
		a.log.Debug("no answer yet", "error", knockErr)
		if sleep(ctx, 100*time.Millisecond) != nil {
			return nil, fmt.Errorf("%w: %w", err, knockErr)
		}
	}
}

// knock asks the agent that lives to begin.
func knock(folder string) (*predecessor, error) {
	var conn *net.UnixConn
	err := inFolder(folder, func(short string) (err error) {
		conn, err = net.DialUnix(socketFamily, nil, &net.UnixAddr{Net: socketFamily, Name: filepath.Join(short, socketFile)})
		return err
	})
	if err != nil {
		return nil, err
	}
	before := &predecessor{conn: conn}
	if err := before.begin(); err != nil {
		conn.Close()
		return nil, err
	}
	return before, nil
}

func (p *predecessor) begin() error {
	if err := send(p.conn, message{Op: "begin"}, nil); err != nil {
		return err
	}
	for {
		m, f, err := receive(p.conn, messageTime)
		if f != nil {
			f.Close()
		}
		switch {
		case err != nil:
			return err
		case m.Op == "ready":
			return nil
		case m.Op == "place" && m.Place != nil:
			p.healthy = append(p.healthy, *m.Place)
		default:
			return fmt.Errorf("the other agent says %q", m.Op)
		}
	}
}

// takeOver waits until whatever the predecessor serves well is served well here
// too, and then takes lock and listeners. Nothing has changed for the predecessor
// if it fails.
func (a *Agent) takeOver(ctx context.Context, before *predecessor) error {
	if err := a.waitHealthy(ctx, before); err != nil {
		return err
	}
	if err := send(before.conn, message{Op: "take"}, nil); err != nil {
		return err
	}
	if err := a.receiveAll(before); err != nil {
		return err
	}
	for _, p := range a.allPlaces() {
		p.reconcile() // serves on what it inherited
		p.closeInherited()
	}
	if err := send(before.conn, message{Op: "done"}, nil); err != nil {
		return err
	}
	a.log.Info("took over")
	return nil
}

func (a *Agent) waitHealthy(ctx context.Context, before *predecessor) error {
	gone := make(chan error, 1)
	go func() { // the predecessor says nothing until it is asked: whatever comes is its end
		_, err := peek(before)
		gone <- err
	}()
	defer func() { // again and again: the goroutine may set its own deadline only now
		for ended := false; !ended; {
			_ = before.conn.SetReadDeadline(time.Now())
			select {
			case <-gone:
				ended = true
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	for {
		waiting, err := a.notHealthy(before)
		if err != nil || len(waiting) == 0 {
			return err
		}
		select {
		case err := <-gone:
			gone <- err
			return fmt.Errorf("%w: %w", errGone, err)
		case <-ctx.Done():
			return ctx.Err()
		case <-a.kick: // told after every change of an instance
		}
	}
}

// goOnAlone takes the folder of an agent that ended during the hand-over. It had
// stopped obeying, so what was read of its state is still true.
func (a *Agent) goOnAlone(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, knockTime)
	defer cancel()
	for {
		lock, err := lockFolder(a.o.State)
		if err == nil {
			a.lock = lock
			return a.clean(ctx, a.m.agent)
		}
		if !errors.Is(err, ErrLocked) || sleep(ctx, 50*time.Millisecond) != nil {
			return err
		}
	}
}

func peek(before *predecessor) (message, error) {
	m, f, err := receive(before.conn, prepareTime)
	if f != nil {
		f.Close()
	}
	return m, err
}

// notHealthy lists the places that are still to wait for.
func (a *Agent) notHealthy(before *predecessor) ([]string, error) {
	var waiting []string
	for _, p := range a.allPlaces() {
		if !slices.Contains(before.healthy, p.key) {
			continue
		}
		switch serving, healthy, failed := p.servingHealth(); {
		case failed:
			_, f := p.serving.status()
			return nil, fmt.Errorf("%s cannot be started here, and the agent before serves it: %w", placeName(p.key), f)
		case serving && !healthy:
			waiting = append(waiting, placeName(p.key))
		}
	}
	return waiting, nil
}

// receiveAll takes the lock and the listeners.
func (a *Agent) receiveAll(before *predecessor) error {
	for {
		m, f, err := receive(before.conn, messageTime)
		if err != nil {
			return err
		}
		switch {
		case m.Op == "end":
			if a.lock == nil {
				return errors.New("the agent before has not given the lock")
			}
			return nil
		case f == nil:
			return fmt.Errorf("the agent before says %q without a descriptor", m.Op)
		case m.Op == "lock":
			a.lock = f
		case m.Op == "listener" && m.Place != nil:
			if err := a.inherit(m, f); err != nil {
				return err
			}
		default:
			f.Close()
		}
	}
}

func (a *Agent) inherit(m message, f *os.File) error {
	defer f.Close() // FileListener duplicates it
	l, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("take listener of %s: %w", placeName(*m.Place), err)
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		l.Close()
		return fmt.Errorf("take listener of %s: it is a %T", placeName(*m.Place), l)
	}
	a.place(*m.Place).inherit(m.Address, tcp)
	return nil
}

// outlive waits for the end of the agent before and removes what it has left.
func (a *Agent) outlive(ctx context.Context, before *predecessor) {
	unblock := context.AfterFunc(ctx, func() { _ = before.conn.SetReadDeadline(time.Now()) })
	defer unblock()
	_, f, _ := receive(before.conn, prepareTime)
	if f != nil {
		f.Close()
	}
	if ctx.Err() != nil {
		return
	}
	if err := a.clean(ctx, a.m.agent); err != nil {
		a.log.Warn("cannot clean up after the agent before", "error", err)
	}
}
