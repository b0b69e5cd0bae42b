package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the repository.
const root = "../.."

// A page is one Markdown file of the repository.
type page struct {
	path   string // from the root
	text   string
	blocks []block
}

// A block is one fenced block of a page.
type block struct {
	line     int    // of the opening fence, from 1
	language string // "sh", "text", …
	code     string
	skipped  string // why it is not executed; empty: it is
}

// notExecuted marks the block that follows.
var notExecuted = regexp.MustCompile(`^<!-- not executed: (.+) -->$`)

// parse finds the blocks of a page. It panics on a fence that is never closed:
// what follows would not be what a reader sees.
func parse(path, text string) page {
	p := page{path: path, text: text}
	var open *block
	why := ""
	for i, line := range strings.Split(text, "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case open == nil && isFence:
			open = &block{line: i + 1, language: fence, skipped: why}
		case open == nil:
			if m := notExecuted.FindStringSubmatch(line); m != nil {
				why = m[1]
			} else if strings.TrimSpace(line) != "" {
				why = ""
			}
		case isFence:
			p.blocks = append(p.blocks, *open)
			open, why = nil, ""
		default:
			open.code += line + "\n"
		}
	}
	if open != nil {
		panic(path + ": a fence is never closed")
	}
	return p
}

// shell returns the blocks that a reader would type.
func (p page) shell() []block {
	return slices.DeleteFunc(slices.Clone(p.blocks), func(b block) bool { return b.language != "sh" })
}

// pages reads README.md and everything below docs.
func pages(t *testing.T) []page {
	t.Helper()
	paths := []string{"README.md"}
	err := fs.WalkDir(os.DirFS(root), "docs", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			paths = append(paths, path)
		}
		return err
	})
	require.NoError(t, err)
	var out []page
	for _, path := range paths {
		text, err := os.ReadFile(filepath.Join(root, path))
		require.NoError(t, err)
		out = append(out, parse(path, string(text)))
	}
	require.Greater(t, len(out), 20, "the pages were not found")
	return out
}

// prose is the text of a page without its fenced blocks.
func (p page) prose() string {
	var out []string
	inside := false
	for line := range strings.Lines(p.text) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			inside = !inside
		} else if !inside {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}
