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
func leaf(t *rapid.T) any {
	return rapid.OneOf(
		rapid.SampledFrom([]any{
			nil, true, 0, 1, -1, 1.5, 65535, 65536, 1e300, "", "a", "A", "a-", "10s", "0s", "0.0h", "1.5m30s", "supersede", "direct", "node", "rollback",
			"é", "a\x00b", "sha256:" + string(bytes.Repeat([]byte("a"), 64)), "https://example.com/a", "https://u@example.com", "file:///a b", "file:///a",
			string(bytes.Repeat([]byte("a"), 63)), string(bytes.Repeat([]byte("a"), 64)), "a\n", "10s\n",
			[]any{},
			map[string]any{},
			[]any{"a", "a"},
			[]any{"a", "b"},
		}),
		rapid.Map(rapid.String(), func(s string) any { return s }),
		rapid.Map(rapid.Float64Range(-1e6, 1e6), func(f float64) any { return f }),
	).Draw(t, "leaf")
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
