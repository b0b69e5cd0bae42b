// Package wire is a proxy between a program and PostgreSQL that can break any single round trip: before the server
// sees it, after the server acted, or by holding it until somebody else is done. A test that breaks every round trip
// of a piece of work in turn finds what a storm of random kills does not.
//
// A round trip is what a frontend sends up to and including a Sync or a simple Query, until the ReadyForQuery that
// answers it (PostgreSQL 15, "Frontend/Backend Protocol", version 3.0). Pipelined round trips are served one after
// the other. Connecting and authenticating, cancelling and terminating pass uncounted. COPY FROM STDIN is not
// understood: it hangs.
package wire

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
)

// Mode says how a round trip is broken.
type Mode int

const (
	// CutBefore drops the connection; the server never sees the round trip.
	CutBefore Mode = iota + 1
	// CutAfter lets the server answer in full, and drops the connection without passing the answer on.
	CutAfter
	// Hold keeps the round trip from the server until Release, even when the client has gone by then: what was sent is
	// still on its way. From then until the next Arm, requests to cancel are lost (pgx sends one when a context ends).
	Hold
	// HoldAfter lets the server answer in full, and keeps the answer until Release. Requests to cancel: see Hold.
	HoldAfter
)

// String names the mode for the name of a test.
func (m Mode) String() string {
	switch m {
	case CutBefore:
		return "cut before"
	case CutAfter:
		return "cut after"
	case Hold:
		return "hold"
	case HoldAfter:
		return "hold after"
	}
	return "pass"
}

// Trip is one round trip that was started, broken or not.
type Trip struct {
	Number     int    // from 1, over all connections
	Connection int    // from 1, in the order of connecting
	Label      string // what it asks, for example "commit" or "INSERT INTO t VALUES ($1)", at most 120 bytes
}

// maxTrips bounds what is recorded.
const maxTrips = 100_000

// Proxy listens on a unix socket of its own and forwards to a server's. One for each worker tells workers apart.
type Proxy struct {
	dir      string
	upstream string
	listener net.Listener
	closed   chan struct{}
	running  sync.WaitGroup

	mu          sync.Mutex
	trips       []Trip
	count       int
	connections int
	open        map[net.Conn]bool
	trap        *trap
}

// trap is what Arm set up.
type trap struct {
	at       int // number of the round trip
	mode     Mode
	fired    bool
	held     chan struct{} // closed when the round trip is held
	released chan struct{} // closed by Release
	once     sync.Once
}

func (t *trap) release() { t.once.Do(func() { close(t.released) }) }

func newTrap(at int, mode Mode) *trap {
	return &trap{at: at, mode: mode, held: make(chan struct{}), released: make(chan struct{})}
}

// New starts a proxy to the server's unix socket, for example /run/postgresql/.s.PGSQL.5432. [Proxy.Close] ends it.
func New(upstream string) (*Proxy, error) {
	dir, err := os.MkdirTemp("", "wire-")
	if err != nil {
		return nil, fmt.Errorf("wire proxy: %w", err)
	}
	listener, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("wire proxy: %w", err)
	}
	p := &Proxy{
		dir: dir, upstream: upstream, listener: listener, closed: make(chan struct{}),
		open: make(map[net.Conn]bool), trap: newTrap(0, 0),
	}
	p.running.Go(p.accept)
	return p, nil
}

// Host is what a client connects to: host=… in a DSN; the port is 5432.
func (p *Proxy) Host() string { return p.dir }

// Close ends every connection and waits for all goroutines.
func (p *Proxy) Close() {
	p.mu.Lock()
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	for c := range p.open {
		_ = c.Close()
	}
	p.mu.Unlock()
	_ = p.listener.Close()
	p.running.Wait()
	_ = os.RemoveAll(p.dir)
}

// Arm breaks the n-th round trip from now on, counted from 1 over all connections, once. It takes the place of what
// was armed before, and releases what that held.
func (p *Proxy) Arm(n int, mode Mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trap.release()
	p.trap = newTrap(p.count+n, mode)
}

// Disarm lets everything pass.
func (p *Proxy) Disarm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trap.release()
	p.trap = newTrap(0, 0)
}

// Fired reports whether the armed round trip came: when it did not, there are fewer of them.
func (p *Proxy) Fired() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trap.fired
}

// Held is closed when the armed round trip is held; with HoldAfter, when the server has answered it.
func (p *Proxy) Held() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trap.held
}

// Release lets the held round trip, or the answer, go on. Before anything is held, it lets it pass when it comes.
func (p *Proxy) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trap.release()
}

// Count is the number of round trips that were started.
func (p *Proxy) Count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// Trips are the round trips after number after, in their order.
func (p *Proxy) Trips(after int) []Trip {
	p.mu.Lock()
	defer p.mu.Unlock()
	if after >= len(p.trips) {
		return nil
	}
	return append([]Trip(nil), p.trips[after:]...)
}

// begin counts a round trip and returns the trap if it is the armed one.
func (p *Proxy) begin(connection int, label string) *trap {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	if len(p.trips) < maxTrips {
		p.trips = append(p.trips, Trip{Number: p.count, Connection: connection, Label: label})
	}
	if p.trap.at != p.count {
		return nil
	}
	p.trap.fired = true
	return p.trap
}

// holding reports whether a round trip was held since the last Arm.
func (p *Proxy) holding() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trap.fired && (p.trap.mode == Hold || p.trap.mode == HoldAfter)
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() {
			defer p.forget(client)
			if number, ok := p.remember(client); ok {
				p.serve(client, number)
			}
		})
	}
}

// remember makes Close reach the connection; false when the proxy is closed already.
func (p *Proxy) remember(c net.Conn) (number int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.closed:
		return 0, false
	default:
	}
	p.open[c] = true
	p.connections++
	return p.connections, true
}

func (p *Proxy) forget(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}
