package platform_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/platform"
	"hotswap.dev/hotswap/pkg/secret"
)

const gitPassword = "canary-git-password"

// gitForge is a server with the repository acme/deploy and a receiver of its webhooks.
type gitForge struct {
	t      *testing.T
	server *platform.GitServer
	url    string // without credentials
	path   string
	log    *bytes.Buffer

	mu     sync.Mutex
	pushes []forge.Push
	status int // what the receiver answers
}

func newGitForge(t *testing.T, change func(*platform.GitOptions)) *gitForge {
	t.Helper()
	f := &gitForge{t: t, log: new(bytes.Buffer), status: http.StatusAccepted}
	key := secret.New([]byte("webhook-secret"))
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := forge.ReadDelivery(r, forge.Keys{Current: key})
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		p, err := forge.ParsePush(d)
		f.mu.Lock()
		defer f.mu.Unlock()
		if err == nil {
			f.pushes = append(f.pushes, p)
		}
		w.WriteHeader(f.status)
	}))
	t.Cleanup(receiver.Close)
	o := platform.GitOptions{
		Root:       filepath.Join(t.TempDir(), "git"),
		WebhookURL: receiver.URL, WebhookKey: key,
		Log: slog.New(slog.NewTextHandler(f.log, nil)),
		Authenticate: func(_ context.Context, user string, password secret.Secret) (string, bool) {
			return user, password.Equal(secret.New([]byte(gitPassword)))
		},
		Authorize: func(_ context.Context, principal, action, repository string) error {
			if principal == "ann" || principal == "reader" && action == platform.ActionRead && repository == "acme/deploy" {
				return nil
			}
			return auth.ErrDenied
		},
	}
	if change != nil {
		change(&o)
	}
	var err error
	f.server, err = platform.NewGitServer(o)
	require.NoError(t, err)
	f.path, err = f.server.CreateRepository(t.Context(), "acme/deploy")
	require.NoError(t, err)
	web := httptest.NewServer(http.StripPrefix("/git", f.server))
	t.Cleanup(web.Close)
	f.url = web.URL + "/git/acme/deploy.git"
	return f
}

// as runs the real git as a user whose password is in a credential file.
func (f *gitForge) as(user, password, dir string, args ...string) (string, error) {
	f.t.Helper()
	store := filepath.Join(f.t.TempDir(), "credentials")
	u, err := url.Parse(f.url)
	require.NoError(f.t, err)
	u.User, u.Path = url.UserPassword(user, password), ""
	require.NoError(f.t, os.WriteFile(store, []byte(u.String()+"\n"), 0o600))
	cmd := exec.CommandContext(f.t.Context(), "git", append([]string{"-c", "credential.helper=store --file=" + store, "-c", "protocol.version=2"}, args...)...)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.test", "GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.test",
	}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// ann runs git as somebody who may do everything, in her work tree.
func (f *gitForge) ann(work string, args ...string) string {
	f.t.Helper()
	out, err := f.as("ann", gitPassword, work, args...)
	require.NoError(f.t, err, "git %v: %s", args, out)
	return out
}

// work is a work tree with one commit, whose origin is the forge.
func (f *gitForge) work() string {
	f.t.Helper()
	dir := f.t.TempDir()
	f.ann(dir, "init", "-q", "-b", "main")
	f.ann(dir, "remote", "add", "origin", f.url)
	f.commit(dir, "one", []byte("1\n"))
	return dir
}

func (f *gitForge) commit(dir, name string, content []byte) string {
	f.t.Helper()
	require.NoError(f.t, os.WriteFile(filepath.Join(dir, name), content, 0o644))
	f.ann(dir, "add", "-A")
	f.ann(dir, "commit", "-q", "-m", name)
	return f.ann(dir, "rev-parse", "HEAD")
}

func (f *gitForge) told() []forge.Push {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]forge.Push(nil), f.pushes...)
}

