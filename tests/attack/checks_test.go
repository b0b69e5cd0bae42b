package attack_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/tests/conformance"
)

// A proposal is a pull request of people that HotSwap looks at.
type proposal struct {
	*world
	number int64
	head   string
}

// propose opens a pull request of ann's onto main, from a branch that begins there.
func (w *world) propose(branch string, files map[string]string) proposal {
	w.t.Helper()
	require.NoError(w.t, w.store.KeepChecks(w.t.Context(), tenant, w.name))
	head := w.lab.Write(w.t, w.repo, branch, "main", files, w.ann)
	p := proposal{world: w, number: w.lab.Open(w.t, w.repo, branch, "main", w.ann), head: head}
	w.settle()
	return p
}

// says is our one comment; empty: there is none.
func (p proposal) says() string {
	p.t.Helper()
	all := p.lab.Comments(p.t, p.repo, p.number)
	if len(all) == 0 {
		return ""
	}
	require.Len(p.t, all, 1)
	_, text, _ := strings.Cut(all[0], "\n") // after the marker
	return text
}

// status is the newest one of the head.
func (p proposal) status() string {
	p.t.Helper()
	all := p.lab.Statuses(p.t, p.repo, p.head)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}

func (p proposal) merge() {
	p.t.Helper()
	p.lab.Review(p.t, p.repo, p.number, p.carl, approval.Approved, p.head)
	p.lab.MergeBy(p.t, p.repo, p.number, p.carl)
	p.settle()
}

func (w *world) intents() map[string]string {
	return map[string]string{
		"deployments/checkout.yaml": deployment("1.4.2"), "pipelines/gated.yaml": pipeline,
		"environments/production.yaml": environment(""), "policies/production.yaml": w.twoOfTheTeam(),
	}
}

func TestPullRequestsAreChecked(t *testing.T) { eachForge(t, checked) }

