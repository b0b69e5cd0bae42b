package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/openfaas/go-sdk"
	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/platform"
	"hotswap.dev/hotswap/pkg/store"
)

// withGateway opens the data folder for fn, with a client of its gateway.
func withGateway(c *cobra.Command, data string, fn func(ctx context.Context, in *installation, g *sdk.Client) error) error {
	return withInstallation(c, data, func(ctx context.Context, in *installation) error {
		password, err := in.dir.Token("gateway-admin")
		if err != nil {
			return err
		}
		at, err := url.Parse(in.URL)
		if err != nil {
			return err
		}
		client := &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		return fn(ctx, in, sdk.NewClient(at, &sdk.BasicAuth{Username: gatewayUser, Password: password.RevealString()}, client))
	})
}

// A functionRow is a function as a list shows it.
type functionRow struct {
	Name      string    `json:"name"`
	Image     string    `json:"image"`
	Processes uint64    `json:"processes"`
	Calls     float64   `json:"calls"` // since the platform was started
	Since     time.Time `json:"since"`
}

func functionListCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List the functions of the embedded platform, and how many processes each has",
		Example: "  hotswap function list\n  hotswap function list -o json --data /var/lib/hotswap",
		Args:    usageArgs(cobra.NoArgs),
	}
	data, out := dataFlag(c), outputFlag(c, lists()...)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := out.check(); err != nil {
			return err
		}
		return withGateway(c, *data, func(ctx context.Context, in *installation, g *sdk.Client) error {
			all, err := g.GetFunctions(ctx, "")
			if err != nil {
				return err
			}
			rows, list := [][]string{{"NAME", "IMAGE", "PROCESSES", "CALLS"}}, []functionRow{}
			for _, f := range all {
				rows = append(rows, []string{f.Name, f.Image, strconv.FormatUint(f.AvailableReplicas, 10), strconv.FormatFloat(f.InvocationCount, 'f', 0, 64)})
				list = append(list, functionRow{Name: f.Name, Image: f.Image, Processes: f.AvailableReplicas, Calls: f.InvocationCount, Since: f.CreatedAt})
			}
			return writeRows(in.out, out.value, rows, list)
		})
	}
	return c
}

func functionDeployCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "deploy NAME --binary FILE",
		Short: "Deploy a program of your own as a function, or another version of it",
		Long: `Deploy copies the program into the data folder, registers it as the image NAME, and deploys that. It
returns when the program answers HTTP on 127.0.0.1:$PORT; calls go to the former version until then.
Callers need the gateway's password, unless --public says that the program asks them itself. Secrets
are files in $CREDENTIALS_DIRECTORY.`,
		Example: "  hotswap function deploy hello --binary ./hello\n" +
			"  hotswap function deploy greeter --binary ./hello --env GREETING=hi --public --idle 5m --data /var/lib/hotswap",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	data := dataFlag(c)
	binary := c.Flags().String("binary", "", "program to deploy (required)")
	env := c.Flags().StringToString("env", nil, "environment variable KEY=VALUE; may be given several times; no secrets")
	secrets := c.Flags().StringSlice("secret", nil, "secret that it gets, see hotswap function secret; may be given several times")
	public := c.Flags().Bool("public", false, "its callers need no password: it asks them itself")
	idle := c.Flags().Duration("idle", time.Minute, "end a process that was not called for this long")
	inflight := c.Flags().Int("max-inflight", 0, "calls at once; more are answered 429 (default: no bound)")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *binary == "" {
			return usagef("--binary FILE is needed: the program to deploy")
		}
		return withGateway(c, *data, func(ctx context.Context, in *installation, g *sdk.Client) error {
			if err := platform.AddImage(in.dir.Path(functionsFolder), args[0], *binary); err != nil {
				return err
			}
			vars := map[string]string{}
			for k, v := range *env {
				vars[k] = v
			}
			if *inflight > 0 {
				vars["max_inflight"] = strconv.Itoa(*inflight)
			}
			_, err := g.Deploy(ctx, types.FunctionDeployment{
				Service: args[0], Image: args[0], EnvVars: vars, Secrets: *secrets,
				Annotations: &map[string]string{platform.AnnotationPublic: strconv.FormatBool(*public)},
				Labels:      &map[string]string{platform.LabelIdle: idle.String()},
			})
			if err != nil {
				return fmt.Errorf("deploy %s: %w", args[0], err)
			}
			fmt.Fprintf(in.out, "%s/function/%s\n", in.URL, args[0])
			return nil
		})
	}
	return c
}

func functionRemoveCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "remove NAME", Short: "Remove a function of your own; calls under way go on to their end",
		Example: "  hotswap function remove hello\n  hotswap function remove greeter --data /var/lib/hotswap",
		Args:    usageArgs(cobra.ExactArgs(1)),
	}
	data := dataFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return withGateway(c, *data, func(ctx context.Context, _ *installation, g *sdk.Client) error {
			return g.DeleteFunction(ctx, args[0], "")
		})
	}
	return c
}

func functionScaleCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "scale NAME PROCESSES",
		Short: "Start processes of a function until there are so many, or stop those that are more",
		Long: `Scale starts processes now; those that are not called end after their idle time, and the next call
starts one again. With 0 all end after the calls that are under way.`,
		Example: "  hotswap function scale validate 2\n  hotswap function scale validate 0 --data /var/lib/hotswap",
		Args:    usageArgs(cobra.ExactArgs(2)),
	}
	data := dataFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		n, err := strconv.ParseUint(args[1], 10, 16)
		if err != nil {
			return usagef("%q is not a number of processes", args[1])
		}
		return withGateway(c, *data, func(ctx context.Context, _ *installation, g *sdk.Client) error {
			return g.ScaleFunction(ctx, args[0], "", n)
		})
	}
	return c
}

func functionLogsCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "logs NAME", Short: "Print what a function's processes wrote, the newest 1000 lines",
		Example: "  hotswap function logs validate\n  hotswap function logs validate --tail 20 --data /var/lib/hotswap",
		Args:    usageArgs(cobra.ExactArgs(1)),
	}
	data := dataFlag(c)
	tail := c.Flags().Int("tail", 0, "only so many lines (default: all)")
	follow := c.Flags().Bool("follow", false, "go on with what is written from now on, for five minutes")
	c.RunE = func(c *cobra.Command, args []string) error {
		return withGateway(c, *data, func(ctx context.Context, in *installation, g *sdk.Client) error {
			lines, err := g.GetLogs(ctx, args[0], "", *follow, *tail, nil)
			if err != nil {
				return err
			}
			for l := range lines {
				fmt.Fprintln(in.out, l.Text)
			}
			return nil
		})
	}
	return c
}

func functionSecretCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "secret NAME",
		Short: "Give functions of your own a secret, or another value of it, from a file or standard input",
		Long: `Secret stores a value; functions that name it get it as the file $CREDENTIALS_DIRECTORY/NAME, those
that run too. The value is never an argument.`,
		Example: "  hotswap function secret hello-token --file /run/secrets/join-token\n" +
			"  hotswap function secret hello-token --file /run/secrets/join-token --data /var/lib/hotswap",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	data := dataFlag(c)
	file := c.Flags().String("file", "", "file that holds the value (default: standard input)")
	c.RunE = func(c *cobra.Command, args []string) error {
		return withGateway(c, *data, func(ctx context.Context, _ *installation, g *sdk.Client) error {
			value, err := readSecret(c.InOrStdin(), *file)
			if err != nil {
				return err
			}
			s := types.Secret{Name: args[0], RawValue: value.Reveal()}
			status, err := g.CreateSecret(ctx, s)
			if status == http.StatusConflict {
				_, err = g.UpdateSecret(ctx, s)
			}
			return err
		})
	}
	return c
}

func functionCallsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "calls [ID]",
		Short: "List asynchronous calls that are open or dead; --retry makes a dead one again",
		Long: `Calls lists the calls below /async-function that were accepted and are not done: waiting for the
function, or for the callback. A call that failed ten times is dead and stays for thirty days.`,
		Example: "  hotswap function calls\n  hotswap function calls -o json --data /var/lib/hotswap",
		Args:    usageArgs(cobra.MaximumNArgs(1)),
	}
	data, out := dataFlag(c), outputFlag(c, lists()...)
	retry := c.Flags().Bool("retry", false, "make the dead call ID again")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		id := strings.Join(args, "")
		if *retry && id == "" {
			return usagef("--retry needs the id of a call")
		}
		return withInstallation(c, *data, func(ctx context.Context, in *installation) error {
			action := auth.FunctionRead
			if *retry {
				action = auth.FunctionCall
			}
			if err := in.may(ctx, action, "asynchronous calls "+id); err != nil {
				return err
			}
			if *retry {
				err := in.store.RetryCall(ctx, id)
				if errors.Is(err, store.ErrNotFound) {
					return fmt.Errorf("there is no dead call %s", id)
				}
				return err
			}
			return listCalls(ctx, in, id, out.value)
		})
	}
	return c
}

// A callRow is an asynchronous call as a list shows it.
type callRow struct {
	ID       string    `json:"id"`
	Function string    `json:"function"`
	State    string    `json:"state"`
	Attempts int       `json:"attempts"`
	Accepted time.Time `json:"accepted"`
	Why      string    `json:"why,omitempty"`
}

func listCalls(ctx context.Context, in *installation, id, format string) error {
	calls, err := in.store.Calls(ctx, id)
	if err != nil {
		return err
	}
	rows, list := [][]string{{"ID", "FUNCTION", "STATE", "ATTEMPTS", "ACCEPTED", "WHY"}}, []callRow{}
	for _, k := range calls {
		rows = append(rows, []string{k.ID, k.Function, string(k.State), strconv.Itoa(k.Attempts), k.Accepted.UTC().Format(time.DateTime), k.Why})
		list = append(list, callRow{k.ID, k.Function, string(k.State), k.Attempts, k.Accepted.UTC(), k.Why})
	}
	return writeRows(in.out, format, rows, list)
}
