package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/store"
)

func approveCommand() *cobra.Command {
	return approvalCommand(store.ByAPI, auth.PromotionApprove, &cobra.Command{
		Use:   "approve PROMOTION",
		Short: "Approve the plan of a promotion past the forge, where its policy takes that",
		Long: `Approve is for who cannot review the pull request. It is an approval of the plan and the commit that
the pull request shows, signed by the installation, and counts by the rules that reviews count by: not
of who wrote it, not of who may not write, and only where the policy says apiApprovals.`,
		Example: "  hotswap approve checkout-3/production/promote-1 --plan sha256:7f3a9c… --head 51bd02… --reason 'looked at it by phone' --token-file bo.token\n" +
			"  hotswap approve checkout-3/staging/promote-1 --plan sha256:7f3a9c… --head 51bd02… --reason 'CHG-4711' --token-file bo.token --data /var/lib/hotswap",
	})
}

func breakGlassCommand() *cobra.Command {
	return approvalCommand(store.BreakGlass, auth.GlassBreak, &cobra.Command{
		Use:   "break-glass PROMOTION",
		Short: "Open the gate of a promotion alone in an emergency, where its policy lets your role",
		Long: `Break-glass opens the gate of one plan without the approvals that it asks for. It stands in the audit
trail under an action of its own, and on the pull request. Windows and holds stay closed.`,
		Example: "  hotswap break-glass checkout-3/production/promote-1 --plan sha256:7f3a9c… --head 51bd02… --reason 'checkout is down' --token-file bo.token\n" +
			"  hotswap break-glass checkout-3/production/promote-1 --plan sha256:7f3a9c… --head 51bd02… --reason 'INC-12' --token-file bo.token --data /var/lib/hotswap",
	})
}

// approvalCommand gives a command what it needs to approve past the forge.
func approvalCommand(source string, action auth.Action, c *cobra.Command) *cobra.Command {
	g := store.GivenApproval{Source: source}
	c.Args = usageArgs(cobra.ExactArgs(1))
	c = speaking(c, action, "promotion", func(ctx context.Context, s speaker, args []string) error {
		if g.Plan == "" || g.Head == "" || g.Reason == "" {
			return usagef("--plan, --head and --reason are required: an approval is of what was shown, see hotswap pr show")
		}
		g.Actor, g.Role = s.who.Login, string(s.p.Role)
		err := s.store.GiveApproval(ctx, s.Tenant, args[0], g)
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("there is no promotion %s: %w; list what there is with: hotswap status", args[0], err)
		}
		return err
	})
	c.Flags().StringVar(&g.Plan, "plan", "", "digest of the plan that was looked at, as the diff of the pull request shows it (required)")
	c.Flags().StringVar(&g.Head, "head", "", "commit that shows it (required)")
	c.Flags().StringVar(&g.Reason, "reason", "", "why, for the audit trail (required)")
	return c
}
