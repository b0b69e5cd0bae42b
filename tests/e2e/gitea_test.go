package e2e

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/tests/conformance"
	"hotswap.dev/hotswap/tests/conformance/gitealab"
)

// From a pull request on a Gitea to a program that answers: ann writes, carl merges, bo and chris
// review the promotion, and HotSwap's own account is no person.
func TestAChangeOnGiteaReachesProduction(t *testing.T) {
	if os.Getenv("HOTSWAP_FORGE") != "gitea" {
		t.Skip("a real Gitea is built and asked by `make test-forge` (HOTSWAP_FORGE=gitea)")
	}
	server, err := gitealab.Start(t.Context(), "../tools")
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	lab := gitealab.NewLab(t, server)
	repo := lab.Repository(t)

	w := newFolder(t)
	w.patience = 2 * time.Minute
	token := lab.Token()
	w.write("data/secrets/gitea-token", token.RevealString()+"\n")
	address := freeAddress(t)
	w.url = "http://" + address
	w.with = []string{"--gitea-url", server.URL, "--gitea-repository", repo, "--public-url", w.url}
	w.startServe()
	_, app := w.node("prod-1")

	people := map[string]approval.Account{}
	for _, login := range []string{"ann", "bo", "carl", "chris"} {
		people[login] = lab.Account(t, login)
		lab.Permit(t, repo, people[login], approval.Write)
	}
	team := lab.Team(t, repo, people["bo"], people["chris"])
	head := lab.Write(t, repo, "checkout-1.4.2", "main", map[string]string{
		"deployments/checkout.yaml": w.artifact("1.4.2").intent(), "pipelines/one.yaml": reviewed, "environments/production.yaml": production,
		"policies/production.yaml": "apiVersion: hotswap.dev/v1\nkind: Policy\nmetadata: {name: production}\nspec: {approvals: {team: " + team + ", count: 2}}\n",
	}, people["ann"])
	change := lab.Open(t, repo, "checkout-1.4.2", "main", people["ann"])
	says := func(number int64, text string) {
		t.Helper()
		w.eventually("pull request says "+text, func() bool {
			all := lab.Comments(t, repo, number)
			return len(all) == 1 && strings.Contains(all[0], text)
		})
	}
	says(change, "**Ready to merge**: a merge releases `checkout 1.4.2`, for the first time.")
	lab.Review(t, repo, change, people["carl"], approval.Approved, head)
	lab.MergeBy(t, repo, change, people["carl"])

	var promotion forge.Listed
	w.eventually("a promotion pull request", func() bool {
		open, err := lab.Forge().Pulls(t.Context(), repo, forge.Filter{Base: conformance.Releases, State: approval.Open})
		require.NoError(t, err)
		if len(open) == 1 {
			promotion = open[0]
		}
		return len(open) == 1
	})
	says(promotion.Number, "**Waiting for approval**")
	require.Empty(t, answers(app))
	for _, login := range []string{"bo", "chris"} {
		lab.Review(t, repo, promotion.Number, people[login], approval.Approved, promotion.Head)
	}
	w.eventually("the version answers", func() bool { return answers(app) == "1.4.2" })
	says(promotion.Number, "**Deployed**")
	says(change, "**Deployed**")
	require.Contains(t, w.data(0, "doctor"), "our account administers "+repo)
	w.data(2, "pr", "list")
	w.verified()
	w.audit("repository.synced", "promotion.approved", "promotion.recorded")
	require.NotContains(t, read(t, w.serve.log), token.RevealString(), "the token is in the log")
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(b)
}
