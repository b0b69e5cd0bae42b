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
		r.Holds[0].Reason = rapid.String().Draw(t, "reason")
		r.Holds[0].By = rapid.StringMatching(`[ -~äöü☃"':#\n\t\x7f\x{feff}\x{2028}\x{85}]{0,20}`).Draw(t, "by")
		r.Module.Version = rapid.StringMatching(`[0-9a-z.:_~+-]{1,12}`).Draw(t, "version")
		r.Config.Env = rapid.MapOfN(rapid.StringMatching(`[A-Za-z0-9_~<=.]{1,5}`), rapid.String(), 1, 4).Draw(t, "env")
		r.Generation = rapid.Int64Min(1).Draw(t, "generation")
		text, err := r.Render()
		require.NoError(t, err)
		again, err := Parse(r.Path(), text)
		require.NoError(t, err, "%s", text)
		require.Equal(t, r, again)
	})
}

func TestARecordIsTheSameInEveryTimeZone(t *testing.T) {
	there, here := sample(), sample()
	zone := time.FixedZone("there", 3*3600)
	there.At = there.At.In(zone)
	there.Holds[0].Since = there.Holds[0].Since.In(zone)
	since := there.Holds[0].Since
	text, err := there.Render()
	require.NoError(t, err)
	same, err := here.Render()
	require.NoError(t, err)
	require.Equal(t, string(same), string(text))
	require.Equal(t, since.Location(), there.Holds[0].Since.Location(), "what is rendered is not changed")
}

func TestOldReadersOfYAMLReadTextToo(t *testing.T) {
	for _, word := range []string{"yes", "N", "off", "12:30", "1:2:3.5", "null", "~", "0x1f", "1e3", ".5", "2026-01-02", "true", "=", "<<"} {
		r := sample()
		r.Module.Version = word
		text, err := r.Render()
		require.NoError(t, err)
		require.Regexp(t, `version: ["']`, string(text), word)
	}
}

