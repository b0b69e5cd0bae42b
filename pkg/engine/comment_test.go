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
	for name, text := range map[string]string{
		"waiting":     waitingComment(gating, waiting, pending),
		"approved":    waitingComment(gating, &promotion.Waiting{What: "reviews that approve plan 7f3a9c00, and an open window"}, review(promotion.ReviewApproved, "2 of 2 of sre: bo, chris", "bo", "chris")),
		"rejected":    waitingComment(gating, waiting, review(promotion.ReviewRejected, "chris asks for changes")),
		"unread":      waitingComment(gating, &promotion.Waiting{What: "reviews that approve plan 7f3a9c00", Evidence: "the forge does not answer"}, review(promotion.ReviewUnread, "the forge does not answer")),
		"rolling-out": progressComment(shown(promotion.Running, promotion.Analysing, "wave 2 of 4: 3 units switched; the analysis begins"), nil),
		"paused":      progressComment(shown(promotion.Running, promotion.Paused, "no verdict"), &promotion.Waiting{What: "an operator to say how to go on", Evidence: "no verdict in 10 minutes"}),
		"deployed":    progressComment(shown(promotion.Succeeded, "", "wave 4 of 4: the analysis found no harm"), nil),
		"rolled-back": progressComment(shown(promotion.RolledBack, "", "wave 1 of 4: errors 5.4 % of 74 requests; the artifact is held"), nil),
		"expired":     closedComment(shown(promotion.Expired, "", "nobody agreed to plan 7f3a9c00 until 2026-01-03 12:00:00")),
	} {
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
