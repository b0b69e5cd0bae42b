package gitrepo

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// Bounds of what is walked.
const (
	maxWalk = 100_000 // commits that an ancestor is looked for among
	maxOurs = 1_000   // commits of ours in a row that nobody remembers
)

// A Push is what others did to a branch of ours since the last commit of ours that
// is remembered.
type Push struct {
	Moved  bool   // they did something
	Tip    string // where they left the branch; empty: deleted, or never there
	Forced bool   // our last commit is not in its history; false for a deleted branch
}

// Pushed tells a branch that others moved from one that we moved ourselves without
// remembering it, because whoever wrote a commit died before it said so. Last is
// the last commit of ours that is remembered, tip where the branch is now; either
// may be empty. Sign is what our commits are signed by.
//
// What others did is the difference between Last and Push.Tip: below unremembered
// commits of ours, and above all others.
func (r *Repository) Pushed(ctx context.Context, last, tip string, sign func([]byte) (string, error)) (p Push, err error) {
	err = r.read(ctx, func(s *filesystem.Storage) error {
		p, err = r.pushed(ctx, s, last, tip, sign)
		return err
	})
	if err != nil {
		return Push{}, fmt.Errorf("pushed %.12s..%.12s: %w", last, tip, err)
	}
	return p, nil
}

func (r *Repository) pushed(ctx context.Context, s storer.EncodedObjectStorer, last, tip string, sign func([]byte) (string, error)) (Push, error) {
	below, err := belowOurs(ctx, s, last, tip, sign)
	switch {
	case err != nil:
		return Push{}, err
	case below == last:
		return Push{Tip: last}, nil
	case below != tip && last != "": // ours are at the tip: new ones, or old ones that the branch was set back to
		back, err := r.ancestor(ctx, s, tip, last)
		gone := errors.Is(err, ErrNoCommit) // forced long ago, and pruned since
		if err != nil && !gone {
			return Push{}, err
		}
		if back || gone {
			below = tip
		}
	}
	p := Push{Moved: true, Tip: below}
	if last != "" && below != "" {
		kept, err := r.ancestor(ctx, s, last, below)
		if err != nil {
			return Push{}, err
		}
		p.Forced = !kept
	}
	return p, nil
}

// belowOurs goes from tip down to last or to the first commit that is not ours;
// empty: below the root.
func belowOurs(ctx context.Context, s storer.EncodedObjectStorer, last, tip string, sign func([]byte) (string, error)) (string, error) {
	at := tip
	for range maxOurs {
		if at == last || at == "" || ctx.Err() != nil {
			break
		}
		ours, parent, err := signedBy(s, at, sign)
		if err != nil {
			return "", err
		}
		if !ours {
			break
		}
		at = parent
	}
	return at, context.Cause(ctx)
}

// SignedBy reports whether a commit bears the signature that sign would give it.
func (r *Repository) SignedBy(ctx context.Context, sha string, sign func([]byte) (string, error)) (ok bool, err error) {
	err = r.read(ctx, func(s *filesystem.Storage) error {
		ok, _, err = signedBy(s, sha, sign)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("signature of %.60s: %w", sha, err)
	}
	return ok, nil
}

// signedBy returns the commit's first parent too; empty: it has none.
func signedBy(s storer.EncodedObjectStorer, sha string, sign func([]byte) (string, error)) (ok bool, parent string, err error) {
	h, err := parseSHA(sha)
	if err != nil {
		return false, "", err
	}
	c, err := readCommit(s, h)
	if err != nil {
		return false, "", err
	}
	if len(c.ParentHashes) > 0 {
		parent = c.ParentHashes[0].String()
	}
	have := c.PGPSignature
	want, err := signature(c, sign)
	return have != "" && subtle.ConstantTimeCompare([]byte(have), []byte(want)) == 1, parent, err
}

// Ancestor reports whether commit old is among the newest 100 000 commits of the
// history of commit sha. A commit that the repository does not have is in no history.
func (r *Repository) Ancestor(ctx context.Context, old, sha string) (found bool, err error) {
	err = r.read(ctx, func(s *filesystem.Storage) error {
		found, err = r.ancestor(ctx, s, old, sha)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("ancestor %.60s of %.60s: %w", old, sha, err)
	}
	return found, nil
}

func (r *Repository) ancestor(ctx context.Context, s storer.EncodedObjectStorer, old, sha string) (bool, error) {
	target, err := parseSHA(old)
	if err != nil {
		return false, err
	}
	start, err := parseSHA(sha)
	if err != nil {
		return false, err
	}
	if there, err := r.has(s, target); err != nil || !there {
		return false, err
	}
	seen, queue := map[plumbing.Hash]bool{start: true}, []plumbing.Hash{start}
	for len(queue) > 0 && len(seen) < maxWalk && ctx.Err() == nil {
		at := queue[0]
		queue = queue[1:]
		if at == target {
			return true, nil
		}
		c, err := readCommit(s, at)
		if err != nil {
			return false, err
		}
		for _, p := range c.ParentHashes {
			if !seen[p] {
				seen[p] = true
				queue = append(queue, p)
			}
		}
	}
	return false, context.Cause(ctx)
}
