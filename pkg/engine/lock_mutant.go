//go:build mutant_locallock

package engine

import "hotswap.dev/hotswap/pkg/store"

// lock keeps others of this process away, and nobody else.
func (l *locks) lock(c store.Claim) (unlock func(), ok bool) {
	key := c.Tenant + "/" + string(c.Kind) + "/" + c.ID
	if _, held := l.held.LoadOrStore(key, true); held {
		return nil, false
	}
	return func() { l.held.Delete(key) }, true
}
