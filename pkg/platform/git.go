package platform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/forge/builtin"
	"hotswap.dev/hotswap/pkg/secret"
)

// The actions that [GitOptions].Authorize is asked about.
const (
	ActionRead = "repository.read"
	ActionPush = "repository.push"
)

// ErrRepositoryExists: there is a repository of that name.
var ErrRepositoryExists = errors.New("the repository exists")

// ErrRepositoryName: not a name such as acme/deploy.
var ErrRepositoryName = errors.New("bad repository name")

const (
	gitDeadline     = 10 * time.Minute // of one request
	maxNegotiation  = 10 << 20         // bytes of a fetch's request
	defaultMaxPush  = 256 << 20        // bytes of one push
	webhookDeadline = 5 * time.Second
)

var repositoryName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}/[a-z0-9][a-z0-9_-]{0,62}$`)
})

// GitOptions configure a [GitServer]. Root, Authenticate and Authorize are required.
type GitOptions struct {
	Root string // folder of the bare repositories: Root/acme/deploy.git
	// Authenticate proves a user by HTTP basic authentication and names the principal.
	Authenticate func(ctx context.Context, user string, password secret.Secret) (principal string, ok bool)
	// Authorize returns nil when the principal may do the action to the repository (acme/deploy), an error that wraps
	// auth.ErrDenied when not, and any other error when it cannot tell: that is answered 503.
	Authorize func(ctx context.Context, principal, action, repository string) error
	// Gate, unless it is nil, judges every push before git sees it, and is told what it moved.
	Gate PushGate
	// WebhookURL gets a signed push event for each branch that a push changed. Empty: none.
	WebhookURL string
	// WebhookKey signs them.
	WebhookKey secret.Secret
	// AllowForce lets pushes rewrite branches.
	AllowForce bool
	// MaxPush is the largest push in bytes; 0 means 256 MiB.
	MaxPush int64
	// Log gets the result of every push and webhook; required.
	Log *slog.Logger
}

// A PushGate says which branches may be moved, and takes down who moves them.
type PushGate interface {
	BeginPush(ctx context.Context, principal, repository string, asked []builtin.Moved) (*builtin.Push, error)
	EndPush(ctx context.Context, push *builtin.Push, moved []builtin.Moved) error
}

// GitServer is the Git side of the embedded forge: bare repositories over smart HTTP, served by git http-backend.
// Paths are /OWNER/NAME.git/…; mount it with [http.StripPrefix]. Hooks of repositories never run.
type GitServer struct {
	options GitOptions
	git     string        // path of the program
	pushing chan struct{} // holds a token while a push changes references
	client  *http.Client
}

// NewGitServer checks the options and that git is installed, and creates Root.
func NewGitServer(o GitOptions) (*GitServer, error) {
	if o.Authenticate == nil || o.Authorize == nil || o.Log == nil {
		return nil, errors.New("git server: Authenticate, Authorize and Log are required")
	}
	if o.WebhookURL != "" && o.WebhookKey.IsZero() {
		return nil, errors.New("git server: a webhook needs a key to be signed with")
	}
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("git server: git was not found: install it with: apt-get install -y git")
	}
	if o.Root, err = filepath.Abs(o.Root); err != nil {
		return nil, fmt.Errorf("git server: %w", err)
	}
	if err := privateFolder(o.Root); err != nil {
		return nil, fmt.Errorf("git server: %w", err)
	}
	if o.MaxPush == 0 {
		o.MaxPush = defaultMaxPush
	}
	client := &http.Client{
		Timeout:       webhookDeadline,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &GitServer{options: o, git: git, pushing: make(chan struct{}, 1), client: client}, nil
}

// CreateRepository creates an empty bare repository with the default branch main, whole or not at all, and returns
// its path.
func (g *GitServer) CreateRepository(ctx context.Context, name string) (string, error) {
	path, err := g.RepositoryPath(name)
	if err != nil {
		return "", fmt.Errorf("create repository: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("create repository %s: %w", name, err)
	}
	fresh, err := os.MkdirTemp(g.options.Root, ".new-")
	if err != nil {
		return "", fmt.Errorf("create repository %s: %w", name, err)
	}
	defer os.RemoveAll(fresh)
	if _, err := g.run(ctx, "init", "-q", "--bare", "--template=", "--initial-branch=main", fresh); err != nil {
		return "", fmt.Errorf("create repository %s: %w", name, err)
	}
	if err := os.Rename(fresh, path); err != nil {
		if _, exists := os.Stat(path); exists == nil {
			return "", fmt.Errorf("create repository %s: %w", name, ErrRepositoryExists)
		}
		return "", fmt.Errorf("create repository %s: %w", name, err)
	}
	return path, syncFolder(filepath.Dir(path))
}

// RepositoryPath is where the repository is, or would be.
func (g *GitServer) RepositoryPath(name string) (string, error) {
	if !repositoryName().MatchString(name) {
		return "", fmt.Errorf("%w: %.100q is not like acme/deploy (lower-case letters, digits, dashes)", ErrRepositoryName, name)
	}
	return filepath.Join(g.options.Root, filepath.FromSlash(name)+".git"), nil
}

// gitRequest is one of the three requests of the smart protocol.
type gitRequest struct {
	repository string
	path       string // of the repository
	service    string // git-upload-pack or git-receive-pack
	discovery  bool   // GET …/info/refs; otherwise POST …/SERVICE
}

func (q gitRequest) action() string {
	if q.service == "git-receive-pack" {
		return ActionPush
	}
	return ActionRead
}

// parse recognises exactly the smart protocol: the dumb one reads files by path, and nobody needs it.
func (g *GitServer) parse(r *http.Request) (gitRequest, bool) {
	name, rest, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), ".git/")
	q := gitRequest{repository: name}
	var err error
	if q.path, err = g.RepositoryPath(name); err != nil || !ok || r.URL.RawPath != "" {
		return q, false
	}
	switch {
	case rest == "info/refs" && r.Method == http.MethodGet:
		q.service, q.discovery = r.URL.Query().Get("service"), true
	case r.Method == http.MethodPost:
		q.service = rest
	}
	return q, q.service == "git-upload-pack" || q.service == "git-receive-pack"
}

// ServeHTTP implements [http.Handler].
func (g *GitServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), gitDeadline)
	defer cancel()
	r = r.WithContext(ctx)
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(time.Now().Add(gitDeadline)) // a test's recorder has no connection
	_ = connection.SetWriteDeadline(time.Now().Add(gitDeadline))

	q, ok := g.parse(r)
	if !ok {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	principal, ok := g.principal(r)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Basic realm="hotswap", charset="UTF-8"`)
		http.Error(w, "authentication required", http.StatusUnauthorized)
		return
	}
	if err := g.options.Authorize(ctx, principal, q.action(), q.repository); err != nil {
		g.refuse(w, q, err)
		return
	}
	if _, err := os.Stat(filepath.Join(q.path, "HEAD")); err != nil {
		http.Error(w, "no such repository", http.StatusNotFound)
		return
	}
	if q.action() == ActionPush && !q.discovery {
		g.push(w, r, q, principal)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxNegotiation)
	if !wholeBody(w, r, g.options.Root) {
		return
	}
	defer r.Body.Close()
	g.backend(principal, false).ServeHTTP(w, forBackend(r))
}

