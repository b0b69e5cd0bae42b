package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/store"
)

func rollbackCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "rollback DEPLOYMENT",
		Short: "Bring back the release that ran before, at once, and tell Git after",
		Long: `Rollback restores a former release in one or more environments, one after the other in the order in
which they are named. It waits for no gate and no window. Without --to it takes the newest release
that ran there, is older than what runs, and is not held; asked again, it goes further back.

Exit code: 0 the restore begins, 1 something runs there or there is nothing to go back to, 2 wrong usage.`,
		Example: "  hotswap rollback checkout --environment production --reason 'checkout is down'\n" +
			"  hotswap rollback checkout --environment production,staging --to checkout-7 --reason 'known good'",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	data, reason := dataFlag(c), reasonFlag(c)
	environments := c.Flags().StringSlice("environment", nil, "environments, in the order in which they go back (required)")
	to := c.Flags().String("to", "", "release to go back to, among the last ten that ran there")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(*environments) == 0 {
			return usagef("--environment is required: nothing goes back by accident")
		}
		return withReason(c, *data, *reason, auth.SlotRestore, "deployment", args[0], func(ctx context.Context, in *installation) error {
			ids, err := in.engine().Rollback(ctx, engine.Rollback{
				Tenant: in.Tenant, Deployment: args[0], Environments: *environments, Release: *to, By: in.operator.Actor, Reason: *reason, Kind: "rollback",
			})
			for _, id := range ids {
				fmt.Fprintf(in.out, "%s begins\n", id)
			}
			return err
		})
	}
	return c
}

func holdCommand() *cobra.Command {
	c := &cobra.Command{Use: "hold", Short: "Bar artifacts from slots, and let them in again"}
	list := &cobra.Command{
		Use: "list", Short: "List what is barred, where and why", Args: usageArgs(cobra.NoArgs),
		Example: "  hotswap hold list\n  hotswap hold list -o json --data /var/lib/hotswap",
	}
	data, output := dataFlag(list), outputFlag(list, lists()...)
	list.RunE = func(c *cobra.Command, _ []string) error {
		if err := output.check(); err != nil {
			return err
		}
		return withInstallation(c, *data, func(ctx context.Context, in *installation) error {
			if err := in.may(ctx, auth.PromotionRead, "holds"); err != nil {
				return err
			}
			holds, err := in.store.Holds(ctx, in.Tenant)
			if err != nil {
				return err
			}
			rows := [][]string{{"SLOT", "ARTIFACT", "BY", "SINCE", "WHY"}}
			for _, h := range holds {
				rows = append(rows, []string{h.Environment + "/" + h.Deployment, h.Artifact, h.By, clock(h.Since), h.Reason})
			}
			return writeRows(in.out, output.value, rows, holds)
		})
	}
	c.AddCommand(list,
		deed{auth.HoldSet, "slot", changeHold((*store.Store).SetHold)}.by(&cobra.Command{
			Use:   "set ENVIRONMENT/DEPLOYMENT/ARTIFACT",
			Short: "Bar an artifact, by its digest, from a slot",
			Example: "  hotswap hold set production/checkout/sha256:0b31… --reason 'leaks memory'\n" +
				"  hotswap hold set qa/checkout/sha256:0b31… --reason 'under investigation' --data /var/lib/hotswap",
		}),
		deed{auth.HoldLift, "slot", changeHold((*store.Store).LiftHold)}.by(&cobra.Command{
			Use:   "lift ENVIRONMENT/DEPLOYMENT/ARTIFACT",
			Short: "Let a held artifact into a slot again",
			Example: "  hotswap hold lift production/checkout/sha256:0b31… --reason 'it was the load balancer'\n" +
				"  hotswap hold lift qa/checkout/sha256:0b31… --reason 'fixed by configuration' --data /var/lib/hotswap",
		}))
	return c
}

type holdChange func(s *store.Store, ctx context.Context, tenant string, h store.HoldRow, by audit.Actor) error

func changeHold(change holdChange) func(ctx context.Context, in *installation, name, reason string) error {
	return func(ctx context.Context, in *installation, name, reason string) error {
		parts := strings.SplitN(name, "/", 3)
		if len(parts) != 3 {
			return usagef("name it as ENVIRONMENT/DEPLOYMENT/ARTIFACT, not %s", name)
		}
		err := change(in.store, ctx, in.Tenant, store.HoldRow{Environment: parts[0], Deployment: parts[1], Artifact: parts[2], Reason: reason}, in.operator.Actor)
		if errors.Is(err, store.ErrConflict) {
			return fmt.Errorf("nothing to change: list what is held with: hotswap hold list")
		}
		return err
	}
}

func epochCommand() *cobra.Command {
	c := &cobra.Command{Use: "epoch", Short: "Say that the database was restored from a backup"}
	raise := &cobra.Command{
		Use:   "raise",
		Short: "After a restore: make new orders newer than all that nodes have seen",
		Long: `A database that was restored from a backup knows less than the nodes: they would refuse its orders
as old. Raise says so. No unit is moved by it: what units run and is not recorded becomes a finding
(hotswap status), which the next promotion or rollback mends.`,
		Example: "  hotswap epoch raise --reason 'restored the backup of 02:00'\n  hotswap epoch raise --reason 'disaster test' --data /var/lib/hotswap",
		Args:    usageArgs(cobra.NoArgs),
	}
	data, reason := dataFlag(raise), reasonFlag(raise)
	raise.RunE = func(c *cobra.Command, _ []string) error {
		return withReason(c, *data, *reason, auth.EpochRaise, "installation", "", func(ctx context.Context, in *installation) error {
			epoch, err := in.store.RaiseEpoch(ctx, in.Tenant, in.operator.Actor, *reason)
			if err == nil {
				fmt.Fprintf(in.out, "the epoch is %d\n", epoch)
			}
			return err
		})
	}
	c.AddCommand(raise)
	return c
}
