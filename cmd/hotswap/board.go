package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
)

func boardCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "board",
		Short: "Show what runs where, and what is under way: deployments and their environments",
		Example: "  hotswap board\n" +
			"  hotswap board -o json --data /var/lib/hotswap",
		Args: usageArgs(cobra.NoArgs),
	}
	data, output := dataFlag(c), outputFlag(c, lists()...)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := output.check(); err != nil {
			return err
		}
		return withInstallation(c, *data, func(ctx context.Context, in *installation) error {
			if err := in.may(ctx, auth.PromotionRead, "board"); err != nil {
				return err
			}
			board, err := in.store.Board(ctx, in.Tenant)
			if err != nil {
				return err
			}
			return writeRows(in.out, output.value, boardRows(board, output.value == "wide"), board)
		})
	}
	return c
}

// boardRows are a board as a table; wide says everything that is waited for.
func boardRows(board []store.BoardRow, wide bool) [][]string {
	rows := [][]string{{"SLOT", "LIVE", "UNITS", "STATE", "NEXT", "WAITS FOR"}}
	for _, b := range board {
		live := "-"
		if b.Version != "" {
			live = b.Module + " " + b.Version
		}
		rows = append(rows, []string{b.Environment + "/" + b.Deployment, live, fmt.Sprint(b.Units), slotState(b), nextText(b.Next), waitText(b.Waiting, wide)})
	}
	return rows
}

// slotState is how a slot is, in words: never a colour alone.
func slotState(b store.BoardRow) string {
	var out []string
	if b.Dirty {
		out = append(out, "dirty")
	}
	if b.Findings > 0 {
		out = append(out, fmt.Sprintf("%d findings", b.Findings))
	}
	if b.Holds > 0 {
		out = append(out, fmt.Sprintf("%d held", b.Holds))
	}
	if !b.GitRecorded {
		out = append(out, "not yet in Git")
	}
	if len(out) == 0 {
		return "as recorded"
	}
	return strings.Join(out, ", ")
}

func nextText(n *store.BoardNext) string {
	if n == nil {
		return "-"
	}
	state := string(n.Status)
	if n.Phase != "" {
		state = string(n.Phase)
	}
	if n.Waves > 1 {
		state += fmt.Sprintf(" %d/%d", n.Wave, n.Waves)
	}
	return strings.TrimSpace(n.Version + " " + state)
}

func waitText(w *promotion.Waiting, wide bool) string {
	if w == nil {
		return "-"
	}
	text := w.What
	if wide {
		if w.Evidence != "" {
			text += " (" + w.Evidence + ")"
		}
		if w.Command != "" {
			text += "; " + w.Command
		}
	}
	return text
}
