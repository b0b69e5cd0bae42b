// Package builtinlab is the built-in forge on real PostgreSQL and real Git, under test.
package builtinlab

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
)

const owner = "acme"

func operator() audit.Actor { return audit.Actor{Kind: audit.Person, Name: "operator"} }

// Lab acts on the built-in forge as people do by `hotswap pr` and by git.
type Lab struct {
	root  string
	store *store.Store
	forge *builtin.Forge
	own   approval.Account
	count atomic.Int64
}

// New returns a lab on a store.
func New(t *testing.T, s *store.Store) *Lab {
	t.Helper()
	l := &Lab{root: t.TempDir(), store: s}
	var err error
	l.own, err = s.EnsureAccount(t.Context(), owner, store.NewAccount{Login: builtin.Own, Email: builtin.OwnEmail, Bot: true}, operator())
	require.NoError(t, err)
	l.forge, err = builtin.New(builtin.Options{
		Tenant: owner, Store: s, URL: "http://127.0.0.1:7080/forge", Own: l.own,
		Open: func(name string) (*gitrepo.Repository, error) { return gitrepo.Open(l.path(name)) },
	})
	require.NoError(t, err)
	return l
}

func (l *Lab) path(name string) string { return filepath.Join(l.root, name+".git") }

func (l *Lab) next(prefix string) string {
	return prefix + strconv.FormatInt(l.count.Add(1), 10)
}

// name is a repository without its owner.
func (l *Lab) name(repo string) string { return strings.TrimPrefix(repo, owner+"/") }

// git runs the real git on a repository as somebody.
func (l *Lab) git(t *testing.T, repo, stdin string, by approval.Account, args ...string) string {
	t.Helper()
	return l.gitIn(t, repo, "", stdin, by, args...)
}

// gitIn is git with an index of its own.
func (l *Lab) gitIn(t *testing.T, repo, index, stdin string, by approval.Account, args ...string) string {
	t.Helper()
	mail := fmt.Sprintf("%d@example.test", by.ID)
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"--git-dir=" + l.path(l.name(repo))}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "HOME="+l.root,
		"GIT_AUTHOR_NAME=x"+by.Login, "GIT_AUTHOR_EMAIL="+mail, "GIT_COMMITTER_NAME=x"+by.Login, "GIT_COMMITTER_EMAIL="+mail)
	if index != "" {
		cmd.Env = append(cmd.Env, "GIT_INDEX_FILE="+index)
	}
	out, err := cmd.Output()
	require.NoError(t, err, "git %v", args)
	return strings.TrimSpace(string(out))
}

// Forge implements [conformance.Lab].
func (l *Lab) Forge() forge.Forge { return l.forge }

// Own implements [conformance.Lab].
func (l *Lab) Own(*testing.T) approval.Account { return l.own }

// Git implements [conformance.Lab]: the repository is here.
func (l *Lab) Git(t *testing.T, repo string) (*gitrepo.Repository, *gitrepo.Remote) {
	t.Helper()
	r, err := gitrepo.Open(l.path(l.name(repo)))
	require.NoError(t, err)
	return r, nil
}

// Repository implements [conformance.Lab].
func (l *Lab) Repository(t *testing.T) string {
	t.Helper()
	repo := owner + "/" + l.next("deploy")
	require.NoError(t, os.MkdirAll(l.path(l.name(repo)), 0o700))
	l.git(t, repo, "", l.own, "init", "--quiet", "--bare", "--initial-branch=main")
	first := l.commit(t, repo, "", map[string]string{"README.md": "A repository of the lab.\n"}, l.own)
	for _, branch := range []string{"main", conformance.Releases} {
		l.git(t, repo, "", l.own, "update-ref", "refs/heads/"+branch, first)
		l.Protect(t, repo, branch, 1)
	}
	l.Permit(t, repo, l.own, approval.Admin)
	return repo
}

// Protect implements [conformance.Lab].
func (l *Lab) Protect(t *testing.T, repo, branch string, approvals int) {
	t.Helper()
	require.NoError(t, l.store.ProtectBranch(t.Context(), owner, l.name(repo), store.ForgeBranch{Branch: branch, Protected: true, Approvals: approvals}, operator()))
}

