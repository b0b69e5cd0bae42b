package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
)

// watchEvery is how often a release is looked at while it is followed.
const watchEvery = 500 * time.Millisecond

func watchCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "watch RELEASE | DEPLOYMENT",
		Short: "Follow a release, line by line, until it has ended",
		Long: `Watch follows a release, or the newest one of a deployment, and prints each step of its promotions
and what is waited for.

Exit code: 0 it succeeded, 1 it did not, 5 it waits for an operator (with --until-waiting),
6 --timeout has passed, 7 it was rolled back.`,
		Example: "  hotswap watch checkout --timeout 1s\n" +
			"  hotswap watch checkout-3 --timeout 30m --until-waiting",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	data := dataFlag(c)
	timeout := c.Flags().Duration("timeout", time.Hour, "end after so long, with code 6")
	untilWaiting := c.Flags().Bool("until-waiting", false, "end with code 5 when it waits for an operator")
	c.RunE = func(c *cobra.Command, args []string) error {
		ctx, cancel := context.WithTimeout(c.Context(), *timeout)
		defer cancel()
		in, err := openInstallation(ctx, *data)
		if err != nil {
			return err
		}
		defer in.store.Close()
		in.out = c.OutOrStdout()
		if err := in.may(ctx, auth.PromotionRead, "release "+args[0]); err != nil {
			return err
		}
		f := follower{in: in, out: c.OutOrStdout(), untilWaiting: *untilWaiting}
		err = f.follow(ctx, args[0])
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("there is no release or deployment %s; list what there is with: hotswap board", args[0])
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return exitError{exitTimedOut, fmt.Errorf("%s has not ended in %s", args[0], *timeout)}
		}
		return err
	}
	return c
}

// A follower remembers what of a release was told.
type follower struct {
	in           *installation
	out          io.Writer
	untilWaiting bool
	told         int
	waiting      map[string]string // by promotion
}

func (f *follower) follow(ctx context.Context, name string) error {
	f.waiting = map[string]string{}
	for {
		v, err := f.in.store.Release(ctx, f.in.Tenant, name)
		if err != nil {
			return err
		}
		name = v.ID // a newer release of the deployment is another story
		steps, err := f.in.store.Timeline(ctx, f.in.Tenant, v.ID)
		if err != nil {
			return err
		}
		f.tell(steps)
		if done, err := f.ended(v); done {
			return err
		}
		select {
		case <-time.After(watchEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *follower) tell(steps []store.TransitionRow) {
	for _, t := range steps[min(f.told, len(steps)):] {
		state := string(t.Status)
		if t.Phase != "" {
			state = string(t.Phase)
		}
		fmt.Fprintf(f.out, "%s  %-12s %-13s %s\n", clock(t.At), t.Environment, state, t.Reason)
	}
	f.told = len(steps)
}

// ended says how a release ended, or what it waits for, once for each wait.
func (f *follower) ended(v store.ReleaseView) (bool, error) {
	back := false
	for _, p := range v.Promotions {
		back = back || p.Status == promotion.RolledBack
		if p.Waiting == nil || f.waiting[p.ID] == p.Waiting.What {
			continue
		}
		f.waiting[p.ID] = p.Waiting.What
		if p.Status == promotion.Gating || p.Status == promotion.Queued || p.Phase == promotion.Paused {
			fmt.Fprintf(f.out, "%s  %-12s %-13s %s\n", clock(time.Now()), p.Environment, "waits", waitText(p.Waiting, true))
			if f.untilWaiting && p.Status == promotion.Gating {
				return true, exitError{exitWaiting, nil}
			}
		}
	}
	switch {
	case v.State == promotion.ReleaseOpen:
		return false, nil
	case v.State == promotion.ReleaseSucceeded:
		return true, nil
	case back:
		return true, exitError{exitRolledBack, fmt.Errorf("release %s was rolled back", v.ID)}
	default:
		return true, exitError{exitFailed, fmt.Errorf("release %s ended %s", v.ID, v.State)}
	}
}
