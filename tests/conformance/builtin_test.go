package conformance_test

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/forge/builtin"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/tests/conformance"
	"hotswap.dev/hotswap/tests/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m, store.Migrate) }

const owner = "acme"

func operator() audit.Actor { return audit.Actor{Kind: audit.Person, Name: "operator"} }

// builtinLab is the built-in forge on real PostgreSQL and real Git.
type builtinLab struct {
	root  string
	store *store.Store
	forge *builtin.Forge
	own   approval.Account
	count atomic.Int64
}

func newBuiltinLab(t *testing.T) *builtinLab {
	t.Helper()
	key := ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", ed25519.SeedSize)))
	s, err := store.Open(t.Context(), store.Options{DSN: pgtest.New(t).DSN("hotswap_app"), MaxConns: 8}, audit.NewWriter(key))
	require.NoError(t, err)
	t.Cleanup(s.Close)
	l := &builtinLab{root: t.TempDir(), store: s}
	l.own, err = s.EnsureAccount(t.Context(), owner, store.NewAccount{Login: builtin.Own, Email: builtin.OwnEmail, Bot: true}, operator())
	require.NoError(t, err)
	l.forge, err = builtin.New(builtin.Options{
		Tenant: owner, Store: s, URL: "http://127.0.0.1:7080/forge", Own: l.own,
		Open: func(name string) (*gitrepo.Repository, error) { return gitrepo.Open(l.path(name)) },
	})
	require.NoError(t, err)
	return l
}

func TestBuiltin(t *testing.T) {
	lab := newBuiltinLab(t)
	t.Run("conforms", func(t *testing.T) { conformance.Run(t, lab) })
}

func (l *builtinLab) path(name string) string { return filepath.Join(l.root, name+".git") }

func (l *builtinLab) next(prefix string) string {
	return prefix + strconv.FormatInt(l.count.Add(1), 10)
}

// name is a repository without its owner.
func (l *builtinLab) name(repo string) string { return strings.TrimPrefix(repo, owner+"/") }

// git runs the real git on a repository as somebody.
func (l *builtinLab) git(t *testing.T, repo, stdin string, by approval.Account, args ...string) string {
	t.Helper()
	mail := fmt.Sprintf("%d@example.test", by.ID)
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"--git-dir=" + l.path(l.name(repo))}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "HOME="+l.root,
		"GIT_AUTHOR_NAME=x"+by.Login, "GIT_AUTHOR_EMAIL="+mail, "GIT_COMMITTER_NAME=x"+by.Login, "GIT_COMMITTER_EMAIL="+mail)
	out, err := cmd.Output()
	require.NoError(t, err, "git %v", args)
	return strings.TrimSpace(string(out))
}

func (l *builtinLab) Forge() forge.Forge              { return l.forge }
func (l *builtinLab) Own(*testing.T) approval.Account { return l.own }

func (l *builtinLab) Repository(t *testing.T) string {
	t.Helper()
	repo := owner + "/" + l.next("deploy")
	require.NoError(t, os.MkdirAll(l.path(l.name(repo)), 0o700))
	l.git(t, repo, "", l.own, "init", "--quiet", "--bare", "--initial-branch=main")
	first := l.commit(t, repo, "", "README.md", "A repository of the lab.\n", l.own)
	for _, branch := range []string{"main", conformance.Releases} {
		l.git(t, repo, "", l.own, "update-ref", "refs/heads/"+branch, first)
		require.NoError(t, l.store.ProtectBranch(t.Context(), owner, l.name(repo), store.ForgeBranch{Branch: branch, Protected: true, Approvals: 1}, operator()))
	}
	l.Permit(t, repo, l.own, approval.Admin)
	return repo
}

// commit writes a commit with one more file on a parent.
func (l *builtinLab) commit(t *testing.T, repo, parent, file, text string, by approval.Account) string {
	t.Helper()
	blob := l.git(t, repo, text, by, "hash-object", "-w", "--stdin")
	tree, args := "", []string(nil)
	if parent != "" {
		args = []string{"-p", parent}
		for line := range strings.Lines(l.git(t, repo, "", by, "ls-tree", parent)) {
			if !strings.HasSuffix(strings.TrimSpace(line), "\t"+file) {
				tree += strings.TrimSpace(line) + "\n"
			}
		}
	}
	tree = l.git(t, repo, tree+"100644 blob "+blob+"\t"+file+"\n", by, "mktree")
	return l.git(t, repo, "change "+file+"\n", by, append([]string{"commit-tree", tree}, args...)...)
}

func (l *builtinLab) tip(t *testing.T, repo, branch string) string {
	t.Helper()
	return l.git(t, repo, "", l.own, "for-each-ref", "--format=%(objectname)", "refs/heads/"+branch)
}

// push moves a branch as the Git server does it.
func (l *builtinLab) push(t *testing.T, repo, branch, after string, by approval.Account) string {
	t.Helper()
	moved := []builtin.Moved{{Ref: "refs/heads/" + branch, Before: l.tip(t, repo, branch), After: after}}
	p, err := l.forge.BeginPush(t.Context(), repo, moved, by, false)
	require.NoError(t, err)
	require.Empty(t, p.Refused)
	l.git(t, repo, "", by, "update-ref", "refs/heads/"+branch, after)
	require.NoError(t, l.forge.EndPush(t.Context(), p, moved))
	return after
}

func (l *builtinLab) Push(t *testing.T, repo, branch, from string, by approval.Account) string {
	t.Helper()
	parent := l.tip(t, repo, branch)
	if parent == "" {
		parent = l.tip(t, repo, from)
	}
	file := l.next("file")
	return l.push(t, repo, branch, l.commit(t, repo, parent, file, file, by), by)
}

