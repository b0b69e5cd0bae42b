// Package gitrepo reads intents from a bare Git repository: tips, the first-parent line of a branch, and the files of
// a commit. Nothing is ever checked out and nothing of a repository is executed. It also fetches a remote repository
// into such a mirror, and writes commits without a work tree, for a branch of its own.
//
// Everything read is outside input: sizes and counts are limited, names are allow-listed, and every call ends with
// its context.
package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// Errors that a caller decides on.
var (
	// ErrNoRepository: there is no bare repository at the path.
	ErrNoRepository = errors.New("not a bare git repository")
	// ErrNoBranch: the branch does not exist (yet).
	ErrNoBranch = errors.New("no such branch")
	// ErrNoCommit: the repository does not have the commit (any more).
	ErrNoCommit = errors.New("no such commit")
	// ErrLimit: the repository holds more, or larger things, than the limits allow.
	ErrLimit = errors.New("over the limit")
	// ErrBadName: what should be a commit, branch, folder or URL is not one.
	ErrBadName = errors.New("bad name")
)

// objectCacheSize bounds the memory of one open repository.
const objectCacheSize = 16 * cache.MiByte

var fullSHA = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{40}$`) })

// Repository is a bare repository. It may be used by several goroutines; reads take turns. Real git may push, pack
// and prune beside it.
type Repository struct {
	path      string
	turn      chan struct{} // holds a token while somebody reads
	fetching  chan struct{} // holds a token while somebody fetches
	storage   *filesystem.Storage
	positions positions
}

// Open opens the bare repository at path.
func Open(path string) (*Repository, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	for _, part := range []string{"HEAD", "objects", "refs"} {
		if _, err := os.Stat(filepath.Join(path, part)); err != nil {
			return nil, fmt.Errorf("open repository %s: %w", path, ErrNoRepository)
		}
	}
	r := &Repository{path: path, turn: make(chan struct{}, 1), fetching: make(chan struct{}, 1)}
	r.storage = openStorage(path)
	return r, nil
}

// openStorage is cheap: it lists the packs when first asked for an object.
func openStorage(path string) *filesystem.Storage {
	return filesystem.NewStorageWithOptions(osfs.New(path, osfs.WithBoundOS()),
		cache.NewObjectLRU(objectCacheSize), filesystem.Options{})
}

// read gives op its turn. Real git may have moved objects into a new pack since the packs were listed, so what fails
// is tried once more with a fresh list.
func (r *Repository) read(ctx context.Context, op func(*filesystem.Storage) error) error {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	err := op(r.storage)
	if err == nil || ctx.Err() != nil || errors.Is(err, ErrLimit) || errors.Is(err, ErrBadName) {
		return err
	}
	r.storage = openStorage(r.path)
	return op(r.storage)
}

// errOldList: an object is there, in a pack that the list of packs does not have yet.
var errOldList = errors.New("the list of packs is old")

// has reports whether an object is there. A storage lists its packs once, so what it misses is looked for with a fresh
// list too: what was fetched a moment ago is not "not there".
func (r *Repository) has(s storer.EncodedObjectStorer, h plumbing.Hash) (bool, error) {
	if s.HasEncodedObject(h) == nil {
		return true, nil
	}
	if openStorage(r.path).HasEncodedObject(h) == nil {
		return false, errOldList // read tries again
	}
	return false, nil
}

// Tip returns the commit at the end of a branch, as 40 hexadecimal digits.
func (r *Repository) Tip(ctx context.Context, branch string) (string, error) {
	name, err := branchRef(branch)
	sha := ""
	if err == nil {
		sha, err = r.tip(ctx, name)
	}
	if err != nil {
		return "", fmt.Errorf("tip of branch %.100q: %w", branch, err)
	}
	return sha, nil
}

func (r *Repository) tip(ctx context.Context, name plumbing.ReferenceName) (sha string, err error) {
	err = r.read(ctx, func(s *filesystem.Storage) error {
		ref, err := s.Reference(name)
		if errors.Is(err, plumbing.ErrReferenceNotFound) {
			return ErrNoBranch
		}
		if err != nil {
			return err
		}
		if ref.Type() != plumbing.HashReference {
			return fmt.Errorf("%w: it is a symbolic reference", ErrBadName)
		}
		sha = ref.Hash().String()
		return nil
	})
	return sha, err
}

func branchRef(branch string) (plumbing.ReferenceName, error) {
	name := plumbing.NewBranchReferenceName(branch)
	if branch == "" || len(branch) > 250 || strings.HasPrefix(branch, "-") || name.Validate() != nil {
		return "", ErrBadName
	}
	return name, nil
}

// parseSHA takes a full commit id only: an abbreviation or an expression such as main~1 could mean another commit
// tomorrow.
func parseSHA(sha string) (plumbing.Hash, error) {
	if !fullSHA().MatchString(sha) {
		return plumbing.ZeroHash, fmt.Errorf("%w: commit %.60q is not 40 hexadecimal digits", ErrBadName, sha)
	}
	return plumbing.NewHash(sha), nil
}
