package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/store"
)

func accountCommand() *cobra.Command {
	c := &cobra.Command{Use: "account", Short: "Look after the accounts of the built-in forge, and what they may do"}
	c.AddCommand(
		accountListCommand(), accountAddCommand(), accountPermitCommand(), accountTokenCommand(),
		teamCommand("join", "Take accounts into a team", "  hotswap account join sre bo chris\n  hotswap account join deployers ann --data /var/lib/hotswap", true),
		teamCommand("leave", "Take accounts out of a team", "  hotswap account leave sre chris\n  hotswap account leave deployers ann --data /var/lib/hotswap", false),
		accountRenameCommand(), accountRemoveCommand(),
	)
	return c
}

// onAccounts gives a command that changes accounts what it does, for whom may.
func onAccounts(c *cobra.Command, do func(ctx context.Context, in *installation, args []string) error) *cobra.Command {
	data := dataFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return withInstallation(c, *data, func(ctx context.Context, in *installation) error {
			if err := in.may(ctx, auth.AccountChange, strings.Join(append([]string{"account"}, args...), " ")); err != nil {
				return err
			}
			return accountError(do(ctx, in, args))
		})
	}
	return c
}

// accountError says what to do about an error of an account.
func accountError(err error) error {
	switch {
	case errors.Is(err, store.ErrName):
		return exitError{exitUsage, err}
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("%w; list the accounts with: hotswap account list", err)
	case errors.Is(err, store.ErrConflict):
		return fmt.Errorf("%w: somebody has the login or the mail address; list the accounts with: hotswap account list", err)
	}
	return err
}

func accountListCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the accounts, what they may do and their teams",
		Example: "  hotswap account list\n  hotswap account list -o json --data /var/lib/hotswap",
		Args:    usageArgs(cobra.NoArgs),
	}
	data, output := dataFlag(c), outputFlag(c, lists()...)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := output.check(); err != nil {
			return err
		}
		return withInstallation(c, *data, func(ctx context.Context, in *installation) error {
			if err := in.may(ctx, auth.PullRead, "accounts"); err != nil {
				return err
			}
			all, err := in.store.Accounts(ctx, in.Tenant, in.Repository)
			if err != nil {
				return err
			}
			rows := [][]string{{"LOGIN", "KIND", "MAY", "TEAMS", "TOKENS", "MAIL"}}
			for _, a := range all {
				kind := "person"
				if a.Bot {
					kind = "bot"
				}
				rows = append(rows, []string{a.Login, kind, string(a.Permission), dash(strings.Join(a.Teams, ", ")), fmt.Sprint(a.Tokens), dash(a.Email)})
			}
			return writeRows(in.out, output.value, rows, all)
		})
	}
	return c
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func accountAddCommand() *cobra.Command {
	var n store.NewAccount
	var may string
	c := onAccounts(&cobra.Command{
		Use:   "add LOGIN",
		Short: "Add an account",
		Long: `Add adds an account of a person, or of a bot, whose reviews never count. The mail address is the one
that their commits name: by it they are known as the author of what they wrote.`,
		Example: "  hotswap account add ann --mail ann@example.com --may write\n" +
			"  hotswap account add builder --bot --may read --data /var/lib/hotswap",
		Args: usageArgs(cobra.ExactArgs(1)),
	}, func(ctx context.Context, in *installation, args []string) error {
		n.Login = args[0]
		if _, err := in.store.AddAccount(ctx, in.Tenant, n, in.operator.Actor); err != nil {
			return err
		}
		return in.store.PermitAccount(ctx, in.Tenant, in.Repository, n.Login, approval.Permission(may), in.operator.Actor)
	})
	c.Flags().StringVar(&n.Email, "mail", "", "mail address that their commits name")
	c.Flags().BoolVar(&n.Bot, "bot", false, "it is no person")
	c.Flags().StringVar(&may, "may", string(approval.Read), "what it may do in the repository: none, read, write or admin")
	return c
}

func accountPermitCommand() *cobra.Command {
	team := false
	c := onAccounts(&cobra.Command{
		Use:   "permit LOGIN none|read|write|admin",
		Short: "Say what an account, or each member of a team, may do from now on",
		Example: "  hotswap account permit ann write\n" +
			"  hotswap account permit sre admin --team --data /var/lib/hotswap",
		Args: usageArgs(cobra.ExactArgs(2)),
	}, func(ctx context.Context, in *installation, args []string) error {
		if team {
			return in.store.PermitTeam(ctx, in.Tenant, in.Repository, args[0], approval.Permission(args[1]), in.operator.Actor)
		}
		return in.store.PermitAccount(ctx, in.Tenant, in.Repository, args[0], approval.Permission(args[1]), in.operator.Actor)
	})
	c.Flags().BoolVar(&team, "team", false, "the name is of a team")
	return c
}

