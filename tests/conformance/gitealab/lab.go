package gitealab

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
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
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/forge/gitea"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/secret"
	"hotswap.dev/hotswap/tests/conformance"
)

// org owns the repositories of the lab; our own account is one of its owners.
const org = "acme"

// Lab acts on a Gitea as its administrator in the name of people ("sudo").
type Lab struct {
	server *Server
	token  secret.Secret // of our own account
	forge  *gitea.Gitea
	own    approval.Account
	count  atomic.Int64
}

var _ conformance.Lab = (*Lab)(nil)

// NewLab prepares a server that was just started.
func NewLab(t *testing.T, s *Server) *Lab {
	t.Helper()
	l := &Lab{server: s}
	password := "Passw0rd!lab"
	var own approval.Account
	l.do(t, "", http.MethodPost, "/admin/users", map[string]any{
		"username": "hotswap", "email": "hotswap@example.test", "password": password, "must_change_password": false,
	}, &own)
	l.own = own
	l.do(t, "", http.MethodPost, "/orgs", map[string]any{"username": org}, nil)
	l.do(t, "", http.MethodPut, fmt.Sprintf("/teams/%d/members/hotswap", l.team(t, "Owners")), nil, nil)
	l.token = secret.New([]byte(l.makeToken(t, "hotswap", password)))
	l.forge = l.At(t, s.URL)
	return l
}

// At is the forge as our own account at another address, such as a proxy's.
func (l *Lab) At(t *testing.T, address string) *gitea.Gitea {
	t.Helper()
	g, err := gitea.New(gitea.Options{URL: address, Token: l.token})
	require.NoError(t, err)
	return g
}

// Token of our own account.
func (l *Lab) Token() secret.Secret { return l.token }

