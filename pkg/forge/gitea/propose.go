package gitea

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/forge/rest"
)

// Ensure implements [forge.Forge].
func (g *Gitea) Ensure(ctx context.Context, repo string, want forge.PullRequest) (forge.Listed, error) {
	if want.HeadRef == "" || want.Base == "" || strings.Contains(want.HeadRef, ":") || strings.TrimSpace(want.Title) == "" || strings.ContainsAny(want.Title, "\r\n") {
		return forge.Listed{}, fmt.Errorf("%w: a pull request needs two branches and a title of one line", forge.ErrInvalid)
	}
	ctx, cancel, path, err := g.begin(ctx, repo)
	if err != nil {
		return forge.Listed{}, err
	}
	defer cancel()
	p, err := g.ensure(ctx, path, want)
	if err != nil {
		return forge.Listed{}, fmt.Errorf("pull request %s onto %s: %w", want.HeadRef, want.Base, err)
	}
	return p.listed(), nil
}

func (g *Gitea) ensure(ctx context.Context, path string, want forge.PullRequest) (*pull, error) {
	p, err := g.open(ctx, path, want)
	if errors.Is(err, forge.ErrNotFound) {
		p, err = g.create(ctx, path, want)
	}
	if err != nil {
		return nil, err
	}
	if err := g.correct(ctx, path, p, want); err != nil {
		return nil, err
	}
	return p, g.addLabels(ctx, path, p, want.Labels)
}

// open finds the open pull request. Gitea's own search by both branches also finds
// closed ones, and not the newest.
func (g *Gitea) open(ctx context.Context, path string, want forge.PullRequest) (*pull, error) {
	items, err := g.list(ctx, path, forge.Filter{Base: want.Base, State: approval.Open})
	if err != nil {
		return nil, err
	}
	for i := range items {
		if p := &items[i]; p.Head.Ref == want.HeadRef && !p.fork() {
			return p, nil
		}
	}
	return nil, forge.ErrNotFound
}

// create opens it. When the answer is that there is one, somebody was faster, or our
// last answer was lost: it is that one.
func (g *Gitea) create(ctx context.Context, path string, want forge.PullRequest) (*pull, error) {
	var p pull
	body := map[string]any{"head": want.HeadRef, "base": want.Base, "title": want.Title, "body": want.Body}
	err := g.send(ctx, http.MethodPost, path+"/pulls", body, &p)
	if statusOf(err) == http.StatusConflict {
		return g.open(ctx, path, want)
	}
	if err != nil {
		return nil, err
	}
	if problem := p.problem(); problem != "" {
		return nil, fmt.Errorf("%w: %s", forge.ErrMalformed, problem)
	}
	return &p, nil
}

// statusOf is the status of an answer that was no success; 0: it is another error, or none.
func statusOf(err error) int {
	var r *rest.Refusal
	if errors.As(err, &r) {
		return r.Status
	}
	return 0
}

func (g *Gitea) correct(ctx context.Context, path string, p *pull, want forge.PullRequest) error {
	change := map[string]any{}
	if p.Title != strings.TrimSpace(want.Title) {
		change["title"] = want.Title
	}
	if p.Body != want.Body {
		change["body"] = want.Body
	}
	if len(change) == 0 {
		return nil
	}
	return g.send(ctx, http.MethodPatch, pullPath(path, p.Number), change, nil)
}

func (g *Gitea) addLabels(ctx context.Context, path string, p *pull, want []string) error {
	missing := slices.DeleteFunc(slices.Clone(want), func(name string) bool {
		return slices.ContainsFunc(p.Labels, func(l label) bool { return l.Name == name })
	})
	if len(missing) == 0 {
		return nil
	}
	known, err := all[label](ctx, g, list{path: path + "/labels"})
	if err != nil {
		return fmt.Errorf("labels: %w", err)
	}
	var ids []int64
	for _, name := range missing {
		at := slices.IndexFunc(known, func(l label) bool { return l.Name == name })
		if at >= 0 {
			ids = append(ids, known[at].ID)
			continue
		}
		var made label
		if err := g.send(ctx, http.MethodPost, path+"/labels", map[string]any{"name": name, "color": "#0e8a16"}, &made); err != nil {
			return fmt.Errorf("label %q: %w", name, err)
		}
		ids = append(ids, made.ID)
	}
	return g.send(ctx, http.MethodPost, issuePath(path, p.Number)+"/labels", map[string]any{"labels": ids}, nil)
}

// Close implements [forge.Forge].
func (g *Gitea) Close(ctx context.Context, repo string, number int64) error {
	ctx, cancel, path, err := g.begin(ctx, repo)
	if err != nil {
		return err
	}
	defer cancel()
	p, err := g.pull(ctx, path, number)
	switch {
	case err != nil:
	case p.state() == approval.Merged:
		err = forge.ErrMerged
	case p.state() == approval.Open:
		err = g.send(ctx, http.MethodPatch, pullPath(path, number), map[string]any{"state": "closed"}, nil)
	}
	if err != nil {
		return fmt.Errorf("close %s#%d: %w", repo, number, err)
	}
	return nil
}