func accountTokenCommand() *cobra.Command {
	life, revoke := 90*24*time.Hour, false
	c := onAccounts(&cobra.Command{
		Use:   "token LOGIN FILE",
		Short: "Write a new token of an account to FILE, readable by its owner only",
		Long: `Token writes a token that proves an account: to git as its password, and to hotswap pr. Whoever has
the file is that person until it ends.`,
		Example: "  hotswap account token ann ann.token\n" +
			"  hotswap account token bo bo.token --for 24h --revoke-others --data /var/lib/hotswap",
		Args: usageArgs(cobra.ExactArgs(2)),
	}, func(ctx context.Context, in *installation, args []string) error {
		if revoke {
			if _, err := in.store.RevokeAccountTokens(ctx, in.Tenant, args[0], in.operator.Actor); err != nil {
				return err
			}
		}
		token, err := in.store.CreateAccountToken(ctx, in.Tenant, args[0], life, in.operator.Actor)
		if err != nil {
			return err
		}
		return writeToken(args[1], token)
	})
	c.Flags().DurationVar(&life, "for", life, "how long it proves that")
	c.Flags().BoolVar(&revoke, "revoke-others", false, "end all tokens that the account has")
	return c
}

func teamCommand(use, short, example string, member bool) *cobra.Command {
	return onAccounts(&cobra.Command{
		Use:     use + " TEAM LOGIN…",
		Short:   short,
		Example: example,
		Args:    usageArgs(cobra.MinimumNArgs(2)),
	}, func(ctx context.Context, in *installation, args []string) error {
		for _, login := range args[1:] {
			if err := in.store.SetMember(ctx, in.Tenant, args[0], login, member, in.operator.Actor); err != nil {
				return err
			}
		}
		return nil
	})
}

func accountRenameCommand() *cobra.Command {
	return onAccounts(&cobra.Command{
		Use:   "rename LOGIN LOGIN",
		Short: "Give an account another login; what it said and may do stays",
		Example: "  hotswap account rename dana dana-lee\n" +
			"  hotswap account rename erik eric --data /var/lib/hotswap",
		Args: usageArgs(cobra.ExactArgs(2)),
	}, func(ctx context.Context, in *installation, args []string) error {
		return in.store.RenameAccount(ctx, in.Tenant, args[0], args[1], in.operator.Actor)
	})
}

func accountRemoveCommand() *cobra.Command {
	reason := ""
	c := onAccounts(&cobra.Command{
		Use:   "remove LOGIN",
		Short: "End an account, its tokens and its memberships; what it said stays",
		Example: "  hotswap account remove eve --reason 'left the company'\n" +
			"  hotswap account remove builder --reason 'not used' --data /var/lib/hotswap",
		Args: usageArgs(cobra.ExactArgs(1)),
	}, func(ctx context.Context, in *installation, args []string) error {
		if reason == "" {
			return usagef("--reason is required: it stands in the audit trail")
		}
		return in.store.RemoveAccount(ctx, in.Tenant, args[0], reason, in.operator.Actor)
	})
	c.Flags().StringVar(&reason, "reason", "", "why, for the audit trail (required)")
	return c
}

func branchCommand() *cobra.Command {
	c := &cobra.Command{Use: "branch", Short: "Protect branches of the built-in forge"}
	approvals, off := 1, false
	protect := &cobra.Command{
		Use:   "protect BRANCH",
		Short: "Let nobody push to a branch: it changes by pull requests that were approved",
		Example: "  hotswap branch protect main\n" +
			"  hotswap branch protect main --approvals 2 --data /var/lib/hotswap",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	data := dataFlag(protect)
	protect.Flags().IntVar(&approvals, "approvals", approvals, "approvals of its head that a merge needs")
	protect.Flags().BoolVar(&off, "off", false, "end the protection")
	protect.RunE = func(c *cobra.Command, args []string) error {
		if approvals < 0 || approvals > 20 {
			return usagef("--approvals is from 0 to 20")
		}
		return withInstallation(c, *data, func(ctx context.Context, in *installation) error {
			if err := in.may(ctx, auth.BranchProtect, "branch "+args[0]); err != nil {
				return err
			}
			return in.store.ProtectBranch(ctx, in.Tenant, in.Repository, store.ForgeBranch{Branch: args[0], Protected: !off, Approvals: approvals}, in.operator.Actor)
		})
	}
	c.AddCommand(protect)
	return c
}