func (l *builtinLab) ForcePush(t *testing.T, repo, branch, from string, by approval.Account) string {
	t.Helper()
	file := l.next("file")
	return l.push(t, repo, branch, l.commit(t, repo, l.tip(t, repo, from), file, file, by), by)
}

func (l *builtinLab) Conflict(t *testing.T, repo, base string, by approval.Account) int64 {
	t.Helper()
	before := l.tip(t, repo, base)
	l.push(t, repo, "oneway", l.commit(t, repo, before, "README.md", "one way", by), by)
	l.git(t, repo, "", l.own, "update-ref", "refs/heads/"+base, l.commit(t, repo, before, "README.md", "another way", l.own))
	return l.Open(t, repo, "oneway", base, by)
}

func (l *builtinLab) Account(t *testing.T, prefix string) approval.Account {
	t.Helper()
	login := l.next(prefix)
	a, err := l.store.AddAccount(t.Context(), owner, store.NewAccount{Login: login}, operator())
	require.NoError(t, err)
	require.NoError(t, l.store.SetAccountEmail(t.Context(), owner, login, fmt.Sprintf("%d@example.test", a.ID), operator()))
	return a
}

func (l *builtinLab) Permit(t *testing.T, repo string, who approval.Account, p approval.Permission) {
	t.Helper()
	require.NoError(t, l.store.PermitAccount(t.Context(), owner, l.name(repo), who.Login, p, operator()))
}

func (l *builtinLab) Rename(t *testing.T, who approval.Account) approval.Account {
	t.Helper()
	login := l.next("renamed")
	require.NoError(t, l.store.RenameAccount(t.Context(), owner, who.Login, login, operator()))
	return approval.Account{ID: who.ID, Login: login}
}

func (l *builtinLab) Team(t *testing.T, repo string, members ...approval.Account) string {
	t.Helper()
	team := l.next("team")
	for _, m := range members {
		require.NoError(t, l.store.SetMember(t.Context(), owner, team, m.Login, true, operator()))
	}
	require.NoError(t, l.store.PermitTeam(t.Context(), owner, l.name(repo), team, approval.Write, operator()))
	return team
}

func (l *builtinLab) Open(t *testing.T, repo, head, base string, by approval.Account) int64 {
	t.Helper()
	p, err := l.forge.Open(t.Context(), repo, forge.PullRequest{HeadRef: head, Base: base, Title: "Change " + head}, by)
	require.NoError(t, err)
	return p.Number
}

func (l *builtinLab) OpenFromFork(t *testing.T, _, _ string, _ approval.Account) int64 {
	require.Fail(t, "it has no forks")
	return 0
}

// Review of a verdict that is pending is one that nobody has sent yet.
func (l *builtinLab) Review(t *testing.T, repo string, number int64, by approval.Account, v approval.Verdict, commit string) {
	t.Helper()
	if v == approval.Pending {
		return
	}
	_, err := l.forge.Review(t.Context(), repo, number, builtin.Review{Verdict: v, Commit: commit, Text: "I have looked"}, by)
	require.NoError(t, err)
}

func (l *builtinLab) Dismiss(t *testing.T, repo string, number int64, of approval.Account) {
	t.Helper()
	p, err := l.forge.Pull(t.Context(), repo, number)
	require.NoError(t, err)
	var last int64
	for _, r := range p.Reviews {
		if r.By.ID == of.ID {
			last = r.ID
		}
	}
	require.NoError(t, l.forge.Dismiss(t.Context(), repo, number, last, "it was too early", l.own))
}

func (l *builtinLab) Retarget(t *testing.T, repo string, number int64, base string) {
	t.Helper()
	require.NoError(t, l.forge.Retarget(t.Context(), repo, number, base, l.own))
}

func (l *builtinLab) Reopen(t *testing.T, repo string, number int64) {
	t.Helper()
	require.NoError(t, l.forge.Reopen(t.Context(), repo, number, l.own))
}

func (l *builtinLab) MergeBy(t *testing.T, repo string, number int64, by approval.Account) {
	t.Helper()
	p, err := l.forge.Pull(t.Context(), repo, number)
	require.NoError(t, err)
	_, err = l.forge.MergeBy(t.Context(), repo, number, forge.Merge{ExpectedHead: p.Head}, by)
	require.NoError(t, err)
}

func (l *builtinLab) Say(t *testing.T, repo string, number int64, by approval.Account, text string) {
	t.Helper()
	require.NoError(t, l.forge.Say(t.Context(), repo, number, text, by))
}

func (l *builtinLab) Comments(t *testing.T, repo string, number int64) []string {
	t.Helper()
	comments, err := l.store.ForgeComments(t.Context(), owner, l.name(repo), number)
	require.NoError(t, err)
	var out []string
	for _, c := range comments {
		out = append(out, c.Body)
	}
	return out
}

func (l *builtinLab) Statuses(t *testing.T, repo, commit string) int {
	t.Helper()
	all, err := l.store.ForgeStatuses(t.Context(), owner, l.name(repo), commit)
	require.NoError(t, err)
	return len(all)
}

func (l *builtinLab) Requests(t *testing.T, repo string, number int64) int {
	t.Helper()
	all, err := l.store.ForgeRequests(t.Context(), owner, l.name(repo), number)
	require.NoError(t, err)
	return len(all)
}

func (l *builtinLab) Body(t *testing.T, repo string, number int64) (title, body string, labels []string) {
	t.Helper()
	s, err := l.forge.Show(t.Context(), repo, number)
	require.NoError(t, err)
	return s.Title, s.Body, s.Labels
}

var _ conformance.Lab = (*builtinLab)(nil)
