package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"
)

// lists are the formats of a command that lists things.
func lists() []string { return []string{"table", "wide", "json", "yaml", "name"} }

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

// writeRows writes what a command read: rows as a table (the first is the head,
// and its first column the name), or all of it as data.
func writeRows(w io.Writer, output string, rows [][]string, all any) error {
	switch output {
	case "table", "wide":
		return writeTable(w, rows)
	case "name":
		for _, r := range rows[1:] {
			fmt.Fprintln(w, r[0])
		}
		return nil
	default:
		return writeData(w, output, all)
	}
}

// writeData writes v as json or yaml, with the same keys.
func writeData(w io.Writer, output string, v any) error {
	switch output {
	case "json":
		return writeJSON(w, v)
	case "yaml":
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		var plain any
		if err := json.Unmarshal(b, &plain); err != nil {
			return err
		}
		e := yaml.NewEncoder(w)
		e.SetIndent(2)
		return e.Encode(plain)
	default:
		return usagef("unknown output %q; it is json or yaml here", output)
	}
}

func writeTable(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	return t.Flush()
}
