//go:build mutant_locallock

package engine

import (
	"sync"

	"hotswap.dev/hotswap/pkg/store"
)

// locks is a lock in the process: the fault that tests/crash must catch.
type locks struct{ held sync.Map }

// lock keeps others of this process away, and nobody else.
func (l *locks) lock(c store.Claim) (unlock func(), ok bool) {
	key := c.Tenant + "/" + string(c.Kind) + "/" + c.ID
	if _, held := l.held.LoadOrStore(key, true); held {
		return nil, false
	}
	return func() { l.held.Delete(key) }, true
}
