package approval

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/hmarr/codeowners"
)

// MaxOwnersBytes bounds a CODEOWNERS file.
const MaxOwnersBytes = 512 << 10

// maxOwnersLine is the longest line of a CODEOWNERS file, in bytes: the parser would
// end without a word at a longer one.
const maxOwnersLine = 32 << 10

// ErrOwners reports a CODEOWNERS file that cannot be read, with its line.
var ErrOwners = errors.New("CODEOWNERS")

// OwnersPaths are where a CODEOWNERS file may be. The first one that is there counts.
func OwnersPaths() []string {
	return []string{"CODEOWNERS", ".github/CODEOWNERS", ".gitea/CODEOWNERS", ".gitlab/CODEOWNERS", "docs/CODEOWNERS"}
}

// Owners returns who owns a path by a CODEOWNERS file in GitHub's form: logins, and teams
// as organisation/name, in lower case. The last line that matches counts, also where it
// names nobody. A mail address names an account of nobody. Empty, not nil: nobody owns it.
func Owners(file []byte, path string) ([]string, error) {
	if len(file) > MaxOwnersBytes {
		return nil, fmt.Errorf("%w has %d bytes, and %d are allowed", ErrOwners, len(file), MaxOwnersBytes)
	}
	line := 0
	for l := range bytes.Lines(file) {
		if line++; len(l) > maxOwnersLine {
			return nil, fmt.Errorf("%w:%d: the line has %d bytes, and %d are allowed", ErrOwners, line, len(l), maxOwnersLine)
		}
	}
	rules, err := codeowners.ParseFile(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOwners, err)
	}
	out := []string{}
	rule, err := rules.Match(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOwners, err)
	}
	if rule == nil {
		return out, nil
	}
	for _, o := range rule.Owners {
		if o.Type != codeowners.EmailOwner {
			out = append(out, strings.ToLower(o.Value))
		}
	}
	return out, nil
}
