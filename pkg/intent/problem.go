package intent

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Severity says whether a problem refuses a document.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // the document is not used
	Warning Severity = "warning" // the document is used, but a person should know
)

// A Problem is one thing that is wrong, where it is, and how to mend it.
// Line and Column count from 1, columns in characters; EndColumn is the column
// after the last character. Source is the line as it stands in the file, made
// safe to print. A problem of the whole tree has no File and no position.
type Problem struct {
	File      string   `json:"file"`
	Line      int      `json:"line"`
	Column    int      `json:"column"`
	EndColumn int      `json:"endColumn"`
	Rule      string   `json:"rule"` // one of [Rules]
	Message   string   `json:"message"`
	Hint      string   `json:"hint,omitempty"`
	Source    string   `json:"source,omitempty"`
	Severity  Severity `json:"severity"`
}

// String returns the problem on one line, as a compiler would:
//
//	deployments/shop.yaml:12:7: unknown field "stratgy"; did you mean "strategy"? [unknown-field]
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		fmt.Fprintf(&b, "%s:%d:%d: ", printable(p.File), p.Line, p.Column)
	}
	if p.Severity == Warning {
		b.WriteString("warning: ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString("; " + p.Hint)
	}
	return b.String() + " [" + p.Rule + "]"
}

// Text returns String and, below it, the source line with a caret under the
// place. It ends without a newline.
func (p Problem) Text() string {
	if p.Source == "" || p.Line < 1 || p.Column < 1 {
		return p.String()
	}
	line, column, end := excerpt(p.Source, p.Column, p.EndColumn)
	number := strconv.Itoa(p.Line)
	margin := strings.Repeat(" ", len(number))
	mark := "^" + strings.Repeat("~", max(0, end-column-1))
	return fmt.Sprintf("%s\n%s |\n%s | %s\n%s | %s%s",
		p.String(), margin, number, string(line), margin, blank(line[:min(column-1, len(line))]), mark)
}

// excerptWidth is how much of a long line is shown, in characters.
const excerptWidth = 160

// excerpt cuts a long line to a window around the place.
func excerpt(source string, column, end int) (line []rune, col, endCol int) {
	line = []rune(source)
	end = max(min(end, len(line)+1), column+1)
	if from := column - 1 - excerptWidth/2; len(line) > excerptWidth && from > 0 {
		line, column, end = line[min(from, len(line)):], column-from, end-from
	}
	if len(line) > excerptWidth {
		line = line[:excerptWidth]
		end = max(min(end, excerptWidth+1), column+1)
	}
	return line, column, end
}

// blank replaces what stands before the caret by blanks, keeping tabs.
func blank(before []rune) string {
	out := make([]rune, len(before))
	for i, r := range before {
		out[i] = ' '
		if r == '\t' {
			out[i] = r
		}
	}
	return string(out)
}

// HasErrors reports whether a problem among them refuses a document.
func HasErrors(problems []Problem) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return p.Severity == Error })
}

// SortProblems orders problems by file, then as a reader meets them.
func SortProblems(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message),
		)
	})
}