func TestWhatIsNoRecordIsRefusedWithItsPlace(t *testing.T) {
	tests := map[string]struct{ text, says string }{
		"another kind":                    {strings.Replace(sampleText, "kind: Record", "kind: Pipeline", 1), "kind Record"},
		"an unknown field":                {sampleText + "  stratgy: 1\n", `line 36, column 3: unknown field "stratgy"`},
		"a field spelled otherwise":       {sampleText + "  Release: checkout-6\n", `line 36, column 3: unknown field "Release"`},
		"a field that stands there twice": {sampleText + "  release: checkout-6\n", `line 36, column 3: the field "release" stands there twice`},
		"a version that is a number":      {strings.Replace(sampleText, `"1.4"`, "1.4", 1), "line 17, column 14: it must be text"},
		"a release that is nothing":       {strings.Replace(sampleText, "release: checkout-7", "release:", 1), "line 10, column 11: it must be text"},
		"a time that is none":             {strings.Replace(sampleText, `at: "2026-01-02T12:00:00.000123Z"`, "at: noon", 1), "line 30, column 7: it must be a time"},
		"holds that are no list":          {strings.Replace(sampleText, "    - artifact: sha256:d8", "      artifact: sha256:d8", 1), "line 32, column 7: it must be a list"},
		"a module that is text":           {sampleText[:strings.Index(sampleText, "  module:")] + "  module: checkout\n", "line 15, column 11: it must be a mapping"},
		"a merge key":                     {sampleText + "  <<: {release: checkout-6}\n", "line 36, column 3: tags and merge keys"},
		"a nest":                          {"a: " + strings.Repeat("[", 40) + strings.Repeat("]", 40), "nested too deeply"},
		"an alias":                        {strings.Replace(sampleText, "tenant: shop", "tenant: &x shop", 1), "line 9, column 11: anchors"},
		"a tag":                           {strings.Replace(sampleText, "tenant: shop", "tenant: !!str shop", 1), "line 9, column 11: tags"},
		"two documents":                   {sampleText + "---\na: 1\n", "more than one document"},
		"another slot's":                  {strings.Replace(sampleText, "environment: production", "environment: qa", 1), "it is about qa/checkout"},
		"a wrong type":                    {strings.Replace(sampleText, "generation: 7", "generation: seven", 1), "line 11, column 15: it must be a number"},
		"no YAML":                         {"a: b: c", "mapping values"},
		"nothing":                         {"# nothing\n", "no document"},
		"too much":                        {sampleText + strings.Repeat("#", MaxBytes), "larger than"},
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
	former := []Pair{{Release: "checkout-7", ReleaseDigest: "sha256:r7", PlanDigest: "sha256:p7"}, {Release: "checkout-6", ReleaseDigest: "sha256:r6", PlanDigest: "sha256:p6"}, {Release: "checkout-6", ReleaseDigest: "sha256:r6", PlanDigest: "sha256:q6"}, {Release: "checkout-5", ReleaseDigest: "sha256:r5", PlanDigest: "sha256:p5", Held: true}}
	back := func(n string) string {
		return strings.NewReplacer("checkout-7", "checkout-"+n, "sha256:r7", "sha256:r"+n, "sha256:p7", "sha256:p"+n).Replace(sampleText)
	}
	tests := map[string]struct {
		text string
		kind EditKind
		says string
	}{
		"what we wrote":                                {sampleText, Unchanged, ""},
		"a former release with its plan":               {back("6"), Restore, "release checkout-6 ran here before"},
		"a former release by another of its plans":     {strings.Replace(back("6"), "sha256:p6", "sha256:q6", 1), Restore, ""},
		"a former release, the rest is of then":        {strings.Replace(back("6"), `version: "1.4"`, `version: "1.3"`, 1), Restore, ""},
		"a former release that is held":                {back("5"), Drift, "release checkout-5 is held"},
		"a release that never ran here":                {back("9"), Drift, "not those of a release that ran here"},
		"the release of one and the plan of another":   {strings.Replace(sampleText, "sha256:p7", "sha256:p6", 1), Drift, "planDigest is not one that brought release checkout-7 here"},
		"the release of one and the digest of another": {strings.Replace(back("6"), "sha256:r6", "sha256:r7", 1), Drift, "releaseDigest is not that of release checkout-6"},
		"no release at all":                            {back("6")[:strings.Index(sampleText, "  release:")] + "  module: {name: a, version: b, artifact: c, digest: d}\n", Drift, "not those of a release that ran here"},
		"something else":                               {strings.Replace(sampleText, "rolled_back", "succeeded", 1), Drift, "changes something else than the release"},
		"a comment":                                    {"# hello\n" + sampleText, Drift, "changes something else than the release"},
		"no record":                                    {"hello", Drift, "not a record"},
		"the record of another slot":                   {strings.Replace(back("6"), "deployment: checkout", "deployment: search", 1), Drift, "it is about production/search"},
		"nothing in the file":                          {"", Drift, "not a record"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			j := Judge("releases/production/checkout.yaml", []byte(tt.text), sample(), former)
			require.Equal(t, tt.kind, j.Kind, j.Why)
			require.Contains(t, j.Why, tt.says)
		})
	}
}

func TestWhatItMeansThatAFileComesOrGoes(t *testing.T) {
	path, text := sample().Path(), []byte(sampleText)
	former := []Pair{{Release: "checkout-7", ReleaseDigest: "sha256:r7", PlanDigest: "sha256:p7"}, {}}
	require.Equal(t, Judgement{Kind: Drift, Why: "the file was removed"}, JudgeEdit(path, text, nil, former))
	require.Equal(t, Unchanged, JudgeEdit(path, nil, nil, former).Kind)
	require.Equal(t, Drift, JudgeEdit(path, nil, []byte{}, former).Kind, "an empty file is a file")
	require.Equal(t, Restore, JudgeEdit(path, nil, text, former).Kind, "the record of a slot that runs nothing was brought back")
	require.Equal(t, Restore, JudgeEdit(path, []byte("rubbish"), text, former).Kind)
	require.Equal(t, Drift, JudgeEdit(path, text, text[:strings.Index(sampleText, "  release:")], former).Kind, "nothing is not a release that ran")
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sampleText))
	f.Add([]byte("a: &x [*x]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse("releases/production/checkout.yaml", data)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalid)
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
