package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/platform"
	"hotswap.dev/hotswap/pkg/store"
)

// A serveFile tells commands on the same machine how to reach what is served
// from a data folder. The password is in a file of its own, unless a database
// URL was given that holds one; so the file is readable by its owner only.
type serveFile struct {
	DSN        string `json:"dsn"` // of the application role, with passfile
	URL        string `json:"url"` // of the gateway
	Tenant     string `json:"tenant"`
	Repository string `json:"repository"`
	PID        int    `json:"pid"`

	Gitea *giteaAt `json:"gitea,omitempty"` // that is worked with; nil: the built-in forge
}

// serveFileName is where it lies in the data folder.
const serveFileName = "serve.json"

// An installation is a data folder opened by a local command.
type installation struct {
	serveFile
	dir        platform.DataDir
	store      *store.Store
	secrets    platform.Secrets
	authorizer *auth.Authorizer
	operator   auth.Principal
	out        io.Writer // for data
}

// dataFlag adds --data to a command.
func dataFlag(c *cobra.Command) *string {
	return c.Flags().String("data", ".hotswap", "data folder of the installation")
}

// commandTime bounds a command that asks the database a few things.
const commandTime = 5 * time.Minute

// withInstallation opens the data folder for fn. Whoever can read its secrets
// is its administrator: the operating system has decided that.
func withInstallation(c *cobra.Command, data string, fn func(ctx context.Context, in *installation) error) error {
	ctx, cancel := context.WithTimeout(c.Context(), commandTime)
	defer cancel()
	in, err := openInstallation(ctx, data)
	if err != nil {
		return err
	}
	defer in.store.Close()
	in.out = c.OutOrStdout()
	return fn(ctx, in)
}

func openInstallation(ctx context.Context, data string) (*installation, error) {
	raw, err := os.ReadFile(data + "/" + serveFileName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s has no installation; start one with: hotswap serve --data %s", data, data)
	}
	if err != nil {
		return nil, exitError{exitAuth, err}
	}
	in := &installation{}
	if err := json.Unmarshal(raw, &in.serveFile); err != nil {
		return nil, fmt.Errorf("%s/%s: %w", data, serveFileName, err)
	}
	dir, err := platform.OpenDataDir(data)
	if err != nil {
		return nil, exitError{exitAuth, err}
	}
	in.dir = dir
	if in.secrets, err = dir.LoadSecrets(); err != nil {
		return nil, exitError{exitAuth, err}
	}
	in.store, err = store.Open(ctx, store.Options{DSN: in.DSN, MaxConns: 2}, audit.NewWriter(in.secrets.Audit.Private()))
	if err != nil {
		return nil, err
	}
	in.authorizer = auth.NewAuthorizer(in.store)
	in.operator = auth.Principal{Actor: audit.Actor{Kind: audit.Person, Name: "local:" + userName()}, Tenant: in.Tenant, Role: auth.Admin}
	return in, nil
}

// may authorises the operator for an action.
func (in *installation) may(ctx context.Context, a auth.Action, resource string) error {
	err := in.authorizer.Authorize(ctx, in.operator, a, in.Tenant, resource)
	if errors.Is(err, auth.ErrDenied) {
		return exitError{exitAuth, err}
	}
	return err
}

// keys are the keys that this installation's audit rows are signed with.
func (in *installation) keys() audit.Keys {
	pub := in.secrets.Audit.Public()
	return audit.Keys{audit.KeyID(pub): pub}
}

func userName() string {
	u, err := user.Current()
	if err != nil {
		return fmt.Sprintf("uid-%d", os.Getuid())
	}
	return u.Username
}
