// Package functions lists the functions of HotSwap. Each is a folder with a
// handler and its trigger; this package only puts them together.
package functions

import (
	"context"
	"net/http"
	"time"

	"hotswap.dev/hotswap/functions/advance"
	apifunction "hotswap.dev/hotswap/functions/api"
	"hotswap.dev/hotswap/functions/deliver"
	forgewebhook "hotswap.dev/hotswap/functions/forge-webhook"
	"hotswap.dev/hotswap/functions/nodes"
	"hotswap.dev/hotswap/functions/validate"
	"hotswap.dev/hotswap/pkg/api"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/function"
	"hotswap.dev/hotswap/pkg/store"
)

// Deps are what the functions work with. All of them are safe for concurrent use.
type Deps struct {
	Store      *store.Store
	Engine     *engine.Engine
	Authorizer *auth.Authorizer
	Tokens     *auth.Tokens                               // prove who asks the api
	Secrets    nodes.Secrets                              // that orders refer to; nil: none
	Hooks      forgewebhook.Hooks                         // finds the secrets of a webhook
	Hint       func(ctx context.Context, function string) // "look now", ≤ 50 ms, may be lost
}

// All returns every function by its name.
func All(d Deps) map[string]http.Handler {
	host := func(name string, h http.Handler, l function.Limits) http.Handler {
		return function.Host(name, h, d.Store.Ready, l)
	}
	return map[string]http.Handler{
		"forge-webhook": host("forge-webhook", forgewebhook.New(d.Hooks, d.Store, d.Hint), function.Limits{Deadline: 10 * time.Second}),
		"validate":      host("validate", validate.New(d.Engine.Validate, d.Hint), function.Limits{}),
		"advance": host("advance", advance.New(advance.Config{
			Work: d.Engine.Advance, Backstop: d.Engine.Backstop, Hint: d.Hint,
			NextDue: func(ctx context.Context) (time.Duration, bool, error) {
				return d.Store.NextDue(ctx, engine.AdvanceKinds())
			},
			Stay: func(ctx context.Context, invocation string, t time.Duration) (bool, error) {
				return d.Store.Lease(ctx, "advance", invocation, t)
			},
		}), function.Limits{}),
		"deliver": host("deliver", deliver.New(d.Engine.Deliver, d.Hint), function.Limits{}),
		"api":     host("api", apifunction.New(api.Deps{Engine: d.Engine, Store: d.Store, Authorizer: d.Authorizer, Tokens: d.Tokens, Hint: d.Hint}), function.Limits{Deadline: 15 * time.Second}),
		"nodes": host("nodes", nodes.New(nodes.Config{
			Fleet: d.Store, Authorize: d.Authorizer.Authorize, Hint: d.Hint, Now: time.Now, Secrets: d.Secrets,
		}), function.Limits{Concurrency: 4096}),
	}
}

// Schedule says how often a host's cron calls each function.
func Schedule(tick time.Duration) map[string]time.Duration {
	return map[string]time.Duration{"validate": tick, "advance": tick, "deliver": tick}
}
