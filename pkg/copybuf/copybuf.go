// Package copybuf keeps the buffers that reverse proxies copy bodies through. Without it
// each request allocates one, and under load the collector is as busy as the proxy.
package copybuf

import "sync"

// size is what httputil takes itself, in bytes.
const size = 32 << 10

// Pool is an [net/http/httputil.BufferPool]: one buffer for each copy that is under way.
// The zero value is ready.
type Pool struct{ pool sync.Pool }

// Get implements [net/http/httputil.BufferPool].
func (p *Pool) Get() []byte {
	if b, ok := p.pool.Get().(*[size]byte); ok {
		return b[:]
	}
	return make([]byte, size)
}

// Put implements [net/http/httputil.BufferPool].
func (p *Pool) Put(b []byte) { p.pool.Put((*[size]byte)(b)) }
