package intent_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/intent"
)

const everyField = `apiVersion: hotswap.dev/v1
kind: Deployment
metadata: {name: checkout, tenant: shop}
spec:
  module:
    name: checkout
    version: "1.5"
    artifact: file:///srv/modules/checkout.tar.gz
    digest: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    signature: ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==
    size: 1048576
  config:
    args: [--cache=64m, "", "--name=größe"]
    env: {LOG: info, EMPTY: ""}
    health: {path: "/ready?full=1", interval: 500ms, timeout: 1.5s, startWithin: 1m30s}
    port: 8080
    drain: 0s
  environments:
    production: {config: {args: [], env: {LOG: warn}}}
  pipeline: standard
`

func TestADeploymentWithEveryFieldIsReadAsItIsWritten(t *testing.T) {
	d, problems := intent.Decode("deployments/checkout.yaml", []byte(everyField))
	require.Empty(t, problems)
	require.True(t, d.Valid())
	require.Equal(t, intent.KindDeployment, d.Kind)
	require.Equal(t, &intent.Deployment{
		Metadata: intent.Metadata{Name: "checkout", Tenant: "shop"},
		Spec: intent.DeploymentSpec{
			Module: intent.Module{
				Name: "checkout", Version: "1.5", Artifact: "file:///srv/modules/checkout.tar.gz",
				Digest:    "sha256:" + strings.Repeat("a", 64),
				Signature: "ed25519:" + strings.Repeat("A", 86) + "==", Size: 1 << 20,
			},
			Config: intent.Config{
				Args: []string{"--cache=64m", "", "--name=größe"}, Env: map[string]string{"LOG": "info", "EMPTY": ""},
				Health: intent.Health{Path: "/ready?full=1", Interval: "500ms", Timeout: "1.5s", StartWithin: "1m30s"},
				Port:   8080, Drain: "0s",
			},
			Environments: map[string]intent.Override{"production": {Config: intent.Config{Args: []string{}, Env: map[string]string{"LOG": "warn"}}}},
			Pipeline:     "standard",
		},
	}, d.Deployment)
}

func TestLineEndsAndAByteOrderMarkChangeNothing(t *testing.T) {
	want, _ := intent.Decode("a.yaml", []byte(everyField))
	for name, data := range map[string]string{
		"windows":         strings.ReplaceAll(everyField, "\n", "\r\n"),
		"byte order mark": "\uFEFF" + everyField,
	} {
		got, problems := intent.Decode("a.yaml", []byte(data))
		require.Empty(t, problems, name)
		require.Equal(t, want.Deployment, got.Deployment, name)
	}
}

func TestAnInvalidDocumentHasNoContentButKnowsItsKind(t *testing.T) {
	d, problems := intent.Decode("a.yaml", []byte("apiVersion: hotswap.dev/v1\nkind: Pipeline\nmetadata: {name: a}\nspec: {}\n"))
	require.NotEmpty(t, problems)
	require.False(t, d.Valid())
	require.Equal(t, intent.KindPipeline, d.Kind)
	require.Equal(t, intent.Metadata{}, d.Metadata())
}

func TestLimitsRefuseBeforeTheyCost(t *testing.T) {
	many := "a: [" + strings.Repeat("b,", intent.MaxNodes) + "]\n"
	deep := strings.Repeat("{a: ", 5000) + "b" + strings.Repeat("}", 5000)
	bomb := "a: &a [x,x]\n"
	for i := range 40 {
		bomb += fmt.Sprintf("b%d: [*a,*a,*a]\n", i)
	}
	cases := map[string]struct {
		data string
		rule string
	}{
		"more bytes than allowed":       {strings.Repeat("#", intent.MaxFileBytes+1), intent.RuleTooLarge},
		"more values than allowed":      {many, intent.RuleTooLarge},
		"nested deeper than allowed":    {deep, intent.RuleTooDeep},
		"an alias bomb":                 {bomb, intent.RuleAlias},
		"not UTF-8":                     {"a: b\nc: \xff\n", intent.RuleNotUTF8},
		"UTF-16":                        {"\xff\xfea\x00:\x00", intent.RuleNotUTF8},
		"a number that is not finite":   {strings.Replace(everyField, "port: 8080", "port: .inf", 1), intent.RuleBadValue},
		"a number with a huge exponent": {strings.Replace(everyField, "port: 8080", "port: 1e999999999", 1), intent.RuleWrongType},
		"a number beyond 64 bits":       {strings.Replace(everyField, "port: 8080", "port: 99999999999999999999999", 1), intent.RuleBadValue},
		"only white space":              {"  \n\n", intent.RuleEmpty},
		"an empty document":             {"---\n...\n", intent.RuleWrongType},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d, problems := intent.Decode("a.yaml", []byte(c.data))
			require.False(t, d.Valid())
			require.NotEmpty(t, problems)
			require.Equal(t, c.rule, problems[0].Rule, text(problems))
			requireInside(t, intent.Tree{"a.yaml": bytes.ToValidUTF8([]byte(c.data), []byte("\uFFFD"))}, problems)
		})
	}
}

func TestAFileFullOfMistakesReportsAHundred(t *testing.T) {
	data := "apiVersion: hotswap.dev/v1\nkind: Environment\nmetadata: {name: a}\nspec:\n  selector: {a: b}\n"
	for i := range 3000 {
		data += "  " + strings.Repeat("x", i%50) + "y" + strings.Repeat("z", i/50) + ": 1\n"
	}
	_, problems := intent.Decode("a.yaml", []byte(data))
	require.Len(t, problems, intent.MaxProblems)
}

func TestCredentialsInAnArtifactAreNeverRepeated(t *testing.T) {
	for _, url := range []string{"https://bo:hunter2@example.com/a", "http://hunter2@example.com/a", "ftp://bo:hunter2@example.com/a", "https://bo:hunter2@[/a"} {
		data := strings.Replace(everyField, "file:///srv/modules/checkout.tar.gz", "'"+url+"'", 1)
		_, problems := intent.Decode("a.yaml", []byte(data))
		require.NotEmpty(t, problems, url)
		require.NotContains(t, text(problems), "hunter2")
	}
}
