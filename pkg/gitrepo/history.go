package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

const (
	maxCommitSize = 1 << 20   // bytes of one commit object
	maxHistory    = 5_000_000 // commits of a first-parent line
)

// Commit is what a release needs to know of a commit. The texts are what somebody wrote into it: cleaned of control
// characters and cut, but proven by nothing.
type Commit struct {
	SHA       string
	Parents   []string // the first is the branch itself
	Author    Person
	Committer Person
	Subject   string // first line of the message, at most 200 bytes
}

// Person is a name that a commit gives, with the time that it gives.
type Person struct {
	Name  string
	Email string
	When  time.Time // UTC
}

// FirstParents returns the commits after from up to to on the first-parent line, oldest first, at most limit: when
// there are more, the caller goes on from the last one. An empty from means from the root on.
//
// forced says that from is not on to's first-parent line (somebody forced the branch, or from is unknown): then the
// only commit is to itself, and the caller compares the files of both.
func (r *Repository) FirstParents(ctx context.Context, from, to string, limit int) (commits []Commit, forced bool, err error) {
	start := plumbing.ZeroHash
	if from != "" {
		if start, err = parseSHA(from); err != nil {
			return nil, false, fmt.Errorf("first parents: %w", err)
		}
	}
	end, err := parseSHA(to)
	if err != nil {
		return nil, false, fmt.Errorf("first parents: %w", err)
	}
	if limit <= 0 {
		return nil, false, fmt.Errorf("first parents: %w: a limit of %d commits", ErrBadName, limit)
	}
	err = r.read(ctx, func(s *filesystem.Storage) error {
		commits, forced, err = firstParents(ctx, s, start, end, limit)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("first parents %.12s..%.12s: %w", from, to, err)
	}
	return commits, forced, nil
}

func firstParents(ctx context.Context, s storer.EncodedObjectStorer, start, end plumbing.Hash, limit int) ([]Commit, bool, error) {
	var tip Commit
	var newestFirst []Commit // the last ones walked, at most 2*limit
	limit = min(limit, maxHistory)
	found := start.IsZero()
	err := walk(ctx, s, end, func(c *object.Commit) bool {
		if c.Hash == start {
			found = true
			return false
		}
		commit := describe(c)
		if tip.SHA == "" {
			tip = commit
		}
		newestFirst = append(newestFirst, commit)
		if len(newestFirst) >= 2*limit {
			newestFirst = append(newestFirst[:0], newestFirst[len(newestFirst)-limit:]...)
		}
		return true
	})
	if err != nil {
		return nil, false, err
	}
	if !found {
		return []Commit{tip}, true, nil
	}
	oldestFirst := make([]Commit, 0, min(limit, len(newestFirst)))
	for i := len(newestFirst) - 1; i >= 0 && len(oldestFirst) < limit; i-- {
		oldestFirst = append(oldestFirst, newestFirst[i])
	}
	return oldestFirst, false, nil
}

// walk calls visit for h and its first parents, newest first, until visit returns false or the root is done.
func walk(ctx context.Context, s storer.EncodedObjectStorer, h plumbing.Hash, visit func(*object.Commit) bool) error {
	for range maxHistory {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		c, err := readCommit(s, h)
		if err != nil {
			return err
		}
		if !visit(c) || len(c.ParentHashes) == 0 {
			return nil
		}
		h = c.ParentHashes[0]
	}
	return fmt.Errorf("%w: more than %d commits", ErrLimit, maxHistory)
}

func readCommit(s storer.EncodedObjectStorer, h plumbing.Hash) (*object.Commit, error) {
	size, err := s.EncodedObjectSize(h)
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrNoCommit, h)
	}
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", h, err)
	}
	if size > maxCommitSize {
		return nil, fmt.Errorf("%w: commit %s has %d bytes, %d at most", ErrLimit, h, size, maxCommitSize)
	}
	c, err := object.GetCommit(s, h)
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrNoCommit, h)
	}
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", h, err)
	}
	return c, nil
}

func describe(c *object.Commit) Commit {
	subject, _, _ := strings.Cut(strings.TrimLeft(c.Message, "\n"), "\n")
	d := Commit{SHA: c.Hash.String(), Author: person(c.Author), Committer: person(c.Committer), Subject: cleanText(subject)}
	for _, p := range c.ParentHashes {
		d.Parents = append(d.Parents, p.String())
	}
	return d
}

func person(s object.Signature) Person {
	return Person{Name: cleanText(s.Name), Email: cleanText(s.Email), When: s.When.UTC()}
}

// cleanText makes one printable line of at most 200 bytes.
func cleanText(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s))
	const limit = 200
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return s
}

// Position returns a commit's 1-based place on its own first-parent line: the root is 1. It never changes, so it is
// remembered: asking again, or for a commit some places later, does not walk the whole line.
func (r *Repository) Position(ctx context.Context, sha string) (position int, err error) {
	h, err := parseSHA(sha)
	if err == nil {
		err = r.read(ctx, func(s *filesystem.Storage) error {
			position, err = r.positions.find(ctx, s, h)
			return err
		})
	}
	if err != nil {
		return 0, fmt.Errorf("position of %.60s: %w", sha, err)
	}
	return position, nil
}

// maxPositions bounds what is remembered: about 64 bytes each.
const maxPositions = 8192

// positions remembers places of commits. Places are facts, so nothing in it can be out of date.
type positions struct {
	mu    sync.Mutex
	known map[plumbing.Hash]int
}

func (p *positions) find(ctx context.Context, s storer.EncodedObjectStorer, h plumbing.Hash) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at, ok := p.known[h]; ok {
		return at, nil
	}
	base := 0
	var line []plumbing.Hash
	err := walk(ctx, s, h, func(c *object.Commit) bool {
		line = append(line, c.Hash)
		if len(c.ParentHashes) > 0 {
			base = p.known[c.ParentHashes[0]]
		}
		return base == 0
	})
	if err != nil {
		return 0, err
	}
	if p.known == nil || len(p.known) > maxPositions-1024 {
		p.known = make(map[plumbing.Hash]int)
	}
	for i, h := range line[:min(len(line), 1024)] {
		p.known[h] = base + len(line) - i
	}
	return base + len(line), nil
}
