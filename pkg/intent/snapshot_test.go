package intent_test

import (
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/intent"
)

func snapshot(t *testing.T, tree intent.Tree, tenant string) intent.Snapshot {
	t.Helper()
	set, problems := intent.CheckTree(tree, tenant)
	require.Empty(t, text(problems))
	s, err := set.Snapshot("checkout")
	require.NoError(t, err)
	return s
}

func digest(t *testing.T, s intent.Snapshot) string {
	t.Helper()
	d, err := s.Digest()
	require.NoError(t, err)
	return d
}

// edited returns the base tree with one text replaced in one file.
func edited(t *testing.T, file, old, new string) intent.Tree {
	t.Helper()
	tree := maps.Clone(baseTree(t))
	require.Contains(t, string(tree[file]), old)
	tree[file] = []byte(strings.Replace(string(tree[file]), old, new, 1))
	return tree
}

func TestDefaultsAreFilledInWhereADocumentSaysNothing(t *testing.T) {
	s := snapshot(t, baseTree(t), "shop")
	health := intent.Health{Path: "/healthz", Interval: "1s", Timeout: "2s", StartWithin: "60s"}
	require.Equal(t, map[string]intent.Config{
		"staging":    {Args: []string{"--cache=64m"}, Env: map[string]string{"LOG": "info"}, Health: health, Drain: "10s"},
		"production": {Args: []string{"--cache=64m"}, Env: map[string]string{"LOG": "warn"}, Health: health, Drain: "10s"},
	}, s.Configs)
	require.Equal(t, "supersede", s.Pipeline.Spec.Concurrency)
	require.Equal(t, intent.Stage{
		Name: "production", Needs: []string{"staging"}, Environment: "production",
		Strategy:  intent.Strategy{Type: "direct", HealthyFor: "30s", Deadline: "10m"},
		OnFailure: intent.OnFailure{Action: "rollback"},
	}, s.Pipeline.Spec.Stages[1])
}

func TestAnOverrideReplacesArgumentsAndScalarsAndMergesVariables(t *testing.T) {
	tree := edited(t, "deployments/checkout.yaml", "    env: {LOG: info}", "    env: {LOG: info, KEEP: me}\n    port: 8080\n    health: {path: /a, timeout: 3s}")
	tree["deployments/checkout.yaml"] = []byte(strings.Replace(string(tree["deployments/checkout.yaml"]), "        env: {LOG: warn}",
		"        args: []\n        env: {LOG: warn, MORE: \"1\"}\n        port: 9090\n        drain: 1m\n        health: {path: /b}", 1))
	s := snapshot(t, tree, "shop")
	require.Equal(t, intent.Config{
		Args: []string{"--cache=64m"}, Env: map[string]string{"LOG": "info", "KEEP": "me"}, Port: 8080, Drain: "10s",
		Health: intent.Health{Path: "/a", Interval: "1s", Timeout: "3s", StartWithin: "60s"},
	}, s.Configs["staging"])
	require.Equal(t, intent.Config{
		Env: map[string]string{"LOG": "warn", "KEEP": "me", "MORE": "1"}, Port: 9090, Drain: "1m",
		Health: intent.Health{Path: "/b", Interval: "1s", Timeout: "3s", StartWithin: "60s"},
	}, s.Configs["production"])
}

