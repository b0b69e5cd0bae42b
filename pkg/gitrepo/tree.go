package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// maxTreeSize is the largest listing of one folder that is read, in bytes.
const maxTreeSize = 4 << 20

var (
	folderName = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,99}){0,7}$`)
	})
	fileName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,199}\.ya?ml$`) })
)

// Limits bound what [Repository.Tree] reads. A zero field means its default.
type Limits struct {
	FileBytes  int64 // of one file; default 256 KiB, as for any YAML (see 05-safety)
	Files      int   // of all folders; default 10 000
	TotalBytes int64 // of all files; default 64 MiB
}

func (l Limits) withDefaults() Limits {
	if l.FileBytes == 0 {
		l.FileBytes = 256 << 10
	}
	if l.Files == 0 {
		l.Files = 10_000
	}
	if l.TotalBytes == 0 {
		l.TotalBytes = 64 << 20
	}
	return l
}

// File is a file of a commit.
type File struct {
	Blob    string // its Git object id: equal ids are equal contents
	Content []byte
}

// Skipped is an entry that looks like a file to read and is not read. It is not absent: a caller must not take it for
// a deleted file.
type Skipped struct {
	Path   string // cleaned for printing
	Reason string
}

// Snapshot is what a commit holds in the folders asked for.
type Snapshot struct {
	Files   map[string]File // by path, for example deployments/checkout.yaml
	Skipped []Skipped       // in the order of the tree
}

// Tree reads the YAML files directly in the folders of a commit, from the commit's own tree: plain files (mode
// 100644) with names of letters, digits, dots, dashes and underscores that end in .yaml or .yml. Other kinds of
// entries with such an ending (links, executables, odd names, too large) are Skipped; everything else is passed over.
// A missing folder is an empty one. More files or bytes than the limits is [ErrLimit].
func (r *Repository) Tree(ctx context.Context, sha string, folders []string, limits Limits) (snapshot Snapshot, err error) {
	h, err := parseSHA(sha)
	for _, folder := range folders {
		if err == nil && !folderName().MatchString(folder) {
			err = fmt.Errorf("%w: folder %.100q", ErrBadName, folder)
		}
	}
	if err == nil {
		err = r.read(ctx, func(s *filesystem.Storage) error {
			snapshot, err = readSnapshot(ctx, s, h, folders, limits)
			return err
		})
	}
	if err != nil {
		return Snapshot{}, fmt.Errorf("tree of %.60s: %w", sha, err)
	}
	return snapshot, nil
}

func readSnapshot(ctx context.Context, s storer.EncodedObjectStorer, h plumbing.Hash, folders []string, limits Limits) (Snapshot, error) {
	c, err := readCommit(s, h)
	if err != nil {
		return Snapshot{}, err
	}
	reader := treeReader{storage: s, left: limits.withDefaults(), out: Snapshot{Files: map[string]File{}}}
	for _, folder := range folders {
		tree, err := reader.folder(c.TreeHash, folder)
		if err != nil {
			return Snapshot{}, fmt.Errorf("folder %s: %w", folder, err)
		}
		if tree == nil {
			continue
		}
		if err := reader.files(ctx, folder, tree); err != nil {
			return Snapshot{}, fmt.Errorf("folder %s: %w", folder, err)
		}
	}
	return reader.out, nil
}

type treeReader struct {
	storage storer.EncodedObjectStorer
	left    Limits // Files and TotalBytes count down
	out     Snapshot
}

// folder finds a folder below root; nil when there is none.
func (t *treeReader) folder(root plumbing.Hash, path string) (*object.Tree, error) {
	tree, err := t.tree(root)
	for _, name := range strings.Split(path, "/") {
		if err != nil || tree == nil {
			return nil, err
		}
		var next *object.Tree
		for _, entry := range tree.Entries {
			if entry.Name == name && entry.Mode == filemode.Dir {
				next, err = t.tree(entry.Hash)
				break
			}
		}
		tree = next
	}
	return tree, err
}

func (t *treeReader) tree(h plumbing.Hash) (*object.Tree, error) { return readTree(t.storage, h) }

func readTree(s storer.EncodedObjectStorer, h plumbing.Hash) (*object.Tree, error) {
	size, err := s.EncodedObjectSize(h)
	if err != nil {
		return nil, err
	}
	if size > maxTreeSize {
		return nil, fmt.Errorf("%w: the listing has %d bytes, %d at most", ErrLimit, size, maxTreeSize)
	}
	return object.GetTree(s, h)
}

func (t *treeReader) files(ctx context.Context, folder string, tree *object.Tree) error {
	seen := make(map[string]bool)
	for _, entry := range tree.Entries {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if !strings.HasSuffix(entry.Name, ".yaml") && !strings.HasSuffix(entry.Name, ".yml") {
			continue
		}
		if seen[entry.Name] {
			return fmt.Errorf("%w: the listing names %.100q twice", ErrBadName, entry.Name)
		}
		seen[entry.Name] = true
		if t.left.Files--; t.left.Files < 0 {
			return fmt.Errorf("%w: too many files", ErrLimit)
		}
		if err := t.file(folder+"/"+entry.Name, entry); err != nil {
			return err
		}
	}
	return nil
}

func (t *treeReader) file(path string, entry object.TreeEntry) error {
	if entry.Mode == filemode.Dir || entry.Mode == filemode.Submodule {
		return nil
	}
	content, odd, err := t.plain(entry, fileName())
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", path, err)
	case odd != "":
		return t.skip(path, odd)
	}
	t.out.Files[path] = File{Blob: entry.Hash.String(), Content: content}
	return nil
}

// plain reads a plain file, or says why it is none.
func (t *treeReader) plain(entry object.TreeEntry, names *regexp.Regexp) (content []byte, odd string, err error) {
	switch {
	case entry.Mode != filemode.Regular:
		return nil, fmt.Sprintf("it is not a plain file (mode %s)", strings.TrimLeft(entry.Mode.String(), "0")), nil
	case !names.MatchString(entry.Name):
		return nil, "its name has other characters than letters, digits, dots, dashes and underscores", nil
	}
	size, err := t.storage.EncodedObjectSize(entry.Hash)
	if err != nil {
		return nil, "", err
	}
	if size > t.left.FileBytes {
		return nil, fmt.Sprintf("it has %d bytes, and %d are allowed", size, t.left.FileBytes), nil
	}
	if t.left.TotalBytes -= size; t.left.TotalBytes < 0 {
		return nil, "", fmt.Errorf("%w: too many bytes in all files", ErrLimit)
	}
	content, err = readBlob(t.storage, entry.Hash, size)
	return content, "", err
}

func (t *treeReader) skip(path, reason string) error {
	t.out.Skipped = append(t.out.Skipped, Skipped{Path: cleanText(path), Reason: reason})
	return nil
}

func readBlob(s storer.EncodedObjectStorer, h plumbing.Hash, size int64) ([]byte, error) {
	o, err := s.EncodedObject(plumbing.BlobObject, h)
	if err != nil {
		return nil, err
	}
	r, err := o.Reader()
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(r, size+1))
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	if int64(len(content)) != size {
		return nil, fmt.Errorf("blob %s is not as long as it says", h)
	}
	return content, nil
}
