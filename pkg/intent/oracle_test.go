package intent_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"github.com/xeipuuv/gojsonschema"
	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"

	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/schemas"
)

// verdicts holds each kind's schema as compiled by the library in use and by
// the oracle.
type verdicts struct {
	used   map[string]*gojsonschema.Schema
	oracle map[string]*jsonschema.Schema
}

func compileBoth(t testing.TB) verdicts {
	t.Helper()
	v := verdicts{map[string]*gojsonschema.Schema{}, map[string]*jsonschema.Schema{}}
	for _, kind := range schemas.Kinds() {
		used, err := gojsonschema.NewSchema(gojsonschema.NewBytesLoader(schemas.Source(kind)))
		require.NoError(t, err)
		v.used[kind] = used
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemas.Source(kind)))
		require.NoError(t, err)
		compiler := jsonschema.NewCompiler()
		require.NoError(t, compiler.AddResource(schemas.FileName(kind), document))
		v.oracle[kind], err = compiler.Compile(schemas.FileName(kind))
		require.NoError(t, err)
	}
	return v
}

// same fails when the two libraries differ about a document, and returns their verdict.
func (v verdicts) same(t require.TestingT, kind string, raw []byte) bool {
	result, err := v.used[kind].Validate(gojsonschema.NewBytesLoader(raw))
	require.NoError(t, err)
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	require.NoError(t, err)
	oracle := v.oracle[kind].Validate(instance)
	require.Equal(t, oracle == nil, result.Valid(), "%s %s\noracle: %v\nused: %v", kind, raw, oracle, result.Errors())
	return result.Valid()
}

func TestCompilingTheSchemasAsksNobody(t *testing.T) {
	former := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = former })
	http.DefaultTransport = refuse{t}
	_, err := intent.NewValidator()
	require.NoError(t, err)
}

type refuse struct{ t *testing.T }

func (r refuse) RoundTrip(q *http.Request) (*http.Response, error) {
	r.t.Errorf("%s was fetched", q.URL)
	return nil, http.ErrAbortHandler
}

// corpus returns documents as JSON: those of the cases, and the examples of the schemas.
func corpus(t testing.TB) map[string][][]byte {
	t.Helper()
	out := map[string][][]byte{}
	files, err := filepath.Glob("testdata/problems/*.txtar")
	require.NoError(t, err)
	for _, file := range append(files, "testdata/base.txtar") {
		archive, err := txtar.ParseFile(file)
		require.NoError(t, err)
		for _, f := range archive.Files {
			var v map[string]any
			if f.Name == wantFile || yaml.Unmarshal(f.Data, &v) != nil {
				continue
			}
			raw, err := json.Marshal(v)
			if err != nil {
				continue
			}
			for _, kind := range schemas.Kinds() { // each document by each schema: most are invalid, and must be for both
				out[kind] = append(out[kind], raw)
			}
		}
	}
	for _, kind := range schemas.Kinds() {
		field, err := schemas.Lookup(kind)
		require.NoError(t, err)
		for _, e := range field.Examples {
			out[kind] = append(out[kind], e)
		}
	}
	return out
}

func TestTheOracleAgreesOverTheCorpus(t *testing.T) {
	both := compileBoth(t)
	for kind, documents := range corpus(t) {
		valid := 0
		for _, raw := range documents {
			if both.same(t, kind, raw) {
				valid++
			}
		}
		require.Positive(t, valid, kind)
		require.Less(t, valid, len(documents), kind)
	}
	valid, err := os.ReadFile("testdata/release-digests.json")
	require.NoError(t, err)
	require.False(t, both.same(t, intent.KindDeployment, valid), "a document of another shape")
}

func TestTheOracleAgreesOverGeneratedDocuments(t *testing.T) {
	both := compileBoth(t)
	seeds := corpus(t)
	verdict := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom(schemas.Kinds()).Draw(t, "kind")
		field, err := schemas.Lookup(kind)
		require.NoError(t, err)
		seed := rapid.SampledFrom(append([][]byte{field.Examples[0]}, seeds[kind]...)).Draw(t, "seed")
		if rapid.Bool().Draw(t, "from the example") {
			seed = field.Examples[0]
		}
		var v any
		require.NoError(t, json.Unmarshal(seed, &v))
		for range rapid.IntRange(0, 3).Draw(t, "mutations") {
			v = mutate(t, v)
		}
		raw, err := json.Marshal(v)
		require.NoError(t, err)
		verdict[both.same(t, kind, raw)]++
	})
	require.Positive(t, verdict[true])
	require.Positive(t, verdict[false])
}

// leaves are the values that a mutation puts somewhere: of every type, at and
// beyond the limits.
func leaves() []any {
	a := func(n int) string { return strings.Repeat("a", n) }
	return []any{
		nil, true, 0, 1, -1, 1.5, 65535, 65536, 1 << 40, 1<<40 + 1, 1e300, "", "a", "A", "a-", "-a", "a.b", "a_b", "10s", "0s", "0.0h", "1.5m30s", "10",
		"supersede", "direct", "node", "rollback", "fail", "hotswap.dev/v1", "Pipeline", "é", "a\x00b", "a\n", "10s\n", "a b", "/", "/a b", "//",
		"sha256:" + a(64), "sha256:" + a(63), "sha256:" + a(64) + "\n", "ed25519:" + a(86) + "==", "https://example.com/a", "https://u@example.com", "http://[::1]:80/",
		"file:///a b", "file:///a", "file://h/a", a(63), a(64), a(127), a(128), a(129), a(256), a(257), a(4096), a(4097), a(32768), a(32769),
		strings.Repeat("é", 128), "/" + a(255), "/" + a(256), "https://example.com/" + a(2028), "https://example.com/" + a(2029),
		[]any{},
		map[string]any{},
		[]any{"a", "a"},
		[]any{"a", "b"},
		[]any{1},
		map[string]any{"a": "b"},
		map[string]any{"9": "b"},
		map[string]any{"a": 1},
		map[string]any{"": "b"},
		list(32), list(33), list(256), list(257), table(32), table(33), table(64), table(65), table(256), table(257), empties(64), empties(65),
	}
}

