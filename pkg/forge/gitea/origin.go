package gitea

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
)

// unknownPusher stands for somebody who moved a branch and whom Gitea does not name:
// its feed hides people who keep their activity private, lists the first few commits
// of a push only (FEED_MAX_COMMIT_NUM), and forgets.
func unknownPusher() approval.Account { return approval.Account{Login: approval.UnknownPusher} }

// moves are who pushed to a branch, and which commits they are known to have brought.
type moves struct {
	by      []approval.Account
	commits map[string]bool
}

// pushers are who moved the branch of a pull request: by its timeline since it is
// open, and by the repository's feed before. Every commit must have come with a push.
func (g *Gitea) pushers(ctx context.Context, path string, p *pull, commits []commit) ([]approval.Account, error) {
	m := moves{commits: map[string]bool{}}
	if err := g.timeline(ctx, path, p.Number, &m); err != nil {
		return nil, err
	}
	if !p.fork() { // the feed is of the base's repository
		if err := g.feed(ctx, path, "refs/heads/"+p.Head.Ref, &m); err != nil {
			return nil, err
		}
	}
	for _, c := range commits {
		if !m.commits[c.SHA] {
			return with(m.by, unknownPusher()), nil
		}
	}
	return m.by, nil
}

func (m *moves) add(by approval.Account, commits []string) {
	m.by = with(m.by, by)
	for _, c := range commits {
		m.commits[c] = true
	}
}

// timeline reads the pushes since a pull request is open. Its first entry is none: with it Gitea says
// which commits the pull request had when it was opened, in the name of who opened it.
func (g *Gitea) timeline(ctx context.Context, path string, number int64, m *moves) error {
	events, err := unpaged[event](ctx, g, issuePath(path, number)+"/timeline")
	if err != nil {
		return err
	}
	opened := false
	for _, e := range events {
		if e.Type != "pull_push" {
			continue
		}
		commits, err := pushedEvent(e.Body)
		if err != nil {
			return err
		}
		if !opened {
			opened = true
			continue
		}
		m.add(g.account(e.User), commits)
	}
	return nil
}

// feed reads the newest activities of a repository, back to where the branch was made
// or to the end of what we read. Older branches of the name are not ours.
func (g *Gitea) feed(ctx context.Context, path, ref string, m *moves) error {
	for number := 1; number <= maxFeed; number++ {
		page, _, err := readPage[activity](ctx, g, list{path: path + "/activities/feeds"}, number)
		if err != nil || len(page) == 0 {
			return err
		}
		made := false
		for _, a := range page {
			if a.Ref != ref {
				continue
			}
			if a.Type == "delete_branch" {
				return nil
			}
			if a.Type != "commit_repo" {
				continue
			}
			commits, err := pushedActivity(a.Content)
			if err != nil {
				return err
			}
			made = made || len(commits) == 0
			m.add(g.account(a.User), commits)
		}
		if made { // within a second the feed has no order: the page is read to its end
			return nil
		}
	}
	return nil
}

// Origin implements [forge.Forge].
func (g *Gitea) Origin(ctx context.Context, repo, id string) ([]approval.Account, error) {
	if !commitForm().MatchString(id) {
		return nil, fmt.Errorf("%w: the commit %q", forge.ErrInvalid, id)
	}
	ctx, cancel, path, err := g.begin(ctx, repo)
	if err != nil {
		return nil, err
	}
	defer cancel()
	out, err := g.origin(ctx, path, id)
	if err != nil {
		return nil, fmt.Errorf("origin of %s: %w", id, err)
	}
	return out, nil
}

// maxOrigins bounds what is remembered.
const maxOrigins = 1000

// origin remembers what it once knew of a commit in full: who made it does not change any more. Where somebody is
// not known yet, the next look may know him.
func (g *Gitea) origin(ctx context.Context, path, id string) ([]approval.Account, error) {
	g.mu.Lock()
	known, ok := g.origins[path+" "+id]
	g.mu.Unlock()
	if ok {
		return slices.Clone(known), nil
	}
	people, err := g.whose(ctx, path, id)
	if err != nil || slices.ContainsFunc(people, func(a approval.Account) bool { return a.ID <= 0 }) {
		return people, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.origins) >= maxOrigins {
		clear(g.origins)
	}
	g.origins[path+" "+id] = slices.Clone(people)
	return people, nil
}

func (g *Gitea) whose(ctx context.Context, path, id string) ([]approval.Account, error) {
	var c commit
	query := url.Values{"stat": {"false"}, "verification": {"false"}, "files": {"false"}}
	if err := g.get(ctx, path+"/git/commits/"+id, query, &c); err != nil {
		return nil, err
	}
	if problem := c.problem(); problem != "" || c.SHA != id {
		return nil, fmt.Errorf("%w: %s", forge.ErrMalformed, problem)
	}
	people := g.committers([]commit{c})
	number, err := g.mergedBy(ctx, path, id)
	if err != nil {
		return nil, err
	}
	if number == 0 {
		return g.pushed(ctx, path, id, people)
	}
	p, err := g.facts(ctx, path, number)
	if err != nil {
		return nil, fmt.Errorf("pull request %d: %w", number, err)
	}
	people = with(people, p.Author, p.MergedBy)
	people = with(people, p.Committers...)
	return with(people, p.Pushers...), nil
}

// mergedBy is the number of the pull request whose merge made a commit; 0: none.
func (g *Gitea) mergedBy(ctx context.Context, path, id string) (int64, error) {
	var p pull
	err := g.get(ctx, path+"/commits/"+id+"/pull", nil, &p)
	if errors.Is(err, forge.ErrNotFound) {
		return 0, nil
	}
	if err == nil && (p.Number <= 0 || p.Merge != id) {
		return 0, fmt.Errorf("%w: pull request %s", forge.ErrMalformed, strconv.FormatInt(p.Number, 10))
	}
	return p.Number, err
}

// pushed adds all who pushed a commit to any branch, as far as the feed tells. Nobody is left out because another
// pushed it later: the feed is read to its end, and where that is not reached somebody is not known.
func (g *Gitea) pushed(ctx context.Context, path, id string, people []approval.Account) ([]approval.Account, error) {
	known := false
	for number := 1; number <= maxFeed; number++ {
		page, _, err := readPage[activity](ctx, g, list{path: path + "/activities/feeds"}, number)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 && known {
			return people, nil
		}
		if len(page) == 0 {
			break
		}
		for _, a := range page {
			if a.Type != "commit_repo" {
				continue
			}
			commits, err := pushedActivity(a.Content)
			if err != nil {
				return nil, err
			}
			if slices.Contains(commits, id) {
				people, known = with(people, g.account(a.User)), true
			}
		}
	}
	return with(people, unknownPusher()), nil
}
