package approval

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheLastLineThatMatchesNamesTheOwners(t *testing.T) {
	const file = `# who is asked
*                          @acme/everybody
/deployments/              @acme/Deployers dana@example.test
/deployments/checkout.yaml @Bo @acme/sre # and nobody else
/deployments/free.yaml
`
	for path, want := range map[string][]string{
		"deployments/checkout.yaml": {"bo", "acme/sre"},
		"deployments/shop.yaml":     {"acme/deployers"},
		"deployments/free.yaml":     {},
		"pipelines/standard.yaml":   {"acme/everybody"},
	} {
		got, err := Owners([]byte(file), path)
		require.NoError(t, err)
		require.Equal(t, want, got, path)
	}
	none, err := Owners(nil, "deployments/checkout.yaml")
	require.NoError(t, err)
	require.NotNil(t, none, "nobody owns it, and that was read")
	require.Empty(t, none)
}

func TestOwnersThatCannotBeReadAreNobody(t *testing.T) {
	for says, file := range map[string]string{
		"CODEOWNERS: line 2":                "* @bo\n/a no-owner\n",
		"CODEOWNERS:2: the line has":        "* @bo\n/a " + strings.Repeat("@bo ", 10_000) + "\n",
		"bytes, and 524288 are allowed":     strings.Repeat("#\n", MaxOwnersBytes),
		"CODEOWNERS: line 1: unexpected ch": "a\x00b @bo\n",
	} {
		owners, err := Owners([]byte(file), "a")
		require.ErrorIs(t, err, ErrOwners)
		require.ErrorContains(t, err, says)
		require.Nil(t, owners)
	}
}

func FuzzOwners(f *testing.F) {
	f.Add([]byte("/deployments/ @acme/sre @bo # a comment\n"), "deployments/a.yaml")
	f.Add([]byte("a\\ b** @x\n[ @y\n***/?  z@example.test\n"), "a b")
	f.Fuzz(func(t *testing.T, file []byte, path string) {
		owners, err := Owners(file, path)
		if (owners == nil) != (err != nil) {
			t.Fatalf("%v and %v", owners, err)
		}
		for _, o := range owners {
			if o == "" || o != strings.ToLower(o) || strings.ContainsAny(o, " @\n") {
				t.Fatalf("owner %q", o)
			}
		}
	})
}
