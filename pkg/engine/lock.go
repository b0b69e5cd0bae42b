//go:build !mutant_locallock

package engine

import "hotswap.dev/hotswap/pkg/store"

func (*locks) lock(store.Claim) (unlock func(), ok bool) { return func() {}, true }
