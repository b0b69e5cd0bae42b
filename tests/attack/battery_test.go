package attack_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/tests/conformance"
)

// An attack is a way around the gate. The world waits for two reviews of the team when
// it is tried.
type attack struct {
	policy string // instead of two of the team, told with %s for it
	try    func(w *world)
	says   string           // of what is waited for, or why it ended
	ends   promotion.Status // empty: it waits
	audit  string           // action that tells of it
	mend   func(w *world)   // what opens the gate after all; nil: both of the team approve what is shown
	unmend bool             // nothing opens it any more
}

func attacks() map[string]attack {
	return map[string]attack{
		"R1 approvals of a commit that somebody pushed onto ours": {
			try: func(w *world) {
				head := w.lab.Push(w.t, w.repo, w.pull().HeadRef, "main", w.dana)
				w.lab.Review(w.t, w.repo, w.number(), w.bo, approval.Approved, head)
				w.lab.Review(w.t, w.repo, w.number(), w.chris, approval.Approved, head)
			},
			says: "0 of 2", audit: "pull.head-moved",
		},
		"R12 stale approvals after a force-push": {
			try: func(w *world) {
				w.approve(w.bo)
				head := w.lab.ForcePush(w.t, w.repo, w.pull().HeadRef, releases, w.dana)
				w.lab.Review(w.t, w.repo, w.number(), w.bo, approval.Approved, head)
				w.lab.Review(w.t, w.repo, w.number(), w.chris, approval.Approved, head)
			},
			says: "0 of 2", audit: "pull.head-moved",
		},
		"R12 the plan moves after it was approved": {
			try: func(w *world) {
				w.approve(w.bo, w.chris)
				w.forge.before = nil
				w.change(w.ann, map[string]string{"environments/production.yaml": environment(", clusterLabel: zone")})
			},
			says: "0 of 2", audit: "promotion.replanned",
		},
		"R12 a weaker policy after it was approved by one": {
			try: func(w *world) {
				w.approve(w.bo)
				w.change(w.ann, map[string]string{"policies/production.yaml": policy("{approvals: {team: " + w.team + "}}")})
			},
			says: "0 of 1", audit: "promotion.replanned",
			mend: func(w *world) { w.approve(w.chris) },
		},
		"R9 a weaker policy on a branch": {
			try: func(w *world) {
				w.lab.Open(w.t, w.repo, w.branch("weaker", map[string]string{"policies/production.yaml": policy("{approvals: {writers: true}}")}, w.dana), "main", w.dana)
				w.approve(w.bo)
			},
			says: "1 of 2",
			mend: func(w *world) { w.approve(w.chris) },
		},
		"R9 the policy is broken after it was approved by one": {
			try: func(w *world) {
				w.change(w.ann, map[string]string{"policies/production.yaml": "approvals: none\n"})
				w.approve(w.bo)
			},
			says: "1 of 2", // that of the policy that was valid last
			mend: func(w *world) { w.approve(w.chris) },
		},
		"R9 code owners on a branch": {
			policy: "{approvals: {codeOwners: true}}",
			try: func(w *world) {
				w.lab.Open(w.t, w.repo, w.branch("owners", map[string]string{"CODEOWNERS": "* @" + w.dana.Login + "\n"}, w.dana), "main", w.dana)
				w.approve(w.dana)
			},
			says: "0 of 1 of code owners",
			mend: func(w *world) {
				w.change(w.ann, map[string]string{"CODEOWNERS": "/deployments/ @" + w.bo.Login + "\n"})
				w.approve(w.bo)
			},
		},
		"R3 a dismissed approval": {
			try: func(w *world) {
				w.approve(w.bo, w.chris)
				w.lab.Dismiss(w.t, w.repo, w.number(), w.bo)
			},
			says: "1 of 2",
			mend: func(w *world) { w.approve(w.bo) },
		},
		"R3 who approved asks for changes": {
			try: func(w *world) {
				w.approve(w.bo, w.chris)
				w.review(w.bo, approval.ChangesRequested)
			},
			says: "asks for changes", ends: promotion.Rejected,
		},
		"R3 one person approves twice": {
			try: func(w *world) {
				w.approve(w.bo)
				w.approve(w.bo)
			},
			says: "1 of 2",
			mend: func(w *world) { w.approve(w.chris) },
		},
		"R4 the author approves (Atlantis #1508: the first approval of anybody)": {
			policy: "{approvals: {writers: true}}",
			try:    func(w *world) { w.approve(w.ann) },
			says:   "0 of 1", mend: func(w *world) { w.approve(w.bo) },
		},
		"R4 who merged the change approves": {
			policy: "{approvals: {writers: true}}",
			try:    func(w *world) { w.approve(w.carl) },
			says:   "0 of 1", mend: func(w *world) { w.approve(w.bo) },
		},
		"R4 the author of a release that never got there approves the next": {
			policy: "{approvals: {writers: true}}",
			try: func(w *world) {
				w.change(w.dana, map[string]string{"deployments/checkout.yaml": deployment("1.5.0")})
				w.settle()
				w.approve(w.ann)
			},
			says: "0 of 1", mend: func(w *world) { w.approve(w.bo) },
		},
		"R4 who asked for another attempt approves": {
			policy: "{approvals: {writers: true}}",
			try: func(w *world) {
				w.review(w.bo, approval.ChangesRequested)
				w.settle()
				_, err := w.engine.Retry(w.t.Context(), tenant, "checkout-"+w.generation(), "production", person(w.chris.Login), "it is fine")
				require.NoError(w.t, err)
				w.settle()
				w.approve(w.chris)
			},
			says: "0 of 1", mend: func(w *world) { w.approve(w.bo) },
		},
		"R5 permission is taken away after the approval": {
			policy: "{approvals: {writers: true, count: 2}}",
			try: func(w *world) {
				w.approve(w.dana, w.bo)
				w.lab.Permit(w.t, w.repo, w.dana, approval.Read)
			},
			says: "1 of 2", mend: func(w *world) { w.approve(w.chris) },
		},
		"R5 who may only read approves (PipeCD #2550: approvers that nobody listed)": {
			policy: "{approvals: {writers: true}}",
			try:    func(w *world) { w.approve(w.eve) },
			says:   "0 of 1", mend: func(w *world) { w.approve(w.bo) },
		},
		"R5 who is not in the team approves": {
			try:  func(w *world) { w.approve(w.bo, w.dana) },
			says: "1 of 2", mend: func(w *world) { w.approve(w.chris) },
		},
		"R5 a user who is called otherwise now": {
			policy: "{approvals: {all: [{user: %bo}, {team: %s}]}}",
			try: func(w *world) {
				was := w.bo
				w.bo = w.lab.Rename(w.t, w.bo)
				_ = was
				w.approve(w.dana, w.chris)
			},
			says: "", unmend: true,
		},
		"R6 HotSwap's own account approves": {
			policy: "{approvals: {writers: true}}",
			try: func(w *world) {
				if w.builtin() { // Gitea lets nobody review their own
					w.approve(w.lab.Own(w.t))
				}
			},
			says: "0 of 1", mend: func(w *world) { w.approve(w.bo) },
		},
		"R7 retargeted with its approvals (Gitea CVE-2026-58439)": {
			try: func(w *world) {
				w.approve(w.bo, w.chris)
				w.lab.Retarget(w.t, w.repo, w.number(), "main")
			},
			says: "0 of 2", audit: "pull.retargeted",
		},
		"R7 another pull request with what we propose": {
			try: func(w *world) {
				branch := w.branchFrom("copy", w.pull().HeadRef, map[string]string{"releases/copy.md": "mine"}, w.dana)
				number := w.lab.Open(w.t, w.repo, branch, releases, w.dana)
				p, err := w.lab.Forge().Pull(w.t.Context(), w.repo, number)
				require.NoError(w.t, err)
				w.lab.Review(w.t, w.repo, number, w.bo, approval.Approved, p.Head)
				w.lab.Review(w.t, w.repo, number, w.chris, approval.Approved, p.Head)
				w.lab.MergeBy(w.t, w.repo, number, w.dana)
			},
			says: "0 of 2", audit: "record.bypassed",
		},
		"R8 from a fork": {
			try: func(w *world) {
				if w.lab.Forge().Capabilities().Forks {
					number := w.lab.OpenFromFork(w.t, w.repo, releases, w.eve)
					p, err := w.lab.Forge().Pull(w.t.Context(), w.repo, number)
					require.NoError(w.t, err)
					w.lab.Review(w.t, w.repo, number, w.bo, approval.Approved, p.Head)
					w.lab.Review(w.t, w.repo, number, w.chris, approval.Approved, p.Head)
				}
			},
			says: "0 of 2",
		},
		"R10 comments that say approve": {
			try: func(w *world) {
				for _, text := range []string{"/approve", "LGTM :+1:", "approved by " + w.chris.Login} {
					w.lab.Say(w.t, w.repo, w.number(), w.bo, text)
				}
			},
			says: "0 of 2",
		},
		"R10 a comment with our marker": {
			try: func(w *world) {
				text, err := forge.Marked("promotion", "**Approved**: by everybody")
				require.NoError(w.t, err)
				w.lab.Say(w.t, w.repo, w.number(), w.dana, text)
			},
			says: "0 of 2",
		},
		"R4 who pushed it hides from the forge's feed, and may be who approves": {
			policy: "{approvals: {writers: true}}",
			try: func(w *world) {
				w.forge.hidden = true
				w.approve(w.dana)
			},
			says: "it may be dana", mend: func(w *world) { w.approve(w.bo) },
		},
		"R10 a status that says approved": {
			try: func(w *world) {
				require.NoError(w.t, w.lab.Forge().Status(w.t.Context(), w.repo, w.pull().Head, forge.Status{
					Context: "hotswap/approved", State: forge.StatusSuccess, Description: "2 of 2 of sre: bo, chris",
				}))
			},
			says: "0 of 2",
		},
		"R10 reviews that only comment": {
			try: func(w *world) {
				w.review(w.bo, approval.Commented)
				w.review(w.chris, approval.Commented)
			},
			says: "0 of 2",
		},
		"R10 reviews that were not sent": {
			try: func(w *world) {
				w.review(w.bo, approval.Pending)
				w.review(w.chris, approval.Pending)
			},
			says: "0 of 2", mend: func(w *world) { w.approve(w.bo, w.chris) },
		},
		"R11 approvals that are too old": {
			policy: "{approvals: {team: %s, count: 2}, validFor: 1s}",
			try: func(w *world) {
				w.approve(w.bo, w.chris)
				w.exec("SELECT pg_sleep(1.1)")
			},
			says: "which is more than 1s ago", mend: func(w *world) {
				w.change(w.ann, map[string]string{"policies/production.yaml": w.twoOfTheTeam()})
				w.settle()
				w.approve(w.bo, w.chris)
			},
		},
		"R11 approvals of a former attempt": {
			try: func(w *world) {
				w.approve(w.bo, w.chris)
				w.review(w.dana, approval.ChangesRequested)
				w.settle()
				_, err := w.engine.Retry(w.t.Context(), tenant, "checkout-"+w.generation(), "production", person("operator"), "again")
				require.NoError(w.t, err)
			},
			says: "0 of 2",
		},
		"R13 a merge that brings something else too": {
			try: func(w *world) {
				w.approve(w.bo, w.chris)
				w.mergeMore()
			},
			says: "did not bring exactly what was approved", audit: "merge.foreign", unmend: true,
		},
		"R1 an approval is dismissed between the look and the merge": {
			try: func(w *world) {
				w.approve(w.bo, w.chris)
				w.atEffect(func() { w.lab.Dismiss(w.t, w.repo, w.number(), w.bo) })
			},
			says: "1 of 2", mend: func(w *world) { w.approve(w.bo) },
		},
		"R1 it is retargeted between the look and the merge": {
			try: func(w *world) {
				w.approve(w.bo, w.chris)
				w.atEffect(func() { w.lab.Retarget(w.t, w.repo, w.number(), "main") })
			},
			says: "0 of 2", audit: "pull.retargeted",
		},
		"R1 it is retargeted at the moment of the merge": {
			try: func(w *world) {
				w.approve(w.bo, w.chris)
				w.when("Merge", func() { w.lab.Retarget(w.t, w.repo, w.number(), "main") })
			},
			says: "0 of 2", audit: "merge.foreign",
		},
		"R1 it is closed between the look and the merge": {
			try: func(w *world) {
				w.approve(w.bo, w.chris)
				w.atEffect(func() { require.NoError(w.t, w.lab.Forge().Close(w.t.Context(), w.repo, w.number())) })
			},
			says: "was closed", ends: promotion.Rejected,
		},
		"merged by hand with one approval": {
			try: func(w *world) {
				w.approve(w.bo)
				w.lab.MergeBy(w.t, w.repo, w.number(), w.dana)
			},
			says: "0 of 2", audit: "record.bypassed",
		},
		"closed by hand": {
			try: func(w *world) {
				w.approve(w.bo, w.chris)
				require.NoError(w.t, w.lab.Forge().Close(w.t.Context(), w.repo, w.number()))
			},
			says: "was closed", ends: promotion.Rejected,
		},
		"an approval of the change instead of the promotion": {
			try: func(w *world) {
				branch := w.branch("more", map[string]string{"README.md": "more"}, w.ann)
				number := w.lab.Open(w.t, w.repo, branch, "main", w.ann)
				p, err := w.lab.Forge().Pull(w.t.Context(), w.repo, number)
				require.NoError(w.t, err)
				w.lab.Review(w.t, w.repo, number, w.bo, approval.Approved, p.Head)
				w.lab.Review(w.t, w.repo, number, w.chris, approval.Approved, p.Head)
			},
			says: "0 of 2",
		},
		"an edit of the record by another pull request": {
			try: func(w *world) {
				branch := w.branchFrom("edit", releases, map[string]string{"releases/production/checkout.yaml": "module: {name: evil, version: '6'}\n"}, w.dana)
				number := w.lab.Open(w.t, w.repo, branch, releases, w.dana)
				p, err := w.lab.Forge().Pull(w.t.Context(), w.repo, number)
				require.NoError(w.t, err)
				w.lab.Review(w.t, w.repo, number, w.bo, approval.Approved, p.Head)
				w.lab.MergeBy(w.t, w.repo, number, w.dana)
			},
			says: "0 of 2",
		},
		"a webhook that says it is approved": {
			try: func(w *world) {
				body, err := forge.NewPullBody(forge.Wake{RepositoryID: "1", Repository: w.repo, Number: w.number()})
				require.NoError(w.t, err)
				w.deliver("pull_request_approved", body)
			},
			says: "0 of 2",
		},
		"an operator's word where a policy asks for reviews (Kargo CVE-2026-27111)": {
			try: func(w *world) {
				_, err := w.engine.Act(w.t.Context(), tenant, w.newest().ID, promotion.Promoted, person("operator"), "hurry")
				require.ErrorIs(w.t, err, promotion.ErrNotNow)
			},
			says: "0 of 2",
		},
		"the pull request cannot be read (500)": {
			try: func(w *world) {
				w.approve(w.bo, w.chris)
				w.fail("Pull", fmt.Errorf("%w: %d", forge.ErrUnavailable, http.StatusInternalServerError))
			},
			says: "the forge does not answer", mend: func(w *world) { w.forge.fails = nil },
		},
		"the second page of reviews cannot be read": {
			try: func(w *world) {
				w.approve(w.bo, w.chris)
				w.fail("Pull", forge.ErrTooMuch)
			},
			says: "more of it than is read", mend: func(w *world) { w.forge.fails = nil },
		},
		"who may approve cannot be read (403)": {
			try: func(w *world) {
				w.approve(w.bo, w.chris)
				w.fail("Members", forge.ErrDenied)
			},
			says: "who may approve could not be read", mend: func(w *world) { w.forge.fails = nil },
		},
		"who wrote it cannot be read": {
			try: func(w *world) {
				w.approve(w.bo, w.chris)
				w.fail("Origin", forge.ErrUnavailable)
			},
			says: "could not be read", mend: func(w *world) { w.forge.fails = nil },
		},
		"an approval by API that the policy does not take": {
			try: func(w *world) {
				w.approve(w.bo)
				w.give(store.ByAPI, w.chris.Login, "admin")
			},
			says: "1 of 2", mend: func(w *world) { w.approve(w.chris) },
		},
		"an approval by API of the author": {
			policy: "{approvals: {writers: true}, apiApprovals: true}",
			try:    func(w *world) { w.give(store.ByAPI, w.ann.Login, "admin") },
			says:   "0 of 1", mend: func(w *world) { w.give(store.ByAPI, w.bo.Login, "admin") },
		},
		"an approval by API that somebody wrote into the database": {
			policy: "{approvals: {writers: true}, apiApprovals: true}",
			try: func(w *world) {
				w.give(store.ByAPI, w.ann.Login, "admin")
				w.exec("UPDATE approvals SET actor = $1", w.bo.Login)
			},
			says: "is not as it was signed", mend: func(w *world) {
				w.exec("DELETE FROM approvals")
				w.approve(w.bo)
			},
		},
		"a glass that the role may not break": {
			policy: "{approvals: {team: %s, count: 2}, breakGlass: [admin]}",
			try:    func(w *world) { w.give(store.BreakGlass, w.dana.Login, "deployer") },
			says:   "0 of 2",
		},
		"a glass that the policy does not have": {
			try:  func(w *world) { w.give(store.BreakGlass, w.dana.Login, "admin") },
			says: "0 of 2",
		},
	}
}

