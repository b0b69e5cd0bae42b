package builtin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/store"
)

// Ensure implements [forge.Forge].
func (f *Forge) Ensure(ctx context.Context, repo string, want forge.PullRequest) (forge.Listed, error) {
	if err := proper(want); err != nil {
		return forge.Listed{}, err
	}
	ctx, cancel, p, err := f.begin(ctx, repo)
	if err != nil {
		return forge.Listed{}, err
	}
	defer cancel()
	number, changed, err := p.ensure(ctx, want)
	if err != nil {
		return forge.Listed{}, fmt.Errorf("pull request of %s onto %s in %s: %w", want.HeadRef, want.Base, repo, told(err))
	}
	if changed {
		f.tell(ctx, p.full, number, "pull_request")
	}
	return p.one(ctx, number)
}

// one is a pull request as a list shows it.
func (p *place) one(ctx context.Context, number int64) (forge.Listed, error) {
	v, err := p.look(ctx, number)
	if err != nil {
		return forge.Listed{}, told(err)
	}
	return p.listed(v.ForgePull, map[string]string{v.HeadRef: v.head, v.Base: v.base}), nil
}

// ensure finds the open one or opens it, and corrects what it says.
func (p *place) ensure(ctx context.Context, want forge.PullRequest) (number int64, changed bool, err error) {
	o := p.options
	for range tries {
		rows, err := o.Store.ForgePulls(ctx, o.Tenant, p.name, want.HeadRef, want.Base, forge.Filter{}.Since)
		if err != nil {
			return 0, false, err
		}
		rows = slices.DeleteFunc(rows, func(x store.ForgePull) bool { return x.State != approval.Open })
		if len(rows) == 0 {
			number, err = p.open(ctx, want, o.Own)
			if errors.Is(err, store.ErrConflict) {
				continue
			}
			return number, true, err
		}
		v, err := p.look(ctx, rows[0].Number)
		if err != nil {
			return 0, false, err
		}
		if v.Merged != nil { // it was, and nobody had said so
			continue
		}
		changed, err := p.correct(ctx, v, want)
		return v.Number, changed, err
	}
	return 0, false, fmt.Errorf("%w: it is opened and merged all the time", forge.ErrUnavailable)
}

// correct writes what differs. Labels of others stay.
func (p *place) correct(ctx context.Context, v view, want forge.PullRequest) (bool, error) {
	labels := slices.Clone(v.Labels)
	for _, l := range want.Labels {
		if !slices.Contains(labels, l) {
			labels = append(labels, l)
		}
	}
	if v.State == approval.Closed {
		return false, fmt.Errorf("branch %s: %w", want.HeadRef, forge.ErrNotFound)
	}
	if v.Title == want.Title && v.Body == want.Body && len(labels) == len(v.Labels) {
		return false, nil
	}
	return true, p.options.Store.EditForgePull(ctx, p.options.Tenant, p.name, v.Number,
		store.ForgeEdit{Title: want.Title, Body: want.Body, Base: want.Base, Labels: labels}, p.options.Own)
}

// open opens a pull request of branches that are there.
func (p *place) open(ctx context.Context, want forge.PullRequest, by approval.Account) (int64, error) {
	head, err := p.git.Tip(ctx, want.HeadRef)
	if err != nil {
		return 0, err
	}
	if _, err := p.git.Tip(ctx, want.Base); err != nil {
		return 0, err
	}
	return p.options.Store.OpenForgePull(ctx, p.options.Tenant, p.name, store.NewForgePull{
		HeadRef: want.HeadRef, Base: want.Base, Title: want.Title, Body: want.Body, Labels: want.Labels, Head: head,
	}, by)
}

// proper says by an error that a pull request cannot be.
func proper(want forge.PullRequest) error {
	switch {
	case want.HeadRef == "" || want.Base == "" || want.HeadRef == want.Base:
		return fmt.Errorf("%w: a pull request is of one branch onto another", forge.ErrInvalid)
	case strings.TrimSpace(want.Title) == "" || len(want.Title) > 255 || !oneLine(want.Title):
		return fmt.Errorf("%w: a title is one line of at most 255 bytes", forge.ErrInvalid)
	case !readableText(want.Body):
		return fmt.Errorf("%w: a text has at most %d bytes of UTF-8", forge.ErrInvalid, forge.MaxComment)
	case len(want.Labels) > 20 || slices.ContainsFunc(want.Labels, func(l string) bool { return l == "" || len(l) > 50 || !oneLine(l) }):
		return fmt.Errorf("%w: at most 20 labels of at most 50 bytes", forge.ErrInvalid)
	}
	return nil
}

func oneLine(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func readableText(s string) bool {
	return len(s) <= forge.MaxComment && utf8.ValidString(s) && !strings.ContainsRune(s, 0)
}

// Close implements [forge.Forge].
func (f *Forge) Close(ctx context.Context, repo string, number int64) error {
	return f.CloseBy(ctx, repo, number, f.options.Own)
}

// CloseBy closes a pull request in the name of an account, as [Forge.Close] does in ours.
func (f *Forge) CloseBy(ctx context.Context, repo string, number int64, by approval.Account) error {
	return f.change(ctx, repo, number, "close", func(ctx context.Context, p *place, v view) error {
		switch v.State {
		case approval.Merged:
			return forge.ErrMerged
		case approval.Closed:
			return nil
		}
		err := p.options.Store.SetForgePullState(ctx, p.options.Tenant, p.name, number, approval.Open, approval.Closed, v.head, by)
		if errors.Is(err, store.ErrConflict) {
			return fmt.Errorf("%w: somebody changed it at the same moment", forge.ErrUnavailable)
		}
		return err
	})
}

// Reopen opens a closed pull request again. [forge.ErrRefused] when another one of its
// branches is open, or its branch is gone; [forge.ErrMerged].
func (f *Forge) Reopen(ctx context.Context, repo string, number int64, by approval.Account) error {
	return f.change(ctx, repo, number, "reopen", func(ctx context.Context, p *place, v view) error {
		head, err := p.tip(ctx, v.HeadRef)
		switch {
		case err != nil:
			return err
		case v.State == approval.Merged:
			return forge.ErrMerged
		case v.State == approval.Open:
			return nil
		case head == "":
			return fmt.Errorf("%w: its branch %s is gone", forge.ErrRefused, v.HeadRef)
		}
		return p.options.Store.SetForgePullState(ctx, p.options.Tenant, p.name, number, approval.Closed, approval.Open, head, by)
	})
}

// Retarget says which branch an open pull request is for.
func (f *Forge) Retarget(ctx context.Context, repo string, number int64, base string, by approval.Account) error {
	return f.change(ctx, repo, number, "retarget", func(ctx context.Context, p *place, v view) error {
		if _, err := p.git.Tip(ctx, base); err != nil {
			return err
		}
		return p.options.Store.EditForgePull(ctx, p.options.Tenant, p.name, number, store.ForgeEdit{Title: v.Title, Body: v.Body, Base: base, Labels: v.Labels}, by)
	})
}

// change looks at a pull request, changes it, and tells the webhooks.
func (f *Forge) change(ctx context.Context, repo string, number int64, what string, do func(ctx context.Context, p *place, v view) error) error {
	ctx, cancel, p, err := f.begin(ctx, repo)
	if err != nil {
		return err
	}
	defer cancel()
	v, err := p.look(ctx, number)
	if err == nil {
		err = do(ctx, p, v)
	}
	if err != nil {
		return fmt.Errorf("%s %s#%d: %w", what, repo, number, told(err))
	}
	f.tell(ctx, p.full, number, "pull_request")
	return nil
}