// commit writes a commit with more files on a parent.
func (l *Lab) commit(t *testing.T, repo, parent string, files map[string]string, by approval.Account) string {
	t.Helper()
	index := filepath.Join(t.TempDir(), "index")
	args := []string(nil)
	if parent != "" {
		args = []string{"-p", parent}
		l.gitIn(t, repo, index, "", by, "read-tree", parent)
	}
	names := slices.Sorted(maps.Keys(files))
	for _, name := range names {
		if files[name] == "" {
			l.gitIn(t, repo, index, "", by, "rm", "--cached", "--quiet", name)
			continue
		}
		blob := l.git(t, repo, files[name], by, "hash-object", "-w", "--stdin")
		l.gitIn(t, repo, index, "", by, "update-index", "--add", "--cacheinfo", "100644,"+blob+","+name)
	}
	tree := l.gitIn(t, repo, index, "", by, "write-tree")
	return l.git(t, repo, "change "+strings.Join(names, ", ")+"\n", by, append([]string{"commit-tree", tree}, args...)...)
}

func (l *Lab) tip(t *testing.T, repo, branch string) string {
	t.Helper()
	return l.git(t, repo, "", l.own, "for-each-ref", "--format=%(objectname)", "refs/heads/"+branch)
}

// push moves a branch as the Git server does it.
func (l *Lab) push(t *testing.T, repo, branch, after string, by approval.Account) string {
	t.Helper()
	moved := []builtin.Moved{{Ref: "refs/heads/" + branch, Before: l.tip(t, repo, branch), After: after}}
	p, err := l.forge.BeginPush(t.Context(), repo, moved, by, false)
	require.NoError(t, err)
	require.Empty(t, p.Refused)
	l.git(t, repo, "", by, "update-ref", "refs/heads/"+branch, after)
	require.NoError(t, l.forge.EndPush(t.Context(), p, moved))
	return after
}

// Push implements [conformance.Lab].
func (l *Lab) Push(t *testing.T, repo, branch, from string, by approval.Account) string {
	t.Helper()
	file := l.next("file")
	return l.Write(t, repo, branch, from, map[string]string{file: file}, by)
}

// Write implements [conformance.Lab].
func (l *Lab) Write(t *testing.T, repo, branch, from string, files map[string]string, by approval.Account) string {
	t.Helper()
	parent := l.tip(t, repo, branch)
	if parent == "" {
		parent = l.tip(t, repo, from)
	}
	return l.push(t, repo, branch, l.commit(t, repo, parent, files, by), by)
}

// ForcePush implements [conformance.Lab].
func (l *Lab) ForcePush(t *testing.T, repo, branch, from string, by approval.Account) string {
	t.Helper()
	file := l.next("file")
	return l.push(t, repo, branch, l.commit(t, repo, l.tip(t, repo, from), map[string]string{file: file}, by), by)
}

// Conflict implements [conformance.Lab].
func (l *Lab) Conflict(t *testing.T, repo, base string, by approval.Account) int64 {
	t.Helper()
	before := l.tip(t, repo, base)
	l.push(t, repo, "oneway", l.commit(t, repo, before, map[string]string{"README.md": "one way"}, by), by)
	l.git(t, repo, "", l.own, "update-ref", "refs/heads/"+base, l.commit(t, repo, before, map[string]string{"README.md": "another way"}, l.own))
	return l.Open(t, repo, "oneway", base, by)
}

// Account implements [conformance.Lab].
func (l *Lab) Account(t *testing.T, prefix string) approval.Account {
	t.Helper()
	login := l.next(prefix)
	a, err := l.store.AddAccount(t.Context(), owner, store.NewAccount{Login: login}, operator())
	require.NoError(t, err)
	require.NoError(t, l.store.SetAccountEmail(t.Context(), owner, login, fmt.Sprintf("%d@example.test", a.ID), operator()))
	return a
}

// Permit implements [conformance.Lab].
func (l *Lab) Permit(t *testing.T, repo string, who approval.Account, p approval.Permission) {
	t.Helper()
	require.NoError(t, l.store.PermitAccount(t.Context(), owner, l.name(repo), who.Login, p, operator()))
}

// Rename implements [conformance.Lab].
func (l *Lab) Rename(t *testing.T, who approval.Account) approval.Account {
	t.Helper()
	login := l.next("renamed")
	require.NoError(t, l.store.RenameAccount(t.Context(), owner, who.Login, login, operator()))
	return approval.Account{ID: who.ID, Login: login}
}

