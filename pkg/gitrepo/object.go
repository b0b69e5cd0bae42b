package gitrepo

import (
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// writeTree writes before with files changed, and reports whether it is empty.
// Names that hold a slash belong to the trees below.
func writeTree(s *filesystem.Storage, before *object.Tree, files map[string][]byte) (plumbing.Hash, bool, error) {
	entries := map[string]object.TreeEntry{}
	if before != nil {
		for _, e := range before.Entries {
			entries[e.Name] = e
		}
	}
	below := map[string]map[string][]byte{}
	for name, content := range files {
		if folder, rest, nested := strings.Cut(name, "/"); nested {
			if below[folder] == nil {
				below[folder] = map[string][]byte{}
			}
			below[folder][rest] = content
			continue
		}
		if content == nil {
			delete(entries, name)
			continue
		}
		hash, err := writeBlob(s, content)
		if err != nil {
			return plumbing.ZeroHash, false, err
		}
		entries[name] = object.TreeEntry{Name: name, Mode: filemode.Regular, Hash: hash}
	}
	for folder, files := range below {
		var sub *object.Tree
		if e, ok := entries[folder]; ok && e.Mode == filemode.Dir {
			var err error
			if sub, err = readTree(s, e.Hash); err != nil {
				return plumbing.ZeroHash, false, err
			}
		}
		hash, empty, err := writeTree(s, sub, files)
		if err != nil {
			return plumbing.ZeroHash, false, err
		}
		if delete(entries, folder); !empty {
			entries[folder] = object.TreeEntry{Name: folder, Mode: filemode.Dir, Hash: hash}
		}
	}
	tree := &object.Tree{}
	for _, e := range entries {
		tree.Entries = append(tree.Entries, e)
	}
	slices.SortFunc(tree.Entries, func(a, b object.TreeEntry) int { return strings.Compare(sortName(a), sortName(b)) })
	obj := s.NewEncodedObject()
	if err := tree.Encode(obj); err != nil {
		return plumbing.ZeroHash, false, err
	}
	hash, err := s.SetEncodedObject(obj)
	return hash, len(tree.Entries) == 0, err
}

// sortName is what Git sorts the entries of a tree by: a folder as if its name
// ended with a slash.
func sortName(e object.TreeEntry) string {
	if e.Mode == filemode.Dir {
		return e.Name + "/"
	}
	return e.Name
}

func writeBlob(s *filesystem.Storage, content []byte) (plumbing.Hash, error) {
	obj := s.NewEncodedObject()
	obj.SetType(plumbing.BlobObject)
	w, err := obj.Writer()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	if _, err := w.Write(content); err != nil {
		return plumbing.ZeroHash, err
	}
	if err := w.Close(); err != nil {
		return plumbing.ZeroHash, err
	}
	return s.SetEncodedObject(obj)
}
