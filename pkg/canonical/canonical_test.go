package canonical_test

import (
	"encoding/json"
	"math"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hotswap.dev/hotswap/pkg/canonical"
)

// vectors are RFC 8785's own (appendix B, sections 3.2.2 and 3.2.3), and ours
// for digests, which were computed with another program.
type vectors struct {
	Numbers []struct {
		IEEE754 string `json:"ieee754"`
		JSON    string `json:"json"` // "" for what has none
	} `json:"numbers"`
	Texts []struct {
		Name   string `json:"name"`
		Input  string `json:"input"`
		Output string `json:"output"`
	} `json:"texts"`
	Digests []struct {
		Domain string `json:"domain"`
		Input  string `json:"input"`
		Digest string `json:"digest"`
	} `json:"digests"`
}

func read(t *testing.T) vectors {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	require.NoError(t, err)
	var v vectors
	require.NoError(t, json.Unmarshal(b, &v))
	require.NotEmpty(t, v.Numbers)
	require.NotEmpty(t, v.Texts)
	require.NotEmpty(t, v.Digests)
	return v
}

func TestNumbersAreWrittenAsTheRFCSays(t *testing.T) {
	for _, n := range read(t).Numbers {
		bits, err := strconv.ParseUint(n.IEEE754, 16, 64)
		require.NoError(t, err)
		got, err := canonical.JSON(math.Float64frombits(bits))
		if n.JSON == "" {
			require.Error(t, err, n.IEEE754)
			continue
		}
		require.NoError(t, err, n.IEEE754)
		require.Equal(t, n.JSON, string(got), n.IEEE754)
	}
}

func TestDocumentsAreWrittenAsTheRFCSays(t *testing.T) {
	for _, c := range read(t).Texts {
		got, err := canonical.JSON(json.RawMessage(c.Input))
		require.NoError(t, err, c.Name)
		require.Equal(t, c.Output, string(got), c.Name)
	}
}

func TestDigestsAreThoseOfAnotherProgram(t *testing.T) {
	for _, c := range read(t).Digests {
		got, err := canonical.Digest(c.Domain, json.RawMessage(c.Input))
		require.NoError(t, err)
		require.Equal(t, c.Digest, got, "%s %s", c.Domain, c.Input)
	}
}

func TestWhatIsNoJSONHasNoDigest(t *testing.T) {
	_, err := canonical.Digest("d", make(chan int))
	require.ErrorContains(t, err, "canonical JSON")
	_, err = canonical.JSON(json.RawMessage(`{"a":1,"a":2}`))
	require.ErrorContains(t, err, "canonical JSON", "a key twice")
}

func TestCanonicalBytesAreTheSameForEveryWayOfWritingThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.MapOf(rapid.String(), rapid.Float64Range(-1e15, 1e15)).Draw(t, "value")
		once, err := canonical.JSON(v)
		require.NoError(t, err)
		indented, err := json.MarshalIndent(v, " ", "\t")
		require.NoError(t, err)
		again, err := canonical.JSON(json.RawMessage(indented))
		require.NoError(t, err)
		require.Equal(t, string(once), string(again))
		var back map[string]float64
		require.NoError(t, json.Unmarshal(once, &back))
		require.Equal(t, len(v), len(back))
	})
}
