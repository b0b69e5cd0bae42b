package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/auth"
)

func tokenCommand() *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "Make bearer tokens for the HTTP API"}
	create := &cobra.Command{
		Use:   "create FILE",
		Short: "Write a new bearer token to FILE, readable by its owner only",
		Long: `Create writes a token that proves a person to the HTTP API for a short time. Whoever has the file
is that person until then; that it was made is in the audit trail.`,
		Example: "  hotswap token create ann.bearer --name ann --role deployer\n" +
			"  hotswap token create bo.bearer --name bo --role admin --for 5m --data /var/lib/hotswap",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	data := dataFlag(create)
	name := create.Flags().String("name", "", "who it proves (required)")
	role := create.Flags().String("role", string(auth.Viewer), "admin, deployer or viewer")
	life := create.Flags().Duration("for", auth.TokenLife, "how long it proves that, at most 15m")
	create.RunE = func(c *cobra.Command, args []string) error {
		if *name == "" {
			return usagef("--name is required: a token is of somebody")
		}
		return withInstallation(c, *data, func(ctx context.Context, in *installation) error {
			return in.createToken(ctx, args[0], auth.Principal{
				Actor: audit.Actor{Kind: audit.Person, Name: *name}, Tenant: in.Tenant, Role: auth.Role(*role),
			}, *life)
		})
	}
	c.AddCommand(create)
	return c
}

// createToken writes a token that proves p. It is taken down before it is written: who
// cannot be told of gets none.
func (in *installation) createToken(ctx context.Context, file string, p auth.Principal, life time.Duration) error {
	if err := in.may(ctx, auth.TokenCreate, "token of "+p.Actor.Name); err != nil {
		return err
	}
	token, err := auth.NewTokens(in.secrets.Tokens.Private(), nil, time.Now).Issue(p, life)
	if err != nil {
		return usagef("%w", err)
	}
	err = in.store.Record(ctx, in.Tenant, func(now time.Time) []audit.Row {
		return []audit.Row{{
			ID: "token/" + audit.KeyID(in.secrets.Tokens.Public()) + "/" + fmt.Sprint(now.UnixMicro()), Tenant: in.Tenant, At: now, Actor: in.operator.Actor,
			Action: "token.created", Subject: "token of " + p.Actor.Name, Reason: fmt.Sprintf("role %s, for %s", p.Role, life),
		}}
	})
	if err != nil {
		return err
	}
	return writeToken(file, token)
}
