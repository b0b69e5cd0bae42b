package intent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Limits of one document. They are far above what the kinds need, and low
// enough that no file makes validation slow.
const (
	MaxFileBytes = 256 << 10
	MaxDepth     = 16
	MaxNodes     = 10_000

	MaxProblems = 100 // of one file are reported; the rest comes when these are mended
)

// parse reads the one YAML document of a file and refuses every part of YAML
// that makes a document mean something else than what a reviewer reads. The
// node is nil when there is nothing to go on with.
func parse(path string, data []byte) (source, *yaml.Node, []Problem) {
	if len(data) > MaxFileBytes {
		src := source{path: path, lines: []string{""}}
		return src, nil, []Problem{src.problem(1, 1, 1, RuleTooLarge,
			fmt.Sprintf("the file is larger than the %d bytes allowed", MaxFileBytes), "")}
	}
	if !utf8.Valid(data) {
		src := newSource(path, strings.ToValidUTF8(string(data), string(utf8.RuneError)))
		line, column := invalidUTF8(data)
		return src, nil, []Problem{src.problem(line, column, column+1, RuleNotUTF8, "the file is not UTF-8", "save it as UTF-8")}
	}
	text := string(data)
	src := newSource(path, text)
	if line, column, bad := badCharacter(text); bad != 0 {
		return src, nil, []Problem{src.problem(line, column, column+1, RuleBadCharacter,
			fmt.Sprintf("the invisible character U+%04X is not allowed", bad), `write it as an escape in double quotes if you mean it`)}
	}
	root, problem := src.document(data)
	if problem != nil {
		return src, nil, []Problem{*problem}
	}
	w := walker{source: src}
	w.walk(root, 0)
	if w.stop {
		return src, nil, w.problems
	}
	return src, root, w.problems
}

// invalidUTF8 returns the place of the first byte that is no UTF-8.
func invalidUTF8(data []byte) (line, column int) {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size <= 1 {
			head := string(data[:i])
			return strings.Count(head, "\n") + 1, utf8.RuneCountInString(head[strings.LastIndexByte(head, '\n')+1:]) + 1
		}
		i += size
	}
	return 1, 1
}

// document returns the root of the file's only document.
func (s source) document(data []byte) (*yaml.Node, *Problem) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	err := next(decoder, &first)
	switch {
	case errors.Is(err, io.EOF) || err == nil && len(first.Content) == 0:
		p := s.problem(1, 1, 2, RuleEmpty, "the file holds no document", "delete the file if it is not needed")
		return nil, &p
	case err != nil:
		return nil, s.syntax(err)
	}
	switch err := next(decoder, &second); {
	case errors.Is(err, io.EOF):
		return first.Content[0], nil
	case err != nil:
		return nil, s.syntax(err)
	}
	p := s.at(&second, RuleSeveralDocuments, "the file holds more than one document", "put each into a file of its own")
	return nil, &p
}

// next reads one document. The YAML library is not ours and has panicked on
// strange input before (CVE-2022-28948): for a caller that is a syntax error too.
func next(decoder *yaml.Decoder, into *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the parser gave up: %v", r)
		}
	}()
	return decoder.Decode(into)
}

var yamlLine = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)$`) })

var unknownAnchor = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^unknown anchor '(.*)' referenced$`) })

// alias makes the problem of an alias whose anchor is not there. The library
// does not say where it stands.
func (s source) alias(name string) *Problem {
	line, column := 1, 1
	for i, text := range s.lines {
		if before, _, ok := strings.Cut(text, "*"+name); ok {
			line, column = i+1, utf8.RuneCountInString(before)+1
			break
		}
	}
	p := s.problem(line, column, column+1+utf8.RuneCountInString(name), RuleAlias,
		fmt.Sprintf("the alias %q is not allowed", "*"+name), "write the value out")
	return &p
}

// syntax turns the library's error, "yaml: line 3: …", into a problem.
func (s source) syntax(err error) *Problem {
	text, _, _ := strings.Cut(err.Error(), "\n")
	line, message := 1, text
	if m := yamlLine().FindStringSubmatch(text); m != nil {
		message = m[2]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
	}
	if strings.HasPrefix(message, "did not find expected") {
		line++ // the library counts these from 0
	}
	if m := unknownAnchor().FindStringSubmatch(message); m != nil {
		return s.alias(m[1])
	}
	line = max(1, min(line, len(s.lines)))
	trimmed := strings.TrimLeft(s.lines[line-1], " \t")
	column := len([]rune(s.lines[line-1])) - len([]rune(trimmed)) + 1
	p := s.problem(line, column, column+len([]rune(trimmed)), RuleSyntax, "not valid YAML: "+printable(message), "")
	return &p
}

// walker looks at every node of a document once.
type walker struct {
	source   source
	nodes    int
	stop     bool // going on makes no sense
	problems []Problem
}

func (w *walker) add(n *yaml.Node, rule, message, hint string) {
	if len(w.problems) < MaxProblems {
		w.problems = append(w.problems, w.source.at(n, rule, message, hint))
	}
}

func (w *walker) walk(n *yaml.Node, depth int) {
	if w.stop {
		return
	}
	if w.nodes++; w.nodes > MaxNodes {
		w.stop = true
		w.add(n, RuleTooLarge, fmt.Sprintf("the document has more than %d values", MaxNodes), "")
		return
	}
	if depth > MaxDepth {
		w.stop = true
		w.add(n, RuleTooDeep, fmt.Sprintf("the document is nested deeper than %d levels", MaxDepth), "")
		return
	}
	if n.Kind == yaml.AliasNode {
		w.stop = true
		w.add(n, RuleAlias, fmt.Sprintf("the alias %q is not allowed", "*"+n.Value), "write the value out")
		return
	}
	if n.Anchor != "" {
		w.stop = true
		w.add(n, RuleAlias, fmt.Sprintf("the anchor %q is not allowed", "&"+n.Anchor), "write the value out where it is needed")
	}
	if n.Style&yaml.TaggedStyle != 0 {
		w.stop = true
		w.add(n, RuleTag, fmt.Sprintf("the tag %q is not allowed", n.Tag), "remove it")
	}
	if n.Kind == yaml.MappingNode {
		w.keys(n)
	}
	for _, child := range n.Content {
		w.walk(child, depth+1)
	}
}

// keys checks that the keys of a mapping are different strings.
func (w *walker) keys(n *yaml.Node) {
	seen := make(map[string]*yaml.Node, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case key.Kind == yaml.AliasNode || key.Style&yaml.TaggedStyle != 0: // walk says so
		case key.Kind == yaml.ScalarNode && key.Tag == "!!merge":
			w.stop = true
			w.add(key, RuleAlias, `the merge key "<<" is not allowed`, "write the fields out")
		case key.Kind != yaml.ScalarNode:
			w.stop = true
			w.add(key, RuleWrongType, "a key must be text", "")
		case key.ShortTag() != "!!str":
			w.stop = true
			w.add(key, RuleWrongType, fmt.Sprintf("a key must be text, but %s is %s", key.Value, typeName(key)), fmt.Sprintf("quote it: %q", key.Value))
		case seen[key.Value] != nil:
			w.add(key, RuleDuplicateKey, fmt.Sprintf("the key %q stands here a second time", key.Value),
				fmt.Sprintf("the first is in line %d", seen[key.Value].Line))
		default:
			seen[key.Value] = key
		}
	}
}
