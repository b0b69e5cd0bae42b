// Package gitea is the forge of that name, as it behaves in version 1.26: what its API says is checked before it is
// believed, because some of its answers are parts (a list without the entries that it could not load, null with 200).
//
// Its account needs a token with write:repository, write:issue, read:user and read:organization. It must be an
// administrator of the repository, or nobody's permission can be read; and an owner of the organization or a member of
// the teams that policies name, or their members cannot be.
package gitea

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/forge/rest"
	"hotswap.dev/hotswap/pkg/secret"
)

// Limits of what one call reads.
const (
	pageSize = 50 // Gitea's own limit by default; a smaller one of the server is noticed
	maxPages = 40 // of one list; more is ErrTooMuch
	maxFeed  = 10 // pages of the activity feed, which is long: what is older is not known
	rereads  = 3  // of a pull request that moves while it is read
	tries    = 5  // of a merge that Gitea has not checked yet
)

// Options are what a [Gitea] needs.
type Options struct {
	URL     string // of the server, https, for example https://git.example.com
	Token   secret.Secret
	Bots    []int64       // numbers of accounts that are bots: Gitea's API does not tell
	Plain   bool          // as in rest.Options
	Timeout time.Duration // of one request; default 10 s
	Whole   time.Duration // of one call of the port with all its requests; default 60 s
	Now     func() time.Time
	// Pause waits before something is read again; the default does so in real time.
	Pause func(ctx context.Context, d time.Duration) error
}

// Gitea is one account on one server. It is safe for concurrent use.
type Gitea struct {
	rest  *rest.Client
	bots  map[int64]bool
	whole time.Duration
	pause func(ctx context.Context, d time.Duration) error
	own   atomic.Int64 // number of our account, which never changes; 0: not asked yet

	mu      sync.Mutex
	origins map[string][]approval.Account // by path and commit, see origin
}

// New returns the forge. It asks nothing yet.
func New(o Options) (*Gitea, error) {
	client, err := rest.New(rest.Options{
		BaseURL: strings.TrimSuffix(o.URL, "/") + "/api/v1", Scheme: "token", Token: o.Token,
		Plain: o.Plain, Timeout: o.Timeout, Now: o.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("gitea: %w", err)
	}
	g := &Gitea{rest: client, bots: map[int64]bool{}, whole: o.Whole, pause: o.Pause, origins: map[string][]approval.Account{}}
	for _, id := range o.Bots {
		g.bots[id] = true
	}
	if g.whole <= 0 {
		g.whole = time.Minute
	}
	if g.pause == nil {
		g.pause = pause
	}
	return g, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", forge.ErrUnavailable, context.Cause(ctx))
	case <-t.C:
		return nil
	}
}

// Capabilities implements [forge.Forge].
func (g *Gitea) Capabilities() forge.Capabilities {
	return forge.Capabilities{
		Kind:              "gitea",
		DismissesSilently: true,
		Official:          true,
		Stale:             true,
		Teams:             true,
		Pushers:           true,
		ReviewRequests:    true,
		Labels:            true,
		ExpectedHead:      true,
		Protection:        true,
		Forks:             true,
	}
}

var (
	nameForm   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`) })
	commitForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`) })
)

// begin checks the name of a repository and gives the call its deadline. The path is
// the repository's in the API.
func (g *Gitea) begin(ctx context.Context, repo string) (context.Context, context.CancelFunc, string, error) {
	owner, name, _ := strings.Cut(repo, "/")
	if !plain(owner) || !plain(name) {
		return nil, nil, "", fmt.Errorf("%w: the repository %q", forge.ErrInvalid, repo)
	}
	ctx, cancel := context.WithTimeout(ctx, g.whole)
	return ctx, cancel, "/repos" + rest.Path(owner, name), nil
}

// plain reports whether s names an owner, a repository or an account, and no path.
func plain(s string) bool { return nameForm().MatchString(s) && s != "." && s != ".." }

func (g *Gitea) get(ctx context.Context, path string, query url.Values, into any) error {
	_, err := g.rest.Do(ctx, rest.Call{Path: path, Query: query, Into: into})
	return err
}

func (g *Gitea) send(ctx context.Context, method, path string, body, into any) error {
	_, err := g.rest.Do(ctx, rest.Call{Method: method, Path: path, Send: body, Into: into})
	return err
}

// account is a person as the port has them. Gitea's stand-in for a deleted account is
// nobody, and its system accounts have negative numbers.
func (g *Gitea) account(u *user) approval.Account {
	switch {
	case u == nil:
		return approval.Account{}
	case u.ID == ghost:
		return approval.Account{Login: u.Login}
	}
	return approval.Account{ID: u.ID, Login: u.Login, Bot: u.ID < 0 || g.bots[u.ID]}
}

// self is the number of our own account.
func (g *Gitea) self(ctx context.Context) (int64, error) {
	if id := g.own.Load(); id != 0 {
		return id, nil
	}
	var u user
	if err := g.get(ctx, "/user", nil, &u); err != nil {
		return 0, fmt.Errorf("our own account: %w", err)
	}
	if u.ID <= 0 {
		return 0, fmt.Errorf("our own account: %w: it has no number", forge.ErrMalformed)
	}
	g.own.Store(u.ID)
	return u.ID, nil
}

var _ forge.Forge = (*Gitea)(nil)