func TestEveryWayAroundTheGateIsClosed(t *testing.T) { eachForge(t, battery) }

func battery(t *testing.T, lab conformance.Lab) {
	all := attacks()
	require.GreaterOrEqual(t, len(all), 40)
	for name, a := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab)
			rules := ""
			if a.policy != "" {
				rules = policy(w.named(a.policy))
			}
			w.first(rules)
			require.Equal(t, promotion.Gating, w.newest().Status, w.newest().Says)
			a.try(w)
			w.settle()
			now := w.newest()
			require.Empty(t, w.runs(), "it runs")
			require.Contains(t, now.Says, a.says)
			if a.audit != "" {
				require.NotZero(t, w.rows(a.audit), "nothing in the audit trail says %s", a.audit)
			}
			if a.ends != "" {
				require.Equal(t, a.ends, now.Status)
				return
			}
			require.Equal(t, promotion.Gating, now.Status, now.Says)
			if a.unmend {
				return
			}
			if a.mend == nil {
				a.mend = func(w *world) { w.approve(w.bo, w.chris) }
			}
			a.mend(w)
			w.settle()
			require.Equal(t, promotion.Succeeded, w.newest().Status, "the same world opens for who may: %s", w.newest().Says)
			require.NotEmpty(t, w.runs())
			require.Equal(t, w.ask("SELECT document ->> 'promotion' FROM records"), w.newest().ID)
		})
	}
}

