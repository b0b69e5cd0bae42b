package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/schemas"
)

func explainCommand() *cobra.Command {
	output := "text"
	c := &cobra.Command{
		Use:   "explain [FIELD]",
		Short: "Say what a field of a document is",
		Long: "Say what a field is: its type, what it means, its default and an example.\n" +
			"FIELD starts with a kind: deployment, pipeline or environment. Without FIELD the kinds are listed.",
		Example: "  # the module of a deployment\n  hotswap explain deployment.spec.module\n\n" +
			"  # the strategies\n  hotswap explain pipeline.spec.stages.strategy.type",
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return usagef("unknown output %q; it is text or json", output)
			}
			fields, err := explain(args)
			if err != nil {
				return err
			}
			if output == "json" && len(args) == 1 {
				return writeJSON(c.OutOrStdout(), fields[0])
			}
			if output == "json" {
				return writeJSON(c.OutOrStdout(), fields)
			}
			return writeFields(c.OutOrStdout(), fields, len(args) == 1)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", output, "text or json")
	return c
}

// explain returns the field that is asked for, or the kinds.
func explain(args []string) ([]schemas.Field, error) {
	paths := schemas.Kinds()
	if len(args) == 1 {
		paths = args
	}
	var out []schemas.Field
	for _, p := range paths {
		steps := strings.Split(strings.ReplaceAll(p, "[]", ""), ".")
		f, err := schemas.Lookup(steps[0], steps[1:]...)
		if errors.Is(err, schemas.ErrUnknown) {
			return nil, exitError{exitUsage, err}
		}
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// writeFields writes one field in full, or several as a list.
func writeFields(w io.Writer, fields []schemas.Field, full bool) error {
	var b strings.Builder
	if full {
		describe(&b, fields[0])
	} else {
		list(&b, fields, func(f schemas.Field) string { return f.Path })
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func describe(b *strings.Builder, f schemas.Field) {
	need := "optional"
	if f.Required {
		need = "required"
	}
	fmt.Fprintf(b, "%s  (%s, %s)\n\n  %s\n", f.Path, f.Type, need, f.Description)
	var rows [][2]string
	if f.Form != "" {
		rows = append(rows, [2]string{"form", f.Form})
	}
	if len(f.Allowed) > 0 {
		rows = append(rows, [2]string{"allowed", compact(f.Allowed...)})
	}
	if len(f.Default) > 0 {
		rows = append(rows, [2]string{"default", compact(f.Default)})
	}
	for _, e := range f.Examples {
		rows = append(rows, [2]string{"example", compact(e)})
	}
	if len(rows) > 0 {
		b.WriteString("\n")
	}
	for _, r := range rows {
		fmt.Fprintf(b, "  %-8s %s\n", r[0], r[1])
	}
	if len(f.Fields) > 0 {
		b.WriteString("\nFields:\n")
		list(b, f.Fields, schemas.Field.Base)
	}
}

// list writes fields one a line; a star marks what is required.
func list(b *strings.Builder, fields []schemas.Field, name func(schemas.Field) string) {
	width := 0
	for _, f := range fields {
		width = max(width, len(name(f))+1)
	}
	for _, f := range fields {
		n := name(f)
		if f.Required {
			n += "*"
		}
		fmt.Fprintf(b, "  %-*s  %-7s  %s\n", width, n, f.Type, f.Description)
	}
}

// compact writes JSON values on one line, as they may stand in YAML too.
func compact(values ...json.RawMessage) string {
	var out []string
	for _, v := range values {
		var any any
		if json.Unmarshal(v, &any) != nil {
			continue
		}
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if e.Encode(any) == nil {
			out = append(out, strings.TrimSpace(b.String()))
		}
	}
	return strings.Join(out, " or ")
}
