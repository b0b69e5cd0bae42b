package gitea

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/forge/rest"
)

// Members implements [forge.Forge].
func (g *Gitea) Members(ctx context.Context, repo string, ask forge.Ask) (approval.Members, error) {
	ctx, cancel, path, err := g.begin(ctx, repo)
	if err != nil {
		return approval.Members{}, err
	}
	defer cancel()
	m := approval.Members{Permissions: map[int64]approval.Permission{}, Teams: map[string][]int64{}, Accounts: map[string]approval.Account{}}
	if err := g.members(ctx, repo, path, ask, &m); err != nil {
		return approval.Members{}, fmt.Errorf("members of %s: %w", repo, err)
	}
	return m, nil
}

func (g *Gitea) members(ctx context.Context, repo, path string, ask forge.Ask, m *approval.Members) error {
	if err := g.get(ctx, path, nil, nil); err != nil { // else a repository that we cannot see has no members
		return err
	}
	for _, a := range ask.Accounts {
		if a.ID <= 0 {
			continue // nobody, or the forge itself
		}
		p, err := g.permissionByID(ctx, path, a)
		if err != nil {
			return fmt.Errorf("account %d: %w", a.ID, err)
		}
		m.Permissions[a.ID] = p
	}
	for _, login := range ask.Logins {
		who, p, err := g.permission(ctx, path, login)
		if errors.Is(err, forge.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("login %q: %w", login, err)
		}
		m.Accounts[strings.ToLower(login)], m.Permissions[who.ID] = who, p
	}
	if err := g.raise(ctx, path, m.Permissions); err != nil {
		return fmt.Errorf("teams of the repository: %w", err)
	}
	for _, name := range ask.Teams {
		ids, err := g.teamMembers(ctx, repo, name)
		if errors.Is(err, forge.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("team %q: %w", name, err)
		}
		m.Teams[name] = ids
	}
	return nil
}

// raise gives those who may not write what the repository's teams let them do with its files: a team may do
// different things with the parts of a repository, and what Gitea answers for an account leaves these teams out.
// Where the teams are not ours to see, or there are none, nobody is raised.
func (g *Gitea) raise(ctx context.Context, path string, permissions map[int64]approval.Permission) error {
	low := func(p approval.Permission) bool { return p != approval.Write && p != approval.Admin }
	if !slices.ContainsFunc(slices.Collect(maps.Values(permissions)), low) {
		return nil
	}
	var teams []team
	if err := g.get(ctx, path+"/teams", nil, &teams); err != nil {
		return unseen(err)
	}
	for _, t := range teams {
		code := t.code()
		if code == approval.None {
			continue
		}
		people, err := g.people(ctx, t)
		if err := unseen(err); err != nil {
			return fmt.Errorf("%s: %w", rest.Clean(t.Name), err)
		}
		for _, id := range people {
			if p, asked := permissions[id]; asked && (low(p) || code == approval.Admin) {
				permissions[id] = code
			}
		}
	}
	return nil
}

// unseen drops an error that says that something is not there or not ours to see.
func unseen(err error) error {
	if errors.Is(err, forge.ErrNotFound) || errors.Is(err, forge.ErrDenied) || statusOf(err) == http.StatusMethodNotAllowed {
		return nil
	}
	return err
}

// permission is what a login may do now, and whose it is. ErrNotFound: nobody's.
func (g *Gitea) permission(ctx context.Context, path, login string) (approval.Account, approval.Permission, error) {
	if !plain(login) {
		return approval.Account{}, "", fmt.Errorf("%w: no login", forge.ErrNotFound)
	}
	var p struct {
		Permission string `json:"permission"`
		User       *user  `json:"user"`
	}
	if err := g.get(ctx, path+"/collaborators"+rest.Path(login)+"/permission", nil, &p); err != nil {
		return approval.Account{}, "", err
	}
	if p.User == nil || p.User.ID == 0 || !strings.EqualFold(p.User.Login, login) {
		return approval.Account{}, "", fmt.Errorf("%w: the permission of another", forge.ErrMalformed)
	}
	switch p.Permission {
	case "owner", "admin":
		return g.account(p.User), approval.Admin, nil
	case "write", "read", "none":
		return g.account(p.User), approval.Permission(p.Permission), nil
	}
	return approval.Account{}, "", fmt.Errorf("%w: the permission %q", forge.ErrMalformed, rest.Clean(p.Permission))
}

// permissionByID asks by the login that was seen, and when that is another's by now
// looks for the login that the account has. An account that is gone may do nothing.
func (g *Gitea) permissionByID(ctx context.Context, path string, a approval.Account) (approval.Permission, error) {
	who, p, err := g.permission(ctx, path, a.Login)
	if err == nil && who.ID == a.ID {
		return p, nil
	}
	if err != nil && !errors.Is(err, forge.ErrNotFound) {
		return "", err
	}
	login, err := g.login(ctx, a.ID)
	if err != nil || login == "" {
		return approval.None, err
	}
	who, p, err = g.permission(ctx, path, login)
	if errors.Is(err, forge.ErrNotFound) || err == nil && who.ID != a.ID {
		return approval.None, nil
	}
	return p, err
}

// login of an account; empty: there is none.
func (g *Gitea) login(ctx context.Context, id int64) (string, error) {
	var found struct {
		Data []*user `json:"data"`
	}
	query := url.Values{"uid": {strconv.FormatInt(id, 10)}, "limit": {"1"}}
	if err := g.get(ctx, "/users/search", query, &found); err != nil {
		return "", err
	}
	if len(found.Data) == 0 || found.Data[0] == nil || found.Data[0].ID != id {
		return "", nil
	}
	return found.Data[0].Login, nil
}

// findTeam is the team of that name. ErrNotFound: there is none, or it is not ours to see.
func (g *Gitea) findTeam(ctx context.Context, repo, name string) (team, error) {
	owner, _, _ := strings.Cut(repo, "/")
	if org, inOrg, ok := strings.Cut(name, "/"); ok {
		owner, name = org, inOrg
	}
	if !plain(owner) || name == "" {
		return team{}, fmt.Errorf("%w: no team", forge.ErrNotFound)
	}
	// The search finds for whom is no administrator of the whole server its own teams only; the list has them all.
	teams, err := all[team](ctx, g, list{path: "/orgs" + rest.Path(owner) + "/teams"})
	if err != nil {
		return team{}, err
	}
	for _, t := range teams {
		if strings.EqualFold(t.Name, name) {
			return t, nil
		}
	}
	return team{}, fmt.Errorf("%w: no team", forge.ErrNotFound)
}

func (g *Gitea) teamMembers(ctx context.Context, repo, name string) ([]int64, error) {
	t, err := g.findTeam(ctx, repo, name)
	if err != nil {
		return nil, err
	}
	return g.people(ctx, t)
}

// people are the members of a team.
func (g *Gitea) people(ctx context.Context, t team) ([]int64, error) {
	people, err := all[user](ctx, g, list{path: "/teams/" + strconv.FormatInt(t.ID, 10) + "/members"})
	if err != nil {
		return nil, err
	}
	ids := make([]int64, 0, len(people))
	for _, u := range people {
		ids = append(ids, u.ID)
	}
	return ids, nil
}
