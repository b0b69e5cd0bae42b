package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/platform"
	"hotswap.dev/hotswap/pkg/secret"
)

func secretCommand() *cobra.Command {
	c := &cobra.Command{Use: "secret", Short: "Keep the secrets that deployments refer to"}
	c.AddCommand(secretSetCommand(), secretListCommand(), secretRemoveCommand())
	return c
}

// localSecrets opens the secrets of a data folder.
func localSecrets(data string) (*secret.Local, error) {
	dir, err := platform.OpenDataDir(data)
	if err != nil {
		return nil, err
	}
	return secret.OpenLocal(dir.Path("secrets", "local"))
}

func secretSetCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "set NAME",
		Short: "Store a new version of a secret; the value is read from a file or from standard input",
		Long: `Set stores a value under a name such as checkout/db. Modules that refer to it get it within half a
minute, as a file in $CREDENTIALS_DIRECTORY, without being restarted. The value is never an argument.`,
		Example: "  hotswap secret set checkout/db --reason 'first value' </run/secrets/join-token\n" +
			"  hotswap secret set checkout/db --file /run/secrets/join-token --reason 'rotated'",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	data, reason := dataFlag(c), reasonFlag(c)
	file := c.Flags().String("file", "", "file that holds the value (default: standard input)")
	c.RunE = func(c *cobra.Command, args []string) error {
		return withReason(c, *data, *reason, auth.SecretSet, "secret", args[0], func(ctx context.Context, in *installation) error {
			value, err := readSecret(c.InOrStdin(), *file)
			if err != nil {
				return err
			}
			local, err := localSecrets(*data)
			if err != nil {
				return err
			}
			version, err := local.Set(args[0], value, time.Now())
			if err != nil {
				return err
			}
			return in.secretRow(ctx, "secret.set", args[0], fmt.Sprintf("version %d: %s", version, *reason))
		})
	}
	return c
}

func readSecret(stdin io.Reader, file string) (secret.Secret, error) {
	from := stdin
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return secret.Secret{}, err
		}
		defer f.Close()
		from = f
	}
	b, err := io.ReadAll(io.LimitReader(from, secret.MaxValue+1))
	if err == nil && len(b) == 0 {
		err = usagef("the value is empty")
	}
	return secret.New(b), err
}

// secretRow tells the audit trail of a secret's name, never of its value.
func (in *installation) secretRow(ctx context.Context, action, name, reason string) error {
	return in.store.Record(ctx, in.Tenant, func(now time.Time) []audit.Row {
		return []audit.Row{{
			ID: fmt.Sprintf("%s/%s/%d", action, name, now.UnixMicro()), Tenant: in.Tenant, At: now, Actor: in.operator.Actor,
			Action: action, Subject: "secret " + name, Reason: reason,
		}}
	})
}

func secretListCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List secrets with their versions and ages, never their values",
		Example: "  hotswap secret list\n  hotswap secret list -o json --data /var/lib/hotswap",
		Args:    usageArgs(cobra.NoArgs),
	}
	data, output := dataFlag(c), outputFlag(c, lists()...)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := output.check(); err != nil {
			return err
		}
		return withInstallation(c, *data, func(ctx context.Context, in *installation) error {
			if err := in.may(ctx, auth.SecretList, "secrets"); err != nil {
				return err
			}
			local, err := localSecrets(*data)
			if err != nil {
				return err
			}
			entries, err := local.List()
			if err != nil {
				return err
			}
			rows := [][]string{{"SECRET", "VERSION", "SINCE"}}
			for _, e := range entries {
				rows = append(rows, []string{e.Name, fmt.Sprint(e.Version), clock(e.At)})
			}
			return writeRows(in.out, output.value, rows, entries)
		})
	}
	return c
}

func secretRemoveCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "remove NAME", Short: "Remove a secret with all its versions; modules that refer to it cannot be started any more",
		Example: "  hotswap secret remove checkout/db --reason 'not used any more'\n" +
			"  hotswap secret remove checkout/old --reason 'not used any more' --data /var/lib/hotswap",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	data, reason := dataFlag(c), reasonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return withReason(c, *data, *reason, auth.SecretSet, "secret", args[0], func(ctx context.Context, in *installation) error {
			local, err := localSecrets(*data)
			if err != nil {
				return err
			}
			if err := local.Remove(args[0]); err != nil {
				return err
			}
			return in.secretRow(ctx, "secret.removed", args[0], *reason)
		})
	}
	return c
}
