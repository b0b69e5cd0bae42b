package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// ErrMoved reports that a branch is not where it was expected: somebody else
// pushed. Nothing was changed.
var ErrMoved = errors.New("the branch was moved by somebody else")

// Limits of one commit.
const (
	maxChanges     = 10_000
	maxChangeBytes = 1 << 20 // of one file
)

// A Change is a file as it is to be; with nil Content it is to be removed.
type Change struct {
	Path    string
	Content []byte
}

// CommitOptions say where a commit goes and how it is described. The same options,
// changes and tip make the same commit.
type CommitOptions struct {
	Branch  string
	Expect  string // commit that the branch is at; empty: it does not exist
	Name    string // of author and committer
	Email   string
	Message string
	At      time.Time
	Sign    func(payload []byte) (string, error) // nil: unsigned
}

// Commit writes files to a branch of the bare repository, without a work tree. It
// answers the branch's new tip: Expect when nothing would change. [ErrMoved] when
// the branch is not at Expect. Objects come first and the branch last, so whoever
// is killed in between has done nothing.
func (r *Repository) Commit(ctx context.Context, changes []Change, o CommitOptions) (sha string, err error) {
	ref, err := branchRef(o.Branch)
	if err != nil {
		return "", fmt.Errorf("commit to branch %.100q: %w", o.Branch, err)
	}
	if len(changes) > maxChanges {
		return "", fmt.Errorf("commit to %s: %w: %d files", o.Branch, ErrLimit, len(changes))
	}
	for _, c := range changes {
		if !plainPath(c.Path) {
			return "", fmt.Errorf("commit to %s: %w: path %.100q", o.Branch, ErrBadName, c.Path)
		}
		if len(c.Content) > maxChangeBytes {
			return "", fmt.Errorf("commit to %s: %w: %s has %d bytes", o.Branch, ErrLimit, c.Path, len(c.Content))
		}
	}
	err = r.read(ctx, func(s *filesystem.Storage) (err error) {
		sha, err = writeCommit(s, changes, o)
		return err
	})
	if err == nil && sha != o.Expect {
		err = r.updateRef(ctx, ref, sha, o.Expect)
	}
	if err != nil {
		return "", fmt.Errorf("commit to %s: %w", o.Branch, err)
	}
	return sha, nil
}

// plainPath allows names that mean the same to everybody: no way up, nothing
// hidden, nothing of Git's own.
func plainPath(p string) bool {
	if p == "" || len(p) > 250 || path.Clean(p) != p || path.IsAbs(p) {
		return false
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." || strings.HasPrefix(part, ".") || strings.ContainsFunc(part, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
		}) {
			return false
		}
	}
	return true
}

// writeCommit writes the objects of a commit, and returns Expect when its tree
// would be that of the tip.
func writeCommit(s *filesystem.Storage, changes []Change, o CommitOptions) (string, error) {
	var parents []plumbing.Hash
	var before *object.Tree
	if o.Expect != "" {
		hash, err := parseSHA(o.Expect)
		if err != nil {
			return "", err
		}
		c, err := object.GetCommit(s, hash)
		if err != nil {
			return "", fmt.Errorf("%w: %s", ErrNoCommit, o.Expect)
		}
		if before, err = c.Tree(); err != nil {
			return "", err
		}
		parents = []plumbing.Hash{hash}
	}
	files := map[string][]byte{}
	for _, c := range changes {
		files[c.Path] = c.Content
	}
	tree, _, err := writeTree(s, before, files)
	if err != nil {
		return "", err
	}
	if before != nil && tree == before.Hash {
		return o.Expect, nil
	}
	who := object.Signature{Name: o.Name, Email: o.Email, When: o.At.UTC().Truncate(time.Second)}
	commit := &object.Commit{Author: who, Committer: who, Message: o.Message, TreeHash: tree, ParentHashes: parents}
	if o.Sign != nil {
		if commit.PGPSignature, err = signature(commit, o.Sign); err != nil {
			return "", err
		}
	}
	obj := s.NewEncodedObject()
	if err := commit.Encode(obj); err != nil {
		return "", err
	}
	hash, err := s.SetEncodedObject(obj)
	return hash.String(), err
}

// signature signs what a commit says.
func signature(c *object.Commit, sign func([]byte) (string, error)) (string, error) {
	obj := &plumbing.MemoryObject{}
	if err := c.EncodeWithoutSignature(obj); err != nil {
		return "", err
	}
	payload := make([]byte, obj.Size())
	reader, err := obj.Reader()
	if err != nil {
		return "", err
	}
	if _, err := reader.Read(payload); err != nil {
		return "", err
	}
	return sign(payload)
}

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
			if sub, err = object.GetTree(s, e.Hash); err != nil {
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

// updateRef moves a branch from old to new by git itself: its lock files are what
// a push beside this one respects, and go-git's are others.
func (r *Repository) updateRef(ctx context.Context, ref plumbing.ReferenceName, sha, old string) error {
	if old == "" {
		old = plumbing.ZeroHash.String()
	}
	cmd := exec.CommandContext(ctx, "git", "--git-dir="+r.path, "update-ref", "--no-deref", ref.String(), sha, old)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull}
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	tip, tipErr := r.Tip(ctx, ref.Short())
	if errors.Is(tipErr, ErrNoBranch) {
		tip, tipErr = plumbing.ZeroHash.String(), nil
	}
	if tipErr == nil && tip != old {
		return ErrMoved
	}
	return fmt.Errorf("update-ref: %w: %.300s", err, out)
}

// SignedBy reports whether a commit bears the signature that sign would give it.
func (r *Repository) SignedBy(ctx context.Context, sha string, sign func([]byte) (string, error)) (ok bool, err error) {
	hash, err := parseSHA(sha)
	if err != nil {
		return false, err
	}
	err = r.read(ctx, func(s *filesystem.Storage) error {
		c, err := object.GetCommit(s, hash)
		if err != nil {
			return fmt.Errorf("%w: %s", ErrNoCommit, sha)
		}
		have := c.PGPSignature
		want, err := signature(c, sign)
		ok = have != "" && have == want
		return err
	})
	return ok, err
}

// maxWalk bounds how many commits an ancestor is looked for among.
const maxWalk = 100_000

// Ancestor reports whether commit old is in the history of commit sha. A commit
// that the repository does not have is in no history.
func (r *Repository) Ancestor(ctx context.Context, old, sha string) (found bool, err error) {
	target, err := parseSHA(old)
	if err != nil {
		return false, err
	}
	start, err := parseSHA(sha)
	if err != nil {
		return false, err
	}
	err = r.read(ctx, func(s *filesystem.Storage) error {
		seen, queue := map[plumbing.Hash]bool{}, []plumbing.Hash{start}
		for len(queue) > 0 && len(seen) < maxWalk && ctx.Err() == nil {
			at := queue[0]
			queue = queue[1:]
			if seen[at] {
				continue
			}
			seen[at] = true
			if at == target {
				found = true
				return nil
			}
			c, err := object.GetCommit(s, at)
			if err != nil {
				return fmt.Errorf("%w: %s", ErrNoCommit, at)
			}
			queue = append(queue, c.ParentHashes...)
		}
		return ctx.Err()
	})
	return found, err
}
