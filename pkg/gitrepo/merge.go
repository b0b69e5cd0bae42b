package gitrepo

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// maxBrought is how many differences of a merge are listed: one is what we look for.
const maxBrought = 100

// Parents returns the parents of a commit, the first of which is the branch that it was made on.
func (r *Repository) Parents(ctx context.Context, sha string) (parents []string, err error) {
	h, err := parseSHA(sha)
	if err != nil {
		return nil, fmt.Errorf("parents: %w", err)
	}
	err = r.read(ctx, func(s *filesystem.Storage) error {
		c, err := readCommit(s, h)
		if err != nil {
			return err
		}
		for _, p := range c.ParentHashes {
			parents = append(parents, p.String())
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("parents of %.12s: %w", sha, err)
	}
	return parents, nil
}

// Brought returns what is different between the first parent of a merge and the merge,
// in the whole tree: what it really brought, whoever made it. The files of a folder are
// told with their bytes, see [Changed]; of everything else only the path.
func (r *Repository) Brought(ctx context.Context, merge, folder string) ([]Changed, error) {
	parents, err := r.Parents(ctx, merge)
	if err != nil {
		return nil, err
	}
	first := ""
	if len(parents) > 0 {
		first = parents[0]
	}
	changed, err := r.Diff(ctx, first, merge, folder, Limits{Files: maxBrought})
	if err != nil {
		return nil, err
	}
	elsewhere, err := r.topDifferences(ctx, first, merge)
	if err != nil {
		return nil, fmt.Errorf("merge %.12s: %w", merge, err)
	}
	for _, name := range elsewhere {
		if name != folder {
			changed = append(changed, Changed{Path: name, Odd: "outside of " + folder})
		}
	}
	return changed, nil
}

// topDifferences are the names at the top of two commits' trees that are not the same in
// both, in order.
func (r *Repository) topDifferences(ctx context.Context, from, to string) (names []string, err error) {
	entries := func(s *filesystem.Storage, sha string) (map[string]object.TreeEntry, error) {
		out := map[string]object.TreeEntry{}
		if sha == "" {
			return out, nil
		}
		h, err := parseSHA(sha)
		if err != nil {
			return nil, err
		}
		c, err := readCommit(s, h)
		if err != nil {
			return nil, err
		}
		tree, err := readTree(s, c.TreeHash)
		if err != nil {
			return nil, err
		}
		for _, e := range tree.Entries {
			out[e.Name] = e
		}
		return out, nil
	}
	err = r.read(ctx, func(s *filesystem.Storage) error {
		before, err := entries(s, from)
		if err != nil {
			return err
		}
		after, err := entries(s, to)
		if err != nil {
			return err
		}
		for name, b := range before {
			if a := after[name]; a.Hash != b.Hash || a.Mode != b.Mode {
				names = append(names, clean(name, 100))
			}
		}
		for name := range after {
			if _, ok := before[name]; !ok {
				names = append(names, clean(name, 100))
			}
		}
		return nil
	})
	slices.Sort(names)
	return names, err
}

// Between returns the commits of to's history that are not in from's, newest first by
// their distance from to, at most limit; more says that there are others. An empty from,
// and one that the repository does not have, excludes nothing.
func (r *Repository) Between(ctx context.Context, from, to string, limit int) (commits []Commit, more bool, err error) {
	end, err := parseSHA(to)
	if err != nil {
		return nil, false, fmt.Errorf("between: %w", err)
	}
	start := plumbing.ZeroHash
	if from != "" {
		if start, err = parseSHA(from); err != nil {
			return nil, false, fmt.Errorf("between: %w", err)
		}
	}
	err = r.read(ctx, func(s *filesystem.Storage) error {
		commits, more, err = r.between(ctx, s, start, end, limit)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("between %.12s..%.12s: %w", from, to, err)
	}
	return commits, more, nil
}

func (r *Repository) between(ctx context.Context, s *filesystem.Storage, start, end plumbing.Hash, limit int) (out []Commit, more bool, err error) {
	past := map[plumbing.Hash]bool{}
	there := false
	if !start.IsZero() {
		if there, err = r.has(s, start); err != nil {
			return nil, false, err
		}
	}
	if there {
		if err := history(ctx, s, start, func(c *object.Commit) bool { past[c.Hash] = true; return true }); err != nil {
			return nil, false, err
		}
	}
	err = historyBut(ctx, s, end, past, func(c *object.Commit) bool {
		if len(out) == limit {
			more = true
			return false
		}
		out = append(out, describe(c))
		return true
	})
	return out, more, err
}

func history(ctx context.Context, s *filesystem.Storage, from plumbing.Hash, visit func(*object.Commit) bool) error {
	return historyBut(ctx, s, from, nil, visit)
}

// historyBut visits a commit and its ancestors, nearest first, until visit says false,
// but for those that are known. It goes through maxWalk of them at most.
func historyBut(ctx context.Context, s *filesystem.Storage, from plumbing.Hash, known map[plumbing.Hash]bool, visit func(*object.Commit) bool) error {
	seen, queue := map[plumbing.Hash]bool{from: true}, []plumbing.Hash{from}
	for len(queue) > 0 && len(seen) < maxWalk {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		at := queue[0]
		queue = queue[1:]
		if known[at] {
			continue
		}
		c, err := readCommit(s, at)
		if err != nil {
			return err
		}
		if !visit(c) {
			return nil
		}
		for _, p := range c.ParentHashes {
			if !seen[p] {
				seen[p] = true
				queue = append(queue, p)
			}
		}
	}
	return nil
}
