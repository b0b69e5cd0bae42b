package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/canonical"
	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
)

// Once is the header by which a request that comes twice is done once.
type Once struct {
	Key string `header:"Idempotency-Key" maxLength:"100" pattern:"^[!-~]*$" doc:"of your choice, new for each request; the same key and body again is answered as before, for a week"`
}

// Why is the body of what a person asks for.
type Why struct {
	Reason string `json:"reason" minLength:"3" maxLength:"500" doc:"stands in the audit trail"`
}

// RollbackInput asks to go back.
type RollbackInput struct {
	Once
	Deployment string `path:"deployment" maxLength:"63" pattern:"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"`
	Body       struct {
		Why
		Environments []string `json:"environments" minItems:"1" maxItems:"20" uniqueItems:"true" doc:"in the order in which they go back, one after the other"`
		Release      string   `json:"release,omitempty" maxLength:"100" doc:"to go back to, among the last ten that ran there; left out: the newest that is older than what runs and is not held"`
	}
}

// Accepted is the answer to what was begun and takes a while.
type Accepted struct {
	Location   string `header:"Location" doc:"of the first promotion, relative to the request"`
	RetryAfter int    `header:"Retry-After" doc:"seconds until it is worth looking"`
	Body       struct {
		Promotions []string `json:"promotions" doc:"that began, in their order"`
	}
}

// PromotionInput names a promotion: release/stage/kind-attempt.
type PromotionInput struct {
	Release string `path:"release" maxLength:"100"`
	Stage   string `path:"stage" maxLength:"63"`
	Attempt string `path:"attempt" maxLength:"30" doc:"kind and number, for example promote-1"`
}

func (in PromotionInput) id() string { return in.Release + "/" + in.Stage + "/" + in.Attempt }

// ActInput asks something of a promotion.
type ActInput struct {
	Once
	PromotionInput
	Body Why
}

// RetryInput asks for another attempt of a stage.
type RetryInput struct {
	Once
	Release string `path:"release" maxLength:"100"`
	Stage   string `path:"stage" maxLength:"63"`
	Body    Why
}

// ApproveInput approves what the pull request of a promotion shows. Given twice it is
// given once.
type ApproveInput struct {
	PromotionInput
	Body struct {
		Why
		Plan string `json:"plan" maxLength:"71" pattern:"^sha256:[0-9a-f]{64}$" doc:"digest of the plan that was looked at"`
		Head string `json:"head" maxLength:"40" pattern:"^[0-9a-f]{40}$" doc:"commit of the pull request that shows it"`
	}
}

// PromotionOutput is a promotion as lists show it.
type PromotionOutput struct {
	Body store.PromotionRow
}

// conflicts are the errors of what is done to something.
func conflicts() []int { return []int{http.StatusNotFound, http.StatusConflict} }

// operations are all operations: the table of routes.
func (a *api) operations() {
	route(a, operation{
		http.MethodPost, "/deployments/{deployment}/rollback", "rollback", "Bring back a release that ran before, at once, and tell Git after",
		http.StatusAccepted, auth.SlotRestore, conflicts(),
	}, func(in *RollbackInput) string { return "deployment " + in.Deployment }, a.rollback)
	route(a, operation{
		http.MethodGet, "/promotions/{release}/{stage}/{attempt}", "get-promotion", "Where a promotion stands, and what it waits for",
		http.StatusOK, auth.PromotionRead,
		[]int{http.StatusNotFound},
	}, func(in *PromotionInput) string { return "promotion " + in.id() }, a.promotion)
	for _, x := range []struct {
		verb, summary string
		kind          promotion.EventKind
		action        auth.Action
	}{
		{"promote", "Agree to the plan that it waits with, or to go on without a verdict", promotion.Promoted, auth.PromotionDecide},
		{"reject", "Say no to the plan", promotion.Refused, auth.PromotionDecide},
		{"pause", "Wait where it is", promotion.Held, auth.PromotionPause},
		{"resume", "Go on where it was paused", promotion.Resumed, auth.PromotionPause},
		{"abort", "Stop; what was switched goes back", promotion.Stopped, auth.PromotionStop},
	} {
		route(a, operation{
			http.MethodPost, "/promotions/{release}/{stage}/{attempt}/" + x.verb, x.verb + "-promotion", x.summary, http.StatusOK, x.action, conflicts(),
		}, func(in *ActInput) string { return "promotion " + in.id() }, a.act(x.verb, x.kind))
	}
	for _, x := range []struct {
		verb, summary, source string
		action                auth.Action
	}{
		{"approve", "Approve the plan past the forge, where its policy takes that, by the same rules", store.ByAPI, auth.PromotionApprove},
		{"break-glass", "Open the gate alone in an emergency, where its policy lets the role", store.BreakGlass, auth.GlassBreak},
	} {
		route(a, operation{
			http.MethodPost, "/promotions/{release}/{stage}/{attempt}/" + x.verb, x.verb, x.summary, http.StatusOK, x.action, conflicts(),
		}, func(in *ApproveInput) string { return "promotion " + in.id() }, a.approve(x.source))
	}
	route(a, operation{
		http.MethodPost, "/releases/{release}/stages/{stage}/attempts", "retry-stage", "Begin another attempt of a stage that ended without success",
		http.StatusAccepted, auth.PromotionDecide, conflicts(),
	}, func(in *RetryInput) string { return "promotion " + in.Release + "/" + in.Stage }, a.retry)
}

