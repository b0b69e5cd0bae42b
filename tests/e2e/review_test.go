package e2e

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// team makes the accounts of a team that reviews, and their tokens.
func (w *world) team() {
	w.t.Helper()
	for _, login := range []string{"ann", "bo", "chris"} {
		w.data(0, "account", "add", login, "--mail", login+"@example.com", "--may", "write")
		w.data(0, "account", "token", login, w.path(login+".token"))
	}
	w.data(0, "account", "join", "sre", "bo", "chris")
	w.write("clone/policies/production.yaml", "apiVersion: hotswap.dev/v1\nkind: Policy\nmetadata: {name: production}\nspec: {approvals: {team: sre, count: 2}}\n")
	w.write("clone/pipelines/one.yaml", reviewed)
}

// reviewed is a pipeline whose one stage opens by reviews.
const reviewed = `apiVersion: hotswap.dev/v1
kind: Pipeline
metadata: {name: one}
spec:
  stages:
    - {name: production, environment: production, gates: {approval: production}, strategy: {type: direct, deadline: 30s}}
`

// A seenPull is what `hotswap pr show -o json` says.
type seenPull struct {
	Number             int64
	Head, State, Title string
	Comments           []struct{ Body string }
}

func (w *world) pull(number string) (p seenPull) {
	w.t.Helper()
	require.NoError(w.t, json.Unmarshal([]byte(w.data(0, "pr", "show", number, "-o", "json")), &p))
	return p
}

// living waits for an open pull request and returns its number.
func (w *world) living() string {
	w.t.Helper()
	number := ""
	w.eventually("a pull request", func() bool {
		number = strings.TrimSpace(w.data(0, "pr", "list", "-o", "name"))
		return number != ""
	})
	return number
}

// review says something of what a pull request shows, in somebody's name.
func (w *world) review(code int, number, login, verdict string) {
	w.t.Helper()
	w.data(code, "pr", "review", number, verdict, "--commit", w.pull(number).Head, "--token-file", w.path(login+".token"))
}

func (w *world) says(number, text string) {
	w.t.Helper()
	w.eventually("the comment says "+text, func() bool {
		comments := w.pull(number).Comments
		return len(comments) == 1 && strings.Contains(comments[0].Body, text)
	})
}

func TestTwoReviewsTakeAVersionToProduction(t *testing.T) {
	w := newWorld(t)
	w.team()
	_, address := w.node("prod-1")
	w.push(w.artifact("1.4.2").intent())
	number := w.living()
	w.says(number, "**Waiting for approval**")
	require.Empty(t, answers(address))

	w.review(0, number, "bo", "--approve")
	w.says(number, "1 of 2 of sre: bo")
	w.review(0, number, "ann", "--approve") // is in no team, and wrote it
	simulated := w.data(5, "approvals", "simulate", "checkout-1/production/promote-1")
	require.Contains(t, simulated, "pending: 1 of 2 of sre: bo")
	require.Contains(t, simulated, "missing: a review of team sre")
	require.Contains(t, simulated, "does not count [R4]: ann ")
	require.Contains(t, w.data(0, "approvals", "simulate", "checkout-1/production/promote-1", "--with", "chris"), "approved: 2 of 2 of sre: bo, chris")
	w.serve.stop(syscall.SIGKILL) // reviews are not lost with the process
	w.startServe()
	require.Contains(t, w.data(0, "status"), "1 of 2 of sre: bo")
	w.review(0, number, "chris", "--approve")
	w.promotion("checkout-1/production/promote-1", "succeeded")
	require.Equal(t, "1.4.2", answers(address))
	require.Equal(t, "merged", w.pull(number).State)
	w.says(number, "**Deployed**")

	// The end of a promotion moves the file that the next one's pull request changes, whose head is made anew then.
	w.eventually("the record says that it succeeded", func() bool {
		w.git("fetch", "-q", "origin", "hotswap/releases")
		return strings.Contains(w.git("show", "FETCH_HEAD:releases/production/checkout.yaml"), "state: succeeded")
	})

	// The next one is refused: it never runs, and the slot goes on with the former.
	w.push(w.artifact("1.5.0").intent())
	number = w.living()
	w.review(0, number, "chris", "--request-changes")
	require.Contains(t, w.promotion("checkout-2/production/promote-1", "rejected"), "chris asks for changes")
	require.Equal(t, "1.4.2", answers(address))
	require.Contains(t, w.data(0, "doctor"), "nothing that is due is left undone")
	w.verified()
	w.audit("account.added", "pull.reviewed", "promotion.approved", "promotion.recorded", "promotion.rejected")
}

func TestWhatTheBuiltInForgeRefuses(t *testing.T) {
	w := newWorld(t)
	w.team()
	w.push(w.artifact("1.4.2").intent())
	number := w.living()
	head := w.pull(number).Head
	w.data(0, "account", "add", "eve", "--may", "none")
	w.data(0, "account", "token", "eve", w.path("eve.token"))
	w.review(4, number, "eve", "--approve")
	w.write("forged.token", "hotswap_"+strings.Repeat("A", 43)+"\n")
	w.review(4, number, "forged", "--approve")
	w.data(1, "pr", "review", number, "--approve", "--commit", strings.Repeat("0", 40), "--token-file", w.path("bo.token"))
	w.data(2, "pr", "review", number, "--approve", "--token-file", w.path("bo.token"))
	w.data(2, "pr", "review", number, "--approve", "--commit", head)
	w.data(1, "pr", "show", "77")

	// Who may write pushes neither to a protected branch nor to the records.
	w.data(0, "branch", "protect", "main")
	w.write("credentials", strings.Replace(w.url, "http://", "http://ann:"+w.token("ann")+"@", 1)+"\n")
	w.git("fetch", "-q", "origin")
	w.git("checkout", "-q", "-b", "mine", "origin/hotswap/releases")
	w.write("clone/releases/production/checkout.yaml", "module: {name: evil}\n")
	w.git("add", "-A")
	w.git("commit", "-q", "-m", "evil")
	require.Contains(t, w.gitFails("push", "origin", "HEAD:hotswap/releases"), "protected: what runs is recorded there")
	w.git("checkout", "-q", "-b", "other", "origin/main")
	w.write("clone/README.md", "mine")
	w.git("add", "-A")
	w.git("commit", "-q", "-m", "mine")
	require.Contains(t, w.gitFails("push", "origin", "HEAD:main"), "protected: push another branch and open a pull request")
	w.data(0, "account", "token", "ann", w.path("ann2.token"), "--revoke-others")
	require.Contains(t, w.gitFails("push", "origin", "HEAD:later"), "Authentication failed")
	w.verified()
	w.audit("pull.review.refused", "records.push.refused")
}
