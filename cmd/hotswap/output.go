package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// An output is a command's -o flag.
type output struct {
	value   string
	formats []string
}

// outputFlag adds -o to a command; the first format is the default.
func outputFlag(c *cobra.Command, formats ...string) *output {
	o := &output{value: formats[0], formats: formats}
	c.Flags().StringVarP(&o.value, "output", "o", formats[0], strings.Join(formats, " or "))
	return o
}

// check returns an error of usage for a format that the command does not have.
func (o *output) check() error {
	if !slices.Contains(o.formats, o.value) {
		return usagef("unknown output %q; it is %s", o.value, strings.Join(o.formats, " or "))
	}
	return nil
}
