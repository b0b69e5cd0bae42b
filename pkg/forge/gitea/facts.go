package gitea

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/forge/rest"
)

// Repository implements [forge.Forge].
func (g *Gitea) Repository(ctx context.Context, repo string) (forge.Repository, error) {
	ctx, cancel, path, err := g.begin(ctx, repo)
	if err != nil {
		return forge.Repository{}, err
	}
	defer cancel()
	var r struct {
		ID          int64  `json:"id"`
		FullName    string `json:"full_name"`
		Branch      string `json:"default_branch"`
		Archived    bool   `json:"archived"`
		Permissions *struct {
			Admin bool `json:"admin"`
			Push  bool `json:"push"`
			Pull  bool `json:"pull"`
		} `json:"permissions"`
	}
	if err := g.get(ctx, path, nil, &r); err != nil {
		return forge.Repository{}, fmt.Errorf("repository %s: %w", repo, err)
	}
	if r.ID <= 0 || r.FullName == "" || r.Branch == "" || r.Permissions == nil {
		return forge.Repository{}, fmt.Errorf("repository %s: %w", repo, forge.ErrMalformed)
	}
	own := approval.None
	switch {
	case r.Permissions.Admin:
		own = approval.Admin
	case r.Permissions.Push:
		own = approval.Write
	case r.Permissions.Pull:
		own = approval.Read
	}
	return forge.Repository{ID: r.ID, Name: r.FullName, DefaultBranch: r.Branch, Archived: r.Archived, Own: own}, nil
}

// errStale: Gitea has moved a branch and not its pull request yet, or the other way round.
var errStale = errors.New("the commits of a pull request do not reach its head")

// Pull implements [forge.Forge].
func (g *Gitea) Pull(ctx context.Context, repo string, number int64) (approval.Pull, error) {
	ctx, cancel, path, err := g.begin(ctx, repo)
	if err != nil {
		return approval.Pull{}, err
	}
	defer cancel()
	p, err := g.facts(ctx, path, number)
	if err != nil {
		return approval.Pull{}, fmt.Errorf("pull request %s#%d: %w", repo, number, err)
	}
	return p, nil
}

// facts reads a pull request until it was the same before and after.
func (g *Gitea) facts(ctx context.Context, path string, number int64) (approval.Pull, error) {
	for try := range rereads {
		if err := g.pauseBefore(ctx, try); err != nil {
			return approval.Pull{}, err
		}
		before, err := g.pull(ctx, path, number)
		if err != nil {
			return approval.Pull{}, err
		}
		p, err := g.judgeable(ctx, path, before)
		if errors.Is(err, errStale) {
			continue
		}
		if err != nil {
			return approval.Pull{}, err
		}
		after, err := g.pull(ctx, path, number)
		if err != nil {
			return approval.Pull{}, err
		}
		if same(before, after) {
			return p, nil
		}
	}
	return approval.Pull{}, forge.ErrMoving
}

func (g *Gitea) pauseBefore(ctx context.Context, try int) error {
	if try == 0 {
		return nil
	}
	return g.pause(ctx, time.Duration(try)*300*time.Millisecond)
}

// same compares what a review or a merge depends on. That the base moves on is nobody's harm.
func same(a, b *pull) bool {
	return a.Head.SHA == b.Head.SHA && a.Base.Ref == b.Base.Ref && a.state() == b.state() && a.Head.RepoID == b.Head.RepoID
}

func pullPath(path string, number int64) string {
	return path + "/pulls/" + strconv.FormatInt(number, 10)
}

func issuePath(path string, number int64) string {
	return path + "/issues/" + strconv.FormatInt(number, 10)
}

func (g *Gitea) pull(ctx context.Context, path string, number int64) (*pull, error) {
	var p pull
	if err := g.get(ctx, pullPath(path, number), nil, &p); err != nil {
		return nil, err
	}
	if problem := p.problem(); problem != "" {
		return nil, fmt.Errorf("%w: %s", forge.ErrMalformed, problem)
	}
	if p.Number != number {
		return nil, fmt.Errorf("%w: another pull request", forge.ErrMalformed)
	}
	if *p.Merged {
		return &p, g.mergedHead(ctx, path, &p)
	}
	return &p, nil
}

// mergedHead sets the head to what was merged. Gitea shows where the branch is now, which may have gone on since;
// the reference of the pull request stays.
func (g *Gitea) mergedHead(ctx context.Context, path string, p *pull) error {
	name := "refs/pull/" + strconv.FormatInt(p.Number, 10) + "/head"
	var refs []struct {
		Ref    string `json:"ref"`
		Object struct {
			SHA string `json:"sha"`
		} `json:"object"`
	}
	if err := g.get(ctx, path+"/git/"+name, nil, &refs); err != nil {
		return fmt.Errorf("head: %w", err)
	}
	for _, r := range refs {
		if r.Ref == name && commitForm().MatchString(r.Object.SHA) {
			p.Head.SHA = r.Object.SHA
			return nil
		}
	}
	return fmt.Errorf("%w: a merged pull request without its head", forge.ErrMalformed)
}

