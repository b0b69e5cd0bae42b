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
	token  secret.Secret
	mirror *gitrepo.Repository
}

// openGitea opens the Gitea of a data folder. It asks nothing yet.
func openGitea(dir platform.DataDir, at giteaAt, tenant string) (giteaForge, error) {
	g := giteaForge{at: at}
	var err error
	if g.token, err = dir.Optional(giteaToken); err != nil {
		return g, err
	}
	if g.token.IsZero() {
		return g, fmt.Errorf("the token of HotSwap's own account is missing: write it to %s with mode 0600", dir.Path("secrets", giteaToken))
	}
	if g.Gitea, err = gitea.New(gitea.Options{URL: at.URL, Token: g.token, Bots: at.Bots}); err != nil {
		return g, usagef("--gitea-url: %w", err)
	}
	g.mirror, err = gitrepo.Init(dir.Path("mirror", tenant, at.name()+".git"))
	return g, err
}

func (g giteaForge) remote() gitrepo.Remote {
	return gitrepo.Remote{URL: strings.TrimSuffix(g.at.URL, "/") + "/" + g.at.Repository + ".git", User: "hotswap", Password: g.token}
}

// options are what an engine needs to work with it.
func (g giteaForge) options() engine.Options {
	return engine.Options{
		Forges:  func(string, string) (forge.Forge, string, bool) { return g.Gitea, g.at.Repository, true },
		Remotes: func(string, string) (gitrepo.Remote, bool) { return g.remote(), true },
	}
}

func (g giteaForge) open(string, string) (*gitrepo.Repository, error) { return g.mirror, nil }

// greet asks the server who we are there, and makes sure of the webhook. Where we may not make
// one, or nobody could reach us by it, everything is found by looking instead, a minute later.
func (g giteaForge) greet(ctx context.Context, public string, hook forge.Hook) (forge.Repository, error) {
	r, err := g.Repository(ctx, g.at.Repository)
	if err != nil {
		return r, fmt.Errorf("repository %s at %s: %w", g.at.Repository, g.at.URL, err)
	}
	if r.Own != approval.Admin {
		return r, fmt.Errorf("HotSwap's own account may only %s in %s: make it an administrator of that repository, so that it may ask what reviewers may do there", r.Own, g.at.Repository)
	}
	if public == "" {
		slog.InfoContext(ctx, "no webhook without --public-url; what happens on the forge is found by looking")
		return r, nil
	}
	err = g.Hook(ctx, g.at.Repository, hook)
	if errors.Is(err, forge.ErrDenied) || errors.Is(err, forge.ErrRefused) {
		slog.WarnContext(ctx, "no webhook; what happens on the forge is found by looking", "err", err)
		return r, nil
	}
	return r, err
}
