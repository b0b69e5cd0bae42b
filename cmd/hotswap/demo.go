package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// demoOptions are the flags of `hotswap demo`.
type demoOptions struct {
	data    string
	sources string
	once    bool
	chaos   bool
	broken  bool
}

func demoCommand() *cobra.Command {
	var o demoOptions
	c := &cobra.Command{
		Use:   "demo",
		Short: "See a pull request reach nodes under load, on this machine",
		Long: `Demo starts a PostgreSQL, the functions, a Git server, 17 node agents in four environments and a
constant load, all on 127.0.0.1 and all in a data folder. Then it plays people who open and merge a
pull request with a new version and review its promotions, and shows what they read and what follows:
development at once, QA batch by batch, staging by a second set of instances, production as a canary
that is compared with the rest. With --break the version has a bug that shows
only under production's configuration. It builds the sample module from the sources in this
repository, so run it there.`,
		Example: "  hotswap demo --once\n  hotswap demo --once --break\n  hotswap demo --once --chaos",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if o.broken && o.chaos {
				return usagef("--break and --chaos are two stories; take one")
			}
			return runDemo(c.Context(), o, c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&o.data, "data", ".hotswap", "data folder; it is kept for the next run")
	c.Flags().StringVar(&o.sources, "sources", "deploy/demo", "folder with the sample module and the sample repository")
	c.Flags().BoolVar(&o.once, "once", false, "end after the release, with code 0 when all went well")
	c.Flags().BoolVar(&o.broken, "break", false, "push a version with a bug and watch it come back")
	c.Flags().BoolVar(&o.chaos, "chaos", false, "kill functions, a node or a PostgreSQL backend every second")
	return c
}

// demoEnd bounds how long everything that the demo started may take to end.
const demoEnd = 3 * time.Second

// runDemo is the whole story: start, push, watch, count, end.
func runDemo(ctx context.Context, o demoOptions, out io.Writer) (err error) {
	d, err := newDemo(o, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	if err := d.start(ctx); err != nil {
		return err
	}
	result, err := d.play(ctx)
	if err != nil {
		return err
	}
	d.say("%s", result.line())
	if why := result.why(); why != "" {
		return exitError{exitFailed, fmt.Errorf("the demo did not end well: %s", why)}
	}
	if o.once {
		return nil
	}
	d.say("Try next, in another terminal:\n  %s status --data %s\n  %s audit verify --data %s\n  git clone %s   (user admin, password in %s)\nCtrl-C ends everything.",
		d.binary, o.data, d.binary, o.data, d.repositoryURL(), filepath.Join(o.data, "secrets", "git-admin"))
	<-ctx.Done()
	return nil
}

// A demo is what the demo has started.
type demo struct {
	demoOptions
	out      io.Writer
	binary   string // this program, for the children
	children children
	parts    demoParts
}

func newDemo(o demoOptions, out io.Writer) (*demo, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	if _, err := os.Stat(filepath.Join(o.sources, "checkout", "main.go")); err != nil {
		return nil, usagef("%s has no sample module: run the demo in a checkout of HotSwap, or say where it is with --sources", o.sources)
	}
	if o.chaos { // with another fleet
		o.data = filepath.Join(o.data, "chaos")
	}
	if o.data, err = filepath.Abs(o.data); err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	return &demo{demoOptions: o, out: out, binary: binary}, nil
}

// say prints one or more lines of the transcript.
func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// component prints the line of a component that is ready.
func (d *demo) component(name, what, detail string) { d.say("  %-10s %-58s %s", name, what, detail) }

// stop ends everything that was started, last started first.
func (d *demo) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), demoEnd)
	defer cancel()
	err := d.children.stop(ctx)
	if d.parts.installation != nil {
		d.parts.installation.store.Close()
	}
	if d.parts.cluster != nil {
		err = errors.Join(err, d.parts.cluster.Stop(ctx))
	}
	for _, lock := range d.parts.reserved {
		err = errors.Join(err, lock.Close())
	}
	return err
}
