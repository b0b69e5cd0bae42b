package intent

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// A Document is one decoded file. Exactly one of Deployment, Pipeline,
// Environment, Analysis and Policy is set when the file is valid, none when it is not; Kind is set as
// soon as it could be read. A Document is never changed, so it may be kept and
// shared.
type Document struct {
	Path        string
	Kind        string
	Deployment  *Deployment
	Pipeline    *Pipeline
	Environment *Environment
	Analysis    *Analysis
	Policy      *Policy

	source source
	root   *yaml.Node
}

// Valid reports whether the document was decoded.
func (d Document) Valid() bool {
	return d.Deployment != nil || d.Pipeline != nil || d.Environment != nil || d.Analysis != nil || d.Policy != nil
}

// Metadata returns the document's metadata, zero when it is not valid.
func (d Document) Metadata() Metadata {
	switch {
	case d.Deployment != nil:
		return d.Deployment.Metadata
	case d.Pipeline != nil:
		return d.Pipeline.Metadata
	case d.Environment != nil:
		return d.Environment.Metadata
	case d.Analysis != nil:
		return d.Analysis.Metadata
	case d.Policy != nil:
		return d.Policy.Metadata
	}
	return Metadata{}
}

// problem makes a problem at the value of a path in the document.
func (d Document) problem(rule, message, hint string, path ...string) Problem {
	if d.root == nil {
		return d.source.problem(1, 1, 2, rule, message, hint)
	}
	return d.source.at(place(d.root, path...), rule, message, hint)
}

// Decode reads one file with the embedded schemas. Path is only for messages.
// Problems are ordered by position; they hold an error exactly if the document is
// not valid.
func Decode(path string, data []byte) (Document, []Problem) {
	return embedded().Decode(path, data)
}

// Decode reads one file; see the function of the same name.
func (v *Validator) Decode(path string, data []byte) (Document, []Problem) {
	src, root, problems := parse(path, data)
	d := Document{Path: path, source: src, root: root}
	if root == nil {
		SortProblems(problems)
		return d, problems
	}
	kind, problem := readKind(src, root)
	if problem != nil {
		problems = append(problems, *problem)
		SortProblems(problems)
		return d, problems
	}
	d.Kind = kind
	value := src.jsonValue(root, &problems)
	problems = append(problems, v.check(src, root, kind, value)...)
	if len(problems) == 0 {
		problems = d.fill(value)
	}
	SortProblems(problems)
	return d, problems
}

// readKind returns the document's kind, or why there is none.
func readKind(src source, root *yaml.Node) (string, *Problem) {
	fail := func(n *yaml.Node, rule, message, hint string) (string, *Problem) {
		p := src.at(n, rule, message, hint)
		return "", &p
	}
	kinds := []string{KindDeployment, KindPipeline, KindEnvironment, KindAnalysis, KindPolicy}
	if root.Kind != yaml.MappingNode {
		return fail(root, RuleWrongType, "the document must be a mapping, but it is "+typeName(root), "start with apiVersion: "+APIVersion)
	}
	_, n := child(root, "kind")
	if n == nil {
		return fail(root, RuleMissingField, `the required field "kind" is missing`, "one of "+strings.Join(kinds, ", "))
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		return fail(place(root, "kind"), RuleWrongType, "kind must be text, but it is "+typeName(n), "one of "+strings.Join(kinds, ", "))
	}
	for _, k := range kinds {
		if n.Value == k {
			return k, nil
		}
	}
	hint := "one of " + strings.Join(kinds, ", ")
	if s := suggest(n.Value, kinds); s != "" {
		hint = fmt.Sprintf("did you mean %q?", s)
	}
	return fail(n, RuleUnknownKind, fmt.Sprintf("unknown kind %q", clip(n.Value)), hint)
}

// fill sets the typed document from a value that its schema accepts, and checks
// what a schema cannot say.
func (d *Document) fill(value any) []Problem {
	raw, err := json.Marshal(value)
	if err != nil {
		return []Problem{d.problem(RuleSyntax, "the document cannot be read", "")}
	}
	var target any
	switch d.Kind {
	case KindDeployment:
		d.Deployment = &Deployment{}
		target = d.Deployment
	case KindPipeline:
		d.Pipeline = &Pipeline{}
		target = d.Pipeline
	case KindAnalysis:
		d.Analysis = &Analysis{}
		target = d.Analysis
	case KindPolicy:
		d.Policy = &Policy{}
		target = d.Policy
	default:
		d.Environment = &Environment{}
		target = d.Environment
	}
	var problems []Problem
	if err := json.Unmarshal(raw, target); err != nil {
		problems = append(problems, d.problem(RuleSyntax, "the document cannot be read", ""))
	}
	switch {
	case len(problems) > 0:
	case d.Deployment != nil:
		problems = append(d.checkArtifact(), d.checkVariables()...)
		problems = append(problems, d.checkSecrets()...)
	case d.Pipeline != nil:
		problems = append(d.checkStages(), d.checkStrategies()...)
	case d.Environment != nil:
		problems = d.checkWindows()
	case d.Analysis != nil:
		problems = d.checkMetrics()
	case d.Policy != nil:
		problems = d.checkPolicy()
	}
	if HasErrors(problems) {
		d.Deployment, d.Pipeline, d.Environment, d.Analysis, d.Policy = nil, nil, nil, nil, nil
	}
	return problems
}

// checkArtifact refuses what has the look of a URL and is none.
func (d *Document) checkArtifact() []Problem {
	artifact := d.Deployment.Spec.Module.Artifact
	u, err := url.Parse(artifact)
	bad := ""
	switch {
	case err != nil:
		bad = "is not a URL"
	case u.User != nil:
		bad = "holds credentials"
	case u.Fragment != "" || strings.Contains(artifact, "#"):
		bad = "has a fragment"
	case u.Scheme != "file" && u.Hostname() == "":
		bad = "names no host"
	case u.Scheme == "file" && (u.RawQuery != "" || strings.HasSuffix(u.Path, "/")):
		bad = "names no file"
	default:
		return nil
	}
	return []Problem{d.problem(RuleBadValue, fmt.Sprintf("artifact: %q %s", clip(artifact), bad), "", "spec", "module", "artifact")}
}

// checkVariables refuses the variables that a node sets itself.
func (d *Document) checkVariables() []Problem {
	problems := d.reserved(d.Deployment.Spec.Config.Env, "spec", "config", "env")
	for name, override := range d.Deployment.Spec.Environments {
		problems = append(problems, d.reserved(override.Config.Env, "spec", "environments", name, "config", "env")...)
	}
	return problems
}

func (d *Document) reserved(env map[string]string, path ...string) []Problem {
	var problems []Problem
	for name := range env {
		if name == "PORT" || name == "CREDENTIALS_DIRECTORY" || strings.HasPrefix(name, "HOTSWAP_") {
			message := fmt.Sprintf("the variable %s is set by the node", clip(name))
			at := append(slices.Clone(path), name)
			problems = append(problems, d.problem(RuleReservedVariable, message, "take another name", at...))
		}
	}
	return problems
}