func TestAPushByRealGitIsKeptToldAndCloned(t *testing.T) {
	f := newGitForge(t, nil)
	work := f.work()
	first := f.ann(work, "rev-parse", "HEAD")
	f.ann(work, "push", "-q", "origin", "main")
	noise := make([]byte, 3<<20) // above http.postBuffer: git sends it in chunks
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	second := f.commit(work, "large", noise)
	f.ann(work, "push", "-q", "origin", "main", "main:other")

	id := fmt.Sprint(platform.RepositoryID("acme/deploy"))
	require.Equal(t, []forge.Push{
		{RepositoryID: id, Repository: "acme/deploy", Ref: "refs/heads/main", After: first},
		{RepositoryID: id, Repository: "acme/deploy", Ref: "refs/heads/main", Before: first, After: second},
		{RepositoryID: id, Repository: "acme/deploy", Ref: "refs/heads/other", After: second},
	}, f.told())

	clone := t.TempDir()
	out, err := f.as("reader", gitPassword, clone, "clone", "-q", f.url, ".")
	require.NoError(t, err, out)
	got, err := os.ReadFile(filepath.Join(clone, "large"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(noise, got))
	require.Len(t, f.told(), 3, "a clone tells nobody")
	require.NotContains(t, f.log.String(), gitPassword)
	left, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(f.path)), ".*-*"))
	require.NoError(t, err)
	require.Empty(t, left, "nothing temporary is left")
}

func TestWhoIsNotKnownOrNotAllowedCanNeitherReadNorPush(t *testing.T) {
	f := newGitForge(t, nil)
	work := f.work()
	f.ann(work, "push", "-q", "origin", "main")
	f.commit(work, "two", []byte("2\n"))
	for name, c := range map[string]struct{ user, password, want string }{
		"a wrong password":      {"ann", "wrong", "Authentication failed"},
		"a reader":              {"reader", gitPassword, "403"},
		"somebody without role": {"eve", gitPassword, "403"},
	} {
		out, err := f.as(c.user, c.password, work, "push", "origin", "main")
		require.Error(t, err, name)
		require.Contains(t, out, c.want, name)
	}
	out, err := f.as("eve", gitPassword, t.TempDir(), "clone", f.url, ".")
	require.Error(t, err)
	require.Contains(t, out, "403")
	out, err = f.as("ann", gitPassword, work, "ls-remote", strings.Replace(f.url, "deploy", "missing", 1))
	require.Error(t, err)
	require.Contains(t, out, "not found")
	require.Len(t, f.told(), 1)
}

func TestOnlyTheSmartProtocolIsServed(t *testing.T) {
	f := newGitForge(t, nil)
	base := strings.TrimSuffix(f.url, "/acme/deploy.git")
	for _, path := range []string{
		"/acme/deploy.git/HEAD", "/acme/deploy.git/info/refs", "/acme/deploy.git/config", "/acme/deploy.git/objects/info/packs",
		"/acme/deploy.git/info/refs?service=git-upload-archive", "/acme/../acme/deploy.git/info/refs?service=git-upload-pack",
		"/%2e%2e/deploy.git/info/refs?service=git-upload-pack", "/acme%2fdeploy.git/info/refs?service=git-upload-pack",
		"/acme/deploy.git/git-upload-pack", "/acme/deploy/info/refs?service=git-upload-pack", "/",
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		require.NoError(t, err)
		r.SetBasicAuth("ann", gitPassword)
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		res, err := client.Do(r)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusNotFound, res.StatusCode, path)
	}
}

func TestForcedPushesAndDeletionsAreRefusedUnlessAllowed(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		t.Run(fmt.Sprint("allowed ", allowed), func(t *testing.T) {
			f := newGitForge(t, func(o *platform.GitOptions) { o.AllowForce = allowed })
			work := f.work()
			f.ann(work, "push", "-q", "origin", "main", "main:other")
			old := f.ann(work, "rev-parse", "HEAD")
			f.ann(work, "commit", "-q", "--amend", "-m", "rewritten")
			_, err := f.as("ann", gitPassword, work, "push", "--force", "origin", "main")
			require.Equal(t, allowed, err == nil)
			_, err = f.as("ann", gitPassword, work, "push", "origin", ":other")
			require.Equal(t, allowed, err == nil)
			if !allowed {
				require.Len(t, f.told(), 2)
				return
			}
			told := f.told()
			require.Len(t, told, 4)
			require.Equal(t, old, told[2].Before)
			require.Equal(t, "refs/heads/other", told[3].Ref)
			require.Empty(t, told[3].After)
		})
	}
}

