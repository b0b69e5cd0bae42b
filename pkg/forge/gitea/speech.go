package gitea

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"hotswap.dev/hotswap/pkg/forge"
)

// Status implements [forge.Forge].
func (g *Gitea) Status(ctx context.Context, repo, id string, s forge.Status) error {
	if !commitForm().MatchString(id) || s.Context == "" || s.State == "" {
		return fmt.Errorf("%w: a status needs a commit, a context and a state", forge.ErrInvalid)
	}
	ctx, cancel, path, err := g.begin(ctx, repo)
	if err != nil {
		return err
	}
	defer cancel()
	if err := g.status(ctx, path, id, s); err != nil {
		return fmt.Errorf("status %s of %s: %w", s.Context, id, err)
	}
	return nil
}

func (g *Gitea) status(ctx context.Context, path, id string, s forge.Status) error {
	latest, err := all[status](ctx, g, list{path: path + "/commits/" + id + "/status", within: "statuses"})
	if err != nil {
		return err
	}
	want := status{Context: s.Context, State: string(s.State), Description: cut(s.Description), URL: s.URL}
	if slices.Contains(latest, want) {
		return nil
	}
	return g.send(ctx, http.MethodPost, path+"/statuses/"+id, map[string]string{
		"context": want.Context, "state": want.State, "description": want.Description, "target_url": want.URL,
	}, nil)
}

func cut(s string) string {
	runes := []rune(s)
	if len(runes) > forge.MaxDescription {
		return string(runes[:forge.MaxDescription-1]) + "…"
	}
	return s
}

// Comment implements [forge.Forge].
func (g *Gitea) Comment(ctx context.Context, repo string, number int64, marker, text string) error {
	body, err := forge.Marked(marker, text)
	if err != nil {
		return err
	}
	ctx, cancel, path, err := g.begin(ctx, repo)
	if err != nil {
		return err
	}
	defer cancel()
	if err := g.comment(ctx, path, number, marker, body); err != nil {
		return fmt.Errorf("comment on %s#%d: %w", repo, number, err)
	}
	return nil
}

// comment writes the oldest comment of ours with the marker. Anybody can write the
// marker; only what our own account wrote is ours.
func (g *Gitea) comment(ctx context.Context, path string, number int64, marker, body string) error {
	self, err := g.self(ctx)
	if err != nil {
		return err
	}
	comments, err := unpaged[comment](ctx, g, issuePath(path, number)+"/comments")
	if err != nil {
		if _, pull := g.pull(ctx, path, number); errors.Is(pull, forge.ErrNotFound) { // of none, Gitea answers 500
			return pull
		}
		return err
	}
	for _, c := range comments {
		if c.User.ID != self || !forge.HasMarker(c.Body, marker) {
			continue
		}
		if c.Body == body {
			return nil
		}
		return g.send(ctx, http.MethodPatch, path+"/issues/comments/"+strconv.FormatInt(c.ID, 10), map[string]string{"body": body}, nil)
	}
	return g.send(ctx, http.MethodPost, issuePath(path, number)+"/comments", map[string]string{"body": body}, nil)
}

// RequestReviews implements [forge.Forge].
func (g *Gitea) RequestReviews(ctx context.Context, repo string, number int64, logins, teams []string) error {
	ctx, cancel, path, err := g.begin(ctx, repo)
	if err != nil {
		return err
	}
	defer cancel()
	if err := g.request(ctx, repo, path, number, logins, teams); err != nil {
		return fmt.Errorf("request reviews of %s#%d: %w", repo, number, err)
	}
	return nil
}

