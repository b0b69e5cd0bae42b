package builtin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/record"
	"hotswap.dev/hotswap/pkg/store"
)

const heads = "refs/heads/"

// A Push is what somebody is about to do to the branches of a repository. It is taken
// down before git moves them, and once more after.
type Push struct {
	place *place
	moves []store.ForgeMove
	// Refused says in words why a reference may not be moved, by its name. With one of
	// them refused, nothing may be moved.
	Refused map[string]string
	// Force: git may rewrite and delete what is pushed to. Not where releases and
	// records come from.
	Force bool
}

// Moved is one reference before and after; "" where it is not there.
type Moved struct{ Ref, Before, After string }

// BeginPush judges a push by what protects the branches, and takes it down unless one
// is refused. Keeper says that the account may move the branch of the records.
func (f *Forge) BeginPush(ctx context.Context, repo string, asked []Moved, by approval.Account, keeper bool) (*Push, error) {
	ctx, cancel, p, err := f.begin(ctx, repo)
	if err != nil {
		return nil, err
	}
	defer cancel()
	push := &Push{place: p, Refused: map[string]string{}, Force: true}
	for _, m := range asked {
		branch, is := strings.CutPrefix(m.Ref, heads)
		if !is { // a tag moves no branch
			continue
		}
		why, err := p.protected(ctx, branch, by, keeper)
		if err != nil {
			return nil, told(err)
		}
		if why != "" {
			push.Refused[m.Ref] = why
		}
		if branch == "main" || branch == record.Branch {
			push.Force = false
		}
		push.moves = append(push.moves, store.ForgeMove{Ref: m.Ref, Before: m.Before, After: m.After, By: by})
	}
	if len(push.Refused) > 0 {
		return push, nil
	}
	if push.moves, err = f.options.Store.BeginForgePush(ctx, f.options.Tenant, p.name, push.moves); err != nil {
		return nil, told(err)
	}
	return push, nil
}

// protected says why a branch may not be pushed to; empty: it may.
func (p *place) protected(ctx context.Context, branch string, by approval.Account, keeper bool) (string, error) {
	if branch == record.Branch {
		if keeper || by.ID == p.options.Own.ID {
			return "", nil
		}
		return "protected: what runs is recorded there; roll back with hotswap rollback", nil
	}
	b, err := p.options.Store.BranchProtection(ctx, p.options.Tenant, p.name, branch)
	if err != nil || !b.Protected {
		return "", err
	}
	return "protected: push another branch and open a pull request", nil
}

// EndPush takes down which references git has moved, and tells the webhooks.
func (f *Forge) EndPush(ctx context.Context, push *Push, moved []Moved) error {
	ctx, cancel := context.WithTimeout(ctx, whole)
	defer cancel()
	p := push.place
	for i, m := range push.moves {
		at := slices.IndexFunc(moved, func(x Moved) bool { return x.Ref == m.Ref && x.After == m.After })
		if at < 0 {
			continue
		}
		commits, err := p.brought(ctx, moved[at].Before, m.After)
		if err != nil {
			return told(err)
		}
		push.moves[i].Done, push.moves[i].Commits = true, commits
	}
	if err := f.options.Store.EndForgePush(ctx, f.options.Tenant, p.name, push.moves); err != nil {
		return told(err)
	}
	for _, m := range moved {
		f.tellPush(ctx, p.full, m)
	}
	return nil
}

// brought are the commits that a push brought to a branch: those that neither the
// branch had nor the main branch has. Of a push of too many, none are told.
func (p *place) brought(ctx context.Context, before, after string) ([]string, error) {
	if after == "" {
		return nil, nil
	}
	main, err := p.tip(ctx, "main")
	if err != nil {
		return nil, err
	}
	var others []string
	for _, sha := range []string{before, main} {
		if sha != "" && sha != after {
			others = append(others, sha)
		}
	}
	commits, err := p.git.Brings(ctx, after, others, maxCommits)
	if errors.Is(err, gitrepo.ErrLimit) {
		return nil, nil
	}
	return commits, err
}

func (f *Forge) tellPush(ctx context.Context, repo string, m Moved) {
	body, err := forge.NewPushBody(RepositoryID(repo), forge.Push{Repository: repo, Ref: m.Ref, Before: m.Before, After: m.After})
	if err == nil {
		err = f.deliver(ctx, repo, "push", body)
	}
	if err != nil {
		f.options.Log.WarnContext(ctx, "webhook not delivered", "repository", repo, "ref", m.Ref, "event", "push", "err", err)
	}
}

// String is a push for logs.
func (p *Push) String() string {
	var refs []string
	for _, m := range p.moves {
		refs = append(refs, fmt.Sprintf("%s %.12s..%.12s", m.Ref, m.Before, m.After))
	}
	return strings.Join(refs, ", ")
}
