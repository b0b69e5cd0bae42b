package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/forge/builtin"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/platform"
	"hotswap.dev/hotswap/pkg/record"
	"hotswap.dev/hotswap/pkg/secret"
	"hotswap.dev/hotswap/pkg/store"
)

// gitAdmin is the account of the password in the data folder.
const gitAdmin = "admin"

// A forgeAt says where the built-in forge of one repository is.
type forgeAt struct {
	store              *store.Store
	tenant, repository string
	url                string // of the gateway
	webhook            secret.Secret
	open               func(name string) (*gitrepo.Repository, error)
}

// full is the repository's name at the forge.
func (a forgeAt) full() string { return a.tenant + "/" + a.repository }

// hookURL is where the forge tells what happened.
func (a forgeAt) hookURL() string { return a.url + "/function/forge-webhook/" + a.full() }

// system is who sets the forge up.
func system() audit.Actor { return audit.Actor{Kind: audit.System, Name: "serve"} }

// openForge opens the built-in forge, with the account of HotSwap itself and that of the
// administrator. Whatever is done there is told to the gateway.
func openForge(ctx context.Context, a forgeAt) (*builtin.Forge, error) {
	own, err := a.account(ctx, store.NewAccount{Login: builtin.Own, Email: builtin.OwnEmail, Bot: true})
	if err != nil {
		return nil, err
	}
	if _, err := a.account(ctx, store.NewAccount{Login: gitAdmin}); err != nil {
		return nil, err
	}
	f, err := a.as(own)
	if err != nil {
		return nil, err
	}
	return f, a.hook(ctx, f)
}

// as is the forge with an account as its own.
func (a forgeAt) as(own approval.Account) (*builtin.Forge, error) {
	return builtin.New(builtin.Options{Tenant: a.tenant, Store: a.store, Open: a.open, URL: a.url + "/forge", Own: own})
}

// hook makes a forge tell the gateway what is done there.
func (a forgeAt) hook(ctx context.Context, f *builtin.Forge) error {
	return f.Hook(ctx, a.full(), forge.Hook{URL: a.hookURL(), Secret: a.webhook})
}

// account makes sure of an account that administers the repository.
func (a forgeAt) account(ctx context.Context, n store.NewAccount) (approval.Account, error) {
	who, err := a.store.EnsureAccount(ctx, a.tenant, n, system())
	if err != nil {
		return who, err
	}
	p, err := a.store.AccountPermission(ctx, a.tenant, a.repository, who.ID)
	if err == nil && p != approval.Admin {
		err = a.store.PermitAccount(ctx, a.tenant, a.repository, who.Login, approval.Admin, system())
	}
	return who, err
}

// roleOf is what somebody may do by their permission in the repository.
func roleOf(p approval.Permission) auth.Role {
	switch p {
	case approval.Admin:
		return auth.Admin
	case approval.Write:
		return auth.Deployer
	case approval.Read:
		return auth.Viewer
	default:
		return ""
	}
}

// principal is an account of the forge with the role that it has now.
func (a forgeAt) principal(ctx context.Context, who approval.Account) (auth.Principal, error) {
	p, err := a.store.AccountPermission(ctx, a.tenant, a.repository, who.ID)
	return auth.Principal{Actor: audit.Actor{Kind: audit.Person, Name: who.Login}, Tenant: a.tenant, Role: roleOf(p)}, err
}

// A gate judges what is pushed, in the name of who pushes.
type gate struct {
	at         forgeAt
	forge      *builtin.Forge
	authorizer *auth.Authorizer
}

var _ platform.PushGate = gate{}

// BeginPush implements [platform.PushGate].
func (g gate) BeginPush(ctx context.Context, login, repository string, asked []builtin.Moved) (*builtin.Push, error) {
	who, err := g.at.store.Account(ctx, g.at.tenant, login)
	if err != nil {
		return nil, err
	}
	keeper := false
	for _, m := range asked {
		if m.Ref != "refs/heads/"+record.Branch {
			continue
		}
		p, err := g.at.principal(ctx, who)
		if err != nil {
			return nil, err
		}
		err = g.authorizer.Authorize(ctx, p, auth.RecordsPush, g.at.tenant, "repository "+repository)
		if err != nil && !errors.Is(err, auth.ErrDenied) {
			return nil, err
		}
		keeper = err == nil
	}
	return g.forge.BeginPush(ctx, repository, asked, who, keeper)
}

// EndPush implements [platform.PushGate].
func (g gate) EndPush(ctx context.Context, push *builtin.Push, moved []builtin.Moved) error {
	return g.forge.EndPush(ctx, push, moved)
}

// authenticate proves an account of the forge: by a token of its own, or the
// administrator by the password in the data folder. It answers the login.
func (s *server) authenticate(ctx context.Context, user string, password secret.Secret) (string, bool) {
	if user == gitAdmin && password.Equal(s.secrets.GitAdmin) {
		return gitAdmin, true
	}
	who, err := s.store.AccountByToken(ctx, s.options.tenant, password.RevealString())
	return who.Login, err == nil && strings.EqualFold(who.Login, user)
}

// authorizeGit asks the authoriser whether somebody may read or push, with the role that
// they have now.
func (s *server) authorizeGit(at forgeAt, authorizer *auth.Authorizer) func(ctx context.Context, login, action, repository string) error {
	return func(ctx context.Context, login, action, repository string) error {
		who, err := s.store.Account(ctx, at.tenant, login)
		if err != nil {
			return fmt.Errorf("account %s: %w", login, err)
		}
		p, err := at.principal(ctx, who)
		if err != nil {
			return err
		}
		if repository != at.full() { // another one is refused in the name of ours
			action = "repository.foreign"
		}
		return authorizer.Authorize(ctx, p, auth.Action(action), at.tenant, "repository "+repository)
	}
}