// request asks one after another: one who cannot be asked keeps nobody else from it.
func (g *Gitea) request(ctx context.Context, repo, path string, number int64, logins, teams []string) error {
	p, err := g.pull(ctx, path, number)
	if err != nil {
		return err
	}
	reviews, err := g.rawReviews(ctx, path, number)
	if err != nil {
		return err
	}
	var problems []error
	for _, login := range logins {
		if !askedPerson(p, reviews, login) {
			problems = append(problems, g.ask(ctx, path, number, "reviewers", login))
		}
	}
	for _, name := range teams {
		asked, err := g.askedTeam(ctx, repo, p, reviews, name)
		if err == nil && !asked {
			_, inOrg, ok := strings.Cut(name, "/")
			if !ok {
				inOrg = name
			}
			err = g.ask(ctx, path, number, "team_reviewers", inOrg)
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// askedPerson reports whether a person is asked, is the author, or has reviewed this head. The requested_reviewers
// of Gitea do not tell: they are all whose word is in the reviews, the answered requests included.
func askedPerson(p *pull, reviews []review, login string) bool {
	is := func(u *user) bool { return u != nil && strings.EqualFold(u.Login, login) }
	var last review // of the person
	for _, r := range reviews {
		if is(r.User) && r.ID > last.ID {
			last = r
		}
		if is(r.User) && r.of(p.Head.SHA) {
			return true
		}
	}
	return is(p.User) || last.State == requested
}

// of reports whether it is a review, still held, of a commit.
func (r *review) of(commit string) bool {
	return r.State != requested && r.Commit == commit && !*r.Dismissed
}

// askedTeam reports whether a team was asked, or a member of it has reviewed this
// head: Gitea takes its request back then.
func (g *Gitea) askedTeam(ctx context.Context, repo string, p *pull, reviews []review, name string) (bool, error) {
	owner, _, _ := strings.Cut(repo, "/")
	org, inOrg, ok := strings.Cut(name, "/")
	if !ok {
		org, inOrg = owner, name
	}
	if !strings.EqualFold(org, owner) {
		return false, fmt.Errorf("%w: team %s is not of the repository's owner", forge.ErrRefused, name)
	}
	if slices.ContainsFunc(p.AskedTeam, func(t *team) bool { return t != nil && strings.EqualFold(t.Name, inOrg) }) {
		return true, nil
	}
	ids, err := g.teamMembers(ctx, repo, name)
	if errors.Is(err, forge.ErrNotFound) || errors.Is(err, forge.ErrDenied) {
		return false, nil // asking tells whether there is such a team
	}
	return slices.ContainsFunc(reviews, func(r review) bool {
		return r.User != nil && slices.Contains(ids, r.User.ID) && r.of(p.Head.SHA)
	}), err
}

// ask asks one person or team. Gitea answers 404 for one that there is not, and 422
// for one who may not review.
func (g *Gitea) ask(ctx context.Context, path string, number int64, kind, name string) error {
	err := g.send(ctx, http.MethodPost, pullPath(path, number)+"/requested_reviewers", map[string][]string{kind: {name}}, nil)
	if errors.Is(err, forge.ErrNotFound) || errors.Is(err, forge.ErrRefused) {
		return fmt.Errorf("%w: %s: %w", forge.ErrRefused, name, err)
	}
	return err
}

// hook is a webhook as Gitea lists it; its secret is never shown.
type hook struct {
	ID     int64             `json:"id"`
	Config map[string]string `json:"config"`
}

func (h *hook) problem() string {
	if h.ID <= 0 {
		return "a webhook without a number"
	}
	return ""
}

// hookEvents are what Gitea calls the events that wake us.
func hookEvents() []string {
	return []string{
		"push", "pull_request", "pull_request_sync", "pull_request_review_request",
		"pull_request_review_approved", "pull_request_review_rejected", "pull_request_review_comment",
	}
}

// Hook implements [forge.Forge]. Gitea does not show a secret, so it is written each time.
func (g *Gitea) Hook(ctx context.Context, repo string, want forge.Hook) error {
	u, err := url.Parse(want.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || want.Secret.IsZero() {
		return fmt.Errorf("%w: a webhook needs an address and a secret", forge.ErrInvalid)
	}
	ctx, cancel, path, err := g.begin(ctx, repo)
	if err != nil {
		return err
	}
	defer cancel()
	if err := g.hook(ctx, path, want); err != nil {
		return fmt.Errorf("webhook of %s: %w", repo, err)
	}
	return nil
}

func (g *Gitea) hook(ctx context.Context, path string, want forge.Hook) error {
	hooks, err := all[hook](ctx, g, list{path: path + "/hooks"})
	if err != nil {
		return err
	}
	body := map[string]any{
		"type": "gitea", "active": true, "events": hookEvents(), "branch_filter": "*",
		"config": map[string]string{"url": want.URL, "content_type": "json", "secret": want.Secret.RevealString()},
	}
	ours := slices.DeleteFunc(hooks, func(h hook) bool { return h.Config["url"] != want.URL })
	if len(ours) == 0 {
		return g.send(ctx, http.MethodPost, path+"/hooks", body, nil)
	}
	for _, extra := range ours[1:] {
		if err := g.send(ctx, http.MethodDelete, path+"/hooks/"+strconv.FormatInt(extra.ID, 10), nil, nil); err != nil {
			return err
		}
	}
	return g.send(ctx, http.MethodPatch, path+"/hooks/"+strconv.FormatInt(ours[0].ID, 10), body, nil)
}
