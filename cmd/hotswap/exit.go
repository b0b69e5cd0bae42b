package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// The exit codes. Scripts rely on them; they never change their meaning.
const (
	exitOK         = 0
	exitFailed     = 1 // it was tried and did not work
	exitUsage      = 2 // it was asked for in a way that cannot be tried
	exitInvalid    = 3 // an intent is invalid
	exitAuth       = 4 // not signed in, or not allowed
	exitWaiting    = 5 // waiting for an approval
	exitTimedOut   = 6
	exitRolledBack = 7
)

// An exitError ends the process with a code. Without err nothing is printed:
// the command has said all there is to say.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

// usagef is an error of how a command was called.
func usagef(format string, args ...any) error {
	return exitError{exitUsage, fmt.Errorf(format, args...)}
}

// usageArgs makes a wrong number of arguments an error of usage.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usagef("%w; see %s --help", err, c.CommandPath())
		}
		return nil
	}
}

// exitCode prints why a command ended, if it ended badly, and returns the code.
func exitCode(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	code := exitFailed
	var e exitError
	switch {
	case errors.As(err, &e):
		code = e.code
	case errors.Is(err, context.DeadlineExceeded):
		code = exitTimedOut
	case strings.HasPrefix(err.Error(), "unknown command"): // cobra has no sentinel for it
		code = exitUsage
	}
	if e.code == 0 || e.err != nil {
		fmt.Fprintln(stderr, "hotswap:", err)
	}
	return code
}
