package intent

import (
	"regexp"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// source is a file's text by lines, for positions and excerpts.
type source struct {
	path  string
	lines []string
}

// newSource splits text as YAML does, at \n, \r\n and \r. The other line ends
// that YAML 1.1 knows are refused before (see badCharacter).
func newSource(path, text string) source {
	text = strings.TrimPrefix(text, byteOrderMark)
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	return source{path: path, lines: strings.Split(text, "\n")}
}

// problem makes a problem at a place, which is moved into the file if it is outside.
func (s source) problem(line, column, end int, rule, message, hint string) Problem {
	line = max(1, min(line, len(s.lines)))
	text := s.lines[line-1]
	length := len([]rune(text))
	column = max(1, min(column, length+1))
	end = max(column+1, min(end, length+1))
	return Problem{
		File: s.path, Line: line, Column: column, EndColumn: end, Rule: rule,
		Message: message, Hint: hint, Source: mask(printable(text)), Severity: Error,
	}
}

// at makes a problem at a node.
func (s source) at(n *yaml.Node, rule, message, hint string) Problem {
	return s.problem(n.Line, n.Column, n.Column+s.width(n), rule, message, hint)
}

// width returns how many characters of its first line a node takes. Of a
// mapping, a list or a block of text it is the first character.
func (s source) width(n *yaml.Node) int {
	if n.Kind != yaml.ScalarNode || n.Line < 1 || n.Line > len(s.lines) {
		return 1
	}
	line := []rune(s.lines[n.Line-1])
	if n.Column < 1 || n.Column > len(line) {
		return 1
	}
	rest := line[n.Column-1:]
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return 1
	case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
		return quotedWidth(rest)
	case strings.HasPrefix(string(rest), n.Value):
		return len([]rune(n.Value))
	}
	return len(rest)
}

// quotedWidth returns the width of the quoted scalar that line starts with, up
// to the line's end when it goes on below.
func quotedWidth(line []rune) int {
	quote := line[0]
	for i := 1; i < len(line); i++ {
		switch {
		case line[i] == '\\' && quote == '"':
			i++
		case line[i] != quote:
		case quote == '\'' && i+1 < len(line) && line[i+1] == quote:
			i++
		default:
			return i + 1
		}
	}
	return len(line)
}

// printable replaces what could move a terminal's cursor or hide text, one
// character for one so that columns stay.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

var userinfo = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`://[^/@\s]*@`) })

// mask hides the credentials of a URL, one character for one: an intent that
// holds a secret is refused, and the refusal must not spread it.
func mask(text string) string {
	return userinfo().ReplaceAllStringFunc(text, func(s string) string {
		return "://" + strings.Repeat("*", utf8.RuneCountInString(s)-len("://@")) + "@"
	})
}

const byteOrderMark = "\uFEFF"

// badCharacter finds the first character that makes a file look different from
// what it says: line ends that most editors do not show (YAML 1.1 §4.2), and the
// direction marks of "Trojan Source" (CVE-2021-42574), and control characters,
// which YAML has not either (§5.1).
func badCharacter(text string) (line, column int, bad rune) {
	line, column = 1, 1
	previous := rune(0)
	for _, r := range strings.TrimPrefix(text, byteOrderMark) {
		switch {
		case r == '\n' && previous == '\r':
			previous = r
			continue
		case r == '\n' || r == '\r':
			line, column, previous = line+1, 1, r
			continue
		case r == 0x2028, r == 0x2029, r == 0xFEFF,
			r >= 0x202A && r <= 0x202E, r >= 0x2066 && r <= 0x2069,
			r == 0xFFFE, r == 0xFFFF, unicode.IsControl(r) && r != '\t':
			return line, column, r
		}
		column, previous = column+1, r
	}
	return 0, 0, 0
}
