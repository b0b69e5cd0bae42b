// Package functions lists the functions of HotSwap. Each is a folder with a
// handler and its trigger; this package only puts them together.
package functions

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"hotswap.dev/hotswap/functions/advance"
	apifunction "hotswap.dev/hotswap/functions/api"
	"hotswap.dev/hotswap/functions/deliver"
	forgewebhook "hotswap.dev/hotswap/functions/forge-webhook"
	"hotswap.dev/hotswap/functions/insight"
	"hotswap.dev/hotswap/functions/nodes"
	"hotswap.dev/hotswap/functions/validate"
	"hotswap.dev/hotswap/pkg/api"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/function"
	"hotswap.dev/hotswap/pkg/secret"
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
	// Looks guard the call that means "look now".
	Looks   function.Looks
	Metrics secret.Secret   // that who reads metrics sends; zero: nobody may
	Ages    insight.Secrets // of secrets that the host keeps itself; nil: not known
}

// The names of secrets, the same on every host.
const (
	SecretDatabase        = "hotswap-database-url"           // of the role hotswap_app
	SecretAudit           = "hotswap-audit-signing"          // seed of an Ed25519 key, hexadecimal
	SecretTokens          = "hotswap-token-signing"          // the same
	SecretCalls           = "hotswap-function-call"          // the same
	SecretCallsPrevious   = "hotswap-function-call-previous" // while it is rotated
	SecretWebhook         = "hotswap-webhook"
	SecretWebhookPrevious = "hotswap-webhook-previous" // while it is rotated
	SecretGitea           = "hotswap-gitea-token"
	SecretMetrics         = "hotswap-metrics" // bearer token of who reads metrics
)

// A Spec is what a host must know of a function. stack.yml and deploy/lambda say the same,
// which tests compare.
type Spec struct {
	Name        string
	Secrets     []string // without which it cannot work
	Optional    []string // that it takes where the host has them
	Timeouts    function.Timeouts
	Limits      function.Limits
	Connections int    // to the database, at most, of one process
	Memory, CPU string // limits, in the words of Kubernetes
	Cron        bool   // looks by itself, once a minute or more often
}

// Timeouts of functions that somebody waits for, and of those that work or wait themselves.
var (
	short = function.Timeouts{Exec: 15 * time.Second, Read: 20 * time.Second, Write: 25 * time.Second}
	long  = function.DefaultTimeouts()
)

// Specs lists the functions, by name.
func Specs() []Spec {
	every := []string{SecretDatabase, SecretAudit, SecretCalls}
	with := func(more ...string) []string { return append(slices.Clone(every), more...) }
	previous := []string{SecretCallsPrevious}
	forge := []string{SecretCallsPrevious, SecretGitea}
	return []Spec{
		{Name: "advance", Secrets: with(), Optional: forge, Timeouts: long, Connections: 2, Memory: "256Mi", CPU: "1", Cron: true},
		{Name: "api", Secrets: with(SecretTokens), Optional: previous, Timeouts: short, Connections: 8, Memory: "256Mi", CPU: "1"},
		{Name: "deliver", Secrets: with(SecretWebhook), Optional: forge, Timeouts: long, Connections: 2, Memory: "256Mi", CPU: "1", Cron: true},
		{Name: "forge-webhook", Secrets: with(SecretWebhook), Optional: []string{SecretCallsPrevious, SecretWebhookPrevious}, Timeouts: short, Limits: function.Limits{Deadline: 10 * time.Second}, Connections: 2, Memory: "128Mi", CPU: "500m"},
		{Name: "insight", Secrets: with(SecretMetrics), Optional: previous, Timeouts: short, Connections: 2, Memory: "128Mi", CPU: "500m"},
		{Name: "nodes", Secrets: with(), Optional: previous, Timeouts: long, Limits: function.Limits{Concurrency: 4096}, Connections: 4, Memory: "512Mi", CPU: "1"},
		{Name: "validate", Secrets: with(), Optional: forge, Timeouts: long, Connections: 2, Memory: "512Mi", CPU: "1", Cron: true},
	}
}

// Find returns the function of a name; false when there is none.
func Find(name string) (Spec, bool) {
	all := Specs()
	i := slices.IndexFunc(all, func(s Spec) bool { return s.Name == name })
	if i < 0 {
		return Spec{}, false
	}
	return all[i], true
}

// Handler returns the function of a name, behind its guard, without what its host adds.
func Handler(name string, d Deps) (http.Handler, error) {
	switch name {
	case "forge-webhook":
		return forgewebhook.New(d.Hooks, d.Store, d.Hint), nil // its callers sign each call
	case "validate":
		return d.Looks.Guard(validate.New(d.Engine.Validate, d.Hint)), nil
	case "advance":
		return d.Looks.Guard(advance.New(advance.Config{
			Work: d.Engine.Advance, Backstop: d.Engine.Backstop, Hint: d.Hint,
			NextDue: func(ctx context.Context) (time.Duration, bool, error) {
				return d.Store.NextDue(ctx, engine.AdvanceKinds())
			},
			Stay: func(ctx context.Context, invocation string, t time.Duration) (bool, error) {
				return d.Store.Lease(ctx, "advance", invocation, t)
			},
		})), nil
	case "deliver":
		return d.Looks.Guard(deliver.New(d.Engine.Deliver, d.Hint)), nil
	case "api":
		return apifunction.New(api.Deps{Engine: d.Engine, Store: d.Store, Authorizer: d.Authorizer, Tokens: d.Tokens, Hint: d.Hint}), nil
	case "insight":
		return insight.New(insight.Config{Token: d.Metrics, Read: d.Store.Metrics, Secrets: d.Ages, Now: time.Now}), nil
	case "nodes":
		return d.Looks.Guard(nodes.New(nodes.Config{
			Fleet: d.Store, Authorize: d.Authorizer.Authorize, Hint: d.Hint, Now: time.Now, Secrets: d.Secrets,
		})), nil
	default:
		return nil, fmt.Errorf("there is no function %q", name)
	}
}

// All returns every function by its name, as one process hosts them all.
func All(d Deps) map[string]http.Handler {
	out := map[string]http.Handler{}
	for _, s := range Specs() {
		h, err := Handler(s.Name, d)
		if err != nil {
			panic(err) // a spec without a function: the tests notice
		}
		out[s.Name] = function.Host(s.Name, h, d.Store.Ready, s.Limits.Within(s.Timeouts))
	}
	return out
}

// Kinds says what work of the table due a function does, so that a platform that can look
// there calls it when there is some; false: it does none.
func Kinds(name string) ([]store.Kind, bool) {
	switch name {
	case "validate":
		return engine.ValidateKinds(), true
	case "advance":
		return engine.AdvanceKinds(), true
	case "deliver":
		return engine.DeliverKinds(), true
	default:
		return nil, false
	}
}

// Schedule says how often a host's cron calls each function.
func Schedule(tick time.Duration) map[string]time.Duration {
	out := map[string]time.Duration{}
	for _, s := range Specs() {
		if s.Cron {
			out[s.Name] = tick
		}
	}
	return out
}
