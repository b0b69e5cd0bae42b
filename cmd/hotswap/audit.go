package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
)

func auditCommand() *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "Verify, replay and list the audit trail, and print its key"}
	c.AddCommand(auditVerifyCommand(), auditReplayCommand(), auditListCommand(), auditKeysCommand())
	return c
}

func auditVerifyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "verify",
		Short: "Recompute every row, leaf, root and checkpoint of the audit trail",
		Long: `Verify recomputes the signature of every audit row, the place of every row in its month's
Merkle tree, and every signed checkpoint, and matches transitions with rows both ways.

It ends 0 when all of it agrees, 1 when something was tampered with, and 2 when it could
not decide: no rows, no key, or a database that cannot be read.`,
		Example: "  hotswap audit verify\n  hotswap audit verify -o json --keys audit-keys.txt",
		Args:    usageArgs(cobra.NoArgs),
	}
	data, output := dataFlag(c), outputFlag(c, "text", "json")
	keyFile := c.Flags().String("keys", "", "file of trusted audit keys, one base64 Ed25519 public key a line (default: the installation's own)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := output.check(); err != nil {
			return err
		}
		err := withInstallation(c, *data, func(ctx context.Context, in *installation) error {
			rep, err := verifyAudit(ctx, in, *keyFile)
			if err != nil {
				return err
			}
			return printVerification(c.OutOrStdout(), output.value, rep)
		})
		return undecided(err)
	}
	return c
}

// undecided turns every error that is not a verdict into exit code 2.
func undecided(err error) error {
	if e, ok := err.(exitError); err == nil || ok {
		if ok && e.code == exitAuth {
			e.code = int(audit.Undecided)
			return e
		}
		return err
	}
	return exitError{int(audit.Undecided), err}
}

// verifyAudit gives the last rows their leaves, then verifies everything.
func verifyAudit(ctx context.Context, in *installation, keyFile string) (audit.Report, error) {
	keys := in.keys()
	if keyFile != "" {
		text, err := os.ReadFile(keyFile)
		if err != nil {
			return audit.Report{}, err
		}
		if keys, err = audit.ParseKeys(string(text)); err != nil {
			return audit.Report{}, err
		}
	}
	if err := in.may(ctx, auth.AuditRead, "audit trail"); err != nil {
		return audit.Report{}, err
	}
	if _, err := in.store.SequenceNow(ctx, in.Tenant); err != nil {
		return audit.Report{}, err
	}
	v := audit.NewVerifier(in.Tenant, keys)
	if err := in.store.VerifyAudit(ctx, in.Tenant, v); err != nil {
		return audit.Report{}, err
	}
	return v.Report(), nil
}

func printVerification(w io.Writer, format string, r audit.Report) error {
	if format == "json" {
		if err := writeJSON(w, r); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(w, "%s: %s in %s, %s matched with their rows\n", r.Result, count(int(r.Rows), "row"), count(r.Logs, "log"), count(int(r.Transitions), "transition"))
		if r.Pending > 0 {
			fmt.Fprintf(w, "  %d rows were written a moment ago and wait for their leaf\n", r.Pending)
		}
		for _, f := range r.Findings {
			fmt.Fprintf(w, "  %s %s\n", f.Log, f.What)
		}
		if r.Dropped > 0 {
			fmt.Fprintf(w, "  and %d more findings\n", r.Dropped)
		}
	}
	if r.Verdict != audit.Verified {
		return exitError{code: int(r.Verdict)}
	}
	return nil
}

func auditReplayCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "replay",
		Short: "Fold the recorded transitions and compare with what is stored",
		Long: `Replay rebuilds every promotion from its recorded transitions and compares it with the stored
row: state, phase, wave, token, plan and units. It ends 0 when all agree, 1 when one does
not, and 2 when there is nothing to replay.`,
		Example: "  hotswap audit replay\n  hotswap audit replay -o json",
		Args:    usageArgs(cobra.NoArgs),
	}
	data, output := dataFlag(c), outputFlag(c, "text", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := output.check(); err != nil {
			return err
		}
		err := withInstallation(c, *data, func(ctx context.Context, in *installation) error {
			if err := in.may(ctx, auth.AuditRead, "transitions"); err != nil {
				return err
			}
			res, err := replay(ctx, in)
			if err != nil {
				return err
			}
			return printReplay(c.OutOrStdout(), output.value, res)
		})
		return undecided(err)
	}
	return c
}

