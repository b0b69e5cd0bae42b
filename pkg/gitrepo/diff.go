package gitrepo

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// Bounds of what a comparison looks at.
const (
	maxDiffDepth   = 8 // folders below the one that is compared
	maxDiffEntries = 1_000_000
)

var anyName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,199}$`) })

// Changed is a file that two commits do not have in common.
type Changed struct {
	Path          string // cleaned for printing, if Odd
	Before, After []byte // nil: it was not, or is not, there as a plain file
	Odd           string // why After is not read although something is there: a link, too large, …
}

// Diff compares the files of a folder, and of the folders below it, in two commits,
// and returns those that differ ordered by path. An empty commit has no files. Equal
// folders are not read. More differences or bytes than the limits is [ErrLimit].
func (r *Repository) Diff(ctx context.Context, from, to, folder string, limits Limits) (changed []Changed, err error) {
	if !folderName().MatchString(folder) {
		return nil, fmt.Errorf("diff: %w: folder %.100q", ErrBadName, folder)
	}
	err = r.read(ctx, func(s *filesystem.Storage) error {
		changed, err = diff(ctx, s, from, to, folder, limits)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("diff %.12s..%.12s of %s: %w", from, to, folder, err)
	}
	return changed, nil
}

func diff(ctx context.Context, s storer.EncodedObjectStorer, from, to, folder string, limits Limits) ([]Changed, error) {
	d := differ{treeReader: treeReader{storage: s, left: limits.withDefaults()}, entries: maxDiffEntries}
	before, err := d.root(from, folder)
	if err != nil {
		return nil, err
	}
	after, err := d.root(to, folder)
	if err != nil {
		return nil, err
	}
	if err := d.folders(ctx, folder, before, after, 0); err != nil {
		return nil, err
	}
	slices.SortFunc(d.changed, func(a, b Changed) int { return strings.Compare(a.Path, b.Path) })
	return d.changed, nil
}

type differ struct {
	treeReader
	entries int // how many more may be looked at
	changed []Changed
}

// root finds the folder in a commit; nil when it is not there.
func (d *differ) root(sha, folder string) (*object.Tree, error) {
	if sha == "" {
		return nil, nil
	}
	h, err := parseSHA(sha)
	if err != nil {
		return nil, err
	}
	c, err := readCommit(d.storage, h)
	if err != nil {
		return nil, err
	}
	return d.folder(c.TreeHash, folder)
}

// folders compares two listings; nil is an empty one.
func (d *differ) folders(ctx context.Context, path string, before, after *object.Tree, depth int) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	olds, err := d.listing(before)
	if err != nil {
		return err
	}
	news, err := d.listing(after)
	if err != nil {
		return err
	}
	for name, o := range olds {
		n := news[name]
		if o.Mode == n.Mode && o.Hash == n.Hash {
			continue
		}
		if err := d.entry(ctx, path+"/"+name, o, n, depth); err != nil {
			return err
		}
	}
	for name, n := range news {
		if _, both := olds[name]; both {
			continue
		}
		if err := d.entry(ctx, path+"/"+name, object.TreeEntry{}, n, depth); err != nil {
			return err
		}
	}
	return nil
}

func (d *differ) listing(t *object.Tree) (map[string]object.TreeEntry, error) {
	out := map[string]object.TreeEntry{}
	if t == nil {
		return out, nil
	}
	if d.entries -= len(t.Entries); d.entries < 0 {
		return nil, fmt.Errorf("%w: more than %d entries", ErrLimit, maxDiffEntries)
	}
	for _, e := range t.Entries {
		if _, twice := out[e.Name]; twice {
			return nil, fmt.Errorf("%w: the listing names %.100q twice", ErrBadName, e.Name)
		}
		out[e.Name] = e
	}
	return out, nil
}

// entry compares what stands under a name; a zero entry is nothing. A folder and a
// file of the same name are all of the folder's files and the file.
func (d *differ) entry(ctx context.Context, path string, before, after object.TreeEntry, depth int) error {
	if before.Mode == filemode.Dir || after.Mode == filemode.Dir {
		if depth == maxDiffDepth {
			return d.add(Changed{Path: cleanText(path), Odd: "it is nested too deeply"})
		}
		old, err := d.below(before)
		if err != nil {
			return err
		}
		next, err := d.below(after)
		if err != nil {
			return err
		}
		if err := d.folders(ctx, path, old, next, depth+1); err != nil {
			return err
		}
	}
	return d.files(path, before, after)
}

func (d *differ) below(e object.TreeEntry) (*object.Tree, error) {
	if e.Mode != filemode.Dir {
		return nil, nil
	}
	return d.tree(e.Hash)
}

func (d *differ) files(path string, before, after object.TreeEntry) error {
	was, odd, err := d.content(before)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	c := Changed{Path: path, Before: was}
	there := was != nil || odd != ""
	if c.After, c.Odd, err = d.content(after); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if !there && c.After == nil && c.Odd == "" {
		return nil
	}
	if c.Odd != "" || odd != "" {
		c.Path = cleanText(path)
	}
	return d.add(c)
}

// content reads a file; nil and no reason: there is none.
func (d *differ) content(e object.TreeEntry) (content []byte, odd string, err error) {
	if e.Mode == filemode.Dir || e.Hash == plumbing.ZeroHash {
		return nil, "", nil
	}
	return d.plain(e, anyName())
}

func (d *differ) add(c Changed) error {
	if d.left.Files--; d.left.Files < 0 {
		return fmt.Errorf("%w: too many differences", ErrLimit)
	}
	d.changed = append(d.changed, c)
	return nil
}
