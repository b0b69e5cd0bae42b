// Package api is the HTTP interface for people and their programs: JSON over HTTP,
// described by an OpenAPI 3.1 document that is made from the code.
//
// Every operation is added by [route], which authenticates, authorises at the one
// choke point and only then calls the operation: there is no other way to add one.
package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
)

// Bounds of one request.
const (
	maxBody  = 16 << 10 // bytes
	bodyTime = 5 * time.Second
)

// Engine is what operations ask for.
type Engine interface {
	Rollback(ctx context.Context, r engine.Rollback) (ids []string, err error)
	Act(ctx context.Context, tenant, id string, kind promotion.EventKind, by audit.Actor, reason string) (promotion.State, error)
	Retry(ctx context.Context, tenant, release, stage string, by audit.Actor, reason string) (string, error)
}

// Store is what operations read, and where approvals are kept.
type Store interface {
	Promotion(ctx context.Context, tenant, id string) (store.PromotionRow, error)
	GiveApproval(ctx context.Context, tenant, id string, g store.GivenApproval) error
}

// Deps are what the interface works with. All are needed.
type Deps struct {
	Engine     Engine
	Store      Store
	Authorizer *auth.Authorizer
	Tokens     *auth.Tokens
	// Hint says "look now" to a function; it may be lost.
	Hint func(ctx context.Context, function string)
}

// New returns the handler of all operations, below /v1, and of /openapi.json.
func New(d Deps) http.Handler {
	mux := http.NewServeMux()
	c := huma.DefaultConfig("HotSwap", "v1")
	c.DocsPath, c.SchemasPath = "", "" // pages that would load scripts from elsewhere
	c.CreateHooks = nil                // no $schema member in answers
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"bearer": {Type: "http", Scheme: "bearer", BearerFormat: "JWT"}}
	a := &api{Deps: d, huma: humago.New(mux, c)}
	a.huma.UseMiddleware(a.authenticate)
	a.operations()
	return mux
}

type api struct {
	Deps
	huma huma.API
}

// authenticate proves who asks. An operation that everybody may see says so.
func (a *api) authenticate(ctx huma.Context, next func(huma.Context)) {
	request, _ := humago.Unwrap(ctx)
	p, err := a.Tokens.Bearer(request)
	if err != nil {
		ctx.SetHeader("WWW-Authenticate", `Bearer realm="hotswap"`)
		_ = huma.WriteErr(a.huma, ctx, http.StatusUnauthorized, "a bearer token is needed: make one with hotswap token create")
		return
	}
	next(huma.WithContext(ctx, auth.WithPrincipal(ctx.Context(), p)))
}

// An operation is one row of the table of routes, which is the policy.
type operation struct {
	method, path string
	id, summary  string
	status       int
	action       auth.Action
	errors       []int // beside those that all operations have
}

// route adds an operation. Resource says what of the input is asked for, for the
// authoriser and its rows; do is called for those who may.
func route[I, O any](a *api, o operation, resource func(*I) string, do func(ctx context.Context, p auth.Principal, in *I) (*O, error)) {
	huma.Register(a.huma, huma.Operation{
		OperationID: o.id, Method: o.method, Path: "/v1" + o.path, Summary: o.summary, DefaultStatus: o.status,
		MaxBodyBytes: maxBody, BodyReadTimeout: bodyTime,
		Errors:   append([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusServiceUnavailable}, o.errors...),
		Security: []map[string][]string{{"bearer": {}}},
		Extensions: map[string]any{
			"x-hotswap-action": string(o.action),
		},
	}, func(ctx context.Context, in *I) (*O, error) {
		p := auth.PrincipalOf(ctx)
		if err := a.Authorizer.Authorize(ctx, p, o.action, p.Tenant, resource(in)); err != nil {
			return nil, problem(err)
		}
		out, err := do(ctx, p, in)
		if err != nil {
			return nil, problem(err)
		}
		return out, nil
	})
}

// problem is an error as the caller sees it (RFC 9457). What is not the caller's to
// decide on says nothing of the inside.
func problem(err error) error {
	var already huma.StatusError
	switch {
	case errors.As(err, &already):
		return err
	case errors.Is(err, auth.ErrDenied):
		return huma.Error403Forbidden("not allowed; the refusal is in the audit trail")
	case errors.Is(err, store.ErrNotFound):
		return huma.Error404NotFound(err.Error())
	case errors.Is(err, store.ErrReused):
		return huma.Error422UnprocessableEntity("this Idempotency-Key came with another request before: use a new one for a new request")
	case errors.Is(err, store.ErrConflict), errors.Is(err, promotion.ErrNotNow), errors.Is(err, promotion.ErrFinal), errors.Is(err, promotion.ErrNoFormer):
		return huma.Error409Conflict(err.Error())
	case errors.Is(err, store.ErrLost):
		return huma.ErrorWithHeaders(huma.Error409Conflict("it moved at the same moment; look again and ask again"), http.Header{"Retry-After": {"1"}})
	default:
		return huma.ErrorWithHeaders(huma.Error503ServiceUnavailable("try again; what was asked for may have been done: use the same Idempotency-Key"), http.Header{"Retry-After": {"5"}})
	}
}
