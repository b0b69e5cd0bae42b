package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/tests/load/constant"
)

// loadCommand is hidden: it is how the demo and tests get their load from a
// process of its own.
func loadCommand() *cobra.Command {
	var o constant.Options
	var length time.Duration
	c := &cobra.Command{
		Use:    "demo-load URL…",
		Hidden: true,
		Short:  "Ask URLs at a constant rate and count what fails",
		Long: "Ask the URLs in turn until SIGTERM or for a time, half of the workers on connections that they keep,\n" +
			"half on a new one each time, and print one line of JSON: requests, failed, firstError, versions.\n" +
			"The exit code is 0 also if requests failed: count them.",
		Example: "  # 200 requests per second for a minute\n  hotswap demo-load http://127.0.0.1:20080/ --rate 200 --for 1m\n\n" +
			"  # as fast as they are answered, with the result so far in a file\n" +
			"  hotswap demo-load http://127.0.0.1:20080/ --workers 4 --progress load.json",
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			ctx := c.Context()
			if length > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, length)
				defer cancel()
			}
			o.URLs = args
			result, err := constant.Run(ctx, o)
			if errors.Is(err, constant.ErrOptions) {
				return usagef("%w", err)
			}
			if err != nil {
				return err
			}
			return json.NewEncoder(c.OutOrStdout()).Encode(result)
		},
	}
	c.Flags().Float64Var(&o.Rate, "rate", 0, "requests per second, all workers together (default: as fast as they are answered)")
	c.Flags().IntVar(&o.Workers, "workers", 8, "how many ask at once")
	c.Flags().DurationVar(&length, "for", 0, "end after so long (default: at SIGTERM)")
	c.Flags().DurationVar(&o.Timeout, "timeout", 10*time.Second, "of one request")
	c.Flags().StringVar(&o.Progress, "progress", "", "file for the result so far, replaced every second")
	return c
}