// refuse answers whoever may not, and whoever cannot be told: what cannot be
// recorded is not done, and says so in other words than a refusal.
func (g *GitServer) refuse(w http.ResponseWriter, q gitRequest, err error) {
	if errors.Is(err, auth.ErrDenied) {
		http.Error(w, "forbidden", http.StatusForbidden)
		return
	}
	g.options.Log.Error("authorize", "repository", q.repository, "action", q.action(), "error", err)
	w.Header().Set("Retry-After", "5")
	http.Error(w, "try again: the database cannot be written", http.StatusServiceUnavailable)
}

func (g *GitServer) principal(r *http.Request) (string, bool) {
	user, password, given := r.BasicAuth()
	if !given || len(user) > 200 || len(password) > 1000 {
		return "", false
	}
	principal, ok := g.options.Authenticate(r.Context(), user, secret.New([]byte(password)))
	return principal, ok && principal != ""
}

// push first takes the whole body, so that a slow client holds nobody up, then lets git change the references, and
// tells the webhook what changed. A crash in between loses a hint only.
func (g *GitServer) push(w http.ResponseWriter, r *http.Request, q gitRequest, principal string) {
	r.Body = http.MaxBytesReader(w, r.Body, g.options.MaxPush)
	if !wholeBody(w, r, g.options.Root) {
		return
	}
	defer r.Body.Close()
	select {
	case g.pushing <- struct{}{}:
	case <-r.Context().Done():
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	}
	changes, err := func() ([]refChange, error) {
		defer func() { <-g.pushing }()
		return g.gated(w, r, q, principal)
	}()
	if err != nil {
		g.options.Log.Error("push", "repository", q.repository, "principal", principal, "error", err)
		return
	}
	// The client may be gone already; what it changed is told all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), webhookDeadline)
	defer cancel()
	for _, change := range changes {
		g.options.Log.Info("pushed", "repository", q.repository, "principal", principal, "ref", change.ref, "before", change.before, "after", change.after)
		g.tell(ctx, q.repository, change)
	}
}

