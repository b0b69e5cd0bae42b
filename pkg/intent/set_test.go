package intent_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pipelines"
	"hotswap.dev/hotswap/pkg/intent"
)

// twoDeployments is the base tree with a second deployment, "cart", which has a
// pipeline of its own that ends in staging.
func twoDeployments(t *testing.T) intent.Tree {
	tree := baseTree(t)
	tree["deployments/cart.yaml"] = []byte(strings.NewReplacer("{name: checkout, ", "{name: cart, ", "production", "staging", "two-steps", "short").
		Replace(string(tree["deployments/checkout.yaml"])))
	tree["pipelines/short.yaml"] = []byte("apiVersion: hotswap.dev/v1\nkind: Pipeline\nmetadata: {name: short}\nspec:\n  stages:\n" +
		"    - {name: staging, environment: staging, strategy: {type: direct}}\n")
	_, problems := intent.CheckTree(tree, "shop")
	require.Empty(t, text(problems))
	return tree
}

func rules(problems []intent.Problem) []string {
	var out []string
	for _, p := range problems {
		out = append(out, p.File+" "+p.Rule)
	}
	return out
}

func TestABadDocumentRefusesOnlyWhatDependsOnIt(t *testing.T) {
	cases := map[string]struct {
		file           string
		checkout, cart []string
	}{
		"a deployment refuses itself":                      {"deployments/checkout.yaml", []string{"deployments/checkout.yaml unknown-field"}, nil},
		"a pipeline refuses the deployments that take it":  {"pipelines/two-steps.yaml", []string{"pipelines/two-steps.yaml unknown-field"}, nil},
		"an environment refuses the deployments it is for": {"environments/production.yaml", []string{"environments/production.yaml unknown-field"}, nil},
		"a shared environment refuses both": {
			"environments/staging.yaml",
			[]string{"environments/staging.yaml unknown-field"},
			[]string{"environments/staging.yaml unknown-field"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			tree := twoDeployments(t)
			tree[c.file] = append(slices.Clone(tree[c.file]), "bogus: 1\n"...)
			set, all := intent.CheckTree(tree, "shop")
			require.Equal(t, []string{c.file + " unknown-field"}, rules(all))
			require.Equal(t, c.checkout, rules(set.Problems("checkout")))
			require.Equal(t, c.cart, rules(set.Problems("cart")))
			for deployment, problems := range map[string][]string{"checkout": c.checkout, "cart": c.cart} {
				_, err := set.Snapshot(deployment)
				if problems == nil {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, intent.ErrInvalid)
				}
			}
		})
	}
}

func TestAnEnvironmentThatIsMissingRefusesThePipelinesDeployments(t *testing.T) {
	tree := twoDeployments(t)
	delete(tree, "environments/production.yaml")
	set, _ := intent.CheckTree(tree, "shop")
	require.True(t, intent.HasErrors(set.Problems("checkout")))
	require.Empty(t, set.Problems("cart"))
}

func TestTheBuiltInPipelineIsThereUnlessTheRepositoryHasItsOwn(t *testing.T) {
	tree := baseTree(t)
	tree["deployments/checkout.yaml"] = []byte(strings.ReplaceAll(string(tree["deployments/checkout.yaml"]), "two-steps", "standard"))
	for _, e := range []string{"development", "qa"} {
		tree["environments/"+e+".yaml"] = []byte(strings.ReplaceAll(string(tree["environments/staging.yaml"]), "staging", e))
	}
	set, problems := intent.CheckTree(tree, "shop")
	require.Empty(t, text(problems))
	s, err := set.Snapshot("checkout")
	require.NoError(t, err)
	require.Len(t, s.Pipeline.Spec.Stages, 4)

	tree["pipelines/standard.yaml"] = []byte(strings.ReplaceAll(string(tree["pipelines/two-steps.yaml"]), "two-steps", "standard"))
	set, problems = intent.CheckTree(tree, "shop")
	require.Empty(t, text(problems))
	s, err = set.Snapshot("checkout")
	require.NoError(t, err)
	require.Len(t, s.Pipeline.Spec.Stages, 2)

	tree["pipelines/standard.yaml"] = []byte("kind: Pipeline\n")
	set, _ = intent.CheckTree(tree, "shop")
	_, err = set.Snapshot("checkout")
	require.ErrorIs(t, err, intent.ErrInvalid, "a broken pipeline of the repository is not replaced by the built-in one")
}

