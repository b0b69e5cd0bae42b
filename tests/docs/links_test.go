package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	span    = regexp.MustCompile("`([^`\n]+)`")
	command = regexp.MustCompile(`(?:^|[\s(;&|/])hotswap((?: [a-z][a-z-]*)+)`)
)

func TestEveryRelativeLinkAndAnchorLeadsSomewhere(t *testing.T) {
	checked := 0
	all := map[string]page{}
	for _, p := range pages(t) {
		all[p.path] = p
	}
	for _, p := range all {
		for _, m := range link.FindAllStringSubmatch(p.prose(), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			checked++
			file, anchor, _ := strings.Cut(m[1], "#")
			target := p.path
			if file != "" {
				target = filepath.Join(filepath.Dir(p.path), file)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s: link %s: %v", p.path, m[1], err)
			} else if anchor != "" && !anchors(all[target])[anchor] {
				t.Errorf("%s: link %s: %s has no such heading", p.path, m[1], target)
			}
		}
	}
	require.Greater(t, checked, 40, "the links were not found")
}

// anchors are the headings of a page as GitHub names them.
func anchors(p page) map[string]bool {
	out := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(p.prose(), -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])
		out[name] = true
	}
	return out
}

// TestEveryCommandThatIsNamedExists compares with the reference, which another
// test keeps equal to the program.
func TestEveryCommandThatIsNamedExists(t *testing.T) {
	known := commands(t)
	checked := 0
	for _, p := range pages(t) {
		texts := []string{}
		for _, m := range span.FindAllStringSubmatch(p.prose(), -1) {
			texts = append(texts, m[1])
		}
		for _, b := range p.shell() {
			texts = append(texts, b.code)
		}
		for _, text := range texts {
			for _, m := range command.FindAllStringSubmatch(text, -1) {
				checked++
				if !exists(known, strings.Fields(m[1])) {
					t.Errorf("%s names hotswap%s, which does not exist", p.path, m[1])
				}
			}
		}
	}
	require.Greater(t, checked, 60, "the commands were not found")
}

// commands are the commands of the reference, without "hotswap".
func commands(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	text, err := os.ReadFile(filepath.Join(root, "docs/reference/cli.md"))
	require.NoError(t, err)
	for _, m := range heading.FindAllStringSubmatch(string(text), -1) {
		if name, ok := strings.CutPrefix(m[1], "hotswap "); ok {
			out[name] = true
		}
	}
	require.Greater(t, len(out), 12)
	return out
}

// exists reports whether words begin with a command, or name a group of them
// and nothing else.
func exists(known map[string]bool, words []string) bool {
	if words[0] == "hotswap" { // sudo -u hotswap hotswap …
		words = words[1:]
	}
	for n := range words {
		if known[strings.Join(words[:n+1], " ")] {
			return true
		}
	}
	group := strings.Join(words, " ") + " "
	for name := range known {
		if strings.HasPrefix(name, group) {
			return true
		}
	}
	return false
}
