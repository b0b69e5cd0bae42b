// Package builtin is the forge of one machine: pull requests, reviews and who may do what
// are rows, branches are a bare repository beside them. It has no pages and no forks; it
// is used by `hotswap pr` and by HotSwap itself.
//
// Where a branch is, and whether a merge was made, is asked of the repository each time.
// So whoever is killed between two writes leaves nothing that the next look does not see.
//
// Nothing here asks whether somebody may do what they do: that is for the caller, at the
// one place where things are allowed. Only what protects a branch is for this package.
package builtin

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/store"
)

// Limits of what one call reads or does.
const (
	whole      = time.Minute // of one call
	maxCommits = 1000        // of a pull request
	rereads    = 5           // of a pull request that moves while it is read
	tries      = 10          // of a merge whose base moves
)

// Own is the account of HotSwap itself, whose commits name its mail address.
const (
	Own      = "hotswap"
	OwnEmail = "hotswap@hotswap.dev"
)

// Options are what a [Forge] needs. All but Log are required.
type Options struct {
	Tenant string // owner of all its repositories
	Store  *store.Store
	// Open opens the bare repository of a name without its owner. What wraps
	// gitrepo.ErrNoRepository says that there is none.
	Open func(name string) (*gitrepo.Repository, error)
	URL  string           // that people see before /acme/deploy/pulls/7
	Own  approval.Account // that [forge.Forge] acts as
	Log  *slog.Logger     // of webhooks that were not delivered; default: slog.Default()
}

// Forge is the built-in forge: as HotSwap's own account by [forge.Forge], and as people
// by the methods that take an account. It is safe for concurrent use.
type Forge struct {
	options Options
	client  *http.Client

	mu    sync.Mutex
	hooks map[string]map[string]forge.Hook // by repository and URL
}

var _ forge.Forge = (*Forge)(nil)

// New returns the forge. It asks nothing yet.
func New(o Options) (*Forge, error) {
	if o.Tenant == "" || o.Store == nil || o.Open == nil || o.Own.ID == 0 {
		return nil, fmt.Errorf("built-in forge: %w: an option is missing", forge.ErrInvalid)
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Forge{options: o, client: hookClient(), hooks: map[string]map[string]forge.Hook{}}, nil
}

// Capabilities implements [forge.Forge].
func (f *Forge) Capabilities() forge.Capabilities {
	return forge.Capabilities{
		Kind:           "builtin",
		Official:       true,
		Stale:          true,
		Teams:          true,
		Bots:           true,
		Pushers:        true,
		ReviewRequests: true,
		Labels:         true,
		ExpectedHead:   true,
		Protection:     true,
	}
}

// RepositoryID is the number of a repository of the built-in forge: FNV-1a of its full
// name, positive. It renames no repositories, so the name is the identity.
func RepositoryID(name string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return int64(h.Sum64()>>12) + 1 // at most 2^52: exact in JSON everywhere
}

var (
	nameForm   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`) })
	commitForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{40}$`) })
)

// A place is one repository for the time of one call.
type place struct {
	*Forge
	name string // in the database
	full string
	git  *gitrepo.Repository
}

// begin opens the repository of a full name and gives the call its deadline.
func (f *Forge) begin(ctx context.Context, repo string) (context.Context, context.CancelFunc, *place, error) {
	owner, name, _ := strings.Cut(repo, "/")
	if !plain(owner) || !plain(name) {
		return nil, nil, nil, fmt.Errorf("%w: the repository %.100q", forge.ErrInvalid, repo)
	}
	if owner != f.options.Tenant {
		return nil, nil, nil, fmt.Errorf("repository %s: %w", repo, forge.ErrNotFound)
	}
	git, err := f.options.Open(name)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("repository %s: %w", repo, told(err))
	}
	ctx, cancel := context.WithTimeout(ctx, whole)
	return ctx, cancel, &place{Forge: f, name: name, full: repo, git: git}, nil
}

// plain reports whether s names an owner or a repository, and no path.
func plain(s string) bool { return nameForm().MatchString(s) && s != "." && s != ".." }

// told is an error of a store or a repository as the port has it: what is no answer to
// the question leaves it open.
func told(err error) error {
	if err == nil {
		return nil
	}
	for _, known := range []error{
		forge.ErrNotFound, forge.ErrUnavailable, forge.ErrTooMuch, forge.ErrMoving, forge.ErrInvalid, forge.ErrHeadMoved,
		forge.ErrConflict, forge.ErrRefused, forge.ErrMerged, forge.ErrClosed,
	} {
		if errors.Is(err, known) {
			return err
		}
	}
	for _, x := range []struct{ from, to error }{
		{store.ErrNotFound, forge.ErrNotFound},
		{gitrepo.ErrNoRepository, forge.ErrNotFound},
		{gitrepo.ErrNoBranch, forge.ErrNotFound},
		{gitrepo.ErrNoCommit, forge.ErrNotFound},
		{gitrepo.ErrBadName, forge.ErrInvalid},
		{store.ErrName, forge.ErrInvalid},
		{gitrepo.ErrLimit, forge.ErrTooMuch},
		{gitrepo.ErrMergeConflict, forge.ErrConflict},
		{store.ErrConflict, forge.ErrRefused},
	} {
		if errors.Is(err, x.from) {
			return fmt.Errorf("%w: %w", x.to, err)
		}
	}
	return fmt.Errorf("%w: %w", forge.ErrUnavailable, err)
}

// tip is where a branch is; empty: it is not there.
func (p *place) tip(ctx context.Context, branch string) (string, error) {
	sha, err := p.git.Tip(ctx, branch)
	if errors.Is(err, gitrepo.ErrNoBranch) {
		return "", nil
	}
	return sha, err
}