// judgeable reads all that belongs to a pull request.
func (g *Gitea) judgeable(ctx context.Context, path string, p *pull) (approval.Pull, error) {
	reviews, err := g.reviews(ctx, path, p.Number)
	if err != nil {
		return approval.Pull{}, fmt.Errorf("reviews: %w", err)
	}
	commits, err := g.commits(ctx, path, p)
	if err != nil {
		return approval.Pull{}, fmt.Errorf("commits: %w", err)
	}
	pushers, err := g.pushers(ctx, path, p, commits)
	if err != nil {
		return approval.Pull{}, fmt.Errorf("pushers: %w", err)
	}
	out := approval.Pull{
		Number: p.Number, URL: p.HTMLURL, Title: p.Title, State: p.state(),
		Head: p.Head.SHA, HeadRef: p.Head.Ref, Base: p.Base.Ref, BaseCommit: p.Base.SHA, Fork: p.fork(),
		Author: g.account(p.User), Committers: g.committers(commits), Pushers: pushers, Reviews: reviews, UpdatedAt: p.UpdatedAt,
	}
	if *p.Merged {
		out.Merge, out.MergedBy = p.Merge, g.account(p.MergedBy)
	}
	return out, nil
}

// reviews are all but the requests. Gitea shows reviews that are not submitted yet
// to their authors only, and counts them all the same.
func (g *Gitea) reviews(ctx context.Context, path string, number int64) ([]approval.Review, error) {
	items, err := g.rawReviews(ctx, path, number)
	if err != nil {
		return nil, err
	}
	out := make([]approval.Review, 0, len(items))
	for _, r := range items {
		if r.State == requested {
			continue
		}
		out = append(out, approval.Review{
			ID: r.ID, By: g.account(r.User), Verdict: r.verdict(), Commit: r.Commit, At: r.At,
			Official: *r.Official, Stale: *r.Stale, Dismissed: *r.Dismissed,
		})
	}
	slices.SortFunc(out, func(a, b approval.Review) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

func (g *Gitea) rawReviews(ctx context.Context, path string, number int64) ([]review, error) {
	return all[review](ctx, g, list{path: pullPath(path, number) + "/reviews", hides: true})
}

// commits are those that the pull request brings. Gitea moves a branch first and its
// pull requests a moment later: until the list reaches the head it is of another one.
func (g *Gitea) commits(ctx context.Context, path string, p *pull) ([]commit, error) {
	items, err := all[commit](ctx, g, list{
		path:  pullPath(path, p.Number) + "/commits",
		query: url.Values{"stat": {"false"}, "verification": {"false"}, "files": {"false"}},
	})
	if err != nil {
		return nil, err
	}
	reached := slices.ContainsFunc(items, func(c commit) bool { return c.SHA == p.Head.SHA })
	if !reached && (len(items) > 0 || p.MergeBase != p.Head.SHA && !*p.Merged) {
		return nil, errStale
	}
	return items, nil
}

func (g *Gitea) committers(commits []commit) []approval.Account {
	var out []approval.Account
	for _, c := range commits {
		out = with(out, g.signer(c.Author, c.Commit.Author), g.signer(c.Committer, c.Commit.Committer))
	}
	return out
}

// signer is who the forge found by a commit's mail address, else the name that the commit says.
func (g *Gitea) signer(u *user, s *signature) approval.Account {
	if u != nil && u.ID != 0 {
		return g.account(u)
	}
	return approval.Account{Login: rest.Clean(s.Name + " <" + s.Email + ">")}
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
func (g *Gitea) Pulls(ctx context.Context, repo string, f forge.Filter) ([]forge.Listed, error) {
	ctx, cancel, path, err := g.begin(ctx, repo)
	if err != nil {
		return nil, err
	}
	defer cancel()
	items, err := g.list(ctx, path, f)
	if err != nil {
		return nil, fmt.Errorf("pull requests of %s: %w", repo, err)
	}
	out := make([]forge.Listed, 0, len(items))
	for i := range items {
		out = append(out, items[i].listed())
	}
	slices.SortFunc(out, func(a, b forge.Listed) int { return cmp.Compare(a.Number, b.Number) })
	return out, nil
}

// list asks the server to filter where it can, and does the rest itself.
func (g *Gitea) list(ctx context.Context, path string, f forge.Filter) ([]pull, error) {
	query := url.Values{"state": {"all"}, "sort": {"oldest"}}
	switch f.State {
	case approval.Open:
		query.Set("state", "open")
	case approval.Merged, approval.Closed:
		query.Set("state", "closed")
	}
	if f.Base != "" {
		query.Set("base_branch", f.Base)
	}
	items, err := all[pull](ctx, g, list{path: path + "/pulls", query: query})
	return slices.DeleteFunc(items, func(p pull) bool {
		return f.State != "" && p.state() != f.State || f.Base != "" && p.Base.Ref != f.Base || p.UpdatedAt.Before(f.Since)
	}), err
}
