package builtin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/gitrepo"
)

// Members implements [forge.Forge].
func (f *Forge) Members(ctx context.Context, repo string, ask forge.Ask) (approval.Members, error) {
	ctx, cancel, p, err := f.begin(ctx, repo)
	if err != nil {
		return approval.Members{}, err
	}
	defer cancel()
	var ids []int64
	for _, a := range ask.Accounts {
		if a.ID > 0 {
			ids = append(ids, a.ID)
		}
	}
	var teams []string
	for _, name := range ask.Teams {
		if team, ours := p.team(name); ours {
			teams = append(teams, team)
		}
	}
	m, err := f.options.Store.Members(ctx, f.options.Tenant, p.name, ids, ask.Logins, teams)
	if err != nil {
		return approval.Members{}, fmt.Errorf("members of %s: %w", repo, told(err))
	}
	found := m.Teams
	m.Teams = map[string][]int64{}
	for _, name := range ask.Teams {
		team, ours := p.team(name)
		if members, there := found[team]; ours && there {
			m.Teams[name] = members
		}
	}
	return m, nil
}

// team is a team's name without its owner, who must be ours.
func (p *place) team(name string) (team string, ours bool) {
	owner, team, owned := strings.Cut(name, "/")
	if !owned {
		return name, true
	}
	return team, owner == p.options.Tenant
}

// unknownPusher stands for who brought commits of which no push is known.
func unknownPusher() approval.Account { return approval.Account{Login: approval.UnknownPusher} }

// pushers are who moved the branch of a pull request since it was made, and whoever
// brought what it holds. Who pushes is taken down before the branch moves, so what
// nobody pushed was written on this machine: by HotSwap, if it says so.
func (p *place) pushers(ctx context.Context, v view, commits []gitrepo.Commit) ([]approval.Account, error) {
	var out []approval.Account
	known := map[string]bool{}
	for _, m := range v.Moves {
		brought := m.Commits
		switch {
		case m.Done && m.After == "": // an older branch of the name
			out, known = nil, map[string]bool{}
			continue
		case !m.Done && m.After == "":
			continue
		case !m.Done:
			made, err := p.git.Ancestor(ctx, m.After, v.head)
			if err != nil {
				return nil, err
			}
			if !made { // it was not done, or was forced away since
				continue
			}
			if brought, err = p.brought(ctx, m.Before, m.After); err != nil {
				return nil, err
			}
		}
		out = with(out, m.By)
		for _, c := range brought {
			known[c] = true
		}
	}
	for _, c := range commits {
		if !known[c.SHA] {
			out = with(out, p.local(c))
		}
	}
	return out, nil
}

// local is who wrote a commit that nobody pushed.
func (p *place) local(c gitrepo.Commit) approval.Account {
	if strings.EqualFold(c.Committer.Email, OwnEmail) {
		return p.options.Own
	}
	return unknownPusher()
}

// Origin implements [forge.Forge].
func (f *Forge) Origin(ctx context.Context, repo, commit string) ([]approval.Account, error) {
	if !commitForm().MatchString(commit) {
		return nil, fmt.Errorf("%w: the commit %.60q", forge.ErrInvalid, commit)
	}
	ctx, cancel, p, err := f.begin(ctx, repo)
	if err != nil {
		return nil, err
	}
	defer cancel()
	out, err := p.origin(ctx, commit)
	if err != nil {
		return nil, fmt.Errorf("origin of %.12s: %w", commit, told(err))
	}
	return out, nil
}

func (p *place) origin(ctx context.Context, commit string) ([]approval.Account, error) {
	commits, err := p.git.Commits(ctx, []string{commit})
	if err != nil {
		return nil, err
	}
	people, err := p.signers(ctx, commits)
	if err != nil {
		return nil, err
	}
	number, err := p.options.Store.ForgePullMergedAs(ctx, p.options.Tenant, p.name, commit)
	if err != nil {
		return nil, err
	}
	moves, err := p.options.Store.ForgeMovesOf(ctx, p.options.Tenant, p.name, commit)
	if err != nil {
		return nil, err
	}
	for _, m := range moves {
		people = with(people, m.By)
	}
	if number != 0 {
		merged, is, err := p.mergedAs(ctx, number, commit)
		if err != nil {
			return nil, err
		}
		if is {
			return with(people, merged...), nil
		}
	}
	if len(moves) == 0 {
		people = with(people, p.local(commits[0]))
	}
	return people, nil
}

// mergedAs are all who took part in a pull request, if a commit is its merge.
func (p *place) mergedAs(ctx context.Context, number int64, commit string) (people []approval.Account, is bool, err error) {
	v, commits, err := p.steady(ctx, number)
	if err != nil {
		return nil, false, err
	}
	if v.Merged == nil || v.Merged.Commit != commit {
		return nil, false, nil
	}
	pull, err := p.judgeable(ctx, v, commits)
	if err != nil {
		return nil, false, err
	}
	return slices.Concat([]approval.Account{pull.Author, pull.MergedBy}, pull.Committers, pull.Pushers), true, nil
}
