package engine

import "hotswap.dev/hotswap/pkg/store"

func interpret(d store.Delivery, dead func(string) store.Settlement) store.Settlement {
	return store.Settlement{Sync: d.Repository, Note: "push"}
}
