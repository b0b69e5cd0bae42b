package builtin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/store"
)

// Merge implements [forge.Forge].
func (f *Forge) Merge(ctx context.Context, repo string, number int64, m forge.Merge) (string, error) {
	return f.MergeBy(ctx, repo, number, m, f.options.Own)
}

// MergeBy merges in the name of an account, as [Forge.Merge] does in ours.
func (f *Forge) MergeBy(ctx context.Context, repo string, number int64, m forge.Merge, by approval.Account) (string, error) {
	if !commitForm().MatchString(m.ExpectedHead) {
		return "", fmt.Errorf("%w: a merge names the head that it is for", forge.ErrInvalid)
	}
	if strings.ContainsRune(m.Message, 0) || len(m.Message) > forge.MaxComment {
		return "", fmt.Errorf("%w: the message", forge.ErrInvalid)
	}
	ctx, cancel, p, err := f.begin(ctx, repo)
	if err != nil {
		return "", err
	}
	defer cancel()
	made, err := p.merge(ctx, number, m, by)
	if err != nil {
		return made, fmt.Errorf("merge %s#%d: %w", repo, number, told(err))
	}
	f.tell(ctx, p.full, number, "pull_request")
	if err := p.tellMerge(ctx, number, made); err != nil { // it is made; the next reconcile finds it
		f.options.Log.WarnContext(ctx, "webhook not delivered", "repository", repo, "number", number, "event", "push", "err", err)
	}
	return made, nil
}

// tellMerge tells the webhooks that a merge moved its base, as a push does.
func (p *place) tellMerge(ctx context.Context, number int64, commit string) error {
	v, err := p.look(ctx, number)
	if err != nil || v.Merged == nil {
		return err
	}
	p.tellPush(ctx, p.full, Moved{Ref: heads + v.Base, Before: v.Merged.Base, After: commit})
	return nil
}

// merge tries until the base stands still between the look and the move.
func (p *place) merge(ctx context.Context, number int64, m forge.Merge, by approval.Account) (string, error) {
	for range tries {
		v, err := p.look(ctx, number)
		if err != nil {
			return "", err
		}
		if done, err := p.mergeable(ctx, v, m); err != nil {
			return done, err
		}
		commit, err := p.join(ctx, v, m, by)
		if err != nil {
			return "", err
		}
		err = p.carryOut(ctx, v, store.ForgeMerge{Commit: commit, Base: v.base, Head: v.head, By: by})
		if errors.Is(err, gitrepo.ErrMoved) || errors.Is(err, store.ErrConflict) {
			continue // the next look tells
		}
		return commit, err
	}
	return "", fmt.Errorf("%w: its base moves all the time", forge.ErrUnavailable)
}

// mergeable says by an error why a pull request cannot be merged as it is.
func (p *place) mergeable(ctx context.Context, v view, m forge.Merge) (done string, err error) {
	switch {
	case v.head != m.ExpectedHead:
		return "", fmt.Errorf("%w to %s", forge.ErrHeadMoved, v.head)
	case v.State == approval.Merged:
		return v.Merged.Commit, forge.ErrMerged
	case v.State == approval.Closed:
		return "", forge.ErrClosed
	case v.base == "":
		return "", fmt.Errorf("%w: there is no branch %s", forge.ErrRefused, v.Base)
	}
	protection, err := p.options.Store.BranchProtection(ctx, p.options.Tenant, p.name, v.Base)
	if err != nil {
		return "", err
	}
	if why := short(protection, v); why != "" {
		return "", fmt.Errorf("%w: %s is protected: %s", forge.ErrRefused, v.Base, why)
	}
	empty, err := p.git.Ancestor(ctx, v.head, v.base)
	if err == nil && empty {
		err = fmt.Errorf("%w: it brings nothing that %s does not have", forge.ErrRefused, v.Base)
	}
	return "", err
}

// short says what the protection of a base misses. The last word of each who may write
// counts, for the head as it is; an author's yes does not.
func short(b store.ForgeBranch, v view) string {
	if !b.Protected {
		return ""
	}
	last := map[int64]store.ForgeReview{}
	for _, r := range v.Reviews {
		if r.Verdict != approval.Commented && r.Official && !r.Dismissed {
			last[r.By.ID] = r
		}
	}
	given := 0
	for _, r := range last {
		switch {
		case r.Verdict == approval.ChangesRequested:
			return r.By.Login + " asks for changes"
		case r.Verdict == approval.Approved && r.Commit == v.head && r.By.ID != v.Author.ID && !r.By.Bot:
			given++
		}
	}
	if given < b.Approvals {
		return fmt.Sprintf("it has %d of %d approvals of its head", given, b.Approvals)
	}
	return ""
}

// join writes the objects of a merge. Nobody sees them before the base is moved.
func (p *place) join(ctx context.Context, v view, m forge.Merge, by approval.Account) (string, error) {
	if m.Method == forge.FastForward {
		ahead, err := p.git.Ancestor(ctx, v.base, v.head)
		if err == nil && !ahead {
			err = fmt.Errorf("%w: %s is not in its history, so there is no fast-forward", forge.ErrConflict, v.Base)
		}
		return v.head, err
	}
	message := m.Message
	if message == "" {
		message = fmt.Sprintf("Merge pull request #%d: %s", v.Number, v.Title)
	}
	return p.git.Join(ctx, gitrepo.Join{
		Base: v.base, Head: v.head, Squash: m.Method == forge.Squash, At: v.Now,
		Name: by.Login, Email: p.email(by), Message: strings.TrimSpace(message) + "\n",
	})
}

// email is what a merge commit names. An account is found by its number whatever it is
// called later, see [store.Store.ForgePullMergedAs]; so the address need not be theirs.
func (p *place) email(by approval.Account) string {
	if by.ID == p.options.Own.ID {
		return OwnEmail
	}
	return fmt.Sprintf("%d@accounts.%s.invalid", by.ID, p.options.Tenant)
}

// carryOut moves the base. The merge is taken down before, so that whoever finds the
// base moved knows by whom; and after, which a look would do as well.
func (p *place) carryOut(ctx context.Context, v view, m store.ForgeMerge) error {
	o := p.options
	if err := o.Store.BeginForgeMerge(ctx, o.Tenant, p.name, v.Number, m); err != nil {
		return err
	}
	if err := p.git.Move(ctx, v.Base, m.Base, m.Commit); err != nil {
		return err
	}
	return o.Store.EndForgeMerge(ctx, o.Tenant, p.name, v.Number, m)
}