func TestEveryBuiltInPipelineIsValid(t *testing.T) {
	for name, data := range pipelines.BuiltIn() {
		d, problems := intent.Decode("pipelines/"+name+".yaml", data)
		require.Empty(t, text(problems))
		require.Equal(t, name, d.Pipeline.Metadata.Name)
	}
}

func TestABrokenPolicyThatNobodyAsksForRefusesNothing(t *testing.T) {
	tree := baseTree(t)
	tree["policies/production.yaml"] = []byte("approvals: 2\n")
	set, problems := intent.CheckTree(tree, "shop")
	require.Equal(t, []string{"policies/production.yaml missing-field"}, rules(problems))
	_, err := set.Snapshot("checkout")
	require.NoError(t, err)
}

func TestOtherFilesOfTheRepositoryAreNotRead(t *testing.T) {
	tree := baseTree(t)
	for _, p := range []string{"README.md", "deployments/README.md", "src/deployments/a.yaml", "docker-compose.yaml", "deploymentsX/a.yaml"} {
		tree[p] = []byte(": : :")
	}
	_, problems := intent.CheckTree(tree, "shop")
	require.Empty(t, text(problems))
}

func TestATreeBeyondTheLimitsIsRefusedAsAWhole(t *testing.T) {
	many, large := intent.Tree{}, intent.Tree{}
	for i := range intent.MaxFiles + 1 {
		many[fmt.Sprintf("deployments/a%d.yaml", i)] = nil
	}
	for i := range intent.MaxTreeBytes/intent.MaxFileBytes + 1 {
		large[fmt.Sprintf("deployments/a%d.yaml", i)] = make([]byte, intent.MaxFileBytes)
	}
	for rule, tree := range map[string]intent.Tree{intent.RuleTooMany: many, intent.RuleTooLarge: large} {
		maps.Copy(tree, baseTree(t))
		set, problems := intent.CheckTree(tree, "shop")
		require.Len(t, problems, 1)
		require.Equal(t, rule, problems[0].Rule)
		_, err := set.Snapshot("checkout")
		require.ErrorIs(t, err, intent.ErrInvalid)
	}
}

func TestWithoutATenantTheDocumentsOwnIsTaken(t *testing.T) {
	set, problems := intent.CheckTree(baseTree(t), "")
	require.Empty(t, problems)
	s, err := set.Snapshot("checkout")
	require.NoError(t, err)
	require.Equal(t, "shop", s.Tenant)
}

func TestKeptDocumentsGiveTheSameAnswerAsTheirBytes(t *testing.T) {
	tree := twoDeployments(t)
	tree["deployments/bad.yaml"] = []byte("kind: Deployment\n")
	var files []intent.File
	for p, data := range tree {
		d, problems := intent.Decode(p, data)
		files = append(files, intent.File{Document: d, Problems: problems})
	}
	wantSet, want := intent.CheckTree(tree, "shop")
	for range 2 { // the second time nothing may have been changed by the first
		gotSet, got := intent.CheckDocuments(files, "shop")
		require.Equal(t, want, got)
		require.Equal(t, wantSet, gotSet)
	}
}

func TestAnUnknownDeploymentHasNoSnapshot(t *testing.T) {
	set, _ := intent.CheckTree(baseTree(t), "shop")
	_, err := set.Snapshot("nothing")
	require.ErrorIs(t, err, intent.ErrUnknownDeployment)
}
