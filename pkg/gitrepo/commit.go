package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// ErrMoved reports that a branch is not where it was expected: somebody else
// pushed. Nothing was changed.
var ErrMoved = errors.New("the branch was moved by somebody else")

// Limits of one commit.
const (
	maxChanges      = 10_000
	maxChangeBytes  = 1 << 20 // of one file
	maxMessageBytes = 64 << 10
	refTimeout      = 30 * time.Second
)

// written is what may be written: files below releases/, with names that mean the
// same to everybody. No way up, nothing hidden, nothing of Git's own.
var written = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^releases(/[a-z0-9_][a-z0-9._-]{0,99}){1,7}$`) })

// A Change is a file as it is to be; with nil Content it is to be removed.
type Change struct {
	Path    string
	Content []byte
}

// CommitOptions say where a commit goes and how it is described. The same options,
// changes and tip make the same commit.
type CommitOptions struct {
	Branch string
	Expect string // commit that the branch is at; empty: it does not exist
	// Parent is the commit to build on; empty: Expect. A branch that begins elsewhere, or
	// is begun anew there, says where.
	Parent  string
	Name    string // of author and committer
	Email   string
	Message string
	At      time.Time
	Sign    func(payload []byte) (string, error) // nil: unsigned
}

// Commit writes files below releases/ to a branch of the bare repository, without
// a work tree. It answers the branch's new tip: Expect when nothing would change.
// [ErrMoved] when the branch is neither at Expect nor at this very commit. Objects
// come first and the branch last, so whoever is killed in between has done nothing
// that anybody sees, and makes the same commit the next time.
func (r *Repository) Commit(ctx context.Context, changes []Change, o CommitOptions) (sha string, err error) {
	ref, err := branchRef(o.Branch)
	if err == nil {
		err = acceptable(changes)
	}
	if err == nil {
		err = r.read(ctx, func(s *filesystem.Storage) (err error) {
			sha, err = writeCommit(s, changes, o)
			return err
		})
	}
	switch {
	case err != nil:
	case sha == o.Expect:
		err = r.still(ctx, o)
	default:
		err = r.updateRef(ctx, ref, sha, o)
	}
	if err != nil {
		return "", fmt.Errorf("commit to %.100s: %w", o.Branch, err)
	}
	return sha, nil
}

func acceptable(changes []Change) error {
	if len(changes) > maxChanges {
		return fmt.Errorf("%w: %d files", ErrLimit, len(changes))
	}
	for _, c := range changes {
		if !written().MatchString(c.Path) {
			return fmt.Errorf("%w: path %.100q", ErrBadName, c.Path)
		}
		if len(c.Content) > maxChangeBytes {
			return fmt.Errorf("%w: %s has %d bytes", ErrLimit, c.Path, len(c.Content))
		}
	}
	return nil
}

// still is [ErrMoved] when the branch is not where it was expected.
func (r *Repository) still(ctx context.Context, o CommitOptions) error {
	tip, err := r.tipOrNone(ctx, o.Branch)
	if err == nil && tip != o.Expect {
		return ErrMoved
	}
	return err
}

// tipOrNone is the tip of a branch; empty: it does not exist.
func (r *Repository) tipOrNone(ctx context.Context, branch string) (string, error) {
	tip, err := r.Tip(ctx, branch)
	if errors.Is(err, ErrNoBranch) {
		return "", nil
	}
	return tip, err
}

// message cuts what is too long for a commit that is to be read again, at a line.
func message(text string) string {
	if len(text) <= maxMessageBytes {
		return text
	}
	text = text[:maxMessageBytes]
	return text[:strings.LastIndexByte(text, '\n')+1] + "…\n"
}

// writeCommit writes the objects of a commit, and returns the commit that it builds on
// when its tree would be that one's.
func writeCommit(s *filesystem.Storage, changes []Change, o CommitOptions) (string, error) {
	var parents []plumbing.Hash
	var before *object.Tree
	parent := o.Expect
	if o.Parent != "" {
		parent = o.Parent
	}
	if parent != "" {
		hash, err := parseSHA(parent)
		if err != nil {
			return "", err
		}
		c, err := readCommit(s, hash)
		if err != nil {
			return "", err
		}
		if before, err = readTree(s, c.TreeHash); err != nil {
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
		return parent, nil
	}
	who := object.Signature{Name: o.Name, Email: o.Email, When: o.At.UTC().Truncate(time.Second)}
	commit := &object.Commit{Author: who, Committer: who, Message: message(o.Message), TreeHash: tree, ParentHashes: parents}
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
