package wire

import (
	"bufio"
	"encoding/binary"
	"net"
	"sync"
	"time"
)

// connection relays one client. The client's frames are read ahead without bound, so that a client that writes a long
// pipeline before it reads never blocks.
type connection struct {
	proxy  *Proxy
	number int
	client net.Conn
	server net.Conn
	in     *bufio.Reader // of the client
	out    *bufio.Reader // of the server

	incoming queue
	answered chan struct{} // one for each ReadyForQuery; closed with the server's connection

	mu     sync.Mutex // guards writing to the client, and what follows
	keep   bool       // the answer is kept back
	answer []byte     // what was kept
}

// serve opens a connection for a client and relays until one side ends.
func (p *Proxy) serve(client net.Conn, number int) {
	c := &connection{proxy: p, number: number, client: client, in: bufio.NewReader(client), answered: make(chan struct{}, 1)}
	startup, ok := c.opening()
	if !ok {
		return
	}
	defer p.forget(c.server)
	if !c.authenticate(startup) {
		return
	}
	c.incoming.more = make(chan struct{}, 1)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer c.drop()
	readers.Go(c.readClient)
	readers.Go(c.readServer)
	c.relay()
}

func (c *connection) drop() {
	_ = c.client.Close()
	_ = c.server.Close()
}

// opening answers requests for encryption with no, passes a cancel request on, and connects to the server.
func (c *connection) opening() (startup frame, ok bool) {
	for {
		f, code, err := readUntyped(c.in)
		if err != nil {
			return frame{}, false
		}
		switch code {
		case codeSSL, codeGSS:
			if _, err := c.client.Write([]byte{'N'}); err != nil {
				return frame{}, false
			}
			continue
		case codeVersion:
		case codeCancel:
			if c.proxy.holding() {
				return frame{}, false
			}
		default:
			return frame{}, false
		}
		c.server, err = net.DialTimeout("unix", c.proxy.upstream, 5*time.Second)
		if err != nil {
			return frame{}, false
		}
		c.proxy.mu.Lock()
		c.proxy.open[c.server] = true
		c.proxy.mu.Unlock()
		c.out = bufio.NewReader(c.server)
		if code == codeVersion {
			return f, true
		}
		_, _ = c.server.Write(f.raw)
		_, _ = c.out.ReadByte() // the server hangs up when the cancel request is done
		c.proxy.forget(c.server)
		return frame{}, false
	}
}

// authenticate relays until the server is ready for the first query.
func (c *connection) authenticate(startup frame) bool {
	if _, err := c.server.Write(startup.raw); err != nil {
		return false
	}
	for {
		f, err := readFrame(c.out)
		if err != nil {
			return false
		}
		if _, err := c.client.Write(f.raw); err != nil {
			return false
		}
		switch {
		case f.kind == 'Z':
			return true
		case f.kind == 'R' && wantsAnswer(f):
			answer, err := readFrame(c.in)
			if err != nil {
				return false
			}
			if _, err := c.server.Write(answer.raw); err != nil {
				return false
			}
		}
	}
}

// wantsAnswer: all authentication requests do but AuthenticationOk (0) and AuthenticationSASLFinal (12).
func wantsAnswer(f frame) bool {
	if len(f.body()) < 4 {
		return false
	}
	code := binary.BigEndian.Uint32(f.body())
	return code != 0 && code != 12
}

// readClient queues the client's frames in parts: up to a Sync, Query, function call, Flush or Terminate.
func (c *connection) readClient() {
	defer c.incoming.end()
	var frames []frame
	for {
		f, err := readFrame(c.in)
		if err != nil {
			return // an unfinished part is dropped, as with a broken connection
		}
		frames = append(frames, f)
		switch f.kind {
		case 'Q', 'S', 'F', 'H', 'X':
			c.incoming.put(frames)
			frames = nil
		}
	}
}

// readServer passes the server's messages on, or keeps them back.
func (c *connection) readServer() {
	defer close(c.answered)
	for {
		f, err := readFrame(c.out)
		if err != nil {
			_ = c.client.Close()
			return
		}
		c.mu.Lock()
		if c.keep {
			c.answer = append(c.answer, f.raw...)
		} else {
			_, _ = c.client.Write(f.raw) // when the client has gone, the server is still heard to the end
		}
		c.mu.Unlock()
		if f.kind == 'Z' {
			c.answered <- struct{}{}
		}
	}
}

// relay takes the client's round trips one by one until somebody hangs up.
func (c *connection) relay() {
	names := labels{prepared: make(map[string]string)}
	var trap *trap
	fresh := true // the next part begins a round trip
	for {
		part, ok := c.incoming.take()
		if !ok {
			return
		}
		last := part[len(part)-1].kind
		if last == 'X' {
			c.forward(part)
			return
		}
		if label := names.describe(part); fresh {
			if trap = c.proxy.begin(c.number, label); trap != nil && !c.before(trap) {
				return
			}
		}
		if fresh = last != 'H'; fresh {
			c.keepBack(trap)
		}
		if !c.forward(part) {
			return
		}
		if fresh && !c.after(trap) {
			return
		}
	}
}

func (c *connection) forward(part []frame) bool {
	for _, f := range part {
		if _, err := c.server.Write(f.raw); err != nil {
			return false
		}
	}
	return true
}

// before does what the trap asks before the server sees anything; false drops the connection.
func (c *connection) before(t *trap) bool {
	switch t.mode {
	case CutBefore:
		return false
	case Hold:
		close(t.held)
		return c.await(t)
	}
	return true
}

// keepBack starts to keep the answer when the trap needs it. Answers to a Flush have passed before: the client needs
// them to go on to its Sync.
func (c *connection) keepBack(t *trap) {
	if t == nil || t.mode != CutAfter && t.mode != HoldAfter {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep = true
}

// after waits for the server's answer, and does what the trap asks then; false drops the connection.
func (c *connection) after(t *trap) bool {
	_, alive := <-c.answered
	if t == nil || t.mode == Hold {
		return alive
	}
	if t.mode == CutAfter {
		return false
	}
	close(t.held)
	if !c.await(t) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.client.Write(c.answer)
	c.keep, c.answer = false, nil
	return alive
}

func (c *connection) await(t *trap) bool {
	select {
	case <-t.released:
		return true
	case <-c.proxy.closed:
		return false
	}
}

// queue is an unbounded queue with one writer and one reader.
type queue struct {
	mu    sync.Mutex
	parts [][]frame
	ended bool
	more  chan struct{} // holds a token when something changed
}

func (q *queue) put(part []frame) {
	q.mu.Lock()
	q.parts = append(q.parts, part)
	q.mu.Unlock()
	q.signal()
}

func (q *queue) end() {
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// take waits for the next part; false when there will be none.
func (q *queue) take() ([]frame, bool) {
	for {
		q.mu.Lock()
		if len(q.parts) > 0 {
			part := q.parts[0]
			q.parts = q.parts[1:]
			q.mu.Unlock()
			return part, true
		}
		ended := q.ended
		q.mu.Unlock()
		if ended {
			return nil, false
		}
		<-q.more
	}
}
