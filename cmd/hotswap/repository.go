package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"hotswap.dev/hotswap/pkg/intent"
)

// A repository is what a command reads of a checkout: the files of the known
// folders, and which of them it was asked about.
type repository struct {
	root    string // folder that holds deployments/ and the others, as the user wrote it
	tree    intent.Tree
	only    []string // paths in the tree: files or folders; empty: all
	skipped []string // files that Git does not keep as plain files
}

// openRepositories reads the repositories that the paths lie in, each once. A
// path is a repository's root, one of its known folders, or a file in one.
func openRepositories(paths []string) ([]*repository, error) {
	var out []*repository
	for _, p := range paths {
		root, inside, err := splitPath(p)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(out, func(r *repository) bool { return r.root == root })
		switch {
		case i >= 0 && (inside == "" || len(out[i].only) == 0):
			out[i].only = nil
		case i >= 0:
			out[i].only = append(out[i].only, inside)
		default:
			r, err := readRepository(root)
			if err != nil {
				return nil, err
			}
			if inside != "" {
				r.only = []string{inside}
			}
			out = append(out, r)
		}
	}
	return out, nil
}

// splitPath returns the root of the repository that a path lies in, and where
// in it, "" for the root itself.
func splitPath(p string) (root, inside string, err error) {
	info, err := os.Stat(p)
	if err != nil {
		return "", "", usagef("%w", err)
	}
	p = filepath.Clean(p)
	if info.IsDir() && holdsKinds(p) { // whatever the folders above are called
		return p, "", nil
	}
	steps := strings.Split(filepath.ToSlash(p), "/")
	known := intent.Folders()
	for i := len(steps) - 1; i >= 0; i-- {
		if slices.Contains(known, steps[i]) && (info.IsDir() || i < len(steps)-1) {
			root = filepath.Join(strings.Join(steps[:i], "/"))
			if root == "" && strings.HasPrefix(p, "/") {
				root = "/"
			}
			return filepath.Clean(root), path.Join(steps[i:]...), nil
		}
	}
	if !info.IsDir() {
		return "", "", usagef("%s is in none of the folders %s", p, strings.Join(intent.Folders(), ", "))
	}
	return p, "", nil
}

// holdsKinds reports whether a folder is a repository's root.
func holdsKinds(p string) bool {
	return slices.ContainsFunc(intent.Folders(), func(folder string) bool {
		info, err := os.Stat(filepath.Join(p, folder))
		return err == nil && info.IsDir()
	})
}

// readRepository reads the known folders below root, and nothing else. It never
// follows a symbolic link: in Git it is not the file it points to.
func readRepository(root string) (*repository, error) {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return nil, usagef("%w", err)
	}
	defer dir.Close()
	r := &repository{root: root, tree: intent.Tree{}}
	found := false
	for _, folder := range intent.Folders() {
		err := fs.WalkDir(dir.FS(), folder, func(p string, entry fs.DirEntry, err error) error {
			switch {
			case p == folder && errors.Is(err, fs.ErrNotExist):
				return fs.SkipDir
			case err != nil:
				return err
			case entry.IsDir() || !intent.Reads(p):
				found = true
				return nil
			case !entry.Type().IsRegular():
				r.skipped = append(r.skipped, p)
				return nil
			case len(r.tree) > intent.MaxFiles: // one more than allowed, so that the check says so
				return fs.SkipAll
			}
			data, err := readFile(dir, p)
			r.tree[p] = data
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", root, err)
		}
	}
	if !found {
		return nil, usagef("there is nothing to check in %s: it has none of the folders %s", root, strings.Join(intent.Folders(), ", "))
	}
	return r, nil
}

// readFile reads at most one byte more than a file may have.
func readFile(dir *os.Root, p string) ([]byte, error) {
	f, err := dir.Open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, intent.MaxFileBytes+1))
}

// asked returns the problems of the files that the command was asked about, and
// those of the tree as a whole, with paths as the user would write them.
func (r *repository) asked(problems []intent.Problem) []intent.Problem {
	var out []intent.Problem
	for _, p := range problems {
		if !r.covers(p.File) {
			continue
		}
		if p.File != "" {
			p.File = filepath.Join(r.root, p.File)
		}
		out = append(out, p)
	}
	return out
}

func (r *repository) covers(file string) bool {
	return len(r.only) == 0 || file == "" || slices.ContainsFunc(r.only, func(p string) bool {
		return file == p || strings.HasPrefix(file, p+"/")
	})
}

// files returns how many files the command was asked about.
func (r *repository) files() int {
	n := 0
	for p := range r.tree {
		if r.covers(p) {
			n++
		}
	}
	return n
}
