// Package promql reads and completes the PromQL of people: queries in which {{units}},
// {{version}}, {{deployment}} and {{environment}} stand inside of quotes. It is pure.
package promql

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// ErrQuery reports a query that cannot be asked: its author's to mend.
var ErrQuery = errors.New("not a query that can be asked")

// Vars are what a query may name. Which units is said beside them.
type Vars struct {
	Deployment, Environment, Version string
}

// Check says whether a query can be completed, whatever the values are.
func Check(query string) error {
	_, err := Expand(query, []string{"node"}, Vars{Deployment: "deployment", Environment: "environment", Version: "1.0.0"})
	return err
}

// maxQuery bounds an expanded query, in bytes: ten thousand nodes with the longest
// names.
const maxQuery = 1 << 20

// placeholder is what stands for a value in a query.
var placeholder = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\{\{\s*([^{}]*?)\s*\}\}`) })

// Expand returns a query with its placeholders replaced for the units of one arm.
//
// {{units}} becomes a group of alternatives, (?:a|b), of names as they are spelled;
// label matchers are anchored by PromQL itself, so that "{{units}}:9100" works too.
// The other values are taken as they are spelled after =~ and !~ as well. All are
// escaped for the quotes that they stand in (promql/parser/lex.go of Prometheus:
// "…" and '…' have escapes, `…` has none; a # begins a comment).
func Expand(query string, units []string, v Vars) (string, error) {
	x := expansion{units: units, vars: v}
	for rest := query; rest != ""; {
		n, whole := tokenLen(rest)
		if !whole {
			return "", fmt.Errorf("%w: a string does not end", ErrQuery)
		}
		if err := x.token(rest[:n]); err != nil {
			return "", err
		}
		if x.out.Len() > maxQuery {
			return "", fmt.Errorf("%w: longer than %d bytes", ErrQuery, maxQuery)
		}
		rest = rest[n:]
	}
	if !x.named {
		return "", fmt.Errorf("%w: it does not say {{units}}, so both arms would read the same", ErrQuery)
	}
	return x.out.String(), nil
}

// tokenLen returns the length of what query begins with: a string, a comment, or
// what is between them. Whole is false if it is a string that does not end.
func tokenLen(query string) (n int, whole bool) {
	switch q := query[0]; q {
	case '"', '\'', '`':
		for i := 1; i < len(query); i++ {
			switch {
			case query[i] == q:
				return i + 1, true
			case query[i] == '\\' && q != '`':
				i++
			}
		}
		return len(query), false
	case '#':
		if i := strings.IndexByte(query, '\n'); i >= 0 {
			return i, true
		}
	default:
		if i := strings.IndexAny(query, "\"'`#"); i >= 0 {
			return i, true
		}
	}
	return len(query), true
}

// An expansion is a query that is being written.
type expansion struct {
	units []string
	vars  Vars
	out   strings.Builder
	named bool // {{units}} was there
}

// token writes one token.
func (x *expansion) token(tok string) error {
	switch tok[0] {
	case '"', '\'', '`':
		return x.quoted(tok)
	case '#':
	default:
		if at := placeholder().FindString(tok); at != "" {
			return fmt.Errorf("%w: %s does not stand in quotes", ErrQuery, at)
		}
	}
	x.out.WriteString(tok)
	return nil
}

// quoted writes a string with its placeholders replaced.
func (x *expansion) quoted(tok string) error {
	op := operator(x.out.String())
	last := 0
	for _, m := range placeholder().FindAllStringSubmatchIndex(tok, -1) {
		value, err := x.value(tok[m[2]:m[3]], op)
		if err == nil {
			value, err = escape(value, tok[0])
		}
		if err != nil {
			return err
		}
		x.out.WriteString(tok[last:m[0]])
		x.out.WriteString(value)
		last = m[1]
	}
	x.out.WriteString(tok[last:])
	return nil
}

// operator returns the matcher that a query ends with, "" if it is none.
func operator(query string) string {
	query = strings.TrimRightFunc(query, unicode.IsSpace)
	for _, op := range []string{"=~", "!~", "!=", "="} {
		if strings.HasSuffix(query, op) {
			return op
		}
	}
	return ""
}

// value returns what a placeholder stands for after an operator.
func (x *expansion) value(name, op string) (string, error) {
	var value string
	switch name {
	case "units":
		if op == "=" || op == "!=" {
			return "", fmt.Errorf("%w: {{units}} is a regular expression: write =~ instead of %s", ErrQuery, op)
		}
		x.named = true
		return alternatives(x.units), nil
	case "version":
		value = x.vars.Version
	case "deployment":
		value = x.vars.Deployment
	case "environment":
		value = x.vars.Environment
	default:
		return "", fmt.Errorf("%w: {{%s}} is not known; there are units, version, deployment and environment", ErrQuery, name)
	}
	if op == "=~" || op == "!~" {
		value = regexp.QuoteMeta(value)
	}
	return value, nil
}

// alternatives returns a regular expression (RE2) of names as they are spelled.
func alternatives(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = regexp.QuoteMeta(n)
	}
	return "(?:" + strings.Join(quoted, "|") + ")"
}

// escape returns a value as it is written between quotes.
func escape(value string, quote byte) (string, error) {
	if !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
		return "", fmt.Errorf("%w: %q is no name", ErrQuery, value)
	}
	if quote != '`' {
		return strings.NewReplacer(`\`, `\\`, string(quote), `\`+string(quote)).Replace(value), nil
	}
	if strings.Contains(value, "`") {
		return "", fmt.Errorf("%w: %q cannot stand between backticks", ErrQuery, value)
	}
	return value, nil
}
