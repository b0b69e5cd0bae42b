package intent_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/intent"
)

func FuzzDecode(f *testing.F) {
	f.Add([]byte(everyField))
	f.Add([]byte("\uFEFFa: \"b\\\n  c\"\r\n"))
	files, err := filepath.Glob("testdata/problems/*.txtar")
	require.NoError(f, err)
	for _, file := range append(files, "testdata/base.txtar") {
		archive, err := txtar.ParseFile(file)
		require.NoError(f, err)
		for _, a := range archive.Files {
			if a.Name != wantFile {
				f.Add(a.Data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, problems := intent.Decode("deployments/a.yaml", data)
		require.Equal(t, !d.Valid(), intent.HasErrors(problems))
		requireInside(t, intent.Tree{"deployments/a.yaml": []byte(strings.ToValidUTF8(string(data), "\uFFFD"))}, problems)
		if !d.Valid() {
			return
		}
		again, problems := intent.Decode("deployments/a.yaml", encode(t, d))
		require.False(t, intent.HasErrors(problems), "%v", problems)
		require.Equal(t, encode(t, d), encode(t, again))
	})
}

// encode writes a valid document as JSON in which everything that is not
// printable ASCII is escaped as YAML does it, so that it is YAML too.
func encode(t testing.TB, d intent.Document) []byte {
	t.Helper()
	var spec any
	switch {
	case d.Deployment != nil:
		spec = d.Deployment.Spec
	case d.Pipeline != nil:
		spec = d.Pipeline.Spec
	case d.Analysis != nil:
		spec = d.Analysis.Spec
	case d.Policy != nil:
		spec = d.Policy.Spec
	default:
		spec = d.Environment.Spec
	}
	raw, err := json.Marshal(map[string]any{"apiVersion": intent.APIVersion, "kind": d.Kind, "metadata": d.Metadata(), "spec": spec})
	require.NoError(t, err)
	var b strings.Builder
	for _, r := range string(raw) {
		if r < 0x7f {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "\\U%08x", r)
		}
	}
	return []byte(b.String())
}

func FuzzCheckTree(f *testing.F) {
	base := baseTree(f)
	f.Add("deployments/checkout.yaml", base["deployments/checkout.yaml"], base["pipelines/two-steps.yaml"], base["environments/staging.yaml"])
	f.Add("pipelines/standard.yaml", base["pipelines/two-steps.yaml"], base["deployments/checkout.yaml"], []byte("a: b"))
	f.Add("deployments/../x.yaml", []byte("kind: Deployment"), []byte(""), []byte("- a"))
	f.Fuzz(func(t *testing.T, path string, a, b, c []byte) {
		tree := intent.Tree{
			path: a, "pipelines/two-steps.yaml": b, "environments/staging.yaml": c,
			"environments/production.yaml": base["environments/production.yaml"],
		}
		set, problems := intent.CheckTree(tree, "shop")
		valid := intent.Tree{}
		for p, data := range tree {
			valid[p] = []byte(strings.ToValidUTF8(string(data), "\uFFFD"))
		}
		requireInside(t, valid, problems)
		for name := range set.Deployments {
			s, err := set.Snapshot(name)
			require.Equal(t, intent.HasErrors(set.Problems(name)), err != nil)
			if err == nil {
				d, err := s.Digest()
				require.NoError(t, err)
				require.Regexp(t, "^sha256:[0-9a-f]{64}$", d)
			}
		}
	})
}
