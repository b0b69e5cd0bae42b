package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/store"
)

// A deed is what an operator does to one thing, by its name, for a reason.
type deed struct {
	action  auth.Action
	subject string // noun of the thing: "promotion"
	do      func(ctx context.Context, in *installation, name, reason string) error
}

// by gives a command with one argument its flags and what it does: with a
// reason, for whom may, and not before.
func (d deed) by(c *cobra.Command) *cobra.Command {
	c.Args = usageArgs(cobra.ExactArgs(1))
	data, reason := dataFlag(c), reasonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return withReason(c, *data, *reason, d.action, d.subject, args[0], func(ctx context.Context, in *installation) error {
			return d.do(ctx, in, args[0], *reason)
		})
	}
	return c
}

// reasonFlag adds --reason to a command.
func reasonFlag(c *cobra.Command) *string {
	return c.Flags().String("reason", "", "why, for the audit trail (required)")
}

// withReason opens the installation for something that an operator does to a
// subject for a reason, if the operator may.
func withReason(c *cobra.Command, data, reason string, a auth.Action, subject, name string, do func(ctx context.Context, in *installation) error) error {
	if reason == "" {
		return usagef("--reason is required: it stands in the audit trail")
	}
	return withInstallation(c, data, func(ctx context.Context, in *installation) error {
		if err := in.may(ctx, a, strings.TrimSpace(subject+" "+name)); err != nil {
			return err
		}
		err := do(ctx, in)
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("there is no %s %s: %w; list what there is with: hotswap status", subject, name, err)
		}
		return err
	})
}

func slotCommand() *cobra.Command {
	c := &cobra.Command{Use: "slot", Short: "Look after slots, the locks of (environment, deployment)"}
	c.AddCommand(deed{auth.SlotClean, "slot", cleanSlot}.by(&cobra.Command{
		Use:   "clean ENVIRONMENT/DEPLOYMENT",
		Short: "Accept what the units of a dirty slot run, so that the next promotion may take it",
		Example: "  hotswap slot clean production/checkout --reason 'checked by hand, all on 1.4.2'\n" +
			"  hotswap slot clean qa/checkout --reason 'node qa-2 was reinstalled' --data /var/lib/hotswap",
	}))
	return c
}

func cleanSlot(ctx context.Context, in *installation, name, reason string) error {
	environment, deployment, ok := strings.Cut(name, "/")
	if !ok {
		return usagef("name the slot as ENVIRONMENT/DEPLOYMENT, not %s", name)
	}
	err := in.store.CleanSlot(ctx, in.Tenant, environment, deployment, in.operator.Actor, reason)
	if errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("slot %s is not dirty, or a promotion holds it", name)
	}
	return err
}

// nodeRemoveCommand is `hotswap node remove`.
func nodeRemoveCommand() *cobra.Command {
	remove := func(ctx context.Context, in *installation, name, reason string) error {
		return in.store.RemoveNode(ctx, in.Tenant, name, in.operator.Actor, reason)
	}
	return deed{auth.NodeRemove, "node", remove}.by(&cobra.Command{
		Use:   "remove NAME",
		Short: "Take a node out of the fleet, so that no promotion waits for it any more",
		Long: `Remove refuses the node's key from now on. What it runs goes on until its agent is stopped.
A promotion that is changing it fails or cannot be rolled back there, and says so; later ones
leave it out. The node may join again with a new token.`,
		Example: "  hotswap node remove shop-3 --reason 'broken disk, sent back'\n" +
			"  hotswap node remove qa-1 --reason 'moved to another site' --data /var/lib/hotswap",
	})
}

func joinTokenCommand() *cobra.Command {
	c := &cobra.Command{Use: "join-token", Short: "Make one-time tokens with which nodes join"}
	create := &cobra.Command{
		Use:   "create FILE",
		Short: "Write a new join token to FILE, readable by its owner only",
		Long: `Create writes a token with which one node may join once, with exactly the labels given here.
Labels decide what a node is given to run, so they come from the token and not from the node.`,
		Example: "  hotswap join-token create node-1.token --label environment=production\n" +
			"  hotswap join-token create qa.token --label environment=qa --label zone=b --for 24h",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	data := dataFlag(create)
	labels := create.Flags().StringToString("label", nil, "label of the node, key=value; may be given several times")
	ttl := create.Flags().Duration("for", time.Hour, "how long the token is valid")
	create.RunE = func(c *cobra.Command, args []string) error {
		return withInstallation(c, *data, func(ctx context.Context, in *installation) error {
			if err := in.may(ctx, auth.JoinTokenCreate, "join token"); err != nil {
				return err
			}
			token, err := in.store.CreateJoinToken(ctx, in.Tenant, *labels, *ttl, in.operator.Actor)
			if err != nil {
				return err
			}
			return writeToken(args[0], token)
		})
	}
	c.AddCommand(create)
	return c
}

// writeToken writes a new file for the owner only; it replaces nothing.
func writeToken(path, token string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(token + "\n"); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
