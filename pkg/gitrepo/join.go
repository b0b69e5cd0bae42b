package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/storage/filesystem"
)

// ErrMergeConflict reports that two commits cannot be merged without a person.
var ErrMergeConflict = errors.New("the commits conflict")

// Bounds of what git is asked for.
const (
	gitTime     = 60 * time.Second // of one call
	maxGitLines = 10 << 20         // bytes of lists of commits
)

// A Join is a merge that is to be made of two commits.
type Join struct {
	Base, Head string // commits: first and second parent
	Squash     bool   // one parent only: Base
	Name       string // of author and committer
	Email      string
	Message    string
	At         time.Time
}

// Join writes the objects of a merge and returns its commit. No branch moves. The same
// join makes the same commit. [ErrMergeConflict].
func (r *Repository) Join(ctx context.Context, j Join) (string, error) {
	for _, sha := range []string{j.Base, j.Head} {
		if _, err := parseSHA(sha); err != nil {
			return "", fmt.Errorf("join: %w", err)
		}
	}
	tree, err := r.git(ctx, gitCall{limit: 1 << 20}, "merge-tree", "--write-tree", "--no-messages", j.Base, j.Head)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return "", fmt.Errorf("join %.12s and %.12s: %w", j.Base, j.Head, ErrMergeConflict)
	}
	if err != nil {
		return "", fmt.Errorf("join: %w", err)
	}
	args := []string{"commit-tree", strings.TrimSpace(tree), "-p", j.Base}
	if !j.Squash {
		args = append(args, "-p", j.Head)
	}
	when := fmt.Sprintf("%d +0000", j.At.Unix())
	sha, err := r.git(ctx, gitCall{limit: 100, stdin: message(j.Message), env: []string{
		"GIT_AUTHOR_NAME=" + j.Name, "GIT_AUTHOR_EMAIL=" + j.Email, "GIT_AUTHOR_DATE=" + when,
		"GIT_COMMITTER_NAME=" + j.Name, "GIT_COMMITTER_EMAIL=" + j.Email, "GIT_COMMITTER_DATE=" + when,
	}}, append(args, "-F", "-")...)
	if err != nil {
		return "", fmt.Errorf("join: %w", err)
	}
	return strings.TrimSpace(sha), nil
}

// Move moves a branch from one commit to another, if it is at the first. [ErrMoved].
func (r *Repository) Move(ctx context.Context, branch, from, to string) error {
	ref, err := branchRef(branch)
	if err == nil {
		_, err = parseSHA(from)
	}
	if err == nil {
		_, err = parseSHA(to)
	}
	if err == nil {
		err = r.updateRef(ctx, ref, to, CommitOptions{Branch: branch, Expect: from})
	}
	if err != nil {
		return fmt.Errorf("move %.100s: %w", branch, err)
	}
	return nil
}

// Brings returns the commits of a history that are in none of the histories of others,
// oldest first, limit at most: more is [ErrLimit]. Others that are not there exclude nothing.
func (r *Repository) Brings(ctx context.Context, sha string, others []string, limit int) ([]string, error) {
	if _, err := parseSHA(sha); err != nil {
		return nil, fmt.Errorf("brings: %w", err)
	}
	lines := sha + "\n"
	for _, o := range others {
		if _, err := parseSHA(o); err != nil {
			return nil, fmt.Errorf("brings: %w", err)
		}
		lines += "^" + o + "\n"
	}
	out, err := r.git(ctx, gitCall{stdin: lines, limit: maxGitLines}, "rev-list", "--topo-order", "--reverse", "--ignore-missing", "--stdin")
	if err != nil {
		return nil, fmt.Errorf("brings: %w", err)
	}
	commits := strings.Fields(out)
	if len(commits) > limit {
		return nil, fmt.Errorf("brings: %w: %d commits, %d at most", ErrLimit, len(commits), limit)
	}
	return commits, nil
}

// Commits returns what commits say, in the order that they are asked for.
func (r *Repository) Commits(ctx context.Context, shas []string) (out []Commit, err error) {
	err = r.read(ctx, func(s *filesystem.Storage) error {
		out = make([]Commit, 0, len(shas))
		for _, sha := range shas {
			h, err := parseSHA(sha)
			if err != nil {
				return err
			}
			c, err := readCommit(s, h)
			if err != nil {
				return err
			}
			out = append(out, describe(c))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("commits: %w", err)
	}
	return out, nil
}

// Branches returns the commits of all branches, by name.
func (r *Repository) Branches(ctx context.Context) (map[string]string, error) {
	out, err := r.git(ctx, gitCall{limit: maxGitLines}, "for-each-ref", "--format=%(objectname) %(refname:lstrip=2)", "refs/heads")
	if err != nil {
		return nil, fmt.Errorf("branches: %w", err)
	}
	tips := map[string]string{}
	for line := range strings.Lines(out) {
		sha, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		tips[name] = sha
	}
	return tips, nil
}

// Patch returns what a head changes since it left a base, as git shows it, limit bytes
// at most: more is [ErrLimit]. The text is what people committed: clean it for a terminal.
func (r *Repository) Patch(ctx context.Context, base, head string, limit int) (string, error) {
	for _, sha := range []string{base, head} {
		if _, err := parseSHA(sha); err != nil {
			return "", fmt.Errorf("patch: %w", err)
		}
	}
	out, err := r.git(ctx, gitCall{limit: limit}, "diff", "--no-ext-diff", "--no-textconv", "--no-color", "--full-index", base+"..."+head)
	if err != nil {
		return "", fmt.Errorf("patch: %w", err)
	}
	return out, nil
}

// A gitCall is what one call of git gets beside its arguments.
type gitCall struct {
	stdin string
	env   []string
	limit int // bytes of output
}

// git runs git on the repository, away from the machine's and the user's configuration.
// What it writes is on the disk when it returns.
func (r *Repository) git(ctx context.Context, c gitCall, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, gitTime)
	defer cancel()
	all := append([]string{"--git-dir=" + r.path, "-c", "core.hooksPath=" + os.DevNull, "-c", "core.fsync=committed,loose-object", "-c", "commit.gpgSign=false"}, args...)
	cmd := exec.CommandContext(ctx, "git", all...)
	cmd.Env = append([]string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "LC_ALL=C", "GIT_TERMINAL_PROMPT=0"}, c.env...)
	cmd.Stdin = strings.NewReader(c.stdin)
	cmd.WaitDelay = time.Second
	var problems bytes.Buffer
	cmd.Stderr = &limitedWriter{to: &problems, left: 300}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("git: %w", err)
	}
	out, err := io.ReadAll(io.LimitReader(pipe, int64(c.limit)+1))
	if len(out) > c.limit {
		cancel()
		_ = cmd.Wait()
		return "", fmt.Errorf("git %s: %w: over %d bytes", args[0], ErrLimit, c.limit)
	}
	if err = errors.Join(err, cmd.Wait()); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], errors.Join(err, context.Cause(ctx)), cleanText(problems.String()))
	}
	return string(out), nil
}

// A limitedWriter drops what is too much.
type limitedWriter struct {
	to   io.Writer
	left int
}

func (w *limitedWriter) Write(b []byte) (int, error) {
	n := min(len(b), w.left)
	w.left -= n
	_, err := w.to.Write(b[:n])
	return len(b), err
}
