package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/store"
)

func statusCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show promotions, what they wait for, nodes, and what was said about commits",
		Example: "  hotswap status\n" +
			"  hotswap status -o json --limit 100",
		Args: usageArgs(cobra.NoArgs),
	}
	data, output := dataFlag(c), outputFlag(c, "table", "json")
	limit := c.Flags().Int("limit", 20, "promotions and commits to list, at most 1000")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := output.check(); err != nil {
			return err
		}
		return withInstallation(c, *data, func(ctx context.Context, in *installation) error {
			s, err := readStatus(ctx, in, min(max(*limit, 1), 1000))
			if err != nil {
				return err
			}
			if output.value == "json" {
				return writeJSON(c.OutOrStdout(), s)
			}
			return writeStatus(c.OutOrStdout(), s)
		})
	}
	return c
}

// A status is what `hotswap status` shows.
type status struct {
	Promotions   []store.PromotionRow  `json:"promotions"`
	Releases     []store.OpenRelease   `json:"openReleases"`
	Findings     []store.FindingRow    `json:"findings"`
	Holds        []store.HoldRow       `json:"holds"`
	Nodes        []store.NodeRow       `json:"nodes"`
	Commits      []store.CommitStatus  `json:"commits"`
	Repositories []store.RepositoryRow `json:"repositories"`
}

func readStatus(ctx context.Context, in *installation, limit int) (s status, err error) {
	if err := in.may(ctx, auth.PromotionRead, "promotions"); err != nil {
		return s, err
	}
	if s.Promotions, err = in.store.Promotions(ctx, in.Tenant, limit); err != nil {
		return s, err
	}
	if s.Nodes, err = in.store.Nodes(ctx, in.Tenant); err != nil {
		return s, err
	}
	if s.Repositories, err = in.store.Repositories(ctx, in.Tenant); err != nil {
		return s, err
	}
	if s.Findings, err = in.store.Findings(ctx, in.Tenant, limit); err != nil {
		return s, err
	}
	if s.Holds, err = in.store.Holds(ctx, in.Tenant); err != nil {
		return s, err
	}
	if s.Releases, err = in.store.OpenReleases(ctx, in.Tenant, limit); err != nil {
		return s, err
	}
	s.Commits, err = in.store.Statuses(ctx, in.Tenant, in.Repository, limit)
	return s, err
}

func writeStatus(w io.Writer, s status) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "PROMOTION\tVERSION\tSTATE\tSINCE\tWHY")
	for _, p := range s.Promotions {
		state, why := string(p.Status), p.Reason
		if p.Phase != "" {
			state += "/" + string(p.Phase)
		}
		if p.Waiting != nil {
			why = "waits: " + p.Waiting.What
			if p.Waiting.Evidence != "" {
				why += " (" + p.Waiting.Evidence + ")"
			}
			if p.Waiting.Command != "" {
				why += "; " + p.Waiting.Command
			}
		}
		fmt.Fprintf(t, "%s\t%s %s\t%s\t%s\t%s\n", p.ID, p.Module, p.Version, state, clock(p.Since), why)
	}
	if len(s.Releases) > 0 {
		fmt.Fprintln(t, "\nOPEN RELEASE\tCOMMIT\tWAITS FOR")
	}
	for _, r := range s.Releases {
		what := r.Waiting.What
		if r.Waiting.Evidence != "" {
			what += " (" + r.Waiting.Evidence + ")"
		}
		fmt.Fprintf(t, "%s\t%.12s\t%s\n", r.ID, r.Commit, what)
	}
	if len(s.Findings) > 0 {
		fmt.Fprintln(t, "\nFINDING\tNODE\tSLOT\tSINCE\tWHAT")
	}
	for _, f := range s.Findings {
		fmt.Fprintf(t, "%s\t%s\t%s/%s\t%s\t%s\n", f.Kind, f.Node, f.Environment, f.Deployment, clock(f.Since), f.Detail)
	}
	if len(s.Holds) > 0 {
		fmt.Fprintln(t, "\nHELD ARTIFACT\tSLOT\tSINCE\tWHY")
	}
	for _, h := range s.Holds {
		fmt.Fprintf(t, "%s\t%s/%s\t%s\t%s\n", h.Artifact, h.Environment, h.Deployment, clock(h.Since), h.Reason)
	}
	fmt.Fprintln(t, "\nNODE\tPLACE\tACTIVE\tSTANDBY\tADDRESS\tSEEN")
	for _, n := range s.Nodes {
		writeNode(t, n)
	}
	fmt.Fprintln(t, "\nREPOSITORY\tBRANCH\tREAD TO\tSTATE")
	for _, r := range s.Repositories {
		state := "read"
		switch {
		case r.Waiting != nil:
			state = "waits: " + r.Waiting.What + " (" + r.Waiting.Evidence + ")"
		case r.SyncedAt == nil:
			state = "nothing pushed yet"
		}
		fmt.Fprintf(t, "%s\t%s\t%.12s\t%s\n", r.Name, r.Branch, r.Synced, state)
	}
	fmt.Fprintln(t, "\nCOMMIT\tCHECK\tRESULT\tWHAT")
	for _, c := range s.Commits {
		result := "failure"
		if c.OK {
			result = "success"
		}
		fmt.Fprintf(t, "%.12s\t%s\t%s\t%s\n", c.Commit, c.Context, result, c.Description)
		for line := range strings.Lines(c.Detail) {
			fmt.Fprintf(t, "\t\t\t%s", line)
		}
	}
	return t.Flush()
}

func writeNode(t io.Writer, n store.NodeRow) {
	seen := "never"
	if n.LastSeen != nil {
		seen = clock(*n.LastSeen)
	}
	if len(n.Places) == 0 {
		fmt.Fprintf(t, "%s\t-\t-\t-\t-\t%s\n", n.Name, seen)
	}
	for _, p := range n.Places {
		active, standby := "-", "-"
		if p.Active != nil {
			active = p.Active.Version + " " + string(p.Active.Phase)
		}
		if p.Standby != nil {
			standby = p.Standby.Version + " " + string(p.Standby.Phase)
		}
		fmt.Fprintf(t, "%s\t%s/%s\t%s\t%s\t%s\t%s\n", n.Name, p.Place.Environment, p.Place.Deployment, active, standby, p.Address, seen)
	}
}

// clock is a time as lists show it.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }
