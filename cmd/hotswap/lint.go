package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/intent"
)

func lintCommand() *cobra.Command {
	output, tenant := "text", ""
	c := &cobra.Command{
		Use:   "lint [PATH…]",
		Short: "Check deployments, pipelines and environments",
		Long: "Check the YAML files in deployments/, pipelines/ and environments/ of a repository.\n\n" +
			"PATH is a repository, one of these folders, or a file in one; the current folder if none is given.\n" +
			"Files are always checked against the whole repository they lie in.\n" +
			"Exit code: 0 nothing wrong, 3 something is invalid, 2 the command was called wrongly.",
		Example: "  # everything below the current folder\n  hotswap lint\n\n" +
			"  # one file, for another program\n  hotswap lint deployments/checkout.yaml -o json\n\n" +
			"  # as annotations of a GitHub workflow\n  hotswap lint -o github",
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{"."}
			}
			write, err := lintWriter(output, colours(c.OutOrStdout()))
			if err != nil {
				return err
			}
			report, err := lint(args, tenant, c.ErrOrStderr())
			if err != nil {
				return err
			}
			if err := write(c.OutOrStdout(), report); err != nil {
				return fmt.Errorf("write the report: %w", err)
			}
			fmt.Fprintln(c.ErrOrStderr(), report.summary())
			if report.Errors > 0 {
				return exitError{code: exitInvalid}
			}
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", output, "text, json or github")
	c.Flags().StringVar(&tenant, "tenant", "", "the tenant that the repository belongs to (default: what the documents say)")
	return c
}

// A lintReport is what `hotswap lint -o json` prints.
type lintReport struct {
	Files    int              `json:"files"`
	Errors   int              `json:"errors"`
	Warnings int              `json:"warnings"`
	Problems []intent.Problem `json:"problems"`
}

// lint checks the repositories that the paths lie in. What it did not look at it
// says on talk.
func lint(paths []string, tenant string, talk io.Writer) (lintReport, error) {
	report := lintReport{Problems: []intent.Problem{}}
	repositories, err := openRepositories(paths)
	if err != nil {
		return report, err
	}
	for _, r := range repositories {
		for _, p := range r.skipped {
			fmt.Fprintf(talk, "skipped %s: it is not a regular file\n", p)
		}
		_, problems := intent.CheckTree(r.tree, tenant)
		report.Files += r.files()
		report.Problems = append(report.Problems, r.asked(problems)...)
	}
	for _, p := range report.Problems {
		if p.Severity == intent.Error {
			report.Errors++
		} else {
			report.Warnings++
		}
	}
	return report, nil
}

func (r lintReport) summary() string {
	return fmt.Sprintf("checked %s: %s, %s", count(r.Files, "file"), count(r.Errors, "error"), count(r.Warnings, "warning"))
}

// count returns "1 file", "2 files".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// lintWriter returns what writes a report in a format.
func lintWriter(format string, colour bool) (func(io.Writer, lintReport) error, error) {
	switch format {
	case "text":
		return func(w io.Writer, r lintReport) error { return writeText(w, r, colour) }, nil
	case "json":
		return func(w io.Writer, r lintReport) error { return writeJSON(w, r) }, nil
	case "github":
		return writeGitHub, nil
	}
	return nil, usagef("unknown output %q; it is text, json or github", format)
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// writeText writes problems as a compiler does, with a blank line between them.
func writeText(w io.Writer, r lintReport, colour bool) error {
	for i, p := range r.Problems {
		text := p.Text()
		if colour {
			text = paint(text)
		}
		if i > 0 {
			text = "\n" + text
		}
		if _, err := fmt.Fprintln(w, text); err != nil {
			return err
		}
	}
	return nil
}

// paint makes a problem's first line bold and its caret red (ECMA-48 SGR).
func paint(text string) string {
	first, rest, more := strings.Cut(text, "\n")
	out := "\x1b[1m" + first + "\x1b[0m"
	if !more {
		return out
	}
	if i := strings.LastIndexByte(rest, '^'); i >= 0 {
		rest = rest[:i] + "\x1b[31m" + rest[i:] + "\x1b[0m"
	}
	return out + "\n" + rest
}

// colours reports whether w is a terminal whose user has not said NO_COLOR
// (https://no-color.org).
func colours(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// writeGitHub writes problems as GitHub's workflow commands, which become
// annotations on the lines
// (https://docs.github.com/actions/reference/workflow-commands-for-github-actions).
func writeGitHub(w io.Writer, r lintReport) error {
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	for _, p := range r.Problems {
		message := p.Message
		if p.Hint != "" {
			message += "; " + p.Hint
		}
		place := ""
		if p.File != "" {
			place = fmt.Sprintf("file=%s,line=%d,col=%d,endColumn=%d,", property.Replace(p.File), p.Line, p.Column, p.EndColumn-1)
		}
		if _, err := fmt.Fprintf(w, "::%s %stitle=%s::%s\n", p.Severity, place, property.Replace(p.Rule), data.Replace(message)); err != nil {
			return err
		}
	}
	return nil
}
