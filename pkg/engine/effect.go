package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/record"
	"hotswap.dev/hotswap/pkg/store"
)

// effectPause is the time between two questions to a forge that does not answer.
const effectPause = 5 * time.Second

// effect does what a transition asked of the outside: it merges the promotion pull
// request. What is true is asked first, also before the first try: whoever dies after
// the forge merged is followed by one who sees that it did.
func (e *Engine) effect(ctx context.Context, c store.Claim) error {
	st, err := e.store.LoadEffect(ctx, c)
	if err != nil {
		return err
	}
	if !st.Wanted {
		return e.store.EndEffect(ctx, c, promotion.EffectFact{State: promotion.EffectFailed, Why: "nobody waits for it any more"}, nil)
	}
	f, repo, ok := e.forge(c.Tenant, st.Repository)
	if !ok {
		return e.store.DoubtEffect(ctx, c, "repository "+st.Repository+" has no forge with pull requests", st.Now.Add(e.options.Reconcile))
	}
	m := &merging{engine: e, forge: f, repo: repo, claim: c, step: st}
	commit, err := m.merge(ctx)
	var no refusal
	switch {
	case err == nil:
		return e.store.EndEffect(ctx, c, promotion.EffectFact{State: promotion.EffectDone, Commit: commit}, m.rows)
	case errors.As(err, &no):
		return e.store.EndEffect(ctx, c, promotion.EffectFact{State: promotion.EffectFailed, Why: no.Error()}, m.rows)
	default: // there was no answer, or none that can be believed: it stays asked for
		return e.store.DoubtEffect(ctx, c, err.Error(), st.Now.Add(later(err, effectPause)))
	}
}

// later is how long to wait before the outside is asked again.
func later(err error, otherwise time.Duration) time.Duration {
	var limited forge.Limited
	if errors.As(err, &limited) {
		return max(limited.RetryAfter, otherwise)
	}
	return otherwise
}

// A refusal is an answer that ends an effect: it is known that it was not done, or that
// it may not be.
type refusal struct{ error }

func refused(format string, args ...any) error { return refusal{fmt.Errorf(format, args...)} }

// merging is one try to merge a promotion pull request.
type merging struct {
	engine *Engine
	forge  forge.Forge
	repo   string
	claim  store.Claim
	step   store.EffectStep
	rows   []audit.Row
}

// merge answers the commit that brought exactly what was approved.
func (m *merging) merge(ctx context.Context) (string, error) {
	e := m.step.Effect
	p, err := m.forge.Pull(ctx, m.repo, e.Pull)
	switch {
	case errors.Is(err, forge.ErrNotFound):
		return "", refused("pull request %d is gone", e.Pull)
	case err != nil:
		return "", err
	case p.State == approval.Merged && p.Head == e.Head:
		return m.shown(ctx, p.Merge)
	case p.State != approval.Open:
		return "", refused("pull request %d is %s", e.Pull, p.State)
	case p.Head != e.Head:
		return "", refused("its head moved from %.8s to %.8s", e.Head, p.Head)
	case p.Base != record.Branch:
		return "", refused("it is for branch %s now", p.Base)
	}
	if err := m.still(ctx, p); err != nil {
		return "", err
	}
	if err := m.engine.store.AskEffect(ctx, m.claim); err != nil {
		return "", err
	}
	commit, err := m.forge.Merge(ctx, m.repo, e.Pull, forge.Merge{ExpectedHead: e.Head, Message: m.message(), Method: forge.MergeCommit})
	switch {
	case err == nil, errors.Is(err, forge.ErrMerged) && commit != "":
		return m.shown(ctx, commit)
	case errors.Is(err, forge.ErrHeadMoved), errors.Is(err, forge.ErrConflict), errors.Is(err, forge.ErrRefused),
		errors.Is(err, forge.ErrClosed), errors.Is(err, forge.ErrDenied), errors.Is(err, forge.ErrInvalid):
		return "", refusal{err}
	default:
		return "", err
	}
}

// still reads once more what the reviews come to, next to the merge: whoever dismissed
// an approval until now is heard.
func (m *merging) still(ctx context.Context, p approval.Pull) error {
	st, err := m.engine.store.LoadReview(ctx, m.claim.Tenant, m.step.Promotion.ID)
	if err != nil {
		return err
	}
	switch r := m.engine.judge(ctx, m.forge, m.repo, st, p); r.State {
	case promotion.ReviewApproved:
		return nil
	case promotion.ReviewUnread:
		return errors.New(r.Says)
	default:
		return refused("it is approved no more: %s", r.Says)
	}
}

// shown checks that a merge brought the proposal and nothing else.
func (m *merging) shown(ctx context.Context, commit string) (string, error) {
	if m.step.Proposal == nil {
		return "", refused("it is not known what pull request %d proposed", m.step.Effect.Pull)
	}
	want, err := m.step.Proposal.Render()
	if err != nil {
		return "", err
	}
	repo, err := m.engine.fetch(ctx, m.claim.Tenant, m.step.Repository, record.Branch)
	if err != nil {
		return "", err
	}
	// A pull request may be set onto another branch between our look and the merge.
	tip, err := repo.Tip(ctx, record.Branch)
	if err != nil {
		return "", err
	}
	there, err := repo.Ancestor(ctx, commit, tip)
	if err != nil {
		return "", err
	}
	if !there {
		return m.foreign(commit)
	}
	brought, err := repo.Brought(ctx, commit, record.Folder)
	if errors.Is(err, gitrepo.ErrLimit) {
		return m.foreign(commit)
	}
	if err != nil {
		return "", err
	}
	path := m.step.Proposal.Path()
	switch {
	case len(brought) == 1 && brought[0].Path == path && bytes.Equal(brought[0].After, want):
		return commit, nil
	case len(brought) == 0:
		return "", refused("merge %.8s brought nothing", commit)
	}
	return m.foreign(commit)
}

// foreign ends a merge that brought something else: it is told, and nothing runs by it.
func (m *merging) foreign(commit string) (string, error) {
	m.rows = append(m.rows, m.row("merge.foreign", fmt.Sprintf("merge %.12s of pull request %d did not bring exactly what was approved to %s", commit, m.step.Effect.Pull, record.Branch)))
	return "", refused("merge %.8s did not bring exactly what was approved to %s", commit, record.Branch)
}

func (m *merging) message() string {
	p := m.step.Promotion
	return fmt.Sprintf("%s/%s: %s %s\n\n%s\nPlan: %s\n", p.Environment, p.Deployment, p.Spec.Instance.Module.Name, p.Spec.Instance.Module.Version, p.ID, p.Plan)
}

func (m *merging) row(action, reason string) audit.Row {
	return audit.Row{
		ID: "effect/" + m.step.Effect.Key + "/" + action, Tenant: m.claim.Tenant, At: m.step.Now, Actor: deliverer,
		Action: action, Subject: "promotion " + m.step.Promotion.ID, Reason: reason,
	}
}
