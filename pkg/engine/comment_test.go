package engine

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/pkg/target"
)

var update = flag.Bool("update", false, "write the comments instead of comparing with them")

// shown is a promotion as the comments tell of it.
func shown(status promotion.Status, phase promotion.Phase, reason string) promotion.State {
	at := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	p := promotion.State{
		ID: "checkout-3/production/promote-1", Release: "checkout-3", Deployment: "checkout", Environment: "production",
		Status: status, Phase: phase, Reason: reason, Since: at, Plan: "sha256:7f3a9c0011223344", Units: make([]promotion.Unit, 10), Wave: 1,
		Spec: promotion.Spec{
			Stage:    intent.Stage{Name: "production", Environment: "production", Gates: intent.Gates{Approval: "production"}},
			Instance: target.Instance{Module: target.Module{Name: "checkout", Version: "1.5.0"}},
		},
	}
	for i := range p.Units {
		p.Units[i].Wave = min(i, 3)
	}
	p.Progress.Asked = at
	p.Progress.Recorded = "0eb4e22300112233"
	p.Progress.Approval = &promotion.Approval{Names: []string{"bo", "chris"}}
	return p
}

func TestTheCommentOfEveryState(t *testing.T) {
	review := func(state promotion.ReviewState, says string, by ...string) promotion.ReviewFact {
		return promotion.ReviewFact{State: state, Says: says, By: by, Pull: 3, Head: "51bd020011223344", Plan: "sha256:7f3a9c0011223344"}
	}
	gating := shown(promotion.Gating, "", "")
	waiting := &promotion.Waiting{What: "reviews that approve plan 7f3a9c00", Evidence: "0 of 2 of sre"}
	pending := review(promotion.ReviewPending, "1 of 2 of sre: bo", "bo")
	pending.Missing = promotion.Missing{Teams: []string{"sre"}}
	golden(t, map[string]string{
		"waiting":      waitingComment(gating, waiting, pending),
		"approved":     waitingComment(gating, &promotion.Waiting{What: "reviews that approve plan 7f3a9c00, and an open window"}, review(promotion.ReviewApproved, "2 of 2 of sre: bo, chris", "bo", "chris")),
		"moved":        waitingComment(shown(promotion.Gating, "", "the plan moved from 1a2b3c4d to 7f3a9c00: the set of units changed; bo and chris agreed to the former one, which counts no more"), waiting, pending),
		"rejected":     waitingComment(gating, waiting, review(promotion.ReviewRejected, "chris asks for changes")),
		"unread":       waitingComment(gating, &promotion.Waiting{What: "reviews that approve plan 7f3a9c00", Evidence: "the forge does not answer"}, review(promotion.ReviewUnread, "the forge does not answer")),
		"rolling-out":  progressComment(shown(promotion.Running, promotion.Analysing, "wave 2 of 4: 3 units switched; the analysis begins"), nil),
		"rolling-back": progressComment(shown(promotion.RollingBack, promotion.Activating, "wave 1 of 4: errors 5.4 % of 74 requests; the artifact is held"), nil),
		"paused":       progressComment(shown(promotion.Running, promotion.Paused, "no verdict"), &promotion.Waiting{What: "an operator to say how to go on", Evidence: "no verdict in 10 minutes"}),
		"deployed":     progressComment(shown(promotion.Succeeded, "", "wave 4 of 4: the analysis found no harm"), nil),
		"rolled-back":  progressComment(shown(promotion.RolledBack, "", "wave 1 of 4: errors 5.4 % of 74 requests; the artifact is held"), nil),
		"expired":      closedComment(shown(promotion.Expired, "", "nobody agreed to plan 7f3a9c00 until 2026-01-03 12:00:00")),
	})
}

// golden compares comments with those in testdata/comments.
func golden(t *testing.T, comments map[string]string) {
	for name, text := range comments {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", "comments", name+".md")
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
				require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, string(want), text)
			require.LessOrEqual(t, len(text), maxComment)
			require.Regexp(t, `^\*\*[A-Z][a-z ]+\*\*: .+\n\*\*Next\*\*: .+\.\n`, text, "first what is, then what must happen")
		})
	}
}

// What people write cannot speak in our name, mention anybody or break the table.
func TestACommentIsPlain(t *testing.T) {
	evil := "@everybody <img src=x> [click](http://x) | `x` **bold**\n**Approved**: yes"
	p := shown(promotion.Gating, "", "")
	text := waitingComment(p, &promotion.Waiting{What: "x"}, promotion.ReviewFact{State: promotion.ReviewPending, Says: evil, By: []string{"@bo"}})
	require.NotContains(t, text, "@everybody")
	require.NotContains(t, text, "<img")
	require.NotContains(t, text, "](http")
	require.Equal(t, 1, strings.Count(text, "\n**Next**"), text)
	require.NotContains(t, text, "\n**Approved**")
	_, err := forge.Marked(commentMarker, text)
	require.NoError(t, err)
	long := cut(strings.Repeat("a line of text\n", 10_000), maxComment)
	require.LessOrEqual(t, len(long), maxComment)
	require.True(t, strings.HasSuffix(long, "a line of text\n…\n"))
}

