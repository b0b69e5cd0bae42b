package intent

import (
	"strings"

	"github.com/agnivade/levenshtein"
)

// suggest returns the candidate that word was probably meant to be, "" if none
// is near: at most a third of the letters differ, or it is a beginning.
func suggest(word string, candidates []string) string {
	if len(word) > 64 { // no name of ours is, and the distance is quadratic
		return ""
	}
	best, near := "", min((len([]rune(word))+2)/3, 3)+1
	for _, c := range candidates {
		d := levenshtein.ComputeDistance(strings.ToLower(word), strings.ToLower(c))
		if len(word) >= 3 && strings.HasPrefix(c, word) {
			d = min(d, 1)
		}
		if d < near || d == near && best != "" && c < best {
			best, near = c, d
		}
	}
	return best
}
