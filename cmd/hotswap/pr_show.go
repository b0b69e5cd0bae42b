package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/forge/builtin"
)

// printable is a text of somebody as a terminal may have it: nothing in it moves the
// cursor, colours or hides anything.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, strings.ReplaceAll(s, "\r\n", "\n"))
}

// oneLine is printable, in a line.
func oneLine(s string) string { return strings.Join(strings.Fields(printable(s)), " ") }

func prListCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Short:   "List pull requests",
		Example: "  hotswap pr list\n  hotswap pr list --state merged -o json --data /var/lib/hotswap",
		Args:    usageArgs(cobra.NoArgs),
	}
	data, output := dataFlag(c), outputFlag(c, lists()...)
	state := c.Flags().String("state", "open", "open, merged, closed or all")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := output.check(); err != nil {
			return err
		}
		filter := forge.Filter{State: approval.PullState(*state)}
		switch filter.State {
		case approval.Open, approval.Merged, approval.Closed:
		case "all":
			filter.State = ""
		default:
			return usagef("unknown state %q; it is open, merged, closed or all", *state)
		}
		return withForge(c, *data, func(ctx context.Context, s speaker) error {
			if err := s.may(ctx, auth.PullRead, "pull requests"); err != nil {
				return err
			}
			list, err := s.forge.Pulls(ctx, s.at.full(), filter)
			if err != nil {
				return err
			}
			return s.list(ctx, output.value, list)
		})
	}
	return c
}

// A pullRow is a pull request in a list.
type pullRow struct {
	Number    int64              `json:"number"`
	Title     string             `json:"title"`
	State     approval.PullState `json:"state"`
	Base      string             `json:"base"`
	Branch    string             `json:"branch"`
	Head      string             `json:"head"`
	By        string             `json:"by"`
	Approved  []string           `json:"approvedBy"`
	UpdatedAt time.Time          `json:"updatedAt"`
}

func (s speaker) list(ctx context.Context, output string, list []forge.Listed) error {
	all := []pullRow{}
	rows := [][]string{{"NUMBER", "TITLE", "STATE", "ONTO", "HEAD", "BY", "APPROVED BY"}}
	for _, l := range list {
		p, err := s.forge.Pull(ctx, s.at.full(), l.Number)
		if err != nil {
			return err
		}
		r := pullRow{Number: p.Number, Title: p.Title, State: p.State, Base: p.Base, Branch: p.HeadRef, Head: p.Head, By: p.Author.Login, Approved: approvers(p), UpdatedAt: p.UpdatedAt}
		all = append(all, r)
		rows = append(rows, []string{fmt.Sprint(r.Number), oneLine(r.Title), string(r.State), oneLine(r.Base), r.Head[:min(8, len(r.Head))], r.By, dash(strings.Join(r.Approved, ", "))})
	}
	return writeRows(s.out, output, rows, all)
}

// approvers are whose last decisive review approves the head. Whether it counts, the
// policy says.
func approvers(p approval.Pull) []string {
	last := map[int64]approval.Review{}
	order := []int64{}
	for _, r := range p.Reviews {
		if r.Verdict != approval.Approved && r.Verdict != approval.ChangesRequested {
			continue
		}
		if _, ok := last[r.By.ID]; !ok {
			order = append(order, r.By.ID)
		}
		last[r.By.ID] = r
	}
	out := []string{}
	for _, id := range order {
		if r := last[id]; r.Verdict == approval.Approved && !r.Dismissed && r.Commit == p.Head {
			out = append(out, r.By.Login)
		}
	}
	return out
}

func prShowCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "show NUMBER",
		Short:   "Show a pull request with everything that was said",
		Example: "  hotswap pr show 3\n  hotswap pr show 3 -o json --data /var/lib/hotswap",
		Args:    usageArgs(cobra.ExactArgs(1)),
	}
	data, output := dataFlag(c), outputFlag(c, "text", "json", "yaml")
	c.RunE = func(c *cobra.Command, args []string) error {
		n, err := number(args[0])
		if err == nil {
			err = output.check()
		}
		if err != nil {
			return err
		}
		return withForge(c, *data, func(ctx context.Context, s speaker) error {
			if err := s.may(ctx, auth.PullRead, "pull request "+args[0]); err != nil {
				return err
			}
			p, err := s.forge.Show(ctx, s.at.full(), n)
			if err != nil {
				return err
			}
			if output.value != "text" {
				return writeData(s.out, output.value, p)
			}
			writePull(s.out, p)
			return nil
		})
	}
	return c
}

// writePull shows a pull request to a person.
func writePull(w io.Writer, p builtin.Shown) {
	fmt.Fprintf(w, "#%d %s\n", p.Number, oneLine(p.Title))
	fmt.Fprintf(w, "%s by %s: %s onto %s\n", p.State, p.Author.Login, oneLine(p.HeadRef), oneLine(p.Base))
	fmt.Fprintf(w, "commit %s\n", p.Head)
	switch p.State {
	case approval.Merged:
		fmt.Fprintf(w, "merged by %s with %s\n", p.MergedBy.Login, p.Merge)
	case approval.Open:
		fmt.Fprintf(w, "mergeable: %s\n", oneLine(p.Mergeable))
	}
	for _, s := range p.Statuses {
		fmt.Fprintf(w, "status %s: %s  %s\n", oneLine(s.Context), s.State, oneLine(s.Description))
	}
	paragraph(w, p.Body)
	for _, r := range p.Reviews {
		stands := ""
		switch {
		case r.Dismissed:
			stands = "  (dismissed)"
		case r.Commit != p.Head:
			stands = "  (the head has moved since)"
		}
		fmt.Fprintf(w, "\n%s  %s %s %.8s%s\n", r.At.UTC().Format("2006-01-02 15:04:05"), r.By.Login, verdictWords(r.Verdict), r.Commit, stands)
		paragraph(w, p.Texts[r.ID])
	}
	for _, c := range p.Comments {
		fmt.Fprintf(w, "\n%s  %s says\n", c.At.UTC().Format("2006-01-02 15:04:05"), c.By.Login)
		paragraph(w, forge.Unmarked(c.Body))
	}
}

// paragraph shows a text of somebody, set off from what we say.
func paragraph(w io.Writer, text string) {
	if strings.TrimSpace(text) == "" {
		return
	}
	fmt.Fprintln(w)
	for line := range strings.Lines(strings.TrimSpace(printable(text))) {
		fmt.Fprintln(w, strings.TrimRight("  "+line, " \n"))
	}
}

func prDiffCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "diff NUMBER",
		Short:   "Show what a pull request changes",
		Example: "  hotswap pr diff 3\n  hotswap pr diff 3 --data /var/lib/hotswap",
		Args:    usageArgs(cobra.ExactArgs(1)),
	}
	data := dataFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		n, err := number(args[0])
		if err != nil {
			return err
		}
		return withForge(c, *data, func(ctx context.Context, s speaker) error {
			if err := s.may(ctx, auth.PullRead, "pull request "+args[0]); err != nil {
				return err
			}
			patch, head, err := s.forge.Patch(ctx, s.at.full(), n)
			if err == nil {
				fmt.Fprintf(s.out, "commit %s\n%s", head, printable(patch))
			}
			return err
		})
	}
	return c
}
