// Package record is what HotSwap writes to Git about each slot, and how an edit of
// it by a person is understood. It is pure.
//
// The records lie on a branch of their own, one file for each slot. They say what
// the slot runs and since when, so that Git alone tells the state of a fleet, and
// so that reverting a commit there is a way to go back.
package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"hotswap.dev/hotswap/pkg/intent"
)

// Branch is where the records are, Folder the folder that they are in.
const (
	Branch = "hotswap/releases"
	Folder = "releases"
)

// MaxBytes bounds the file of a record.
const MaxBytes = 256 << 10

// ErrInvalid reports a file that is no record.
var ErrInvalid = errors.New("not a record")

// A Record is what is said about one slot. Release, Module and Config are what
// runs; Promotion is the last one that ended there, however it did.
type Record struct {
	Environment   string        `json:"environment"`
	Deployment    string        `json:"deployment"`
	Tenant        string        `json:"tenant"`
	Release       string        `json:"release,omitempty"` // id; empty: nothing ever ran
	Generation    int64         `json:"generation,omitempty"`
	Commit        string        `json:"commit,omitempty"` // of the intent
	ReleaseDigest string        `json:"releaseDigest,omitempty"`
	PlanDigest    string        `json:"planDigest,omitempty"`
	Module        intent.Module `json:"module,omitzero"` // zero: nothing runs
	Config        intent.Config `json:"config,omitzero"`
	Promotion     string        `json:"promotion,omitempty"`
	PromotionKind string        `json:"promotionKind,omitempty"` // promote, restore or remove
	State         string        `json:"state,omitempty"`         // that it ended in
	At            time.Time     `json:"at,omitzero"`
	Holds         []Hold        `json:"holds,omitempty"`
}

// A Hold bars an artifact from the slot.
type Hold struct {
	Artifact string    `json:"artifact"` // digest
	Reason   string    `json:"reason"`
	Since    time.Time `json:"since"`
	By       string    `json:"by"`
}

// document is the file: the record under the head that every document has.
type document struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       Record `json:"spec"`
}

const kind = "Record"

// header stands above every record.
const header = `# Written by HotSwap. What stands here is what runs.
# Going back: revert the commit, or set release, releaseDigest and planDigest to
# those of a release that ran here before. Any other edit is undone.
`

// Path is where a record's file lies: releases/ENVIRONMENT/DEPLOYMENT.yaml.
func (r Record) Path() string { return Path(r.Environment, r.Deployment) }

// Path is where the record of a slot lies.
func Path(environment, deployment string) string {
	return Folder + "/" + environment + "/" + deployment + ".yaml"
}

var pathForm = regexp.MustCompile(`^releases/([a-z0-9][a-z0-9-]{0,62})/([a-z0-9][a-z0-9-]{0,62})\.yaml$`)

// Slot is the inverse of [Path].
func Slot(path string) (environment, deployment string, ok bool) {
	m := pathForm.FindStringSubmatch(path)
	if m == nil {
		return "", "", false
	}
	return m[1], m[2], true
}

// Render returns the file of r: the same bytes for the same record.
func (r Record) Render() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(document{APIVersion: intent.APIVersion, Kind: kind, Spec: r}); err != nil {
		return nil, fmt.Errorf("render %s: %w", r.Path(), err)
	}
	var node yaml.Node
	if err := yaml.Unmarshal(b.Bytes(), &node); err != nil { // JSON is YAML, and a node keeps the order of its keys
		return nil, fmt.Errorf("render %s: %w", r.Path(), err)
	}
	plain(&node)
	out := bytes.NewBufferString(header)
	y := yaml.NewEncoder(out)
	y.SetIndent(2)
	if err := y.Encode(&node); err != nil {
		return nil, fmt.Errorf("render %s: %w", r.Path(), err)
	}
	return out.Bytes(), nil
}

// oldWords are text that older readers of YAML take for true or false.
var oldWords = regexp.MustCompile(`^(?i:y|n|yes|no|on|off)$`)

// plain lets the encoder choose how each value is written, but for text that it
// would write in a way that is read back, or read elsewhere, as something else.
func plain(n *yaml.Node) {
	n.Style = 0
	odd := strings.ContainsFunc(n.Value, func(r rune) bool { return r < ' ' || r > '~' })
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && (odd || oldWords.MatchString(n.Value)) {
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, c := range n.Content {
		plain(c)
	}
}

// Parse reads the file of a record. Errors wrap [ErrInvalid] and name the place.
func Parse(path string, data []byte) (Record, error) {
	invalid := func(format string, args ...any) (Record, error) {
		return Record{}, fmt.Errorf("%s: %w: %s", path, ErrInvalid, fmt.Sprintf(format, args...))
	}
	if len(data) > MaxBytes {
		return invalid("it is larger than %d bytes", MaxBytes)
	}
	node, err := root(data)
	if err != nil {
		return invalid("%v", err)
	}
	var plain any
	if err := node.Decode(&plain); err != nil {
		return invalid("%v", err)
	}
	raw, err := json.Marshal(plain)
	if err != nil {
		return invalid("%v", err)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	var doc document
	if err := d.Decode(&doc); err != nil {
		return invalid("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	r := doc.Spec
	switch {
	case doc.APIVersion != intent.APIVersion || doc.Kind != kind:
		return invalid("it is not apiVersion %s, kind %s", intent.APIVersion, kind)
	case r.Path() != path:
		return invalid("it is about %s/%s", r.Environment, r.Deployment)
	}
	return r, nil
}

// root returns the only document of a file, without what YAML can do beyond plain
// values: what a reviewer reads must be what is meant.
func root(data []byte) (n *yaml.Node, err error) {
	defer func() {
		if p := recover(); p != nil { // the library has panicked on strange input before
			err = fmt.Errorf("the parser gave up: %v", p)
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	if err := d.Decode(&first); err != nil {
		return nil, err
	}
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one document")
	}
	return &first, refuse(&first, 0)
}

func refuse(n *yaml.Node, depth int) error {
	switch {
	case depth > 32:
		return fmt.Errorf("line %d, column %d: nested too deeply", n.Line, n.Column)
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return fmt.Errorf("line %d, column %d: anchors and aliases are not allowed", n.Line, n.Column)
	case n.Style&yaml.TaggedStyle != 0 || n.Tag == "!!merge":
		return fmt.Errorf("line %d, column %d: tags and merge keys are not allowed", n.Line, n.Column)
	}
	for _, c := range n.Content {
		if err := refuse(c, depth+1); err != nil {
			return err
		}
	}
	return nil
}