// Team implements [conformance.Lab].
func (l *Lab) Team(t *testing.T, repo string, members ...approval.Account) string {
	t.Helper()
	team := l.next("team")
	for _, m := range members {
		require.NoError(t, l.store.SetMember(t.Context(), owner, team, m.Login, true, operator()))
	}
	require.NoError(t, l.store.PermitTeam(t.Context(), owner, l.name(repo), team, approval.Write, operator()))
	return team
}

// Open implements [conformance.Lab].
func (l *Lab) Open(t *testing.T, repo, head, base string, by approval.Account) int64 {
	t.Helper()
	p, err := l.forge.Open(t.Context(), repo, forge.PullRequest{HeadRef: head, Base: base, Title: "Change " + head}, by)
	require.NoError(t, err)
	return p.Number
}

// OpenFromFork implements [conformance.Lab].
func (l *Lab) OpenFromFork(t *testing.T, _, _ string, _ approval.Account) int64 {
	require.Fail(t, "it has no forks")
	return 0
}

// Review implements [conformance.Lab]. One of a verdict that is pending is one that nobody has sent yet.
func (l *Lab) Review(t *testing.T, repo string, number int64, by approval.Account, v approval.Verdict, commit string) {
	t.Helper()
	if v == approval.Pending {
		return
	}
	_, err := l.forge.Review(t.Context(), repo, number, builtin.Review{Verdict: v, Commit: commit, Text: "I have looked"}, by)
	require.NoError(t, err)
}

// Dismiss implements [conformance.Lab].
func (l *Lab) Dismiss(t *testing.T, repo string, number int64, of approval.Account) {
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

// Retarget implements [conformance.Lab].
func (l *Lab) Retarget(t *testing.T, repo string, number int64, base string) {
	t.Helper()
	require.NoError(t, l.forge.Retarget(t.Context(), repo, number, base, l.own))
}

// Reopen implements [conformance.Lab].
func (l *Lab) Reopen(t *testing.T, repo string, number int64) {
	t.Helper()
	require.NoError(t, l.forge.Reopen(t.Context(), repo, number, l.own))
}

// MergeBy implements [conformance.Lab].
func (l *Lab) MergeBy(t *testing.T, repo string, number int64, by approval.Account) {
	t.Helper()
	p, err := l.forge.Pull(t.Context(), repo, number)
	require.NoError(t, err)
	_, err = l.forge.MergeBy(t.Context(), repo, number, forge.Merge{ExpectedHead: p.Head}, by)
	require.NoError(t, err)
}

// Say implements [conformance.Lab].
func (l *Lab) Say(t *testing.T, repo string, number int64, by approval.Account, text string) {
	t.Helper()
	require.NoError(t, l.forge.Say(t.Context(), repo, number, text, by))
}

// Comments implements [conformance.Lab].
func (l *Lab) Comments(t *testing.T, repo string, number int64) []string {
	t.Helper()
	comments, err := l.store.ForgeComments(t.Context(), owner, l.name(repo), number)
	require.NoError(t, err)
	var out []string
	for _, c := range comments {
		out = append(out, c.Body)
	}
	return out
}

// Statuses implements [conformance.Lab].
func (l *Lab) Statuses(t *testing.T, repo, commit string) (out []string) {
	t.Helper()
	all, err := l.store.ForgeStatuses(t.Context(), owner, l.name(repo), commit)
	require.NoError(t, err)
	for _, s := range all {
		out = append(out, fmt.Sprintf("%s %s %s", s.Context, s.State, s.Description))
	}
	return out
}

// Requests implements [conformance.Lab].
func (l *Lab) Requests(t *testing.T, repo string, number int64) int {
	t.Helper()
	all, err := l.store.ForgeRequests(t.Context(), owner, l.name(repo), number)
	require.NoError(t, err)
	return len(all)
}

// Body implements [conformance.Lab].
func (l *Lab) Body(t *testing.T, repo string, number int64) (title, body string, labels []string) {
	t.Helper()
	s, err := l.forge.Show(t.Context(), repo, number)
	require.NoError(t, err)
	return s.Title, s.Body, s.Labels
}

var _ conformance.Lab = (*Lab)(nil)