// list returns n different names.
func list(n int) []any {
	var out []any
	for i := range n {
		out = append(out, "a"+strconv.Itoa(i))
	}
	return out
}

// table returns a map with n names.
func table(n int) map[string]any {
	out := map[string]any{}
	for _, k := range list(n) {
		out[k.(string)] = "b"
	}
	return out
}

// empties returns a map of n empty maps.
func empties(n int) map[string]any {
	out := table(n)
	for k := range out {
		out[k] = map[string]any{}
	}
	return out
}

func leaf(t *rapid.T) any {
	return rapid.OneOf(
		rapid.SampledFrom(leaves()),
		rapid.Map(rapid.String(), func(s string) any { return s }),
		rapid.Map(rapid.Float64Range(-1e6, 1e6), func(f float64) any { return f }),
	).Draw(t, "leaf")
}

// full returns a document of each kind in which every field is written.
func full(t testing.TB) map[string]any {
	t.Helper()
	out := map[string]any{}
	for kind, text := range map[string]string{
		intent.KindDeployment: strings.Replace(everyField, "{config: {args: [],", "{config: {args: [x], drain: 1s, port: 1, health: {path: /, interval: 1s, timeout: 1s, startWithin: 1s},", 1),
		intent.KindPipeline: "{apiVersion: hotswap.dev/v1, kind: Pipeline, metadata: {name: a, tenant: b}, spec: {concurrency: supersede, stages: [" +
			"{name: a, needs: [b], environment: a, strategy: {type: direct, healthyFor: 1s, deadline: 1s}, onFailure: {action: fail}}, {name: b, environment: b, strategy: {type: direct}}]}}",
		intent.KindEnvironment: "{apiVersion: hotswap.dev/v1, kind: Environment, metadata: {name: a, tenant: b}, spec: {target: node, selector: {a: b}}}",
	} {
		_, problems := intent.Decode("a.yaml", []byte(text))
		require.Empty(t, problems)
		var v map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(text), &v))
		raw, err := json.Marshal(v)
		require.NoError(t, err)
		var plain any
		require.NoError(t, json.Unmarshal(raw, &plain))
		out[kind] = plain
	}
	return out
}

// replaced calls visit with every document that differs from v in one place:
// without it, with another name, with another value. Visit must not keep it.
func replaced(v any, values []any, visit func()) {
	each := func(get func() any, set func(any)) {
		former := get()
		for _, l := range values {
			set(l)
			visit()
		}
		set(former)
		replaced(former, values, visit)
	}
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			former := v[k]
			delete(v, k)
			visit()
			for _, other := range []string{"", "a", k + "x", k + ".", "9", strings.Repeat("k", 63), strings.Repeat("k", 64), strings.Repeat("k", 129)} {
				v[other] = former
				visit()
				delete(v, other)
			}
			v[k] = former
			each(func() any { return v[k] }, func(l any) { v[k] = l })
		}
	case []any:
		for i := range v {
			each(func() any { return v[i] }, func(l any) { v[i] = l })
		}
	}
}

func TestTheOracleAgreesOverEveryValueInEveryField(t *testing.T) {
	both := compileBoth(t)
	for kind, document := range full(t) {
		verdict := map[bool]int{}
		replaced(document, leaves(), func() {
			raw, err := json.Marshal(document)
			require.NoError(t, err)
			verdict[both.same(t, kind, raw)]++
		})
		require.Greater(t, verdict[true], 20, kind)
		require.Greater(t, verdict[false], 300, kind)
	}
}

// mutate changes one place of a document: replaces, removes, adds or renames.
func mutate(t *rapid.T, v any) any {
	switch v := v.(type) {
	case map[string]any:
		keys := slices.Sorted(maps.Keys(v))
		v = maps.Clone(v)
		if len(keys) == 0 || rapid.IntRange(0, 9).Draw(t, "add") == 0 {
			v[rapid.SampledFrom([]string{"a", "A.b", "LOG", "9x", "config", "size", "needs", "bogus", ""}).Draw(t, "key")] = leaf(t)
			return v
		}
		k := rapid.SampledFrom(keys).Draw(t, "key")
		switch rapid.IntRange(0, 9).Draw(t, "what") {
		case 0:
			delete(v, k)
		case 1:
			v[k+rapid.SampledFrom([]string{"x", "_", "-"}).Draw(t, "suffix")] = v[k]
		case 2:
			v[k] = leaf(t)
		default:
			v[k] = mutate(t, v[k])
		}
		return v
	case []any:
		if len(v) == 0 || rapid.IntRange(0, 4).Draw(t, "grow") == 0 {
			n := rapid.SampledFrom([]int{1, 2, 33}).Draw(t, "by")
			for i := range n {
				v = append(slices.Clone(v), strconv.Itoa(i))
			}
			return v
		}
		v = slices.Clone(v)
		i := rapid.IntRange(0, len(v)-1).Draw(t, "index")
		v[i] = mutate(t, v[i])
		return v
	}
	return leaf(t)
}