func TestTheReleaseDigestChangesExactlyWithWhatIsReleased(t *testing.T) {
	const dep, pip = "deployments/checkout.yaml", "pipelines/two-steps.yaml"
	base := digest(t, snapshot(t, baseTree(t), "shop"))
	digestLine := "digest: sha256:" + strings.Repeat("0b31f3a7", 8)
	same := map[string]intent.Tree{
		"the artifact's place":         edited(t, dep, "https://artifacts.example.com", "http://mirror.example.com"),
		"a declared size":              edited(t, dep, digestLine, digestLine+"\n    size: 12"),
		"a signature":                  edited(t, dep, digestLine, digestLine+"\n    signature: ed25519:"+strings.Repeat("A", 86)+"=="),
		"a comment":                    edited(t, dep, "spec:", "spec: # of the shop"),
		"a tenant left out":            edited(t, dep, ", tenant: shop", ""),
		"a tenant in the pipeline":     edited(t, pip, "{name: two-steps}", "{name: two-steps, tenant: shop}"),
		"a default written out":        edited(t, dep, "    env: {LOG: info}", "    env: {LOG: info}\n    drain: 10s\n    health: {path: /healthz}"),
		"a pipeline default":           edited(t, pip, "  stages:", "  concurrency: supersede\n  stages:"),
		"an environment's selector":    edited(t, "environments/staging.yaml", "{environment: staging}", "{environment: stage}"),
		"an override that says so too": edited(t, dep, "{LOG: warn}", "{LOG: warn}\n        drain: 10s"),
	}
	for name, tree := range same {
		require.Equal(t, base, digest(t, snapshot(t, tree, "shop")), name)
	}
	other := map[string]intent.Tree{
		"the version":                edited(t, dep, "1.5.0\n", "1.5.1\n"),
		"the bytes":                  edited(t, dep, "sha256:0", "sha256:1"),
		"the module's name":          edited(t, dep, "    name: checkout", "    name: checkout2"),
		"an argument":                edited(t, dep, "64m", "65m"),
		"a variable":                 edited(t, dep, "info", "debug"),
		"one environment's variable": edited(t, dep, "warn", "error"),
		"the drain time":             edited(t, dep, "{LOG: warn}", "{LOG: warn}\n        drain: 11s"),
		"the strategy":               edited(t, pip, "30s", "31s"),
		"the order of stages":        edited(t, pip, "      needs: [staging]\n", ""),
		"a stage's name":             edited(t, pip, "- name: production", "- name: prod"),
		"what follows a failure":     edited(t, pip, "healthyFor: 30s", "healthyFor: 30s\n      onFailure: {action: fail}"),
	}
	seen := map[string]string{base: "the base"}
	for name, tree := range other {
		d := digest(t, snapshot(t, tree, "shop"))
		require.Empty(t, seen[d], "%s has the digest of %s", name, seen[d])
		seen[d] = name
	}
	require.NotEqual(t, base, digest(t, snapshot(t, edited(t, dep, "shop", "bank"), "bank")), "the tenant")
}

func TestWhereATenantIsWrittenMakesNoOtherSnapshot(t *testing.T) {
	written := snapshot(t, edited(t, "pipelines/two-steps.yaml", "{name: two-steps}", "{name: two-steps, tenant: shop}"), "shop")
	require.Equal(t, snapshot(t, baseTree(t), "shop"), written)
}

func TestTheOrderOfNeedsMakesNoOtherRelease(t *testing.T) {
	digests := map[string]bool{}
	for _, needs := range []string{"[staging, canary]", "[canary, staging]"} {
		tree := edited(t, "pipelines/two-steps.yaml", "needs: [staging]", "needs: "+needs)
		tree["pipelines/two-steps.yaml"] = append(tree["pipelines/two-steps.yaml"], "    - {name: canary, environment: canary, strategy: {type: direct}}\n"...)
		tree["environments/canary.yaml"] = []byte(strings.ReplaceAll(string(tree["environments/staging.yaml"]), "staging", "canary"))
		digests[digest(t, snapshot(t, tree, "shop"))] = true
	}
	require.Len(t, digests, 1)
}

// The vectors are for whoever computes the digest elsewhere, and against
// changing it here without noticing: a changed digest voids every approval.
func TestReleaseDigestsAreThoseOfTheVectors(t *testing.T) {
	const file = "testdata/release-digests.json"
	type vector struct {
		Name     string          `json:"name"`
		Snapshot intent.Snapshot `json:"snapshot"`
		Digest   string          `json:"digest"`
	}
	if *update {
		full := edited(t, "deployments/checkout.yaml", "[--cache=64m]", "[\"--grüße=€\", \"<&>\"]\n    port: 8080")
		vectors := []vector{{Name: "the base of the cases", Snapshot: snapshot(t, baseTree(t), "shop")}, {Name: "text beyond ASCII", Snapshot: snapshot(t, full, "shop")}}
		for i := range vectors {
			vectors[i].Digest = digest(t, vectors[i].Snapshot)
		}
		b, err := json.MarshalIndent(vectors, "", "  ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, append(b, '\n'), 0o644))
	}
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	var vectors []vector
	require.NoError(t, json.Unmarshal(b, &vectors))
	require.Len(t, vectors, 2)
	for _, v := range vectors {
		require.Equal(t, v.Digest, digest(t, v.Snapshot), v.Name)
	}
}

func TestDurationsOfValidDocumentsAreParsed(t *testing.T) {
	require.Equal(t, "1m30.5s", intent.Duration("1m30.5s").String())
	require.Zero(t, intent.Duration(""))
	require.Zero(t, intent.Duration("soon"))
	require.Positive(t, intent.Duration("99999.999h99999.999h99999.999h99999.999h"), "the longest the schemas accept")
}
