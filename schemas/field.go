package schemas

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
)

// ErrUnknown is returned for a kind or a field that no schema has.
var ErrUnknown = errors.New("no such field")

// A Field is what a schema says about one place in a document.
type Field struct {
	Path        string            `json:"path"` // "deployment.spec.module", "pipeline.spec.stages[]"
	Title       string            `json:"title"`
	Description string            `json:"description"`
	Type        string            `json:"type"`           // JSON Schema's: string, integer, array, object
	Form        string            `json:"form,omitempty"` // what a value looks like, for a person: "a duration such as 10s"
	Allowed     []json.RawMessage `json:"allowed,omitempty"`
	Required    bool              `json:"required"`
	Default     json.RawMessage   `json:"default,omitempty"`
	Examples    []json.RawMessage `json:"examples,omitempty"`
	Fields      []Field           `json:"fields,omitempty"` // of an object, required ones first, one level deep
}

// node is the part of draft-07 that our schemas use.
type node struct {
	Ref           string            `json:"$ref"`
	Comment       string            `json:"$comment"`
	Title         string            `json:"title"`
	Description   string            `json:"description"`
	Type          string            `json:"type"`
	Const         json.RawMessage   `json:"const"`
	Enum          []json.RawMessage `json:"enum"`
	Default       json.RawMessage   `json:"default"`
	Examples      []json.RawMessage `json:"examples"`
	Required      []string          `json:"required"`
	Properties    map[string]*node  `json:"properties"`
	PropertyNames *node             `json:"propertyNames"`
	Additional    json.RawMessage   `json:"additionalProperties"` // false, or the schema of every value
	Items         *node             `json:"items"`
	Definitions   map[string]*node  `json:"definitions"`
}

// parsed holds the root of every kind's schema. The schemas are constants, so an
// error here is a broken build, which the tests notice.
var parsed = sync.OnceValue(func() map[string]*node {
	out := map[string]*node{}
	for _, kind := range Kinds() {
		out[kind] = &node{}
		if err := json.Unmarshal(Source(kind), out[kind]); err != nil {
			panic(fmt.Errorf("schema of %s: %w", kind, err))
		}
	}
	return out
})

// Kind returns the kind that word names, whatever its case, or "" for none.
func Kind(word string) string {
	for _, k := range Kinds() {
		if strings.EqualFold(k, word) {
			return k
		}
	}
	return ""
}

// Lookup returns the field of kind at path: property names, and for the
// elements of a list an index or "[]". The error wraps [ErrUnknown] and names
// the first step that does not exist.
func Lookup(kind string, path ...string) (Field, error) {
	k := Kind(kind)
	if k == "" {
		return Field{}, fmt.Errorf("%w: there is no kind %q; the kinds are %s", ErrUnknown, kind, strings.ToLower(strings.Join(Kinds(), ", ")))
	}
	root := parsed()[k]
	at, required, walked := root, true, strings.ToLower(k)
	for _, step := range path {
		here := root.resolve(at)
		if here.Items != nil && !isIndex(step) { // "stages.name" means "stages[].name"
			here, walked = root.resolve(here.Items), walked+"[]"
		}
		next, need := here.step(step)
		if next == nil {
			return Field{}, fmt.Errorf("%w: %s has no %q%s", ErrUnknown, walked, step, here.offer())
		}
		at, required = next, need
		walked = join(walked, step)
	}
	return root.field(walked, at, required, true), nil
}

// join appends a step to a path: ".name", or "[]" for an element of a list.
func join(path, step string) string {
	if isIndex(step) {
		return path + "[]"
	}
	return path + "." + step
}

func isIndex(step string) bool {
	_, err := strconv.Atoi(step)
	return err == nil || step == "[]"
}

// offer says what there is below n, for an error.
func (n *node) offer() string {
	if len(n.Properties) == 0 {
		return ""
	}
	return "; it has " + strings.Join(slices.Sorted(maps.Keys(n.Properties)), ", ")
}

// resolve follows a reference into the definitions of the same file.
func (n *node) resolve(at *node) *node {
	if name, ok := strings.CutPrefix(at.Ref, "#/definitions/"); ok && n.Definitions[name] != nil {
		return n.Definitions[name]
	}
	return at
}

// step returns the schema one step below n, and whether it must be there.
func (n *node) step(name string) (*node, bool) {
	if p := n.Properties[name]; p != nil {
		return p, slices.Contains(n.Required, name)
	}
	if n.Items != nil && isIndex(name) {
		return n.Items, false
	}
	return n.values(), false
}

// values returns the schema of every value of a map, nil when n is no map.
func (n *node) values() *node {
	var v node
	if len(n.Additional) == 0 || n.Additional[0] != '{' || json.Unmarshal(n.Additional, &v) != nil {
		return nil
	}
	return &v
}

func (n *node) field(path string, at *node, required, deep bool) Field {
	at = n.resolve(at)
	f := Field{
		Path: path, Title: at.Title, Description: at.Description, Type: at.Type, Form: at.Comment,
		Allowed: at.Enum, Required: required, Default: at.Default, Examples: at.Examples,
	}
	if at.Const != nil {
		f.Allowed = []json.RawMessage{at.Const}
	}
	if !deep {
		return f
	}
	for name, p := range at.Properties {
		f.Fields = append(f.Fields, n.field(path+"."+name, p, slices.Contains(at.Required, name), false))
	}
	sort.Slice(f.Fields, func(i, j int) bool {
		a, b := f.Fields[i], f.Fields[j]
		if a.Required != b.Required {
			return a.Required
		}
		return a.Path < b.Path
	})
	if at.Items != nil {
		f.Fields = append(f.Fields, n.field(path+"[]", at.Items, false, false))
	}
	if v := at.values(); v != nil {
		f.Fields = append(f.Fields, n.field(path+".NAME", v, false, false))
	}
	return f
}

// NameForm says what the keys of the map at path must look like, "" when they
// are not restricted.
func NameForm(kind string, path ...string) string {
	root := parsed()[Kind(kind)]
	if root == nil {
		return ""
	}
	at := root
	for _, step := range path {
		if at, _ = root.resolve(at).step(step); at == nil {
			return ""
		}
	}
	if names := root.resolve(at).PropertyNames; names != nil {
		return names.Comment
	}
	return ""
}

// Base returns the last step of the field's path: "module" of "deployment.spec.module".
func (f Field) Base() string {
	return f.Path[strings.LastIndexByte(f.Path, '.')+1:]
}