// gated asks the gate before git moves anything, and tells it after. What it could not
// be told after, it knows to have begun.
func (g *GitServer) gated(w http.ResponseWriter, r *http.Request, q gitRequest, principal string) ([]refChange, error) {
	body, isFile := r.Body.(*os.File)
	if g.options.Gate == nil || !isFile {
		return g.receive(w, r, q, principal, g.options.AllowForce)
	}
	asked, capabilities, err := pushedCommands(body, r.Header.Get("Content-Encoding"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil, err
	}
	if len(asked) == 0 { // git asks whether it may push at all
		return g.receive(w, r, q, principal, false)
	}
	push, err := g.options.Gate.BeginPush(r.Context(), principal, q.repository, asked)
	if err != nil {
		g.refuse(w, q, err)
		return nil, err
	}
	if len(push.Refused) > 0 {
		refusePush(w, asked, capabilities, push.Refused)
		return nil, nil
	}
	changes, err := g.receive(w, r, q, principal, g.options.AllowForce || push.Force)
	if err != nil {
		return nil, err
	}
	moved := make([]builtin.Moved, 0, len(changes))
	for _, c := range changes {
		moved = append(moved, builtin.Moved{Ref: c.ref, Before: c.before, After: c.after})
	}
	return changes, g.options.Gate.EndPush(context.WithoutCancel(r.Context()), push, moved)
}

func (g *GitServer) receive(w http.ResponseWriter, r *http.Request, q gitRequest, principal string, force bool) ([]refChange, error) {
	ctx := context.WithoutCancel(r.Context())
	before, err := g.refs(ctx, q.path)
	if err != nil {
		http.Error(w, "the repository cannot be read", http.StatusInternalServerError)
		return nil, err
	}
	g.backend(principal, force).ServeHTTP(w, forBackend(r))
	after, err := g.refs(ctx, q.path)
	if err != nil {
		return nil, err
	}
	return compareRefs(before, after), nil
}

// wholeBody puts the body into a file without a name, because a CGI program needs to know its length and git sends
// large ones in chunks. It answers when it cannot.
func wholeBody(w http.ResponseWriter, r *http.Request, folder string) bool {
	f, err := os.CreateTemp(folder, ".body-")
	if err != nil {
		http.Error(w, "no room for the request", http.StatusInsufficientStorage)
		return false
	}
	_ = os.Remove(f.Name())
	n, err := io.Copy(f, r.Body)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			http.Error(w, fmt.Sprintf("larger than %d bytes", large.Limit), http.StatusRequestEntityTooLarge)
			return false
		}
		http.Error(w, "the request broke off", http.StatusBadRequest)
		return false
	}
	r.Body, r.ContentLength, r.TransferEncoding = f, n, nil
	return true
}

// forBackend keeps only the headers that git needs: CGI puts headers into the environment, and the password must not
// get there.
func forBackend(r *http.Request) *http.Request {
	clean := r.Clone(r.Context())
	clean.Header = http.Header{}
	for _, name := range []string{"Accept", "Accept-Encoding", "Content-Type", "Content-Encoding", "Git-Protocol", "User-Agent"} {
		if v := r.Header.Values(name); len(v) > 0 {
			clean.Header[name] = v
		}
	}
	return clean
}

func (g *GitServer) backend(principal string, force bool) *cgi.Handler {
	return &cgi.Handler{
		Path: g.git, Args: []string{"http-backend"}, Dir: g.options.Root,
		Env:    append(g.environment(force), "GIT_PROJECT_ROOT="+g.options.Root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER="+principal),
		Stderr: io.Discard,
	}
}

// environment isolates git from the machine's and the user's configuration; settings given this way win over those
// of a repository.
func (g *GitServer) environment(force bool) []string {
	settings := [][2]string{
		{"core.hooksPath", "/dev/null"},
		{"http.getanyfile", "false"},
		{"http.receivepack", "true"},
		{"receive.fsckObjects", "true"},
		{"receive.maxInputSize", strconv.FormatInt(g.options.MaxPush, 10)},
		{"receive.denyNonFastForwards", strconv.FormatBool(!force)},
		{"receive.denyDeletes", strconv.FormatBool(!force)},
		{"receive.denyDeleteCurrent", "refuse"},
		{"transfer.hideRefs", "refs/hotswap"},
		{"gc.autoDetach", "false"}, // nothing outlives its request
		{"safe.directory", "*"},
	}
	env := []string{"HOME=/nonexistent", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C", "GIT_CONFIG_COUNT=" + strconv.Itoa(len(settings))}
	for i, s := range settings {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, s[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, s[1]))
	}
	return env
}

// run runs git to its end and returns what it printed.
func (g *GitServer) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, g.git, args...)
	cmd.Dir = g.options.Root
	cmd.Env = append(g.environment(false), "PATH=/usr/local/bin:/usr/bin:/bin")
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(problems.String()))
	}
	return string(out), nil
}
