package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/promotion"
)

// act asks something of a promotion.
func act(kind promotion.EventKind) func(ctx context.Context, in *installation, id, reason string) error {
	return func(ctx context.Context, in *installation, id, reason string) error {
		s, err := in.engine().Act(ctx, in.Tenant, id, kind, in.operator.Actor, reason)
		if errors.Is(err, promotion.ErrFinal) {
			return fmt.Errorf("promotion %s has ended already: %w", id, err)
		}
		if err == nil {
			fmt.Fprintf(in.out, "%s is %s: %s\n", id, s.Where(), s.Reason)
		}
		return err
	}
}

// engine is what carries out an operator's wish.
func (in *installation) engine() *engine.Engine { return engine.New(in.store, nil, engine.Options{}) }

func promoteCommand() *cobra.Command {
	return deed{auth.PromotionDecide, "promotion", promote}.by(&cobra.Command{
		Use:   "promote PROMOTION | RELEASE/STAGE",
		Short: "Agree to a promotion that waits for it, or begin another attempt of a stage",
		Long: `Promote says yes: to the plan that a promotion waits with, or to a wave that is paused because
there was no verdict. The yes is of that plan alone: when the plan moves, it counts no more.

With RELEASE/STAGE it begins another attempt of a stage whose newest one has ended without
success, for example because nobody agreed in time.`,
		Example: "  hotswap promote checkout-3/production/promote-1 --reason 'load test looked good'\n" +
			"  hotswap promote checkout-3/production --reason 'the disk was replaced, try again'",
	})
}

func promote(ctx context.Context, in *installation, name, reason string) error {
	release, stage, ok := strings.Cut(name, "/")
	if !ok || strings.Contains(stage, "/") {
		return act(promotion.Promoted)(ctx, in, name, reason)
	}
	id, err := in.engine().Retry(ctx, in.Tenant, release, stage, in.operator.Actor, reason)
	if err == nil {
		fmt.Fprintf(in.out, "%s begins\n", id)
	}
	return err
}

func rejectCommand() *cobra.Command {
	return deed{auth.PromotionDecide, "promotion", act(promotion.Refused)}.by(&cobra.Command{
		Use:   "reject PROMOTION",
		Short: "Say no to a promotion that has not started",
		Example: "  hotswap reject checkout-3/production/promote-1 --reason 'not before the holidays'\n" +
			"  hotswap reject checkout-3/staging/promote-1 --reason 'wrong configuration' --data /var/lib/hotswap",
	})
}

func pauseCommand() *cobra.Command {
	return deed{auth.PromotionPause, "promotion", act(promotion.Held)}.by(&cobra.Command{
		Use:   "pause PROMOTION",
		Short: "Keep a running promotion where it is; a version that breaks is taken back all the same",
		Example: "  hotswap pause checkout-3/production/promote-1 --reason 'looking at a graph'\n" +
			"  hotswap pause checkout-3/qa/promote-1 --reason 'node is being repaired' --data /var/lib/hotswap",
	})
}

func resumeCommand() *cobra.Command {
	return deed{auth.PromotionPause, "promotion", act(promotion.Resumed)}.by(&cobra.Command{
		Use:   "resume PROMOTION",
		Short: "Go on with a paused promotion; units whose node left the fleet are skipped",
		Example: "  hotswap resume checkout-3/production/promote-1 --reason 'the graph is fine'\n" +
			"  hotswap resume checkout-3/qa/promote-1 --reason 'go on without qa-2' --data /var/lib/hotswap",
	})
}

func abortCommand() *cobra.Command {
	return deed{auth.PromotionStop, "promotion", act(promotion.Stopped)}.by(&cobra.Command{
		Use:   "abort PROMOTION",
		Short: "Stop a promotion; what was switched goes back to the former version",
		Example: "  hotswap abort checkout-3/production/promote-1 --reason 'wrong configuration'\n" +
			"  hotswap abort checkout-3/qa/promote-1 --reason 'node is gone' --data /var/lib/hotswap",
	})
}

func checkCommand() *cobra.Command {
	c := &cobra.Command{Use: "check", Short: "Say what an external check of a promotion found"}
	for _, passed := range []bool{true, false} {
		c.AddCommand(checkVerdictCommand(passed))
	}
	return c
}

func checkVerdictCommand(passed bool) *cobra.Command {
	use, says := "fail", "failed"
	if passed {
		use, says = "pass", "passed"
	}
	c := &cobra.Command{
		Use:   use + " PROMOTION CHECK",
		Short: "Say that a check " + says,
		Example: fmt.Sprintf("  hotswap check %s checkout-3/production/promote-1 load-test --reason 'p95 is 310 ms'\n", use) +
			fmt.Sprintf("  hotswap check %s checkout-3/production/promote-1 ticket --reason 'CHG-4711' --data /var/lib/hotswap", use),
		Args: usageArgs(cobra.ExactArgs(2)),
	}
	data, reason := dataFlag(c), reasonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return withReason(c, *data, *reason, auth.PromotionCheck, "promotion", args[0], func(ctx context.Context, in *installation) error {
			fact := promotion.CheckFact{Name: args[1], Passed: passed, Detail: *reason}
			return in.store.SetCheck(ctx, in.Tenant, args[0], fact, in.operator.Actor)
		})
	}
	return c
}