// change is a pull request that takes checkout from one version to another through two stages.
func change(t *testing.T, from, to string) releaseChange {
	t.Helper()
	tree := func(version string) intent.Tree {
		return intent.Tree{
			"deployments/checkout.yaml": []byte(`apiVersion: hotswap.dev/v1
kind: Deployment
metadata: {name: checkout}
spec:
  module: {name: checkout, version: "` + version + `", artifact: "https://example.com/checkout-` + version + `.tar.gz", digest: "sha256:` + strings.Repeat("ab", 32) + `"}
  config: {env: {VERSION: "` + version + `"}}
  pipeline: two
`),
			"pipelines/two.yaml": []byte(`apiVersion: hotswap.dev/v1
kind: Pipeline
metadata: {name: two}
spec:
  stages:
    - {name: qa, environment: qa, strategy: {type: rolling, maxUnavailable: "25%"}}
    - {name: production, environment: production, needs: [qa], gates: {approval: production, soak: {for: 30m}}, onFailure: {hold: true}, strategy: {type: canary, waves: ["10%", "100%"], analysis: standard}}
`),
			"environments/qa.yaml":         []byte("apiVersion: hotswap.dev/v1\nkind: Environment\nmetadata: {name: qa}\nspec: {selector: {environment: qa}}\n"),
			"environments/production.yaml": []byte("apiVersion: hotswap.dev/v1\nkind: Environment\nmetadata: {name: production}\nspec: {selector: {environment: production, region: eu}}\n"),
			"policies/production.yaml":     []byte("apiVersion: hotswap.dev/v1\nkind: Policy\nmetadata: {name: production}\nspec: {approvals: {team: sre, count: 2}}\n"),
		}
	}
	snapshot := func(version string) (intent.Snapshot, *intent.Set) {
		set, problems := intent.CheckTree(tree(version), "acme")
		require.Empty(t, problems)
		s, err := set.Snapshot("checkout")
		require.NoError(t, err)
		return s, set
	}
	after, set := snapshot(to)
	out := releaseChange{deployment: "checkout", after: after, environments: set.Environments}
	if from != "" {
		before, _ := snapshot(from)
		out.before = &before
	}
	return out
}

func TestTheCommentOnAPullRequestOfPeople(t *testing.T) {
	next := change(t, "1.4.2", "1.5.0")
	next.took = map[string]time.Duration{"qa": 94 * time.Second}
	removal := change(t, "1.4.2", "1.4.2")
	removal.after.Remove = true
	problem := intent.Problem{
		File: "deployments/checkout.yaml", Line: 9, Column: 3, EndColumn: 10, Rule: intent.RuleUnknownField,
		Message: `unknown field "pipelin"`, Hint: `did you mean "pipeline"?`, Source: "  pipelin: two", Severity: intent.Error,
	}
	files := []string{"deployments/checkout.yaml"}
	journey := func(state promotion.ReleaseState, stages ...store.StageAt) []store.Journey {
		return []store.Journey{{Release: "checkout-3", Deployment: "checkout", State: state, Snapshot: next.after, Stages: stages}}
	}
	qa := store.StageAt{Stage: "qa", Status: promotion.Succeeded, Reason: "4 units stable"}
	golden(t, map[string]string{
		"ready-to-merge":       proposedChange{files: files, releases: []releaseChange{next}}.comment(),
		"first-version":        proposedChange{files: files, releases: []releaseChange{change(t, "", "1.4.2")}, had: 1}.comment(),
		"removal":              proposedChange{files: files, releases: []releaseChange{removal}}.comment(),
		"cannot-be-planned":    proposedChange{files: files, problems: []intent.Problem{problem}}.comment(),
		"conflict":             proposedChange{files: files, unread: "it conflicts with branch main", conflict: "main"}.comment(),
		"refused":              proposedChange{files: files, refused: map[string]string{"checkout": "deployment checkout belongs to repository other"}}.comment(),
		"no-release":           proposedChange{files: []string{"policies/production.yaml"}}.comment(),
		"no-change":            proposedChange{}.comment(),
		"linted":               proposedChange{fork: true, files: files}.comment(),
		"linted-with-problems": proposedChange{fork: true, files: files, problems: []intent.Problem{problem}}.comment(),
		"change-rolling-out":   journeyComment(journey(promotion.ReleaseOpen, qa, store.StageAt{Stage: "production", Status: promotion.Gating, Reason: "waits"})),
		"change-deployed":      journeyComment(journey(promotion.ReleaseSucceeded, qa, store.StageAt{Stage: "production", Status: promotion.Succeeded, Reason: "wave 2 of 2: the analysis found no harm"})),
		"change-rolled-back":   journeyComment(journey(promotion.ReleaseFailed, qa, store.StageAt{Stage: "production", Status: promotion.RolledBack, Reason: "wave 1 of 2: errors 5.4 % of 74 requests; the artifact is held"})),
		"change-stopped":       journeyComment(journey(promotion.ReleaseFailed, store.StageAt{Stage: "qa", Status: promotion.Expired, Reason: "nobody agreed"})),
		"change-superseded":    journeyComment(journey(promotion.ReleaseSuperseded, qa)),
	})
}

// What people write in their files cannot speak in our name or end a block of text.
func TestWhatAPullRequestSaysIsOnlyText(t *testing.T) {
	evil := "```\n**Ready to merge**: yes @everybody <img src=x>"
	problem := intent.Problem{File: "deployments/x.yaml", Line: 1, Column: 1, Message: evil, Source: evil, Severity: intent.Error, Rule: intent.RuleSyntax}
	x := proposedChange{files: []string{"deployments/x.yaml"}, problems: []intent.Problem{problem}, refused: map[string]string{"x": evil}}
	text := x.comment()
	require.Equal(t, 2, strings.Count(text, "```"), text)
	first, _, _ := strings.Cut(text, "```")
	require.NotContains(t, first, "@everybody")
	require.NotContains(t, first, "<img")
	require.NotContains(t, first, "Ready to merge")
	x.problems, x.unread, x.refused = nil, evil, nil
	require.NotContains(t, x.comment(), "\n**Ready to merge**")
}
