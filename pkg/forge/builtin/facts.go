package builtin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/store"
)

// Repository implements [forge.Forge].
func (f *Forge) Repository(ctx context.Context, repo string) (forge.Repository, error) {
	ctx, cancel, p, err := f.begin(ctx, repo)
	if err != nil {
		return forge.Repository{}, err
	}
	defer cancel()
	own, err := f.options.Store.AccountPermission(ctx, f.options.Tenant, p.name, f.options.Own.ID)
	if err != nil {
		return forge.Repository{}, fmt.Errorf("repository %s: %w", repo, told(err))
	}
	return forge.Repository{ID: RepositoryID(repo), Name: repo, DefaultBranch: "main", Own: own}, nil
}

// A view is a pull request as rows and repository tell it at one moment.
type view struct {
	store.ForgeFacts
	head string // commit
	base string // commit; empty: the branch is gone
}

// look reads a pull request. A merge that was begun and made is told from the
// repository, whatever became of whoever made it.
func (p *place) look(ctx context.Context, number int64) (view, error) {
	o := p.options
	facts, err := o.Store.LoadForgePull(ctx, o.Tenant, p.name, number)
	if err != nil {
		return view{}, err
	}
	base, err := p.tip(ctx, facts.Base)
	if err != nil {
		return view{}, err
	}
	if facts.Begun {
		made, err := p.settle(ctx, facts, base)
		if err != nil {
			return view{}, err
		}
		if made {
			if facts, err = o.Store.LoadForgePull(ctx, o.Tenant, p.name, number); err != nil {
				return view{}, err
			}
		}
	}
	v := view{ForgeFacts: facts, base: base}
	v.head, v.State, err = p.stand(ctx, facts.ForgePull)
	return v, err
}

// settle keeps the merge that the base holds, if it holds one that was begun.
func (p *place) settle(ctx context.Context, facts store.ForgeFacts, base string) (bool, error) {
	for _, m := range facts.Merges {
		if base == "" {
			return false, nil
		}
		made, err := p.git.Ancestor(ctx, m.Commit, base)
		if err != nil {
			return false, err
		}
		if made {
			return true, p.options.Store.EndForgeMerge(ctx, p.options.Tenant, p.name, facts.Number, m)
		}
	}
	return false, nil
}

// stand is where the head of a pull request is, and its state: whose branch is gone is closed.
func (p *place) stand(ctx context.Context, x store.ForgePull) (string, approval.PullState, error) {
	if x.Merged != nil {
		return x.Merged.Head, approval.Merged, nil
	}
	head, err := p.tip(ctx, x.HeadRef)
	switch {
	case err != nil:
		return "", "", err
	case head == "":
		return x.SeenHead, approval.Closed, nil
	}
	return head, x.State, nil
}

// Pull implements [forge.Forge].
func (f *Forge) Pull(ctx context.Context, repo string, number int64) (approval.Pull, error) {
	ctx, cancel, p, err := f.begin(ctx, repo)
	if err != nil {
		return approval.Pull{}, err
	}
	defer cancel()
	v, commits, err := p.steady(ctx, number)
	if err == nil {
		var pull approval.Pull
		if pull, err = p.judgeable(ctx, v, commits); err == nil {
			return pull, nil
		}
	}
	return approval.Pull{}, fmt.Errorf("pull request %s#%d: %w", repo, number, told(err))
}

// steady reads a pull request and its commits until it was the same before and after.
func (p *place) steady(ctx context.Context, number int64) (view, []gitrepo.Commit, error) {
	for range rereads {
		v, err := p.look(ctx, number)
		if err != nil {
			return view{}, nil, err
		}
		commits, err := p.commits(ctx, v)
		if err != nil {
			return view{}, nil, err
		}
		head, state, err := p.stand(ctx, v.ForgePull)
		if err != nil {
			return view{}, nil, err
		}
		if head == v.head && (state == v.State || v.Merged != nil) {
			return v, commits, nil
		}
	}
	return view{}, nil, forge.ErrMoving
}

// commits are those that a pull request brings, oldest first.
func (p *place) commits(ctx context.Context, v view) ([]gitrepo.Commit, error) {
	base := v.base
	if v.Merged != nil {
		base = v.Merged.Base
	}
	var others []string
	if base != "" {
		others = []string{base}
	}
	shas, err := p.git.Brings(ctx, v.head, others, maxCommits)
	if err != nil {
		return nil, err
	}
	return p.git.Commits(ctx, shas)
}

