package builtin

import (
	"context"
	"fmt"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/store"
)

// Open opens a pull request in the name of an account. [forge.ErrRefused] when one of
// these branches is open.
func (f *Forge) Open(ctx context.Context, repo string, want forge.PullRequest, by approval.Account) (forge.Listed, error) {
	if err := proper(want); err != nil {
		return forge.Listed{}, err
	}
	ctx, cancel, p, err := f.begin(ctx, repo)
	if err != nil {
		return forge.Listed{}, err
	}
	defer cancel()
	number, err := p.open(ctx, want, by)
	if err != nil {
		return forge.Listed{}, fmt.Errorf("pull request of %s onto %s in %s: %w", want.HeadRef, want.Base, repo, told(err))
	}
	f.tell(ctx, p.full, number, "pull_request")
	return p.one(ctx, number)
}

// A Review is what somebody says of the commit that they have seen.
type Review struct {
	Verdict approval.Verdict
	Commit  string
	Text    string
}

// events are Gitea's names of what a review is told as.
func (r Review) event() string {
	switch r.Verdict {
	case approval.Approved:
		return "pull_request_approved"
	case approval.ChangesRequested:
		return "pull_request_rejected"
	}
	return "pull_request_comment"
}

func (r Review) check() error {
	switch {
	case r.Verdict != approval.Approved && r.Verdict != approval.ChangesRequested && r.Verdict != approval.Commented:
		return fmt.Errorf("%w: the verdict %.30q", forge.ErrInvalid, r.Verdict)
	case !commitForm().MatchString(r.Commit):
		return fmt.Errorf("%w: a review names the commit that it is of", forge.ErrInvalid)
	case !readableText(r.Text) || r.Verdict == approval.Commented && r.Text == "":
		return fmt.Errorf("%w: the text", forge.ErrInvalid)
	}
	return nil
}

// Review keeps a review in the name of an account and returns its number.
// [forge.ErrHeadMoved] when the commit is not the head; [forge.ErrClosed] and
// [forge.ErrMerged] when there is nothing to review any more.
func (f *Forge) Review(ctx context.Context, repo string, number int64, r Review, by approval.Account) (id int64, err error) {
	if err := r.check(); err != nil {
		return 0, err
	}
	ctx, cancel, p, err := f.begin(ctx, repo)
	if err != nil {
		return 0, err
	}
	defer cancel()
	if id, err = p.review(ctx, number, r, by); err != nil {
		return 0, fmt.Errorf("review %s#%d: %w", repo, number, told(err))
	}
	f.tell(ctx, p.full, number, r.event())
	return id, nil
}

// review binds the review to its commit: should the head move at this moment, it is
// kept, and stale from the beginning.
func (p *place) review(ctx context.Context, number int64, r Review, by approval.Account) (int64, error) {
	v, err := p.look(ctx, number)
	switch {
	case err != nil:
		return 0, err
	case v.head != r.Commit:
		return 0, fmt.Errorf("%w to %s", forge.ErrHeadMoved, v.head)
	case v.State == approval.Merged:
		return 0, forge.ErrMerged
	case v.State == approval.Closed:
		return 0, forge.ErrClosed
	}
	return p.options.Store.AddForgeReview(ctx, p.options.Tenant, p.name, number, store.ForgeReview{
		Review: approval.Review{By: by, Verdict: r.Verdict, Commit: r.Commit}, Body: r.Text,
	})
}

// Dismiss takes a review away for a reason.
func (f *Forge) Dismiss(ctx context.Context, repo string, number, review int64, reason string, by approval.Account) error {
	if reason == "" || len(reason) > 500 || !oneLine(reason) {
		return fmt.Errorf("%w: a review is dismissed for a reason, one line of at most 500 bytes", forge.ErrInvalid)
	}
	return f.change(ctx, repo, number, "dismiss a review of", func(ctx context.Context, p *place, _ view) error {
		return p.options.Store.DismissForgeReview(ctx, p.options.Tenant, p.name, number, review, reason, by)
	})
}

