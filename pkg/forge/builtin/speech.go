package builtin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/store"
)

// Status implements [forge.Forge].
func (f *Forge) Status(ctx context.Context, repo, commit string, s forge.Status) error {
	switch s.State {
	case forge.StatusPending, forge.StatusSuccess, forge.StatusFailure, forge.StatusError:
	default:
		return fmt.Errorf("%w: the state %.30q of a status", forge.ErrInvalid, s.State)
	}
	if s.Context == "" || len(s.Context) > 255 || !oneLine(s.Context) || len(s.URL) > 2000 || !commitForm().MatchString(commit) || !utf8.ValidString(s.Description) {
		return fmt.Errorf("%w: the status %.60q of %.60q", forge.ErrInvalid, s.Context, commit)
	}
	ctx, cancel, p, err := f.begin(ctx, repo)
	if err != nil {
		return err
	}
	defer cancel()
	if _, err = p.git.Commits(ctx, []string{commit}); err == nil {
		err = f.options.Store.AddForgeStatus(ctx, f.options.Tenant, p.name, commit, store.ForgeStatus{
			Context: s.Context, State: string(s.State), Description: cut(s.Description), URL: s.URL,
		})
	}
	if err != nil {
		return fmt.Errorf("status of %.12s: %w", commit, told(err))
	}
	return nil
}

// cut shortens a description to what a status may have.
func cut(s string) string {
	s = strings.ReplaceAll(s, "\x00", "")
	if utf8.RuneCountInString(s) <= forge.MaxDescription {
		return s
	}
	return string([]rune(s)[:forge.MaxDescription-1]) + "…"
}

// Comment implements [forge.Forge].
func (f *Forge) Comment(ctx context.Context, repo string, number int64, marker, text string) error {
	marked, err := forge.Marked(marker, text)
	if err != nil {
		return err
	}
	if !utf8.ValidString(marked) || strings.ContainsRune(marked, 0) {
		return fmt.Errorf("%w: a comment is UTF-8", forge.ErrInvalid)
	}
	ctx, cancel, p, err := f.begin(ctx, repo)
	if err != nil {
		return err
	}
	defer cancel()
	if err := p.comment(ctx, number, marker, marked); err != nil {
		return fmt.Errorf("comment on %s#%d: %w", repo, number, told(err))
	}
	return nil
}

func (p *place) comment(ctx context.Context, number int64, marker, marked string) error {
	o := p.options
	comments, err := o.Store.ForgeComments(ctx, o.Tenant, p.name, number)
	if err != nil {
		return err
	}
	if len(comments) > store.MaxForgeComments {
		return forge.ErrTooMuch
	}
	for _, c := range comments {
		if c.By.ID != o.Own.ID || !forge.HasMarker(c.Body, marker) {
			continue
		}
		if c.Body == marked {
			return nil
		}
		return o.Store.EditForgeComment(ctx, o.Tenant, p.name, number, c.ID, marked, o.Own)
	}
	return o.Store.AddForgeComment(ctx, o.Tenant, p.name, number, marked, o.Own)
}

// RequestReviews implements [forge.Forge].
func (f *Forge) RequestReviews(ctx context.Context, repo string, number int64, logins, teams []string) error {
	ctx, cancel, p, err := f.begin(ctx, repo)
	if err != nil {
		return err
	}
	defer cancel()
	a := asker{place: p}
	if a.view, err = p.look(ctx, number); err == nil {
		a.asked, err = f.options.Store.ForgeRequests(ctx, f.options.Tenant, p.name, number)
	}
	if err == nil {
		err = a.ask(ctx, repo, logins, teams)
	}
	if err != nil {
		return fmt.Errorf("ask for reviews of %s#%d: %w", repo, number, told(err))
	}
	return nil
}

// An asker asks people for a review of one pull request.
type asker struct {
	*place
	view
	asked []store.ForgeRequest
}

func (a asker) ask(ctx context.Context, repo string, logins, teams []string) error {
	m, err := a.Members(ctx, repo, forge.Ask{Logins: logins, Teams: teams})
	if err != nil {
		return err
	}
	var refused []string
	for _, login := range logins {
		who, known := m.Accounts[strings.ToLower(login)]
		switch {
		case known && who.ID == a.Author.ID:
		case !known || m.Permissions[who.ID] == approval.None:
			refused = append(refused, login)
		case a.answered([]int64{who.ID}) || a.waiting(store.ForgeRequest{Account: who.ID}, []int64{who.ID}):
		default:
			err = a.note(ctx, store.ForgeRequest{Account: who.ID})
		}
		if err != nil {
			return err
		}
	}
	for _, name := range teams {
		members, known := m.Teams[name]
		team, _ := a.team(name)
		switch {
		case !known:
			refused = append(refused, name)
		case a.answered(members) || a.waiting(store.ForgeRequest{Team: team}, members):
		default:
			err = a.note(ctx, store.ForgeRequest{Team: team})
		}
		if err != nil {
			return err
		}
	}
	if len(refused) > 0 {
		return fmt.Errorf("%w: may not review it, or there is no such account or team: %s", forge.ErrRefused, strings.Join(refused, ", "))
	}
	return nil
}

// answered reports whether one of these has reviewed the head.
func (a asker) answered(ids []int64) bool {
	return slices.ContainsFunc(a.Reviews, func(r store.ForgeReview) bool { return r.Commit == a.head && slices.Contains(ids, r.By.ID) })
}

// waiting reports whether they were asked and have not answered since.
func (a asker) waiting(who store.ForgeRequest, ids []int64) bool {
	return slices.ContainsFunc(a.asked, func(q store.ForgeRequest) bool {
		return q.Account == who.Account && q.Team == who.Team &&
			!slices.ContainsFunc(a.Reviews, func(r store.ForgeReview) bool { return r.At.After(q.At) && slices.Contains(ids, r.By.ID) })
	})
}

func (a asker) note(ctx context.Context, r store.ForgeRequest) error {
	r.Head = a.head
	return a.options.Store.AddForgeRequest(ctx, a.options.Tenant, a.name, a.Number, r, a.options.Own)
}
