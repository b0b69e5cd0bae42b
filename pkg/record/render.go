package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"gopkg.in/yaml.v3"

	"hotswap.dev/hotswap/pkg/intent"
)

// Render returns the file of r: the same bytes for the same record, wherever and
// in whatever time zone.
func (r Record) Render() ([]byte, error) {
	r.At = r.At.UTC()
	r.Holds = slices.Clone(r.Holds)
	for i := range r.Holds {
		r.Holds[i].Since = r.Holds[i].Since.UTC()
	}
	raw, err := json.Marshal(document{APIVersion: intent.APIVersion, Kind: kind, Spec: r})
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", r.Path(), err)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	root, err := node(d)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", r.Path(), err)
	}
	out := bytes.NewBufferString(header)
	y := yaml.NewEncoder(out)
	y.SetIndent(2)
	if err := errors.Join(y.Encode(root), y.Close()); err != nil {
		return nil, fmt.Errorf("render %s: %w", r.Path(), err)
	}
	return out.Bytes(), nil
}

// node turns the next JSON value into one of YAML, with its keys in their order.
// It goes by tokens, because YAML refuses characters that JSON writes plainly.
func node(d *json.Decoder) (*yaml.Node, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch v := token.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		if v == '{' {
			n.Kind = yaml.MappingNode
		}
		for d.More() { // the keys of a mapping are values of this loop too
			c, err := node(d)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, c)
		}
		_, err := d.Token()
		return n, err
	case string:
		return text(v), nil
	default: // numbers, true, false and null are the same in both
		return &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint(v)}, nil
	}
}

// oldWords are text that older readers of YAML take for true, false, a number
// to the base of sixty or a sign of their own.
var oldWords = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?i:y|n|yes|no|on|off|=|<<|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)$`)
})

// text lets the encoder choose how text is written, but for what it would write in
// a way that is read back, or read elsewhere, as something else.
func text(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	if oldWords().MatchString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}