// A replayResult counts what was replayed and names what differs.
type replayResult struct {
	Promotions  int      `json:"promotions"`
	Transitions int      `json:"transitions"`
	Differ      []string `json:"differ"`
}

func replay(ctx context.Context, in *installation) (replayResult, error) {
	res := replayResult{Differ: []string{}}
	err := in.store.EachPromotion(ctx, in.Tenant, func(r store.Replayed) error {
		res.Promotions++
		res.Transitions += len(r.Transitions)
		if err := promotion.CheckReplay(r.Stored, r.Transitions); err != nil {
			res.Differ = append(res.Differ, err.Error())
		}
		return nil
	})
	return res, err
}

func printReplay(w io.Writer, format string, res replayResult) error {
	if format == "json" {
		if err := writeJSON(w, res); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(w, "%s replayed from %s, %d differ\n", count(res.Promotions, "promotion"), count(res.Transitions, "transition"), len(res.Differ))
		for _, d := range res.Differ {
			fmt.Fprintf(w, "  %s\n", d)
		}
	}
	switch {
	case len(res.Differ) > 0:
		return exitError{code: int(audit.Tampered)}
	case res.Promotions == 0:
		return exitError{int(audit.Undecided), fmt.Errorf("there is nothing to replay")}
	default:
		return nil
	}
}

func auditListCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Short:   "List audit rows, newest first",
		Example: "  hotswap audit list --limit 20\n  hotswap audit list --promotion checkout-2/production/promote-1 -o json",
		Args:    usageArgs(cobra.NoArgs),
	}
	data, output := dataFlag(c), outputFlag(c, "table", "json")
	promotionID := c.Flags().String("promotion", "", "only rows of this promotion")
	action := c.Flags().String("action", "", "only rows of this action, such as promotion.failed")
	limit := c.Flags().Int("limit", 50, "rows to list, at most 1000")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := output.check(); err != nil {
			return err
		}
		return withInstallation(c, *data, func(ctx context.Context, in *installation) error {
			if err := in.may(ctx, auth.AuditRead, "audit trail"); err != nil {
				return err
			}
			rows, err := in.store.AuditRows(ctx, in.Tenant, *promotionID, *action, min(max(*limit, 1), 1000))
			if err != nil {
				return err
			}
			return printAuditRows(c.OutOrStdout(), output.value, rows)
		})
	}
	return c
}

func printAuditRows(w io.Writer, format string, rows []store.AuditRow) error {
	headers := []json.RawMessage{}
	for _, r := range rows {
		headers = append(headers, r.Header)
	}
	if format == "json" {
		return writeJSON(w, headers)
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "TIME\tLEAF\tACTOR\tACTION\tSUBJECT\tREASON")
	for i, h := range headers {
		var r audit.Row
		if err := json.Unmarshal(h, &r); err != nil {
			return fmt.Errorf("audit row: %w", err)
		}
		leaf := "-"
		if rows[i].Position != nil {
			leaf = fmt.Sprint(*rows[i].Position)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", r.At.UTC().Format("2006-01-02 15:04:05"), leaf, r.Actor.Name, r.Action, r.Subject, r.Reason)
	}
	return t.Flush()
}

func auditKeysCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "keys",
		Short: "Print the public key that audit rows are signed with",
		Long: `Keys prints the base64 of the installation's public audit key, as audit verify --keys reads it.
Keep it elsewhere: whoever can write the data folder could replace key and trail together.`,
		Example: "  hotswap audit keys >audit-keys.txt\n  hotswap audit keys --data /var/lib/hotswap",
		Args:    usageArgs(cobra.NoArgs),
	}
	data := dataFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return withInstallation(c, *data, func(_ context.Context, in *installation) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), base64.StdEncoding.EncodeToString(in.secrets.Audit.Public()))
			return err
		})
	}
	return c
}
