package lambda

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

const templateFile = "../../deploy/lambda/template.yaml"

// A stack is a template for given values of its parameters: what CloudFormation would make.
type stack struct {
	t          *testing.T
	parameters map[string]any
	conditions map[string]bool
	mappings   map[string]map[string]map[string]any
	resources  map[string]any
	outputs    map[string]any
}

// none is what AWS::NoValue stands for: what holds it goes.
type none struct{}

// readStack resolves the template's functions; a resource whose condition does not hold is
// left out, and the globals of SAM stay apart.
func readStack(t *testing.T, values map[string]any) (stack, map[string]any) {
	t.Helper()
	text, err := os.ReadFile(templateFile)
	require.NoError(t, err)
	return resolved(t, text, values)
}

func resolved(t *testing.T, text []byte, values map[string]any) (stack, map[string]any) {
	t.Helper()
	var template struct {
		Transform  string `yaml:"Transform"`
		Parameters map[string]struct {
			Type    string `yaml:"Type"`
			Default any    `yaml:"Default"`
		} `yaml:"Parameters"`
		Conditions map[string]yaml.Node                 `yaml:"Conditions"`
		Mappings   map[string]map[string]map[string]any `yaml:"Mappings"`
		Globals    struct {
			Function yaml.Node `yaml:"Function"`
		} `yaml:"Globals"`
		Resources map[string]yaml.Node `yaml:"Resources"`
		Outputs   map[string]yaml.Node `yaml:"Outputs"`
	}
	require.NoError(t, yaml.Unmarshal(text, &template))
	require.Equal(t, "AWS::Serverless-2016-10-31", template.Transform)
	s := stack{t: t, parameters: map[string]any{}, conditions: map[string]bool{}, mappings: template.Mappings, resources: map[string]any{}, outputs: map[string]any{}}
	for name, p := range template.Parameters {
		value, given := values[name]
		if !given {
			value = p.Default
		}
		require.NotNil(t, value, "parameter %s has no value", name)
		if text, ok := value.(string); ok && p.Type == "CommaDelimitedList" {
			value = list(strings.Split(text, ","))
		}
		s.parameters[name] = value
	}
	for name, n := range template.Conditions {
		s.conditions[name], _ = s.resolve(&n).(bool)
	}
	for name := range template.Resources {
		s.resources[name] = nil // so that a reference finds it
	}
	for name, n := range template.Resources {
		r, ok := s.resolve(&n).(map[string]any)
		require.True(t, ok, name)
		s.resources[name] = r
	}
	for name, n := range template.Outputs {
		s.outputs[name] = s.resolve(&n)
	}
	maps.DeleteFunc(s.resources, func(_ string, r any) bool {
		condition, ok := at(r, "Condition").(string)
		return ok && !s.condition(condition)
	})
	globals, ok := s.resolve(&template.Globals.Function).(map[string]any)
	require.True(t, ok)
	return s, globals
}

func list(texts []string) []any {
	out := []any{}
	for _, text := range texts {
		out = append(out, text)
	}
	return out
}

func (s stack) condition(name string) bool {
	holds, ok := s.conditions[name]
	require.True(s.t, ok, "there is no condition %s", name)
	return holds
}

func (s stack) resolve(n *yaml.Node) any {
	if strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!") {
		plain := *n
		plain.Tag = ""
		return s.call(n.Tag[1:], s.resolve(&plain))
	}
	switch n.Kind {
	case yaml.MappingNode:
		out := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			if v := s.resolve(n.Content[i+1]); v != (none{}) {
				out[n.Content[i].Value] = v
			}
		}
		return out
	case yaml.SequenceNode:
		out := []any{}
		for _, c := range n.Content {
			if v := s.resolve(c); v != (none{}) {
				out = append(out, v)
			} else if n.Tag == "" { // the arguments of a function, which count
				out = append(out, v)
			}
		}
		return out
	default:
		var v any
		require.NoError(s.t, n.Decode(&v), "line %d", n.Line)
		return v
	}
}

// call resolves a function of CloudFormation: those that the template uses.
func (s stack) call(name string, v any) any {
	args, _ := v.([]any)
	switch name {
	case "Ref":
		return s.ref(fmt.Sprint(v))
	case "GetAtt":
		of, attribute, ok := strings.Cut(fmt.Sprint(v), ".")
		require.True(s.t, ok)
		s.known(of)
		return "arn:" + of + "." + attribute
	case "Sub":
		names := map[string]any{}
		if args != nil {
			names, _ = args[1].(map[string]any)
			v = args[0]
		}
		return variable.ReplaceAllStringFunc(fmt.Sprint(v), func(m string) string {
			if value, ok := names[m[2:len(m)-1]]; ok {
				return fmt.Sprint(value)
			}
			return fmt.Sprint(s.ref(m[2 : len(m)-1]))
		})
	case "If":
		if s.condition(fmt.Sprint(args[0])) {
			return args[1]
		}
		return args[2]
	case "Equals":
		return args[0] == args[1]
	case "Not":
		return args[0] != true
	case "Join":
		var texts []string
		parts, _ := args[1].([]any)
		for _, p := range parts {
			texts = append(texts, fmt.Sprint(p))
		}
		return strings.Join(texts, fmt.Sprint(args[0]))
	case "FindInMap":
		found, ok := s.mappings[fmt.Sprint(args[0])][fmt.Sprint(args[1])][fmt.Sprint(args[2])]
		require.True(s.t, ok, "%v is in no mapping", args)
		return found
	default:
		require.Failf(s.t, "unknown function", "!%s", name)
		return nil
	}
}

var variable = regexp.MustCompile(`\$\{[A-Za-z0-9:]+\}`)

// ref is the value of a parameter, or a name for what the stack would make.
func (s stack) ref(name string) any {
	if v, ok := s.parameters[name]; ok {
		return v
	}
	switch name {
	case "AWS::NoValue":
		return none{}
	case "AWS::StackName":
		return "hotswap"
	case "AWS::Partition":
		return "aws"
	case "AWS::Region":
		return "eu-west-1"
	case "AWS::AccountId":
		return "123456789012"
	case "AWS::URLSuffix":
		return "amazonaws.com"
	}
	s.known(name)
	return name
}

func (s stack) known(resource string) {
	if _, ok := s.resources[resource]; !ok {
		require.Failf(s.t, "unknown name", "there is no parameter or resource %s", resource)
	}
}

// at returns what lies below keys.
func at(v any, keys ...string) any {
	for _, k := range keys {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}

// of returns the names of the resources of a type, sorted.
func (s stack) of(kind string) []string {
	return slices.Sorted(func(yield func(string) bool) {
		for name, r := range maps.All(s.resources) {
			if at(r, "Type") == kind && !yield(name) {
				return
			}
		}
	})
}
