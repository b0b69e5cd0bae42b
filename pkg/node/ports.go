package node

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
)

const lowestPort = 20_000 // below are the ports that people know by number

var errNoPort = errors.New("no free port")

// ports hands out loopback ports that lie below the range from which the kernel
// takes ports for outgoing connections: one of those could take a module's port
// between its choice and its use, and under load would.
type ports struct {
	highest int

	mu    sync.Mutex
	taken map[int]bool
}

func newPorts() *ports {
	p := &ports{highest: 32_767, taken: map[int]bool{}}
	raw, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return p
	}
	var low, high int
	if n, _ := fmt.Sscan(string(raw), &low, &high); n == 2 && low > lowestPort+1000 {
		p.highest = low - 1
	}
	return p
}

// take returns a port that is free now and that this agent gives to nobody else
// until it is released.
func (p *ports) take() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range 200 {
		port := lowestPort + rand.IntN(p.highest-lowestPort+1)
		if p.taken[port] {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		l.Close()
		p.taken[port] = true
		return port, nil
	}
	return 0, errNoPort
}

func (p *ports) release(port int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taken, port)
}
