package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"hotswap.dev/hotswap/pkg/intent"
)

// Parse reads the file of a record. It takes exactly the fields of a record, each
// once and as it is spelled, so that what a reviewer reads is what is meant. Errors
// wrap [ErrInvalid] and name line and column where they have any.
func Parse(path string, data []byte) (Record, error) {
	r, err := parse(data)
	if err == nil && r.Path() != path {
		err = fmt.Errorf("it is about %s/%s", r.Environment, r.Deployment)
	}
	if err != nil {
		return Record{}, fmt.Errorf("%.300s: %w: %.300s", path, ErrInvalid, err.Error())
	}
	return r, nil
}

func parse(data []byte) (Record, error) {
	if len(data) > MaxBytes {
		return Record{}, fmt.Errorf("it is larger than %d bytes", MaxBytes)
	}
	root, err := root(data)
	if err != nil {
		return Record{}, err
	}
	if err := check(root, reflect.TypeFor[document]()); err != nil {
		return Record{}, err
	}
	var plain any
	if err := root.Decode(&plain); err != nil {
		return Record{}, err
	}
	raw, err := json.Marshal(plain)
	if err != nil {
		return Record{}, err
	}
	var d document
	if err := json.Unmarshal(raw, &d); err != nil {
		return Record{}, errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if d.APIVersion != intent.APIVersion || d.Kind != kind {
		return Record{}, fmt.Errorf("it is not apiVersion %s, kind %s", intent.APIVersion, kind)
	}
	return d.Spec, nil
}

// root returns the only document of a file, without what YAML can do beyond plain
// values.
func root(data []byte) (n *yaml.Node, err error) {
	defer func() {
		if p := recover(); p != nil { // the library has panicked on strange input before
			err = fmt.Errorf("the parser gave up: %v", p)
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	switch err := d.Decode(&first); {
	case errors.Is(err, io.EOF) || err == nil && len(first.Content) == 0:
		return nil, errors.New("it holds no document")
	case err != nil:
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("it holds more than one document")
	}
	return first.Content[0], refuse(first.Content[0], 0)
}

// place is an error at a node.
func place(n *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("line %d, column %d: %s", n.Line, n.Column, fmt.Sprintf(format, args...))
}

const maxDepth = 16

func refuse(n *yaml.Node, depth int) error {
	switch {
	case depth > maxDepth:
		return place(n, "nested too deeply")
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return place(n, "anchors and aliases are not allowed")
	case n.Style&yaml.TaggedStyle != 0 || n.ShortTag() == "!!merge":
		return place(n, "tags and merge keys are not allowed")
	}
	for _, c := range n.Content {
		if err := refuse(c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// check compares a value with the type that it is to fill, by the names that JSON
// has for its fields. JSON's own decoder takes names in any case, and knows no places.
func check(n *yaml.Node, t reflect.Type) error {
	switch kind := t.Kind(); {
	case t == reflect.TypeFor[time.Time]():
		if _, err := time.Parse(time.RFC3339Nano, n.Value); n.Kind != yaml.ScalarNode || err != nil {
			return place(n, "it must be a time, such as 2026-01-02T15:04:05Z")
		}
	case kind == reflect.Struct || kind == reflect.Map:
		return checkMapping(n, t)
	case kind == reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			return place(n, "it must be a list")
		}
		for _, c := range n.Content {
			if err := check(c, t.Elem()); err != nil {
				return err
			}
		}
	case kind == reflect.String:
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
			return place(n, "it must be text; in quotes, if it looks like something else")
		}
	case n.Kind != yaml.ScalarNode || t.ConvertibleTo(reflect.TypeFor[int64]()) && n.ShortTag() != "!!int":
		return place(n, "it must be a number")
	}
	return nil
}

func checkMapping(n *yaml.Node, t reflect.Type) error {
	if n.Kind != yaml.MappingNode {
		return place(n, "it must be a mapping")
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if err := check(key, reflect.TypeFor[string]()); err != nil {
			return err
		}
		if seen[key.Value] {
			return place(key, "the field %q stands there twice", key.Value)
		}
		seen[key.Value] = true
		inner, ok := field(t, key.Value)
		if !ok {
			return place(key, "unknown field %q", key.Value)
		}
		if err := check(value, inner); err != nil {
			return err
		}
	}
	return nil
}

// field returns the type of what a mapping holds under a name.
func field(t reflect.Type, name string) (reflect.Type, bool) {
	if t.Kind() == reflect.Map {
		return t.Elem(), true
	}
	for f := range t.Fields() {
		if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag == name {
			return f.Type, true
		}
	}
	return nil, false
}
