package schemas_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/schemas"
)

var update = flag.Bool("update", false, "write docs/reference/kinds.md instead of comparing with it")

// raw returns a kind's schema as plain JSON.
func raw(t *testing.T, kind string) map[string]any {
	t.Helper()
	var v map[string]any
	require.NoError(t, json.Unmarshal(schemas.Source(kind), &v))
	return v
}

// each calls visit for every schema below v, with the place where it stands.
func each(v any, at string, visit func(at string, schema map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v["type"].(string); ok {
			visit(at, v)
		}
		for k, c := range v {
			if k != "examples" && k != "default" {
				each(c, at+"/"+k, visit)
			}
		}
	case []any:
		for i, c := range v {
			each(c, fmt.Sprintf("%s/%d", at, i), visit)
		}
	}
}

func TestEverySchemaIsDraft7AndNamesItself(t *testing.T) {
	for _, kind := range schemas.Kinds() {
		v := raw(t, kind)
		require.Equal(t, "http://json-schema.org/draft-07/schema#", v["$schema"])
		require.Equal(t, "https://hotswap.dev/schemas/"+schemas.FileName(kind), v["$id"])
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemas.Source(kind)))
		require.NoError(t, err)
		c := jsonschema.NewCompiler()
		require.NoError(t, c.AddResource("s.json", document))
		_, err = c.Compile("s.json") // validates against the draft's own schema
		require.NoError(t, err)
		require.NotContains(t, string(schemas.Source(kind)), `"$ref": "http`)
	}
}

func TestEverySchemaIsBoundedAndClosed(t *testing.T) {
	for _, kind := range schemas.Kinds() {
		each(raw(t, kind), kind, func(at string, s map[string]any) {
			switch s["type"] {
			case "string":
				require.Contains(t, s, "maxLength", at)
			case "array":
				require.Contains(t, s, "maxItems", at)
				require.Contains(t, s, "items", at)
			case "integer", "number":
				require.Contains(t, s, "minimum", at)
				require.Contains(t, s, "maximum", at)
			case "object":
				if s["additionalProperties"] != false {
					require.IsType(t, map[string]any{}, s["additionalProperties"], at)
					require.Contains(t, s, "maxProperties", at)
					require.Contains(t, s, "propertyNames", at)
				}
			}
		})
	}
}

func TestEveryFieldExplainsItselfAndItsExamplesAreValid(t *testing.T) {
	for _, kind := range schemas.Kinds() {
		all := raw(t, kind)
		each(all, kind, func(at string, s map[string]any) {
			if strings.HasSuffix(at, "/propertyNames") {
				return
			}
			require.NotEmpty(t, s["title"], at)
			require.NotEmpty(t, s["description"], at)
			require.NotEmpty(t, s["examples"], at)
			sub := map[string]any{"definitions": all["definitions"]}
			for k, v := range s {
				if k != "$id" {
					sub[k] = v
				}
			}
			if all["definitions"] == nil {
				delete(sub, "definitions")
			}
			c := jsonschema.NewCompiler()
			require.NoError(t, c.AddResource("s.json", reread(t, sub)))
			compiled, err := c.Compile("s.json")
			require.NoError(t, err, at)
			for _, e := range s["examples"].([]any) {
				require.NoError(t, compiled.Validate(reread(t, e)), at)
			}
			if d, ok := s["default"]; ok {
				require.NoError(t, compiled.Validate(reread(t, d)), at)
			}
		})
	}
}

func reread(t *testing.T, v any) any {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	require.NoError(t, err)
	return out
}

// withoutDefault are the optional fields whose absence means something that no
// value says.
func withoutDefault(path string) bool {
	for _, end := range []string{
		".tenant", ".port", ".resources.memory", ".resources.cpu", ".clusterLabel", ".prometheus", ".gates.approval", "stages[].concurrency",
		".strategy.maxUnavailable", ".strategy.stabilization", ".strategy.analysis", ".strategy.waves", ".strategy.smoke",
		".all", ".any", ".team", ".user",
	} {
		if strings.HasSuffix(path, end) {
			return true
		}
	}
	return path == "deployment.spec.module.signature" || path == "deployment.spec.module.size"
}