func (p *place) judgeable(ctx context.Context, v view, commits []gitrepo.Commit) (approval.Pull, error) {
	signers, err := p.signers(ctx, commits)
	if err != nil {
		return approval.Pull{}, err
	}
	pushers, err := p.pushers(ctx, v, commits)
	if err != nil {
		return approval.Pull{}, err
	}
	out := approval.Pull{
		Number: v.Number, URL: p.url(v.Number), Title: v.Title, State: v.State,
		Head: v.head, HeadRef: v.HeadRef, Base: v.Base, BaseCommit: v.base,
		Author: v.Author, Committers: signers, Pushers: pushers, UpdatedAt: v.UpdatedAt,
	}
	if v.Merged != nil {
		out.Merge, out.MergedBy = v.Merged.Commit, v.Merged.By
	}
	for _, r := range v.Reviews {
		r.Stale = r.Commit != v.head
		out.Reviews = append(out.Reviews, r.Review)
	}
	return out, nil
}

func (p *place) url(number int64) string {
	return fmt.Sprintf("%s/%s/pulls/%d", p.options.URL, p.full, number)
}

// signers are who wrote and who committed: accounts by the mail address that a commit
// names, else the name that it says.
func (p *place) signers(ctx context.Context, commits []gitrepo.Commit) ([]approval.Account, error) {
	var emails []string
	for _, c := range commits {
		emails = append(emails, c.Author.Email, c.Committer.Email)
	}
	known, err := p.options.Store.AccountsByEmail(ctx, p.options.Tenant, emails)
	if err != nil {
		return nil, err
	}
	var out []approval.Account
	for _, c := range commits {
		for _, who := range []gitrepo.Person{c.Author, c.Committer} {
			a, ok := known[strings.ToLower(who.Email)]
			if !ok {
				a = approval.Account{Login: who.Name + " <" + who.Email + ">"}
			}
			out = with(out, a)
		}
	}
	return out, nil
}

// with adds those that are not there yet.
func with(accounts []approval.Account, more ...approval.Account) []approval.Account {
	for _, a := range more {
		if !slices.Contains(accounts, a) {
			accounts = append(accounts, a)
		}
	}
	return accounts
}

// Pulls implements [forge.Forge].
func (f *Forge) Pulls(ctx context.Context, repo string, filter forge.Filter) ([]forge.Listed, error) {
	ctx, cancel, p, err := f.begin(ctx, repo)
	if err != nil {
		return nil, err
	}
	defer cancel()
	out, err := p.list(ctx, filter)
	if err != nil {
		return nil, fmt.Errorf("pull requests of %s: %w", repo, told(err))
	}
	return out, nil
}

func (p *place) list(ctx context.Context, filter forge.Filter) ([]forge.Listed, error) {
	rows, err := p.options.Store.ForgePulls(ctx, p.options.Tenant, p.name, "", filter.Base, filter.Since)
	if err != nil {
		return nil, err
	}
	if len(rows) > store.MaxForgePulls {
		return nil, forge.ErrTooMuch
	}
	tips, err := p.git.Branches(ctx)
	if err != nil {
		return nil, err
	}
	var out []forge.Listed
	for _, x := range rows {
		l := p.listed(x, tips)
		if x.Begun {
			v, err := p.look(ctx, x.Number)
			if err != nil {
				return nil, err
			}
			l = p.listed(v.ForgePull, tips)
		}
		if filter.State == "" || filter.State == l.State {
			out = append(out, l)
		}
	}
	return out, nil
}

func (p *place) listed(x store.ForgePull, tips map[string]string) forge.Listed {
	l := forge.Listed{
		Number: x.Number, URL: p.url(x.Number), State: x.State, Head: tips[x.HeadRef], HeadRef: x.HeadRef,
		Base: x.Base, BaseCommit: tips[x.Base], UpdatedAt: x.UpdatedAt.Truncate(time.Microsecond),
	}
	switch {
	case x.Merged != nil:
		l.Head, l.State = x.Merged.Head, approval.Merged
	case l.Head == "":
		l.Head, l.State = x.SeenHead, approval.Closed
	}
	return l
}