func TestAHookInARepositoryNeverRuns(t *testing.T) {
	f := newGitForge(t, nil)
	ran := filepath.Join(t.TempDir(), "ran")
	require.NoError(t, os.MkdirAll(filepath.Join(f.path, "hooks"), 0o755))
	for _, hook := range []string{"pre-receive", "update", "post-receive", "post-update"} {
		require.NoError(t, os.WriteFile(filepath.Join(f.path, "hooks", hook), []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o755))
	}
	f.ann(f.work(), "push", "-q", "origin", "main")
	require.NoFileExists(t, ran)
	require.Len(t, f.told(), 1)
}

func TestAPushThatIsTooLargeIsRefused(t *testing.T) {
	f := newGitForge(t, func(o *platform.GitOptions) { o.MaxPush = 100_000 })
	work := f.work()
	noise := make([]byte, 200_000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	f.commit(work, "large", noise)
	_, err := f.as("ann", gitPassword, work, "push", "origin", "main")
	require.Error(t, err)
	require.Empty(t, f.told())
}

func TestALostWebhookDoesNotHarmThePush(t *testing.T) {
	f := newGitForge(t, nil)
	f.status = http.StatusInternalServerError
	work := f.work()
	f.ann(work, "push", "-q", "origin", "main")
	require.Contains(t, f.log.String(), "webhook refused")

	gone := newGitForge(t, func(o *platform.GitOptions) { o.WebhookURL = "http://127.0.0.1:1/" })
	work = gone.work()
	gone.ann(work, "push", "-q", "origin", "main")
	require.Contains(t, gone.log.String(), "webhook not delivered")
	require.Contains(t, gone.ann(work, "ls-remote", "origin"), "refs/heads/main")
}

func TestThePasswordIsInNoEnvironmentOfGit(t *testing.T) {
	bin := t.TempDir()
	dump := filepath.Join(t.TempDir(), "environment")
	real, err := exec.LookPath("git")
	require.NoError(t, err)
	script := "#!/bin/sh\nenv >> " + dump + "\nexec " + real + " \"$@\"\n"
	require.NoError(t, os.WriteFile(filepath.Join(bin, "git"), []byte(script), 0o755))
	path := os.Getenv("PATH")
	t.Setenv("PATH", bin+":"+path)
	f := newGitForge(t, nil)
	t.Setenv("PATH", path)
	t.Setenv("CANARY_OF_OURS", "x")
	f.ann(f.work(), "push", "-q", "origin", "main")
	seen, err := os.ReadFile(dump)
	require.NoError(t, err)
	require.Contains(t, string(seen), "REMOTE_USER=ann")
	require.NotContains(t, string(seen), gitPassword)
	require.NotContains(t, string(seen), "AUTHORIZATION")
	require.NotContains(t, string(seen), "CANARY_OF_OURS")
}

func TestACompressedFetchRequestIsUnderstood(t *testing.T) {
	f := newGitForge(t, nil)
	work := f.work()
	f.ann(work, "push", "-q", "origin", "main")
	tip := f.ann(work, "rev-parse", "HEAD")
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	_, err := io.WriteString(z, "0032want "+tip+"\n00000009done\n")
	require.NoError(t, errors.Join(err, z.Close()))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+"/git-upload-pack", &body)
	require.NoError(t, err)
	r.SetBasicAuth("reader", gitPassword)
	r.Header.Set("Content-Type", "application/x-git-upload-pack-request")
	r.Header.Set("Content-Encoding", "gzip")
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Contains(t, string(answer), "PACK")
}

func TestARepositoryIsMadeOnceAndUnderAPlainName(t *testing.T) {
	f := newGitForge(t, nil)
	_, err := f.server.CreateRepository(t.Context(), "acme/deploy")
	require.ErrorIs(t, err, platform.ErrRepositoryExists)
	for _, bad := range []string{"", "deploy", "../x", "a/b/c", "A/b", "a/.b", "a/b.git", "-x/y"} {
		_, err := f.server.CreateRepository(t.Context(), bad)
		require.ErrorIs(t, err, platform.ErrRepositoryName, "%q", bad)
	}
	head, err := os.ReadFile(filepath.Join(f.path, "HEAD"))
	require.NoError(t, err)
	require.Equal(t, "ref: refs/heads/main\n", string(head))
}
