package intent

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/xeipuuv/gojsonschema"
	"gopkg.in/yaml.v3"

	"hotswap.dev/hotswap/schemas"
)

// A Validator holds the compiled schemas. It is safe for concurrent use.
type Validator struct {
	byKind map[string]*gojsonschema.Schema
}

// NewValidator compiles the schemas that are embedded in the binary. It never
// compiles anything else: gojsonschema fetches what a foreign schema refers to.
func NewValidator() (*Validator, error) {
	v := &Validator{byKind: map[string]*gojsonschema.Schema{}}
	for _, kind := range schemas.Kinds() {
		s, err := gojsonschema.NewSchema(gojsonschema.NewBytesLoader(schemas.Source(kind)))
		if err != nil {
			return nil, fmt.Errorf("compile schema of %s: %w", kind, err)
		}
		v.byKind[kind] = s
	}
	return v, nil
}

// embedded is compiled once, at the first use. The schemas are constants, so an
// error here is a broken build, which the tests notice.
var embedded = sync.OnceValue(func() *Validator {
	v, err := NewValidator()
	if err != nil {
		panic(err)
	}
	return v
})

// pathSeparator stands between the steps of a schema error's path. Names in
// our kinds never hold it; a file's may, and is then located at its parent.
const pathSeparator = "\x00"

// check returns the problems that the kind's schema finds in a document.
func (v *Validator) check(src source, root *yaml.Node, kind string, value any) []Problem {
	result, err := v.byKind[kind].Validate(gojsonschema.NewRawLoader(value))
	if err != nil {
		return []Problem{src.at(root, RuleSyntax, "the document cannot be validated", "")}
	}
	c := findings{source: src, root: root, kind: kind, suggested: map[string]bool{}}
	for _, e := range ordered(result.Errors()) {
		if len(c.problems) >= MaxProblems {
			break
		}
		c.add(e)
	}
	return c.problems
}

// ordered sorts the library's errors, which come in the order of a Go map:
// unknown fields first, since they explain missing ones, then by place and text.
func ordered(found []gojsonschema.ResultError) []gojsonschema.ResultError {
	byText := make(map[string]gojsonschema.ResultError, len(found))
	for _, e := range found {
		weight := "1"
		if e.Type() == "additional_property_not_allowed" {
			weight = "0"
		}
		byText[weight+e.Context().String(pathSeparator)+pathSeparator+e.Type()+e.Description()] = e
	}
	out := make([]gojsonschema.ResultError, 0, len(byText))
	for _, k := range slices.Sorted(maps.Keys(byText)) {
		out = append(out, byText[k])
	}
	return out
}

// findings translates the schema library's errors into problems.
type findings struct {
	source    source
	root      *yaml.Node
	kind      string
	suggested map[string]bool // paths that an unknown field was probably meant to be
	problems  []Problem
}

func (c *findings) add(e gojsonschema.ResultError) {
	path := strings.Split(e.Context().String(pathSeparator), pathSeparator)[1:]
	property, _ := e.Details()["property"].(string)
	switch e.Type() {
	case "additional_property_not_allowed":
		c.unknown(path, property)
	case "required":
		c.missing(path, property)
	case "invalid_type":
		c.wrongType(path, fmt.Sprint(e.Details()["expected"]))
	case "invalid_property_name":
		key, _ := child(c.node(path), property)
		if key == nil {
			key = c.node(path)
		}
		c.put(key, RuleBadValue, fmt.Sprintf("%q is not %s", property, schemas.NameForm(c.kind, path...)), "")
	default:
		c.badValue(path, e)
	}
}

func (c *findings) node(path []string) *yaml.Node {
	_, value := locate(c.root, path...)
	return value
}

func (c *findings) put(n *yaml.Node, rule, message, hint string) {
	p := c.source.at(n, rule, message, hint)
	if !slices.Contains(c.problems, p) { // two keywords may refuse one value for one reason
		c.problems = append(c.problems, p)
	}
}

func (c *findings) unknown(path []string, property string) {
	at, _ := child(c.node(path), property)
	if at == nil {
		at = c.node(path)
	}
	field, err := schemas.Lookup(c.kind, path...)
	var names []string
	if err == nil {
		for _, f := range field.Fields {
			names = append(names, f.Base())
		}
	}
	hint := ""
	if s := suggest(property, names); s != "" {
		hint = fmt.Sprintf("did you mean %q?", s)
		c.suggested[strings.Join(append(slices.Clone(path), s), pathSeparator)] = true
	} else if len(names) > 0 {
		hint = "allowed here: " + strings.Join(names, ", ")
	}
	c.put(at, RuleUnknownField, fmt.Sprintf("unknown field %q", property), hint)
}