// Say adds a comment in the name of an account.
func (f *Forge) Say(ctx context.Context, repo string, number int64, text string, by approval.Account) error {
	if text == "" || !readableText(text) {
		return fmt.Errorf("%w: a comment has 1 to %d bytes of UTF-8", forge.ErrInvalid, forge.MaxComment)
	}
	return f.change(ctx, repo, number, "comment on", func(ctx context.Context, p *place, _ view) error {
		return p.options.Store.AddForgeComment(ctx, p.options.Tenant, p.name, number, text, by)
	})
}

// A Shown is a pull request with all that people want to see of it.
type Shown struct {
	approval.Pull
	Body      string               `json:"body,omitempty"`
	Labels    []string             `json:"labels,omitempty"`
	Texts     map[int64]string     `json:"reviewTexts,omitempty"` // by the number of the review
	Comments  []store.ForgeComment `json:"comments,omitempty"`
	Statuses  []store.ForgeStatus  `json:"statuses,omitempty"` // of the head: the newest of each context
	Mergeable string               `json:"mergeable"`          // "yes", or why not
}

// Show returns a pull request for people.
func (f *Forge) Show(ctx context.Context, repo string, number int64) (Shown, error) {
	ctx, cancel, p, err := f.begin(ctx, repo)
	if err != nil {
		return Shown{}, err
	}
	defer cancel()
	s, err := p.show(ctx, number)
	if err != nil {
		return Shown{}, fmt.Errorf("pull request %s#%d: %w", repo, number, told(err))
	}
	return s, nil
}

func (p *place) show(ctx context.Context, number int64) (s Shown, err error) {
	v, commits, err := p.steady(ctx, number)
	if err != nil {
		return s, err
	}
	if s.Pull, err = p.judgeable(ctx, v, commits); err != nil {
		return s, err
	}
	s.Body, s.Labels, s.Texts = v.Body, v.Labels, map[int64]string{}
	for _, r := range v.Reviews {
		if r.Body != "" {
			s.Texts[r.ID] = r.Body
		}
	}
	o := p.options
	if s.Comments, err = o.Store.ForgeComments(ctx, o.Tenant, p.name, number); err != nil {
		return s, err
	}
	all, err := o.Store.ForgeStatuses(ctx, o.Tenant, p.name, v.head)
	if err != nil {
		return s, err
	}
	s.Statuses = newest(all)
	s.Mergeable = "yes"
	if _, err := p.mergeable(ctx, v, forge.Merge{ExpectedHead: v.head}); err != nil {
		s.Mergeable = err.Error()
	}
	return s, nil
}

// newest are the last statuses of each context, in the order in which contexts came.
func newest(all []store.ForgeStatus) []store.ForgeStatus {
	var out []store.ForgeStatus
	at := map[string]int{}
	for _, s := range all {
		if i, ok := at[s.Context]; ok {
			out[i] = s
			continue
		}
		at[s.Context] = len(out)
		out = append(out, s)
	}
	return out
}

// maxPatch is the largest difference that is shown, in bytes.
const maxPatch = 4 << 20

// Patch returns what a pull request changes, and the head that it shows.
func (f *Forge) Patch(ctx context.Context, repo string, number int64) (patch, head string, err error) {
	ctx, cancel, p, err := f.begin(ctx, repo)
	if err != nil {
		return "", "", err
	}
	defer cancel()
	v, err := p.look(ctx, number)
	if err == nil {
		base := v.base
		if v.Merged != nil {
			base = v.Merged.Base
		}
		patch, err = p.git.Patch(ctx, base, v.head, maxPatch)
	}
	if err != nil {
		return "", "", fmt.Errorf("difference of %s#%d: %w", repo, number, told(err))
	}
	return patch, v.head, nil
}