// What must open, so that a gate that is always closed is no gate.
func TestTheGateOpens(t *testing.T) { eachForge(t, opens) }

func opens(t *testing.T, lab conformance.Lab) {
	for name, c := range map[string]struct {
		policy string
		do     func(w *world)
		audit  string
	}{
		"for two of the team":       {"", func(w *world) { w.approve(w.bo, w.chris) }, "promotion.approved"},
		"when they approve in turn": {"", func(w *world) { w.approve(w.bo); w.settle(); w.approve(w.chris) }, "promotion.approved"},
		"although an outsider says no": {"", func(w *world) {
			w.review(w.eve, approval.ChangesRequested)
			w.approve(w.bo, w.chris)
		}, ""},
		"for a merge by hand of what is approved": {"", func(w *world) {
			w.approve(w.bo, w.chris)
			w.lab.MergeBy(w.t, w.repo, w.number(), w.dana)
		}, ""},
		"for what was approved, although the head moved between the look and the merge": {"", func(w *world) {
			w.approve(w.bo, w.chris)
			w.when("Merge", func() { w.lab.Push(w.t, w.repo, w.pull().HeadRef, "main", w.dana) })
			w.settle()
			if w.newest().Status == promotion.Gating { // a forge may call them stale now
				w.approve(w.bo, w.chris)
			}
		}, "pull.head-moved"},
		"for any of several":                      {"{approvals: {any: [{user: %bo}, {team: %s, count: 2}]}}", func(w *world) { w.approve(w.bo) }, ""},
		"for authors, where the policy lets them": {"{approvals: {writers: true}, allowAuthors: true}", func(w *world) { w.approve(w.ann) }, ""},
		"by API, where the policy takes it":       {"{approvals: {writers: true}, apiApprovals: true}", func(w *world) { w.give(store.ByAPI, w.bo.Login, "admin") }, "approval.given"},
		"when the glass is broken": {"{approvals: {team: %s, count: 2}, breakGlass: [admin]}", func(w *world) {
			w.give(store.BreakGlass, w.dana.Login, "admin")
		}, "promotion.glass-broken"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab)
			rules := ""
			if c.policy != "" {
				rules = policy(w.named(c.policy))
			}
			w.first(rules)
			require.Empty(t, w.runs())
			c.do(w)
			w.settle()
			require.Equal(t, promotion.Succeeded, w.newest().Status, w.newest().Says)
			require.Equal(t, "1.4.2", w.runs())
			require.Zero(t, w.foreign(), "the records have what nobody approved")
			if c.audit != "" {
				require.NotZero(t, w.rows(c.audit))
			}
		})
	}
}
