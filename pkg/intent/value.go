package intent

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"gopkg.in/yaml.v3"
)

// jsonValue returns what a node means as JSON: maps, lists, strings, booleans,
// nil, and json.Number, which is bounded because it comes from an int64 or a
// float64. Text that YAML would read as a date becomes a number too, so that a
// string field refuses it.
func (s source) jsonValue(n *yaml.Node, problems *[]Problem) any {
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			m[n.Content[i].Value] = s.jsonValue(n.Content[i+1], problems)
		}
		return m
	case yaml.SequenceNode:
		l := make([]any, 0, len(n.Content))
		for _, c := range n.Content {
			l = append(l, s.jsonValue(c, problems))
		}
		return l
	}
	v, err := scalar(n)
	if err != nil {
		*problems = append(*problems, s.at(n, RuleBadValue, fmt.Sprintf("%s is not a number that can be kept exactly", n.Value), ""))
		return json.Number("0")
	}
	return v
}

// scalar returns the JSON value of a scalar node.
func scalar(n *yaml.Node) (any, error) {
	switch n.ShortTag() {
	case "!!null":
		return nil, nil
	case "!!bool":
		var b bool
		return b, n.Decode(&b)
	case "!!int":
		var i int64
		if err := n.Decode(&i); err != nil {
			return nil, err
		}
		return json.Number(strconv.FormatInt(i, 10)), nil
	case "!!float":
		var f float64
		if err := n.Decode(&f); err != nil {
			return nil, err
		}
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, strconv.ErrRange
		}
		return json.Number(strconv.FormatFloat(f, 'g', -1, 64)), nil
	case "!!timestamp":
		return json.Number("0"), nil
	}
	return n.Value, nil
}

// typeName names a node's type in a person's words, with its article.
func typeName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "empty"
	case "!!bool":
		return "a boolean"
	case "!!int", "!!float":
		return "a number"
	case "!!timestamp":
		return "a date"
	}
	return "text"
}

// schemaType names a JSON Schema type in the same words.
func schemaType(t string) string {
	switch t {
	case "object":
		return "a mapping"
	case "array":
		return "a list"
	case "string":
		return "text"
	case "integer":
		return "a whole number"
	}
	return "a " + t
}

// locate returns the key and the value at a path: names in mappings, indices in
// lists. The key is nil at the root and in lists. Where the path ends early, the
// deepest node that exists is returned.
func locate(root *yaml.Node, path ...string) (key, value *yaml.Node) {
	value = root
	for _, step := range path {
		k, v := child(value, step)
		if v == nil {
			return key, value
		}
		key, value = k, v
	}
	return key, value
}

func child(n *yaml.Node, step string) (key, value *yaml.Node) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return n.Content[i], n.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
			return nil, n.Content[i]
		}
	}
	return nil, nil
}

// place returns the node to point at for the value at a path: the value, or its
// key when the value is not written.
func place(root *yaml.Node, path ...string) *yaml.Node {
	key, value := locate(root, path...)
	if key != nil && value.Kind == yaml.ScalarNode && value.Value == "" && value.ShortTag() == "!!null" {
		return key
	}
	return value
}
