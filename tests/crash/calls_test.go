package crash_test

import (
	"errors"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
)

// A fault is what happens to one HTTP call.
type fault int

const (
	lostBefore fault = iota // the request never arrives
	lostAfter               // it was answered, and the answer never arrives
	lateBefore              // it arrives when all is done
	lateAfter               // its answer arrives when all is done
)

func faults() []fault { return []fault{lostBefore, lostAfter, lateBefore, lateAfter} }

func (f fault) String() string {
	return [...]string{"lost before it was sent", "answer lost", "sent when all is done", "answer held until all is done"}[f]
}

func (f fault) late() bool { return f == lateBefore || f == lateAfter }

// errLost is what a caller sees of a lost call.
var errLost = errors.New("connection lost")

// calls counts the HTTP calls that pass it and can disturb one of them.
type calls struct {
	next http.RoundTripper

	mu     sync.Mutex
	labels []string
	at     int // 1 is the first call; 0: none
	fault  fault

	hit     chan struct{} // closed when the call came
	release chan struct{}
}

func newCalls() *calls {
	return &calls{next: http.DefaultTransport, hit: make(chan struct{}), release: make(chan struct{})}
}

// RoundTrip implements [http.RoundTripper].
func (c *calls) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	c.labels = append(c.labels, caller(r))
	mine := len(c.labels) == c.at
	c.mu.Unlock()
	if !mine {
		return c.next.RoundTrip(r)
	}
	switch c.fault {
	case lostBefore:
		close(c.hit)
		return nil, errLost
	case lateBefore:
		close(c.hit)
		<-c.release
		return c.next.RoundTrip(r)
	}
	resp, err := c.next.RoundTrip(r)
	close(c.hit)
	if c.fault == lateAfter {
		<-c.release
		return resp, err
	}
	if err == nil {
		_ = resp.Body.Close()
	}
	return nil, errLost
}

// seen returns the labels of the calls that came so far.
func (c *calls) seen() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.labels)
}

// was reports whether the armed call came.
func (c *calls) was() bool {
	select {
	case <-c.hit:
		return true
	default:
		return false
	}
}

func caller(r *http.Request) string {
	who, _, _ := strings.Cut(r.Header.Get("HotSwap-Key"), " ")
	if who == "" {
		who = "forge"
	}
	return who + " " + path.Base(r.URL.Path)
}
