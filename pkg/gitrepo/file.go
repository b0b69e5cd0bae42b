package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// ErrNoFile reports that a commit has no such plain file.
var ErrNoFile = errors.New("no such file")

// File returns the bytes of one plain file of a commit, limit at most: more is
// [ErrLimit]. A link, a folder or a module at the path is [ErrNoFile].
func (r *Repository) File(ctx context.Context, sha, name string, limit int64) (content []byte, err error) {
	err = r.read(ctx, func(s *filesystem.Storage) error {
		content, err = readFile(s, sha, name, limit)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%.100s in %.12s: %w", cleanText(name), sha, err)
	}
	return content, nil
}

func readFile(s *filesystem.Storage, sha, name string, limit int64) ([]byte, error) {
	h, err := parseSHA(sha)
	if err != nil {
		return nil, err
	}
	c, err := readCommit(s, h)
	if err != nil {
		return nil, err
	}
	tree, err := readTree(s, c.TreeHash)
	if dir := path.Dir(name); err == nil && dir != "." {
		tree, err = (&treeReader{storage: s}).folder(c.TreeHash, dir)
	}
	if err != nil {
		return nil, err
	}
	if tree == nil {
		return nil, ErrNoFile
	}
	for _, entry := range tree.Entries {
		if entry.Name != path.Base(name) || entry.Mode != filemode.Regular && entry.Mode != filemode.Executable {
			continue
		}
		size, err := s.EncodedObjectSize(entry.Hash)
		if err != nil {
			return nil, err
		}
		if size > limit {
			return nil, fmt.Errorf("%w: it has %d bytes, and %d are allowed", ErrLimit, size, limit)
		}
		return readBlob(s, entry.Hash, size)
	}
	return nil, ErrNoFile
}
