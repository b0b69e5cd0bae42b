package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/forge/gitea"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/platform"
	"hotswap.dev/hotswap/pkg/secret"
)

// giteaToken is the secret with the token of our own account on a Gitea.
const giteaToken = "gitea-token"

// A giteaAt says which repository of which Gitea is worked for.
type giteaAt struct {
	URL        string  `json:"url"`
	Repository string  `json:"repository"` // full name there
	Bots       []int64 `json:"bots,omitempty"`
}

// check reports what is wrong with the flags.
func (g giteaAt) check() error {
	owner, name, ok := strings.Cut(g.Repository, "/")
	if g.URL == "" || !ok || owner == "" || name == "" || strings.Contains(name, "/") {
		return usagef("--gitea-url and --gitea-repository OWNER/NAME belong together")
	}
	return nil
}

// name of the repository here.
func (g giteaAt) name() string { return path.Base(g.Repository) }

// A giteaForge is an open Gitea, with the mirror of its repository.
type giteaForge struct {
	*gitea.Gitea
	at     giteaAt
	tenant string
	token  secret.Secret
	mirror *gitrepo.Repository
}

// openGitea opens the Gitea of a data folder. It asks nothing yet.
func openGitea(dir platform.DataDir, at giteaAt, tenant string) (giteaForge, error) {
	token, err := dir.Optional(giteaToken)
	if err != nil {
		return giteaForge{}, err
	}
	if token.IsZero() {
		return giteaForge{}, fmt.Errorf("the token of HotSwap's own account is missing: write it to %s with mode 0600", dir.Path("secrets", giteaToken))
	}
	g, err := newGitea(at, tenant, token, dir.Path("mirror", tenant, at.name()+".git"))
	if errors.Is(err, forge.ErrInvalid) {
		return g, usagef("--gitea-url: %w", err)
	}
	return g, err
}

// newGitea puts a Gitea together with the mirror of its repository in a folder.
func newGitea(at giteaAt, tenant string, token secret.Secret, mirror string) (giteaForge, error) {
	g := giteaForge{at: at, tenant: tenant, token: token}
	var err error
	if g.Gitea, err = gitea.New(gitea.Options{URL: at.URL, Token: token, Bots: at.Bots}); err != nil {
		return g, err
	}
	g.mirror, err = gitrepo.Init(mirror)
	return g, err
}

func (g giteaForge) remote() gitrepo.Remote {
	return gitrepo.Remote{URL: strings.TrimSuffix(g.at.URL, "/") + "/" + g.at.Repository + ".git", User: "hotswap", Password: g.token}
}

// options are what an engine needs to work with it.
func (g giteaForge) options() engine.Options {
	return engine.Options{
		Forges: func(tenant, repository string) (forge.Forge, string, bool) {
			return g.Gitea, g.at.Repository, g.is(tenant, repository)
		},
		Remotes: func(tenant, repository string) (gitrepo.Remote, bool) { return g.remote(), g.is(tenant, repository) },
	}
}

// is reports whether it is this repository: the database may know of others, from before or of somebody else.
func (g giteaForge) is(tenant, repository string) bool {
	return tenant == g.tenant && repository == g.at.name()
}

func (g giteaForge) open(tenant, repository string) (*gitrepo.Repository, error) {
	if !g.is(tenant, repository) {
		return nil, fmt.Errorf("repository %s of tenant %s is not worked for here", repository, tenant)
	}
	return g.mirror, nil
}

// greet asks the server who we are there.
func (g giteaForge) greet(ctx context.Context) (forge.Repository, error) {
	r, err := g.Repository(ctx, g.at.Repository)
	if err != nil {
		return r, fmt.Errorf("repository %s at %s: %w", g.at.Repository, g.at.URL, err)
	}
	if r.Own != approval.Admin {
		return r, fmt.Errorf("HotSwap's own account may only %s in %s: make it an administrator of that repository, so that it may ask what reviewers may do there", r.Own, g.at.Repository)
	}
	return r, nil
}

// listen makes sure of the webhook. Where we may not make one, or nobody could reach us by it, everything is found by
// looking instead, a minute later.
func (g giteaForge) listen(ctx context.Context, public string, hook forge.Hook) error {
	if public == "" {
		slog.InfoContext(ctx, "no webhook without --public-url; what happens on the forge is found by looking")
		return nil
	}
	err := g.Hook(ctx, g.at.Repository, hook)
	if errors.Is(err, forge.ErrDenied) || errors.Is(err, forge.ErrRefused) {
		slog.WarnContext(ctx, "no webhook; what happens on the forge is found by looking", "err", err)
		return nil
	}
	return err
}
