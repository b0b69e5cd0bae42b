package record

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hotswap.dev/hotswap/pkg/intent"
)

func sample() Record {
	return Record{
		Environment: "production", Deployment: "checkout", Tenant: "shop", Release: "checkout-7", Generation: 7, Commit: strings.Repeat("a", 40),
		ReleaseDigest: "sha256:r7", PlanDigest: "sha256:p7", Promotion: "checkout-8/production/promote-1", PromotionKind: "promote", State: "rolled_back",
		Module: intent.Module{Name: "checkout", Version: "1.4", Artifact: "file:///a.tar.gz", Digest: "sha256:d7"},
		Config: intent.Config{Env: map[string]string{"LOG": "yes", "B": "0x1f"}, Secrets: []intent.SecretRef{{Name: "DB", From: "checkout/db"}}},
		At:     time.Date(2026, 1, 2, 12, 0, 0, 123000, time.UTC),
		Holds:  []Hold{{Artifact: "sha256:d8", Reason: "errors 5 % <b>", Since: time.Date(2026, 1, 2, 11, 0, 0, 0, time.UTC), By: "advance"}},
	}
}

const sampleText = `# Written by HotSwap. What stands here is what runs.
# Going back: revert the commit, or set release, releaseDigest and planDigest to
# those of a release that ran here before. Any other edit is undone.
apiVersion: hotswap.dev/v1
kind: Record
spec:
  environment: production
  deployment: checkout
  tenant: shop
  release: checkout-7
  generation: 7
  commit: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
  releaseDigest: sha256:r7
  planDigest: sha256:p7
  module:
    name: checkout
    version: "1.4"
    artifact: file:///a.tar.gz
    digest: sha256:d7
  config:
    env:
      B: "0x1f"
      LOG: "yes"
    secrets:
      - name: DB
        from: checkout/db
  promotion: checkout-8/production/promote-1
  promotionKind: promote
  state: rolled_back
  at: "2026-01-02T12:00:00.000123Z"
  holds:
    - artifact: sha256:d8
      reason: errors 5 % <b>
      since: "2026-01-02T11:00:00Z"
      by: advance
`

func TestARecordIsReadAsItWasWritten(t *testing.T) {
	text, err := sample().Render()
	require.NoError(t, err)
	require.Equal(t, sampleText, string(text))
	again, err := Parse("releases/production/checkout.yaml", text)
	require.NoError(t, err)
	require.Equal(t, sample(), again)
	environment, deployment, ok := Slot(sample().Path())
	require.Equal(t, []any{"production", "checkout", true}, []any{environment, deployment, ok})
}

func TestAnyTextSurvivesTheFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := sample()
		r.Holds[0].Reason = rapid.StringMatching(`[ -~äöü☃"':#\n\t]{0,40}`).Draw(t, "reason")
		r.Module.Version = rapid.StringMatching(`[0-9a-z.:_~+-]{1,12}`).Draw(t, "version")
		text, err := r.Render()
		require.NoError(t, err)
		again, err := Parse(r.Path(), text)
		require.NoError(t, err, "%s", text)
		require.Equal(t, r, again)
	})
}

func TestWhatIsNoRecordIsRefusedWithItsPlace(t *testing.T) {
	tests := map[string]struct{ text, says string }{
		"another kind":     {strings.Replace(sampleText, "kind: Record", "kind: Pipeline", 1), "kind Record"},
		"an unknown field": {sampleText + "  stratgy: 1\n", `unknown field "stratgy"`},
		"an alias":         {strings.Replace(sampleText, "tenant: shop", "tenant: &x shop", 1), "line 9, column 11: anchors"},
		"a tag":            {strings.Replace(sampleText, "tenant: shop", "tenant: !!str shop", 1), "line 9, column 11: tags"},
		"two documents":    {sampleText + "---\na: 1\n", "more than one document"},
		"another slot's":   {strings.Replace(sampleText, "environment: production", "environment: qa", 1), "it is about qa/checkout"},
		"a wrong type":     {strings.Replace(sampleText, "generation: 7", "generation: seven", 1), "generation"},
		"no YAML":          {"a: b: c", "mapping values"},
		"nothing":          {"", "EOF"},
		"too much":         {sampleText + strings.Repeat("#", MaxBytes), "larger than"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("releases/production/checkout.yaml", []byte(tt.text))
			require.ErrorIs(t, err, ErrInvalid)
			require.ErrorContains(t, err, tt.says)
		})
	}
}

func TestWhatAnEditMeans(t *testing.T) {
	former := []Pair{{Release: "checkout-7", ReleaseDigest: "sha256:r7", PlanDigest: "sha256:p7"}, {Release: "checkout-6", ReleaseDigest: "sha256:r6", PlanDigest: "sha256:p6"}, {Release: "checkout-5", ReleaseDigest: "sha256:r5", PlanDigest: "sha256:p5", Held: true}}
	back := func(n string) string {
		return strings.NewReplacer("checkout-7", "checkout-"+n, "sha256:r7", "sha256:r"+n, "sha256:p7", "sha256:p"+n).Replace(sampleText)
	}
	tests := map[string]struct {
		text string
		kind EditKind
		says string
	}{
		"what we wrote":                              {sampleText, Unchanged, ""},
		"a former release with its plan":             {back("6"), Restore, "release checkout-6 ran here before"},
		"a former release, the rest is of then":      {strings.Replace(back("6"), `version: "1.4"`, `version: "1.3"`, 1), Restore, ""},
		"a former release that is held":              {back("5"), Drift, "release checkout-5 is held"},
		"a release that never ran here":              {back("9"), Drift, "not those of a release that ran here"},
		"the release of one and the plan of another": {strings.Replace(sampleText, "sha256:p7", "sha256:p6", 1), Drift, "not those of a release that ran here"},
		"something else":                             {strings.Replace(sampleText, "rolled_back", "succeeded", 1), Drift, "changes something else than the release"},
		"no record":                                  {"hello", Drift, "not a record"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			j := Judge("releases/production/checkout.yaml", []byte(tt.text), sample(), former)
			require.Equal(t, tt.kind, j.Kind, j.Why)
			require.Contains(t, j.Why, tt.says)
		})
	}
	require.Equal(t, Drift, Judge("releases/production/checkout.yaml", nil, sample(), former).Kind)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sampleText))
	f.Add([]byte("a: &x [*x]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse("releases/production/checkout.yaml", data)
		if err != nil {
			return
		}
		text, err := r.Render()
		require.NoError(t, err)
		again, err := Parse(r.Path(), text)
		require.NoError(t, err)
		first, err := again.Render()
		require.NoError(t, err)
		require.Equal(t, string(text), string(first))
	})
}
