package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

func TestTheReferenceOfTheCommandLineIsCurrent(t *testing.T) {
	const file = "../../docs/reference/cli.md"
	var b strings.Builder
	b.WriteString("# Command line\n\nMade from the program by `go test ./cmd/hotswap -run Reference -update`; `hotswap COMMAND --help` says the same.\n" +
		"Every example is run by `tests/docs` (those of the demo with `-docs.all`).\n\nData goes to standard output, talk to standard error. Exit codes:\n\n" +
		"| Code | Meaning |\n|---|---|\n")
	for code, meaning := range []string{
		"it worked", "it was tried and did not work; `hotswap audit verify`: tampered; `hotswap diff`: something differs", "called wrongly; `hotswap audit verify`: could not decide",
		"an intent is invalid", "not signed in, or not allowed", "waits for an approval", "timed out", "rolled back",
	} {
		fmt.Fprintf(&b, "| %d | %s |\n", code, meaning)
	}
	sections(t, &b, rootCommand())
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(b.String()), 0o644))
	}
	got, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, b.String(), string(got))
}

// sections writes the commands below c that can be run, in cobra's order.
func sections(t *testing.T, b *strings.Builder, c *cobra.Command) {
	for _, sub := range c.Commands() {
		if sub.Name() == "help" || sub.Name() == "completion" {
			continue
		}
		if sub.Runnable() {
			section(t, b, sub)
		}
		sections(t, b, sub)
	}
}

func section(t *testing.T, b *strings.Builder, c *cobra.Command) {
	require.NotEmpty(t, c.Short, c.CommandPath())
	require.NotEmpty(t, c.Example, c.CommandPath())
	c.InitDefaultHelpFlag()
	fmt.Fprintf(b, "\n## %s\n\n%s.\n", c.CommandPath(), c.Short)
	if c.Hidden {
		b.WriteString("Hidden: it serves the demo and the tests, and may change.\n")
	}
	if c.Long != "" {
		fmt.Fprintf(b, "\n%s\n", strings.TrimSpace(c.Long))
	}
	fmt.Fprintf(b, "\n```text\n%s\n\n%s```\n", c.UseLine(), c.LocalFlags().FlagUsages())
	fmt.Fprintf(b, "\n```sh\n%s\n```\n", unindent(c.Example))
}

// unindent takes the two blanks away that cobra's examples begin with.
func unindent(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		lines = append(lines, strings.TrimPrefix(strings.TrimRight(line, "\n"), "  "))
	}
	return strings.Join(lines, "\n")
}