func (a *api) rollback(ctx context.Context, p auth.Principal, in *RollbackInput) (*Accepted, error) {
	ctx, err := once(ctx, p, in.Key, "rollback", in.Deployment, in.Body)
	if err != nil {
		return nil, err
	}
	ids, err := a.Engine.Rollback(ctx, engine.Rollback{
		Tenant: p.Tenant, Deployment: in.Deployment, Environments: in.Body.Environments, Release: in.Body.Release,
		By: p.Actor, Reason: in.Body.Reason, Kind: "rollback",
	})
	if err != nil {
		return nil, logged(ctx, "rollback", err)
	}
	a.hint(ctx)
	return accepted("../../promotions/", ids), nil
}

func (a *api) retry(ctx context.Context, p auth.Principal, in *RetryInput) (*Accepted, error) {
	ctx, err := once(ctx, p, in.Key, "retry", in.Release+"/"+in.Stage, in.Body)
	if err != nil {
		return nil, err
	}
	id, err := a.Engine.Retry(ctx, p.Tenant, in.Release, in.Stage, p.Actor, in.Body.Reason)
	if err != nil {
		return nil, logged(ctx, "retry", err)
	}
	a.hint(ctx)
	return accepted("../../../../promotions/", []string{id}), nil
}

func (a *api) promotion(ctx context.Context, p auth.Principal, in *PromotionInput) (*PromotionOutput, error) {
	row, err := a.Store.Promotion(ctx, p.Tenant, in.id())
	if err != nil {
		return nil, logged(ctx, "promotion", err)
	}
	return &PromotionOutput{Body: row}, nil
}

func (a *api) act(verb string, kind promotion.EventKind) func(ctx context.Context, p auth.Principal, in *ActInput) (*PromotionOutput, error) {
	return func(ctx context.Context, p auth.Principal, in *ActInput) (*PromotionOutput, error) {
		asked, err := once(ctx, p, in.Key, verb, in.id(), in.Body)
		if err != nil {
			return nil, err
		}
		if _, err := a.Engine.Act(asked, p.Tenant, in.id(), kind, p.Actor, in.Body.Reason); err != nil {
			return nil, logged(ctx, verb, err)
		}
		a.hint(ctx)
		return a.promotion(ctx, p, &in.PromotionInput)
	}
}

func (a *api) approve(source string) func(ctx context.Context, p auth.Principal, in *ApproveInput) (*PromotionOutput, error) {
	return func(ctx context.Context, p auth.Principal, in *ApproveInput) (*PromotionOutput, error) {
		err := a.Store.GiveApproval(ctx, p.Tenant, in.id(), store.GivenApproval{
			Source: source, Actor: p.Actor.Name, Role: string(p.Role), Head: in.Body.Head, Plan: in.Body.Plan, Reason: in.Body.Reason,
		})
		if err != nil {
			return nil, logged(ctx, source, err)
		}
		a.Hint(ctx, "deliver")
		return a.promotion(ctx, p, &in.PromotionInput)
	}
}

// once puts the caller's key into the context: it is the key of this person, and of
// exactly this request.
func once(ctx context.Context, p auth.Principal, key, verb, subject string, body any) (context.Context, error) {
	if key == "" {
		return ctx, nil
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	digest, err := canonical.Digest("hotswap.dev/request/v1", map[string]string{"verb": verb, "subject": subject, "body": string(raw)})
	if err != nil {
		return nil, err
	}
	return store.WithOnce(ctx, store.Once{Key: string(p.Actor.Kind) + "/" + p.Actor.Name + "/" + key, Digest: digest}), nil
}

// lookAfter is when a promotion that was just begun is worth looking at, in seconds.
const lookAfter = 1

func accepted(base string, ids []string) *Accepted {
	out := &Accepted{RetryAfter: lookAfter}
	out.Body.Promotions = ids
	if len(ids) > 0 {
		out.Location = base + ids[0]
	}
	return out
}

// hintTime bounds a hint.
const hintTime = 50 * time.Millisecond

func (a *api) hint(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, hintTime)
	defer cancel()
	a.Hint(ctx, "advance")
}

// logged takes down errors that the caller is not told.
func logged(ctx context.Context, what string, err error) error {
	if strings.HasPrefix(problem(err).Error(), "try again") {
		slog.ErrorContext(ctx, what, "err", err)
	}
	return err
}
