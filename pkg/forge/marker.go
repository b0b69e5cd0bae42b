package forge

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// MaxComment is the longest text of a comment, in bytes. GitHub's limit is 65 536 characters.
const MaxComment = 60_000

var markerForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9/_.:]{0,99}$`) }) // no hyphens: two would end the comment of HTML

// Marked puts the marker before the text of a comment, where people do not see it.
// It says by an error that either cannot be.
func Marked(marker, text string) (string, error) {
	if !markerForm().MatchString(marker) {
		return "", fmt.Errorf("%w: the marker %q", ErrInvalid, marker)
	}
	if len(text) > MaxComment {
		return "", fmt.Errorf("%w: a comment of %d bytes", ErrInvalid, len(text))
	}
	return markerLine(marker) + "\n" + text, nil
}

// HasMarker reports whether a comment begins with the marker.
func HasMarker(comment, marker string) bool {
	first, _, _ := strings.Cut(comment, "\n")
	return strings.TrimSuffix(first, "\r") == markerLine(marker)
}

// Unmarked is a comment as people see it: without the line of a marker.
func Unmarked(comment string) string {
	first, rest, _ := strings.Cut(comment, "\n")
	if strings.HasPrefix(first, "<!-- hotswap ") {
		return rest
	}
	return comment
}

func markerLine(marker string) string { return "<!-- hotswap " + marker + " -->" }