// walk calls visit for every field of a kind.
func walk(t *testing.T, f schemas.Field, visit func(schemas.Field)) {
	t.Helper()
	visit(f)
	for _, c := range f.Fields {
		steps := strings.Split(strings.ReplaceAll(c.Path, "[]", ".[]"), ".")
		full, err := schemas.Lookup(steps[0], steps[1:]...)
		require.NoError(t, err)
		walk(t, full, visit)
	}
}

func TestEveryOptionalFieldSaysItsDefault(t *testing.T) {
	for _, kind := range schemas.Kinds() {
		f, err := schemas.Lookup(kind)
		require.NoError(t, err)
		walk(t, f, func(f schemas.Field) {
			if f.Required || strings.HasSuffix(f.Path, "[]") || strings.Contains(f.Base(), "NAME") || withoutDefault(f.Path) {
				return
			}
			require.NotEmpty(t, f.Default, f.Path)
		})
	}
}

func TestAFieldIsFoundByItsPath(t *testing.T) {
	f, err := schemas.Lookup("deployment", "spec", "module")
	require.NoError(t, err)
	require.Equal(t, "deployment.spec.module", f.Path)
	require.Equal(t, "module", f.Base())
	require.True(t, f.Required)
	require.Equal(t, "deployment.spec.module.artifact", f.Fields[0].Path)

	f, err = schemas.Lookup("Deployment", "spec", "environments", "production", "config", "health", "interval")
	require.NoError(t, err)
	require.Equal(t, `"1s"`, string(f.Default))

	f, err = schemas.Lookup("pipeline", "spec", "stages", "3", "strategy", "type")
	require.NoError(t, err)
	require.Equal(t, "pipeline.spec.stages[].strategy.type", f.Path)
	require.Len(t, f.Allowed, 4)

	_, err = schemas.Lookup("pipeline", "spec", "gates")
	require.ErrorIs(t, err, schemas.ErrUnknown)
	require.ErrorContains(t, err, `pipeline.spec has no "gates"; it has concurrency, stages`)
	f, err = schemas.Lookup("pipeline", "spec", "stages", "needs")
	require.NoError(t, err)
	require.Equal(t, "pipeline.spec.stages[].needs", f.Path)
	_, err = schemas.Lookup("pipeline", "spec", "stages", "needs", "bogus")
	require.ErrorIs(t, err, schemas.ErrUnknown)
	_, err = schemas.Lookup("secret")
	require.ErrorIs(t, err, schemas.ErrUnknown)
}

func TestTheReferenceOfTheKindsIsCurrent(t *testing.T) {
	const file = "../docs/reference/kinds.md"
	var b strings.Builder
	b.WriteString("# Kinds\n\nMade from `schemas/` by `go test ./schemas -update`. `hotswap explain FIELD` prints the same.\n\n" +
		"A file holds one document, lies directly in the folder of its kind, and is called like it: `deployments/shop.yaml`,\n" +
		"`pipelines/standard.yaml`, `environments/production.yaml`, `analyses/standard.yaml`, `policies/production.yaml`. What is not in these tables is refused.\n\n" +
		"For an editor, put this on the first line: `# yaml-language-server: $schema=https://hotswap.dev/schemas/deployment.v1.json`\n" +
		"(or the path of a copy of `schemas/deployment.v1.json`).\n")
	for _, kind := range schemas.Kinds() {
		root, err := schemas.Lookup(kind)
		require.NoError(t, err)
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| Field | Type | Required, default | Meaning |\n|---|---|---|---|\n", kind, root.Description)
		walk(t, root, func(f schemas.Field) {
			if f.Path != root.Path {
				b.WriteString(row(f))
			}
		})
	}
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(b.String()), 0o644))
	}
	got, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, b.String(), string(got))
}

func row(f schemas.Field) string {
	_, path, _ := strings.Cut(f.Path, ".")
	need := "required"
	if !f.Required {
		need = ""
		if len(f.Default) > 0 {
			need = "`" + string(f.Default) + "`"
		}
	}
	meaning := f.Description
	if len(f.Allowed) > 0 {
		var values []string
		for _, a := range f.Allowed {
			values = append(values, "`"+string(a)+"`")
		}
		meaning += " One of: " + strings.Join(values, ", ") + "."
	}
	if len(f.Examples) > 0 && f.Type != "object" && f.Type != "array" {
		meaning += " Example: `" + string(f.Examples[0]) + "`."
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s |\n", path, f.Type, need, strings.ReplaceAll(meaning, "|", "\\|"))
}
