package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/store"
)

func approvalsCommand() *cobra.Command {
	c := &cobra.Command{Use: "approvals", Short: "Look into approvals"}
	c.AddCommand(simulateApprovalsCommand())
	return c
}

func simulateApprovalsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "simulate PROMOTION",
		Short: "Say whose approvals count and who is missing, also if others approved",
		Long: `Simulate judges the reviews of a promotion's pull request by its policy, as it is done when the slot
is taken, and says of each review that does not count which rule it breaks. With --with it says what
it would come to if these people approved the head as it is. It changes nothing, and ends with 0 when
the gate would open, else with 5.`,
		Example: "  hotswap approvals simulate checkout-3/production/promote-1\n" +
			"  hotswap approvals simulate checkout-3/production/promote-1 --with bo,chris -o json --data /var/lib/hotswap",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	data, output := dataFlag(c), outputFlag(c, "text", "json", "yaml")
	with := c.Flags().StringSlice("with", nil, "logins of people who would approve, too")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := output.check(); err != nil {
			return err
		}
		return withJudge(c, *data, func(ctx context.Context, in *installation, e *engine.Engine) error {
			if err := in.may(ctx, auth.PullRead, "promotion "+args[0]); err != nil {
				return err
			}
			r, err := e.Simulate(ctx, in.Tenant, args[0], *with)
			if errors.Is(err, store.ErrNotFound) {
				return fmt.Errorf("%w; list what there is with: hotswap status, and hotswap account list", err)
			}
			if err != nil {
				return err
			}
			if err := writeJudgement(in.out, output.value, r); err != nil {
				return err
			}
			if r.State != approval.Yes {
				return exitError{exitWaiting, nil}
			}
			return nil
		})
	}
	return c
}

// withJudge opens whatever forge an installation works with, to judge by it.
func withJudge(c *cobra.Command, data string, fn func(ctx context.Context, in *installation, e *engine.Engine) error) error {
	return withInstallation(c, data, func(ctx context.Context, in *installation) error {
		if in.Gitea == nil {
			return withForge(c, data, func(ctx context.Context, s speaker) error { return fn(ctx, s.installation, s.engine()) })
		}
		g, err := openGitea(in.dir, *in.Gitea, in.Tenant)
		if err != nil {
			return err
		}
		return fn(ctx, in, engine.New(in.store, g.open, g.options()))
	})
}

// engine judges by this forge.
func (s speaker) engine() *engine.Engine {
	return engine.New(s.store, func(_, name string) (*gitrepo.Repository, error) { return s.at.open(name) }, engine.Options{
		Forges: func(string, string) (forge.Forge, string, bool) { return s.forge, s.at.full(), true },
	})
}

func writeJudgement(w io.Writer, output string, r approval.Result) error {
	if output != "text" {
		return writeData(w, output, r)
	}
	fmt.Fprintf(w, "%s: %s\n", r.State, oneLine(r.Says))
	if missing := append(r.People, prefixed("team ", r.Teams)...); len(missing) > 0 {
		fmt.Fprintf(w, "missing: a review of %s\n", strings.Join(missing, " or "))
	}
	for _, i := range r.Ignored {
		fmt.Fprintf(w, "does not count [%s]: %s\n", i.Rule, oneLine(i.Why))
	}
	return nil
}

func prefixed(prefix string, names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, prefix+n)
	}
	return out
}
