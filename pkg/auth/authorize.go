// Package auth decides who may do what, at one choke point, and signs and
// verifies requests between machines.
package auth

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"hotswap.dev/hotswap/pkg/audit"
)

// ErrDenied reports that the principal may not do what it asked for. It says
// nothing about whether the resource exists.
var ErrDenied = errors.New("not allowed")

// A Role is what a principal may do, by the table of rules.
type Role string

// The roles.
const (
	Admin    Role = "admin"
	Deployer Role = "deployer"
	Viewer   Role = "viewer"
	Node     Role = "node"
)

// A Principal is somebody who was authenticated.
type Principal struct {
	Actor  audit.Actor
	Tenant string
	Role   Role
}

// An Action is something that can be allowed or refused.
type Action string

// The actions.
const (
	RepositoryRead   Action = "repository.read"
	RepositoryPush   Action = "repository.push"
	AuditRead        Action = "audit.read"
	PromotionRead    Action = "promotion.read"
	PromotionStop    Action = "promotion.stop"
	PromotionPause   Action = "promotion.pause"   // and resume
	PromotionDecide  Action = "promotion.decide"  // agree, say no, go on without a verdict, ask for another attempt
	PromotionApprove Action = "promotion.approve" // past the forge, by the same rules
	GlassBreak       Action = "glass.break"       // open a gate alone, in an emergency; the policy says which roles may
	PromotionCheck   Action = "promotion.check"   // say what an external check found
	SlotRestore      Action = "slot.restore"      // bring back a former release
	HoldSet          Action = "hold.set"
	HoldLift         Action = "hold.lift"
	EpochRaise       Action = "epoch.raise" // the database was restored from a backup
	SlotClean        Action = "slot.clean"
	JoinTokenCreate  Action = "join-token.create"
	TokenCreate      Action = "token.create" // a bearer token of somebody
	NodeRemove       Action = "node.remove"
	NodeWanted       Action = "node.wanted"  // a node asks what it should run
	NodeReport       Action = "node.report"  // a node says what it sees
	NodeSecrets      Action = "node.secrets" // a node asks for what its orders refer to
	SecretSet        Action = "secret.set"   // and remove
	SecretList       Action = "secret.list"
	PullRead         Action = "pull.read"
	PullOpen         Action = "pull.open"
	PullReview       Action = "pull.review" // and comment
	PullMerge        Action = "pull.merge"
	PullClose        Action = "pull.close" // and reopen
	ReviewDismiss    Action = "review.dismiss"
	RecordsPush      Action = "records.push"   // move the branch that says what runs
	AccountChange    Action = "account.change" // of the built-in forge; and what it may do, and its tokens
	BranchProtect    Action = "branch.protect"
	FunctionRead     Action = "function.read" // of the embedded platform, and what their processes wrote
	FunctionCall     Action = "function.call" // one that does not ask its callers itself
	FunctionDeploy   Action = "function.deploy"
	FunctionDelete   Action = "function.delete"
	FunctionScale    Action = "function.scale"
	FunctionSecret   Action = "function.secret" // make, change or remove one of a function's secrets
)

// A rule says who may do an action. Refusals are always recorded; what was
// allowed is recorded where the rule says so and the action itself writes no row.
type rule struct {
	roles  []Role
	record bool
}

// rules is the policy: an action that is not in it is refused.
func rules(a Action) (rule, bool) {
	switch a {
	case RepositoryRead, PromotionRead, PullRead, PullReview:
		return rule{roles: []Role{Admin, Deployer, Viewer}}, true
	case RepositoryPush:
		return rule{roles: []Role{Admin, Deployer}, record: true}, true
	case PromotionStop, PromotionPause, PromotionCheck, GlassBreak, SlotRestore, HoldSet, PullOpen, PullMerge, PullClose:
		return rule{roles: []Role{Admin, Deployer}}, true
	case AuditRead, RecordsPush, FunctionDeploy, FunctionDelete, FunctionSecret:
		return rule{roles: []Role{Admin}, record: true}, true
	case SecretSet, SecretList, SlotClean, JoinTokenCreate, TokenCreate, NodeRemove, PromotionDecide, PromotionApprove, HoldLift, EpochRaise,
		ReviewDismiss, AccountChange, BranchProtect, FunctionRead, FunctionCall, FunctionScale:
		return rule{roles: []Role{Admin}}, true
	case NodeWanted, NodeReport, NodeSecrets:
		return rule{roles: []Role{Node}}, true
	default:
		return rule{}, false
	}
}

// A Recorder stores audit rows that belong to no other change.
type Recorder interface {
	Record(ctx context.Context, tenant string, rows func(now time.Time) []audit.Row) error
}

// An Authorizer is the one place where things are allowed. It is safe for
// concurrent use.
type Authorizer struct{ recorder Recorder }

// NewAuthorizer returns an authorizer that records with r.
func NewAuthorizer(r Recorder) *Authorizer { return &Authorizer{recorder: r} }

// Authorize returns nil when p may do action to resource in tenant, and else an
// error that wraps [ErrDenied]. The refusal is in the audit trail when it
// returns. When that cannot be written, or when an action that must be recorded
// cannot be, the answer is an error too: nothing happens without its row.
func (a *Authorizer) Authorize(ctx context.Context, p Principal, action Action, tenant, resource string) error {
	r, known := rules(action)
	allowed := known && p.Actor.Name != "" && tenant != "" && p.Tenant == tenant && slices.Contains(r.roles, p.Role)
	if allowed && !r.record {
		return nil
	}
	what, reason := string(action)+".allowed", fmt.Sprintf("role %s may", p.Role)
	if !allowed {
		what, reason = string(action)+".refused", fmt.Sprintf("role %q of tenant %q may not", p.Role, p.Tenant)
	}
	err := a.recorder.Record(ctx, tenant, func(now time.Time) []audit.Row {
		return []audit.Row{{
			ID: "authorize/" + newID(), Tenant: tenant, At: now, Actor: actorOf(p), Action: what,
			Subject: resource, Reason: reason,
		}}
	})
	if err != nil {
		return fmt.Errorf("authorize %s: %w", action, err)
	}
	if !allowed {
		return fmt.Errorf("%s %s: %w", action, resource, ErrDenied)
	}
	return nil
}

// actorOf names somebody in a row even when nobody was authenticated.
func actorOf(p Principal) audit.Actor {
	if p.Actor.Name == "" {
		return audit.Actor{Kind: audit.Person, Name: "anonymous"}
	}
	return p.Actor
}

func newID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}

// Unauthenticated reports whether err is a refusal of [VerifyRequest] rather
// than a lookup that could not be made.
func Unauthenticated(err error) bool {
	return errors.Is(err, ErrRequestUnsigned) || errors.Is(err, ErrRequestMalformed) || errors.Is(err, ErrRequestTime) ||
		errors.Is(err, ErrRequestKey) || errors.Is(err, ErrRequestSignature)
}