func (l *Lab) makeToken(t *testing.T, login, password string) string {
	body := `{"name":"conformance","scopes":["write:repository","write:issue","read:user","read:organization"]}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, l.server.URL+"/api/v1/users/"+login+"/tokens", strings.NewReader(body))
	require.NoError(t, err)
	req.SetBasicAuth(login, password)
	req.Header.Set("Content-Type", "application/json")
	var token struct {
		Sha1 string `json:"sha1"`
	}
	l.answer(t, req, &token)
	require.NotEmpty(t, token.Sha1)
	return token.Sha1
}

// do calls the API as a person; "" is the administrator.
func (l *Lab) do(t *testing.T, as, method, path string, send, into any) http.Header {
	t.Helper()
	var body io.Reader
	if send != nil {
		text, err := json.Marshal(send)
		require.NoError(t, err)
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, l.server.URL+"/api/v1"+path, body)
	require.NoError(t, err)
	req.Header.Set("Authorization", "token "+l.server.Admin)
	req.Header.Set("Content-Type", "application/json")
	if as != "" {
		req.Header.Set("Sudo", as)
	}
	return l.answer(t, req, into)
}

func (l *Lab) answer(t *testing.T, req *http.Request, into any) http.Header {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Less(t, resp.StatusCode, 300, "%s %s: %s", req.Method, req.URL.Path, text)
	if into != nil {
		require.NoError(t, json.Unmarshal(text, into), "%s", text)
	}
	return resp.Header
}

// Forge implements [conformance.Lab].
func (l *Lab) Forge() forge.Forge { return l.forge }

// Own implements [conformance.Lab].
func (l *Lab) Own(*testing.T) approval.Account { return l.own }

func (l *Lab) next(prefix string) string { return prefix + strconv.FormatInt(l.count.Add(1), 10) }

// Repository implements [conformance.Lab]. Pushes are slow, so Gitea adopts what was made by Git.
func (l *Lab) Repository(t *testing.T) string {
	t.Helper()
	name := l.next("deploy")
	repo := org + "/" + name
	plantRepository(t, filepath.Join(l.server.work, "repositories", org, name+".git"))
	l.do(t, "", http.MethodPost, "/admin/unadopted/"+repo, nil, nil)
	l.do(t, "", http.MethodPatch, "/repos/"+repo, map[string]any{"private": false, "default_branch": "main", "allow_fast_forward_only_merge": true}, nil)
	for _, branch := range []string{"main", conformance.Releases} {
		ours := branch == conformance.Releases
		rule := map[string]any{
			"rule_name": branch, "enable_push": ours, "required_approvals": 1,
			"ignore_stale_approvals": true, "block_on_rejected_reviews": true,
		}
		if ours {
			rule["enable_push_whitelist"], rule["push_whitelist_usernames"] = true, []string{l.own.Login}
		}
		l.do(t, "", http.MethodPost, "/repos/"+repo+"/branch_protections", rule, nil)
	}
	return repo
}

// Protect implements [conformance.Lab].
func (l *Lab) Protect(t *testing.T, repo, branch string, approvals int) {
	t.Helper()
	l.do(t, "", http.MethodPatch, "/repos/"+repo+"/branch_protections/"+url.PathEscape(branch), map[string]any{"required_approvals": approvals}, nil)
}

// Git implements [conformance.Lab] by a mirror.
func (l *Lab) Git(t *testing.T, repo string) (*gitrepo.Repository, *gitrepo.Remote) {
	t.Helper()
	r, err := gitrepo.Init(filepath.Join(t.TempDir(), "mirror.git"))
	require.NoError(t, err)
	return r, &gitrepo.Remote{URL: l.server.URL + "/" + repo + ".git", User: l.own.Login, Password: l.token}
}

// plantRepository makes a bare repository with the two branches.
func plantRepository(t *testing.T, path string) {
	t.Helper()
	git := func(stdin string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", path}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "HOME="+path,
			"GIT_AUTHOR_NAME=lab", "GIT_AUTHOR_EMAIL=lab@example.test", "GIT_COMMITTER_NAME=lab", "GIT_COMMITTER_EMAIL=lab@example.test")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "git %v: %s", args, out)
		return strings.TrimSpace(string(out))
	}
	require.NoError(t, os.MkdirAll(path, 0o755))
	git("", "init", "--quiet", "--bare", "--initial-branch=main")
	blob := git("A repository of the lab.\n", "hash-object", "-w", "--stdin")
	tree := git("100644 blob "+blob+"\tREADME.md\n", "mktree")
	first := git("first\n", "commit-tree", tree)
	git("", "update-ref", "refs/heads/main", first)
	git("", "update-ref", "refs/heads/"+conformance.Releases, first)
}

// Account implements [conformance.Lab].
func (l *Lab) Account(t *testing.T, prefix string) approval.Account {
	t.Helper()
	login := l.next(prefix)
	var made approval.Account
	l.do(t, "", http.MethodPost, "/admin/users", map[string]any{
		"username": login, "email": login + "@example.test", "password": "Passw0rd!" + login, "must_change_password": false,
	}, &made)
	return made
}

// Permit implements [conformance.Lab].
func (l *Lab) Permit(t *testing.T, repo string, who approval.Account, p approval.Permission) {
	t.Helper()
	path := "/repos/" + repo + "/collaborators/" + who.Login
	if p == approval.None {
		l.do(t, "", http.MethodDelete, path, nil, nil)
		return
	}
	l.do(t, "", http.MethodPut, path, map[string]any{"permission": p}, nil)
}

// Rename implements [conformance.Lab].
func (l *Lab) Rename(t *testing.T, who approval.Account) approval.Account {
	t.Helper()
	login := l.next("renamed")
	l.do(t, "", http.MethodPost, "/admin/users/"+who.Login+"/rename", map[string]any{"new_username": login}, nil)
	return approval.Account{ID: who.ID, Login: login}
}

func (l *Lab) team(t *testing.T, name string) int64 {
	t.Helper()
	var teams []struct {
		ID   int64
		Name string
	}
	l.do(t, "", http.MethodGet, "/orgs/"+org+"/teams", nil, &teams)
	for _, team := range teams {
		if team.Name == name {
			return team.ID
		}
	}
	require.Fail(t, "no team "+name)
	return 0
}

// Team implements [conformance.Lab].
func (l *Lab) Team(t *testing.T, repo string, members ...approval.Account) string {
	t.Helper()
	name := l.next("team")
	var team struct{ ID int64 }
	l.do(t, "", http.MethodPost, "/orgs/"+org+"/teams", map[string]any{
		"name": name, "permission": "write", "units": []string{"repo.code", "repo.pulls", "repo.issues"},
	}, &team)
	for _, m := range members {
		l.do(t, "", http.MethodPut, fmt.Sprintf("/teams/%d/members/%s", team.ID, m.Login), nil, nil)
	}
	l.do(t, "", http.MethodPut, fmt.Sprintf("/teams/%d/repos/%s", team.ID, repo), nil, nil)
	return name
}

// Push implements [conformance.Lab].
func (l *Lab) Push(t *testing.T, repo, branch, from string, by approval.Account) string {
	t.Helper()
	if l.head(t, repo, branch) == "" {
		return l.write(t, repo, by, map[string]any{"branch": from, "new_branch": branch})
	}
	return l.write(t, repo, by, map[string]any{"branch": branch})
}

// ForcePush implements [conformance.Lab].
func (l *Lab) ForcePush(t *testing.T, repo, branch, from string, by approval.Account) string {
	t.Helper()
	return l.write(t, repo, by, map[string]any{"branch": from, "new_branch": branch, "force_push": true})
}

// write commits a new file by the API, which is a push for Gitea.
func (l *Lab) write(t *testing.T, repo string, by approval.Account, where map[string]any) string {
	t.Helper()
	name := l.next("file")
	where["content"] = base64.StdEncoding.EncodeToString([]byte(name))
	where["message"] = name
	var made struct {
		Commit struct{ SHA string }
	}
	l.do(t, by.Login, http.MethodPost, "/repos/"+repo+"/contents/"+name, where, &made)
	require.Len(t, made.Commit.SHA, 40)
	return made.Commit.SHA
}

// Write implements [conformance.Lab].
func (l *Lab) Write(t *testing.T, repo, branch, from string, files map[string]string, by approval.Account) string {
	t.Helper()
	where := map[string]any{"branch": branch, "message": "change"}
	if l.head(t, repo, branch) == "" {
		where["branch"], where["new_branch"] = from, branch
	}
	var tree struct {
		Tree []struct{ Path, SHA string }
	}
	l.do(t, "", http.MethodGet, fmt.Sprintf("/repos/%s/git/trees/%s?recursive=true&per_page=1000", repo, url.PathEscape(where["branch"].(string))), nil, &tree)
	var changes []map[string]any
	for path, text := range files {
		change := map[string]any{"operation": "create", "path": path, "content": base64.StdEncoding.EncodeToString([]byte(text))}
		for _, f := range tree.Tree {
			if f.Path == path {
				change["operation"], change["sha"] = "update", f.SHA
				if text == "" {
					change["operation"] = "delete"
				}
			}
		}
		changes = append(changes, change)
	}
	where["files"] = changes
	var made struct {
		Commit struct{ SHA string }
	}
	l.do(t, by.Login, http.MethodPost, "/repos/"+repo+"/contents", where, &made)
	require.Len(t, made.Commit.SHA, 40)
	return made.Commit.SHA
}

// head of a branch; empty: there is none.
func (l *Lab) head(t *testing.T, repo, branch string) string {
	t.Helper()
	var branches []struct {
		Name   string
		Commit struct{ ID string }
	}
	l.do(t, "", http.MethodGet, "/repos/"+repo+"/branches?limit=50", nil, &branches)
	for _, b := range branches {
		if b.Name == branch {
			return b.Commit.ID
		}
	}
	return ""
}

// Open implements [conformance.Lab].
func (l *Lab) Open(t *testing.T, repo, head, base string, by approval.Account) int64 {
	t.Helper()
	var p struct{ Number int64 }
	l.do(t, by.Login, http.MethodPost, "/repos/"+repo+"/pulls", map[string]any{"title": "Change " + head, "head": head, "base": base}, &p)
	return p.Number
}

// OpenFromFork implements [conformance.Lab].
func (l *Lab) OpenFromFork(t *testing.T, repo, base string, by approval.Account) int64 {
	t.Helper()
	var fork struct {
		FullName string `json:"full_name"`
	}
	l.do(t, by.Login, http.MethodPost, "/repos/"+repo+"/forks", map[string]any{}, &fork)
	l.Push(t, fork.FullName, "feature", base, by)
	return l.Open(t, repo, by.Login+":feature", base, by)
}

// Conflict implements [conformance.Lab].
func (l *Lab) Conflict(t *testing.T, repo, base string, by approval.Account) int64 {
	t.Helper()
	var readme struct{ SHA string }
	l.do(t, "", http.MethodGet, "/repos/"+repo+"/contents/README.md?ref="+url.QueryEscape(base), nil, &readme)
	edit := func(as approval.Account, text, branch, onto string) {
		change := map[string]any{"content": base64.StdEncoding.EncodeToString([]byte(text)), "sha": readme.SHA, "branch": onto, "message": text}
		if branch != onto {
			change["new_branch"] = branch
		}
		l.do(t, as.Login, http.MethodPut, "/repos/"+repo+"/contents/README.md", change, nil)
	}
	edit(by, "one way", "oneway", base)
	rule := "/repos/" + repo + "/branch_protections/" + url.PathEscape(base)
	l.do(t, "", http.MethodPatch, rule, map[string]any{"enable_push": true}, nil)
	edit(approval.Account{}, "another way", base, base)
	l.do(t, "", http.MethodPatch, rule, map[string]any{"enable_push": false}, nil)
	return l.Open(t, repo, "oneway", base, by)
}

func (l *Lab) pull(repo string, number int64) string {
	return fmt.Sprintf("/repos/%s/pulls/%d", repo, number)
}

// Review implements [conformance.Lab].
func (l *Lab) Review(t *testing.T, repo string, number int64, by approval.Account, v approval.Verdict, commit string) {
	t.Helper()
	event := map[approval.Verdict]string{approval.Approved: "APPROVED", approval.ChangesRequested: "REQUEST_CHANGES", approval.Commented: "COMMENT", approval.Pending: "PENDING"}[v]
	l.do(t, by.Login, http.MethodPost, l.pull(repo, number)+"/reviews", map[string]any{"event": event, "body": "a review", "commit_id": commit}, nil)
}

// Dismiss implements [conformance.Lab].
func (l *Lab) Dismiss(t *testing.T, repo string, number int64, of approval.Account) {
	t.Helper()
	var reviews []struct {
		ID   int64
		User approval.Account
	}
	l.do(t, "", http.MethodGet, l.pull(repo, number)+"/reviews?limit=50", nil, &reviews)
	for _, r := range slices.Backward(reviews) {
		if r.User.ID == of.ID {
			l.do(t, "", http.MethodPost, fmt.Sprintf("%s/reviews/%d/dismissals", l.pull(repo, number), r.ID), map[string]any{"message": "away"}, nil)
			return
		}
	}
	require.Fail(t, "nothing to dismiss")
}

// Retarget implements [conformance.Lab].
func (l *Lab) Retarget(t *testing.T, repo string, number int64, base string) {
	t.Helper()
	l.do(t, "", http.MethodPatch, l.pull(repo, number), map[string]any{"base": base}, nil)
}

// Reopen implements [conformance.Lab].
func (l *Lab) Reopen(t *testing.T, repo string, number int64) {
	t.Helper()
	l.do(t, "", http.MethodPatch, l.pull(repo, number), map[string]any{"state": "open"}, nil)
}

// MergeBy implements [conformance.Lab]. Gitea may still be checking, and says so.
func (l *Lab) MergeBy(t *testing.T, repo string, number int64, by approval.Account) {
	t.Helper()
	conformance.Eventually(t, "it can be merged", func() bool {
		var p struct{ Mergeable bool }
		l.do(t, "", http.MethodGet, l.pull(repo, number), nil, &p)
		return p.Mergeable
	})
	l.do(t, by.Login, http.MethodPost, l.pull(repo, number)+"/merge", map[string]any{"Do": "merge"}, nil)
}

// Say implements [conformance.Lab].
func (l *Lab) Say(t *testing.T, repo string, number int64, by approval.Account, text string) {
	t.Helper()
	l.do(t, by.Login, http.MethodPost, fmt.Sprintf("/repos/%s/issues/%d/comments", repo, number), map[string]any{"body": text}, nil)
}

// Comments implements [conformance.Lab].
func (l *Lab) Comments(t *testing.T, repo string, number int64) []string {
	t.Helper()
	var comments []struct{ Body string }
	l.do(t, "", http.MethodGet, fmt.Sprintf("/repos/%s/issues/%d/comments", repo, number), nil, &comments)
	out := make([]string, 0, len(comments))
	for _, c := range comments {
		out = append(out, c.Body)
	}
	return out
}

// Statuses implements [conformance.Lab].
func (l *Lab) Statuses(t *testing.T, repo, commit string) (out []string) {
	t.Helper()
	type status struct {
		ID                           int64
		Context, Status, Description string
	}
	var all []status
	header := l.do(t, "", http.MethodGet, "/repos/"+repo+"/statuses/"+commit+"?limit=50", nil, &all)
	require.Equal(t, strconv.Itoa(len(all)), header.Get("X-Total-Count"))
	slices.SortFunc(all, func(a, b status) int { return cmp.Compare(a.ID, b.ID) })
	for _, s := range all {
		out = append(out, fmt.Sprintf("%s %s %s", s.Context, s.Status, s.Description))
	}
	return out
}

// Requests implements [conformance.Lab].
func (l *Lab) Requests(t *testing.T, repo string, number int64) int {
	t.Helper()
	var events []struct{ Type string }
	l.do(t, "", http.MethodGet, fmt.Sprintf("/repos/%s/issues/%d/timeline", repo, number), nil, &events)
	n := 0
	for _, e := range events {
		if e.Type == "review_request" {
			n++
		}
	}
	return n
}

// Body implements [conformance.Lab].
func (l *Lab) Body(t *testing.T, repo string, number int64) (title, body string, labels []string) {
	t.Helper()
	var p struct {
		Title, Body string
		Labels      []struct{ Name string }
	}
	l.do(t, "", http.MethodGet, l.pull(repo, number), nil, &p)
	for _, label := range p.Labels {
		labels = append(labels, label.Name)
	}
	return p.Title, p.Body, labels
}
