package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/functions"
	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/store"
)

func setupCommand() *cobra.Command {
	var o serveOptions
	c := &cobra.Command{
		Use:   "setup",
		Short: "Prepare a database and a repository for functions that run on OpenFaaS or AWS Lambda",
		Long: `Setup does once what hotswap serve does at each start, and runs nothing: it brings the database's
schema up to date, makes the secrets in DATA/secrets, takes up the repository and its webhook, and
writes down where the functions are, so that the other commands work with this data folder. It may
be run again, after an upgrade for example. It prints which secret of the host is which file.`,
		Example: "  hotswap setup --data /var/lib/hotswap/faas --public-url https://faas.example.com --database-url-file db.url --migrate-url-file admin.url --repository deploy\n" +
			"  hotswap setup --data /var/lib/hotswap/lambda --public-url https://abc.example.com --database-url-file db.url --gitea-url https://git.example.com --gitea-repository acme/deploy",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case o.public == "" || o.databaseURL == "":
				return usagef("--public-url and --database-url-file are needed: where the functions are, and their database")
			case o.gitea.URL != "" || o.gitea.Repository != "":
				if err := o.gitea.check(); err != nil {
					return err
				}
				o.repository = o.gitea.name()
			}
			return setup(c.Context(), o, c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&o.data, "data", ".hotswap", "data folder")
	repositoryFlags(f, &o)
	f.StringVar(&o.public, "public-url", "", "where forges, nodes and people reach the functions, below which is /function/NAME (required)")
	databaseFlags(f, &o)
	return c
}

func setup(ctx context.Context, o serveOptions, out io.Writer) (err error) {
	o.public = strings.TrimSuffix(o.public, "/")
	s := &server{options: o, url: o.public}
	if s.dir, s.secrets, err = openData(o.data); err != nil {
		return err
	}
	db, err := foreignDatabase(ctx, o)
	if err != nil {
		return err
	}
	s.dsn = db.dsn
	s.store, err = store.Open(ctx, store.Options{DSN: db.dsn, MaxConns: 2}, audit.NewWriter(s.secrets.Audit.Private()))
	if err != nil {
		return err
	}
	defer s.store.Close()
	if err := s.store.Ready(ctx); err != nil {
		return errors.Join(err, errors.New("setup needs a database that answers; see docs/how-to/existing-postgresql.md"))
	}
	if err := s.install(ctx, auth.NewAuthorizer(s.store)); err != nil {
		return err
	}
	if err := s.remember(db.dsn); err != nil {
		return err
	}
	fmt.Fprintf(out, "functions  %s/function/NAME/\n", s.url)
	for _, secret := range []string{functions.SecretAudit, functions.SecretTokens, functions.SecretCalls, functions.SecretWebhook, functions.SecretMetrics} {
		fmt.Fprintf(out, "secret     %-24s %s\n", secret, s.dir.Path("secrets", secretFile(secret)))
	}
	fmt.Fprintf(out, "secret     %-24s %s\n", functions.SecretDatabase, o.databaseURL)
	if o.gitea.URL != "" {
		fmt.Fprintf(out, "secret     %-24s %s\n", functions.SecretGitea, s.dir.Path("secrets", giteaToken))
	}
	return nil
}