func checked(t *testing.T, lab conformance.Lab) {
	for name, play := range map[string]func(t *testing.T, w *world){
		"and a merged one is followed to its end": func(t *testing.T, w *world) {
			p := w.propose("first", w.intents())
			require.Contains(t, p.says(), "**Ready to merge**: a merge releases `checkout 1.4.2`, for the first time.\n**Next**: a review and a merge; then these wait for approval: production (policy production).\n")
			require.Equal(t, "hotswap/validate success valid; a merge releases 1 deployment", p.status())
			require.Empty(t, w.runs())
			p.merge()
			require.Contains(t, p.says(), "**Rolling out**: `checkout 1.4.2`.\n**Next**: waits: production of checkout-")
			w.approve(w.bo, w.chris)
			w.settle()
			require.Equal(t, "1.4.2", w.runs())
			require.Contains(t, p.says(), "**Deployed**: `checkout 1.4.2`.\n**Next**: nothing.\n")
			w.exec("UPDATE promotions SET finished_at = finished_at - interval '2 minutes'")
			w.settle()
			require.Equal(t, "0", w.ask("SELECT count(*)::text FROM pull_checks WHERE number <> 0"), "it is followed no more")
			tip := w.tip("main")
			require.Equal(t, []string{"hotswap/validate success 1 intent valid, 1 released"}, lab.Statuses(t, w.repo, tip), "the branch says it too")
		},
		"and a bad one says where": func(t *testing.T, w *world) {
			files := w.intents()
			files["deployments/checkout.yaml"] = strings.Replace(deployment("1.4.2"), "pipeline: gated", "pipelin: gated", 1)
			p := w.propose("first", files)
			require.Contains(t, p.says(), "**Cannot be planned**: 2 problems")
			require.Contains(t, p.says(), "deployments/checkout.yaml:11:3: unknown field \"pipelin\"")
			require.Contains(t, p.status(), "hotswap/validate failure 2 problems")
			p.head = w.lab.Write(t, w.repo, "first", "", w.intents(), w.ann)
			w.settle()
			require.Contains(t, p.says(), "**Ready to merge**", "the same comment, in place")
			require.Contains(t, p.status(), " success ")
		},
		"and one that changes no intent is left in peace": func(t *testing.T, w *world) {
			w.first("")
			p := w.propose("words", map[string]string{"docs/notes.md": "words\n"})
			require.Empty(t, p.says())
			require.Equal(t, "hotswap/validate success no intent is changed", p.status())
		},
		"and what it changes is told against the branch as it is now": func(t *testing.T, w *world) {
			w.first("")
			w.approve(w.bo, w.chris)
			w.settle()
			p := w.propose("next", map[string]string{"deployments/checkout.yaml": deployment("1.5.0")})
			require.Contains(t, p.says(), "`checkout 1.4.2 → 1.5.0`")
			require.Regexp(t, `\| production \| .*\| [0-9]+s \|`, p.says(), "how long the last run took")
			require.Contains(t, p.says(), "env.VERSION: \"1.4.2\" → \"1.5.0\"")
			w.change(w.dana, map[string]string{"environments/production.yaml": environment(", windows: [{name: nights, opens: '0 22 * * *', for: 6h}]")})
			w.settle()
			require.Contains(t, p.says(), "`checkout 1.4.2 → 1.5.0`")
			w.change(w.dana, map[string]string{"deployments/checkout.yaml": deployment("1.4.3")})
			w.settle()
			require.Contains(t, p.says(), "**Cannot be planned**: it conflicts with branch main.")
			require.Contains(t, p.status(), " failure it conflicts with branch main")
		},
		"and a removal is one": func(t *testing.T, w *world) {
			w.first("")
			w.approve(w.bo, w.chris)
			w.settle()
			p := w.propose("away", map[string]string{"deployments/checkout.yaml": ""})
			require.Contains(t, p.says(), "**Ready to merge**: a merge releases the removal of checkout.\n**Next**: a review and a merge; then these wait for approval: production (an operator).")
		},
		"and the problems that the branch has already are nobody's else": func(t *testing.T, w *world) {
			w.first("")
			w.change(w.dana, map[string]string{"deployments/other.yaml": "kind: nonsense\n"})
			w.settle()
			p := w.propose("next", map[string]string{"deployments/checkout.yaml": deployment("1.5.0")})
			require.Contains(t, p.says(), "**Ready to merge**")
			require.Contains(t, p.says(), "The branch itself has")
			require.Contains(t, p.status(), " success ")
		},
		"and none of another repository by the same name": func(t *testing.T, w *world) {
			w.first("")
			r, err := lab.Forge().Repository(t.Context(), w.repo)
			require.NoError(t, err)
			require.NoError(t, w.store.BindRepository(t.Context(), tenant, w.name, "4711", w.repo))
			p := w.propose("next", map[string]string{"deployments/checkout.yaml": deployment("1.5.0")})
			require.Empty(t, p.says())
			w.exec("UPDATE repositories SET forge_id = $1", strconv.FormatInt(r.ID, 10)) // it is the one that was bound
			w.settle()
			require.Contains(t, p.says(), "**Ready to merge**")
		},
		"and one of a fork is read, and told nothing": func(t *testing.T, w *world) {
			if !lab.Forge().Capabilities().Forks {
				t.Skip("it has no forks")
			}
			w.first("")
			require.NoError(t, w.store.KeepChecks(t.Context(), tenant, w.name))
			stranger := lab.Account(t, "stranger")
			p := proposal{world: w, number: lab.OpenFromFork(t, w.repo, "main", stranger)}
			w.settle()
			require.Empty(t, p.says(), "it changes no intent")
			pull, err := lab.Forge().Pull(t.Context(), w.repo, p.number)
			require.NoError(t, err)
			p.head = pull.Head
			require.Equal(t, "hotswap/lint success linted: no problems", p.status(), "by a name that no protection asks for")
			p.head = lab.Write(t, stranger.Login+"/"+w.name, "feature", "", map[string]string{"deployments/other.yaml": "kind: nonsense\n"}, stranger)
			w.settle()
			require.Contains(t, p.says(), "**Cannot be planned**")
			require.Contains(t, p.says(), "deployments/other.yaml:1:")
			require.NotContains(t, p.says(), "production", "names of ours")
			require.Contains(t, p.status(), "hotswap/lint failure")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, newWorld(t, lab))
		})
	}
}
