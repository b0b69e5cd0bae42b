package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/node"
	"hotswap.dev/hotswap/pkg/target"
)

// nodeFlags are the flags of `hotswap node` that are not yet what the agent takes.
type nodeFlags struct {
	node.Options
	trustedKeys   string
	fileArtifacts string
}

func nodeCommand() *cobra.Command {
	var f nodeFlags
	c := &cobra.Command{
		Use:   "node --server URL --name NAME --state FOLDER",
		Short: "Run the agent of this machine",
		Long: "Run the agent of this machine: it asks the server what should run here, fetches and verifies\n" +
			"modules, swaps them behind its proxy without failing a request, and reports what it sees.\n\n" +
			"The first start joins with the one-time token; the key that is made then stays in the state folder.\n" +
			"A second agent on the same state folder takes over from the first without failing a request, which\n" +
			"then ends: that is how an agent is upgraded. SIGTERM lets requests finish and ends the modules.\n" +
			"Exit code: 0 ended or handed over, 1 failed, 2 called wrongly, 4 the server does not take the node.",
		Example: "  # join, and run what the server wants; modules must be signed by a key of release.pub\n" +
			"  hotswap node --server https://hotswap.example/function/nodes --name shop-1 --state /var/lib/hotswap/node \\\n" +
			"    --join-token-file /run/secrets/join-token --trusted-keys /etc/hotswap/release.pub --label site=fra\n\n" +
			"  # replace the agent that runs on this folder, for example by a newer version, under load\n" +
			"  hotswap node --takeover --server https://hotswap.example/function/nodes --name shop-1 --state /var/lib/hotswap/node \\\n" +
			"    --trusted-keys /etc/hotswap/release.pub --route checkout=0.0.0.0:8080",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := f.options()
			if err != nil {
				return err
			}
			o.Log = slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
			agent, err := node.New(o)
			if err != nil {
				return usagef("%w; see %s --help", err, c.CommandPath())
			}
			err = agent.Run(c.Context())
			if errors.Is(err, node.ErrJoin) {
				return exitError{exitAuth, err}
			}
			return err
		},
	}
	f.register(c)
	c.AddCommand(nodeRemoveCommand())
	return c
}

func (f *nodeFlags) register(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.Server, "server", "", "URL of the function nodes")
	flags.StringVar(&f.Name, "name", "", "name of this node, unique in its tenant")
	flags.StringVar(&f.State, "state", "", "folder of the agent's own: key, orders, artifacts, logs")
	flags.StringVar(&f.TokenFile, "join-token-file", "", "file with the one-time token; only for the first start")
	flags.StringToStringVar(&f.Labels, "label", nil, "label of this node, key=value; may be repeated")
	flags.StringVar(&f.trustedKeys, "trusted-keys", "", "file with the public keys, in PEM, whose modules may run")
	flags.BoolVar(&f.AllowUnsigned, "allow-unsigned", false, "run modules without a signature too (never a wrong one)")
	flags.StringVar(&f.fileArtifacts, "file-artifacts", "", "folder that file:// artifacts may lie in (default: none may)")
	flags.StringVar(&f.Address, "address", "127.0.0.1", "host that the proxies listen on")
	flags.StringToStringVar(&f.Routes, "route", nil, "listen for a deployment on DEPLOYMENT=HOST:PORT; may be repeated")
	flags.DurationVar(&f.ReportInterval, "report-interval", 5*time.Second, "time between reports while nothing changes")
	flags.BoolVar(&f.Takeover, "takeover", false, "fail unless there is an agent to take over from")
}

// options reads the files that the flags name.
func (f *nodeFlags) options() (node.Options, error) {
	o := f.Options
	if f.ReportInterval < 100*time.Millisecond {
		return o, usagef("--report-interval %s is too short; 100ms is the least", f.ReportInterval)
	}
	if f.ReportInterval > node.LongestReportInterval {
		return o, usagef("--report-interval %s is too long; %s is the most: a node that is not heard for 20s counts as silent", f.ReportInterval, node.LongestReportInterval)
	}
	if f.trustedKeys != "" {
		keys, err := readTrustedKeys(f.trustedKeys)
		if err != nil {
			return o, err
		}
		o.Trusted = keys
	} else if !f.AllowUnsigned {
		return o, usagef("--trusted-keys is missing: no module could ever run (or say --allow-unsigned)")
	}
	for _, folder := range []struct {
		flag string
		to   *string
	}{{f.State, &o.State}, {f.fileArtifacts, &o.FileArtifacts}} {
		if folder.flag == "" {
			continue
		}
		path, err := filepath.Abs(folder.flag)
		if err != nil {
			return o, fmt.Errorf("find %s: %w", folder.flag, err)
		}
		*folder.to = path
	}
	return o, nil
}

func readTrustedKeys(path string) ([]ed25519.PublicKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, usagef("--trusted-keys: %w", err)
	}
	keys, err := target.ParsePublicKeys(text)
	if err != nil {
		return nil, usagef("--trusted-keys %s: %w", path, err)
	}
	return keys, nil
}