func (c *findings) missing(path []string, property string) {
	full := append(slices.Clone(path), property)
	if c.suggested[strings.Join(full, pathSeparator)] {
		return
	}
	key, value := locate(c.root, path...)
	if key == nil {
		key = value
	}
	hint := ""
	if f, err := schemas.Lookup(c.kind, full...); err == nil && len(f.Examples) > 0 && f.Type == "string" {
		hint = fmt.Sprintf("for example %s: %s", property, plain(f.Examples[0]))
	}
	c.put(key, RuleMissingField, fmt.Sprintf("the required field %q is missing", property), hint)
}

// isShare reports whether a field takes percentages alone, by its examples.
func (c *findings) isShare(path []string) bool {
	f, err := schemas.Lookup(c.kind, path...)
	if err != nil || len(f.Examples) == 0 {
		return false
	}
	for _, e := range f.Examples {
		if !strings.HasSuffix(plain(e), `%"`) && !strings.HasSuffix(plain(e), "%") {
			return false
		}
	}
	return true
}

func (c *findings) wrongType(path []string, expected string) {
	n := c.node(path)
	name, hint := fieldName(path), ""
	if expected == "string" && n.Kind == yaml.ScalarNode && n.Value != "" {
		hint = fmt.Sprintf("quote it: %q", n.Value)
		if c.isShare(path) && typeName(n) == "a number" {
			hint = fmt.Sprintf("it is a percentage, in quotes: %q", n.Value+"%")
		}
	}
	got := typeName(n)
	if n.Kind == yaml.ScalarNode && n.Value != "" && got != "text" {
		got = n.Value + " is " + got
	} else if n.Kind == yaml.ScalarNode && n.Value != "" {
		got = fmt.Sprintf("%q is %s", clip(n.Value), got)
	} else {
		got = "it is " + got
	}
	c.put(place(c.root, path...), RuleWrongType, fmt.Sprintf("%s must be %s, but %s", name, schemaType(expected), got), hint)
}

func (c *findings) badValue(path []string, e gojsonschema.ResultError) {
	n := c.node(path)
	if _, text := e.Value().(string); text && n.Kind == yaml.MappingNode {
		return // of a property's name, which invalid_property_name reports
	}
	if e.Type() == "const" && fieldName(path) == "kind" {
		return // unreachable: the schema was chosen by the kind
	}
	f, err := schemas.Lookup(c.kind, path...)
	if err == nil && len(f.Allowed) > 0 && n.Kind == yaml.ScalarNode {
		c.put(place(c.root, path...), RuleBadValue,
			fmt.Sprintf("%s must be %s, not %q", fieldName(path), alternatives(f.Allowed), clip(n.Value)), c.closest(n.Value, f.Allowed))
		return
	}
	value, what := "", e.Description()
	switch {
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str":
		value = fmt.Sprintf("%q ", clip(n.Value))
	case n.Kind == yaml.ScalarNode:
		value = clip(n.Value) + " "
	}
	switch {
	case err != nil:
	case f.Form != "" && n.Kind == yaml.ScalarNode:
		what = "is not " + f.Form
	case f.Form != "":
		what = "must be " + f.Form
	}
	if err == nil && f.Type == "string" && e.Type() == "string_lte" {
		what = fmt.Sprintf("is longer than the %v characters allowed", e.Details()["max"])
	}
	c.put(place(c.root, path...), RuleBadValue, fmt.Sprintf("%s: %s%s", fieldName(path), value, what), "")
}

func (c *findings) closest(word string, allowed []json.RawMessage) string {
	var words []string
	if len(allowed) == 1 {
		return "" // the message says it
	}
	for _, a := range allowed {
		words = append(words, plain(a))
	}
	if s := suggest(word, words); s != "" {
		return fmt.Sprintf("did you mean %q?", s)
	}
	return ""
}

// fieldName is the last name of a path, "document" for the root.
func fieldName(path []string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == "" || path[i][0] < '0' || path[i][0] > '9' {
			return path[i]
		}
		if i > 0 {
			return path[i-1] + "[" + path[i] + "]"
		}
	}
	return "document"
}

func alternatives(allowed []json.RawMessage) string {
	var quoted []string
	for _, a := range allowed {
		quoted = append(quoted, string(a))
	}
	return strings.Join(quoted, " or ")
}

// plain returns a JSON string's text, and any other JSON as it is.
func plain(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// clip makes a value fit for a message: short, and without credentials.
func clip(s string) string {
	const most = 80
	s = mask(s)
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
