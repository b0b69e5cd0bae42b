package gitrepo_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/gitrepo"
)

// git runs the real git and returns what it prints.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := gitSays(t.Context(), dir, args...)
	require.NoError(t, err, "git %v: %s", args, out)
	return out
}

func gitSays(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "user.name=Ann", "-c", "user.email=ann@example.com"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

const recordsBranch = "hotswap/releases"

func newBare(t *testing.T) (string, *gitrepo.Repository) {
	t.Helper()
	bare := t.TempDir()
	git(t, bare, "init", "-q", "--bare", "-b", "main")
	r, err := gitrepo.Open(bare)
	require.NoError(t, err)
	return bare, r
}

func key() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", ed25519.SeedSize)))
}

func options(t *testing.T, expect string) gitrepo.CommitOptions {
	t.Helper()
	sign, err := gitrepo.SSHSigner(key())
	require.NoError(t, err)
	return gitrepo.CommitOptions{
		Branch: recordsBranch, Expect: expect, Name: "HotSwap", Email: "hotswap@example.com", Message: "checkout 1.5.0 in qa\n",
		At: time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC), Sign: sign,
	}
}

func file(path, text string) gitrepo.Change { return gitrepo.Change{Path: path, Content: []byte(text)} }

func TestACommitIsWhatGitSeesAndTheSameEachTime(t *testing.T) {
	bare, r := newBare(t)
	first, err := r.Commit(t.Context(), []gitrepo.Change{file("releases/qa/checkout.yaml", "a: 1\n"), file("releases/qa-2/checkout.yaml", "a: 2\n")}, options(t, ""))
	require.NoError(t, err)
	require.Equal(t, first, git(t, bare, "rev-parse", recordsBranch))
	require.Equal(t, "releases/qa-2/checkout.yaml\nreleases/qa/checkout.yaml", git(t, bare, "ls-tree", "-r", "--name-only", recordsBranch))
	git(t, bare, "fsck", "--strict")

	second, err := r.Commit(t.Context(), []gitrepo.Change{file("releases/qa/checkout.yaml", "a: 3\n"), {Path: "releases/qa-2/checkout.yaml"}}, options(t, first))
	require.NoError(t, err)
	require.Equal(t, "releases/qa/checkout.yaml", git(t, bare, "ls-tree", "-r", "--name-only", recordsBranch), "an empty folder is no folder")
	require.Equal(t, "a: 3", git(t, bare, "show", recordsBranch+":releases/qa/checkout.yaml"))
	require.Equal(t, first, git(t, bare, "rev-parse", recordsBranch+"~1"))
	git(t, bare, "fsck", "--strict")

	same, err := r.Commit(t.Context(), []gitrepo.Change{file("releases/qa/checkout.yaml", "a: 3\n")}, options(t, second))
	require.NoError(t, err)
	require.Equal(t, second, same, "nothing changes, nothing is written")

	_, other := newBare(t)
	again, err := other.Commit(t.Context(), []gitrepo.Change{file("releases/qa-2/checkout.yaml", "a: 2\n"), file("releases/qa/checkout.yaml", "a: 1\n")}, options(t, ""))
	require.NoError(t, err)
	require.Equal(t, first, again, "the same content is the same commit, in another repository too")
}

func TestABranchThatMovedIsNotOverwritten(t *testing.T) {
	bare, r := newBare(t)
	first, err := r.Commit(t.Context(), []gitrepo.Change{file("releases/qa/checkout.yaml", "a: 1\n")}, options(t, ""))
	require.NoError(t, err)
	_, err = r.Commit(t.Context(), []gitrepo.Change{file("releases/qa/checkout.yaml", "a: 2\n")}, options(t, ""))
	require.ErrorIs(t, err, gitrepo.ErrMoved, "it exists already")
	work := t.TempDir()
	git(t, work, "clone", "-q", "-b", recordsBranch, bare, ".")
	require.NoError(t, os.WriteFile(filepath.Join(work, "note.txt"), []byte("hello"), 0o644))
	git(t, work, "add", "-A")
	git(t, work, "commit", "-q", "-m", "a person's")
	git(t, work, "push", "-q")
	_, err = r.Commit(t.Context(), []gitrepo.Change{file("releases/qa/checkout.yaml", "a: 2\n")}, options(t, first))
	require.ErrorIs(t, err, gitrepo.ErrMoved)
	tip := git(t, bare, "rev-parse", recordsBranch)
	_, err = r.Commit(t.Context(), []gitrepo.Change{file("releases/qa/checkout.yaml", "a: 2\n")}, options(t, tip))
	require.NoError(t, err)
	require.Equal(t, "hello", git(t, bare, "show", recordsBranch+":note.txt"), "what others wrote stays")
	found, err := r.Ancestor(t.Context(), first, tip)
	require.NoError(t, err)
	require.True(t, found)
	found, err = r.Ancestor(t.Context(), tip, first)
	require.NoError(t, err)
	require.False(t, found)
}

// TestNoCommitIsLostBesideRealPushes lets a person push in a loop while records are written.
func TestNoCommitIsLostBesideRealPushes(t *testing.T) {
	bare, r := newBare(t)
	_, err := r.Commit(t.Context(), []gitrepo.Change{file("releases/a/checkout.yaml", "n: 0\n")}, options(t, ""))
	require.NoError(t, err)
	work := t.TempDir()
	git(t, work, "clone", "-q", "-b", recordsBranch, bare, ".")
	pushed := make(chan int)
	go func() {
		n := 0
		defer func() { pushed <- n }()
		for i := range 15 {
			if os.WriteFile(filepath.Join(work, fmt.Sprintf("person-%d.txt", i)), nil, 0o644) != nil {
				return
			}
			for _, step := range [][]string{{"add", "-A"}, {"commit", "-q", "-m", "p"}} {
				if _, err := gitSays(t.Context(), work, step...); err != nil {
					return
				}
			}
			for {
				if _, err := gitSays(t.Context(), work, "push", "-q"); err == nil {
					break
				}
				if _, err := gitSays(t.Context(), work, "pull", "-q", "--rebase"); err != nil {
					return
				}
			}
			n++
		}
	}()
	written := 0
	for written < 40 { // then the person has the branch alone, and ends
		tip, err := r.Tip(t.Context(), recordsBranch)
		require.NoError(t, err)
		_, err = r.Commit(t.Context(), []gitrepo.Change{file(fmt.Sprintf("releases/r%d/checkout.yaml", written), "a: 1\n")}, options(t, tip))
		switch {
		case err == nil:
			written++
		case !errors.Is(err, gitrepo.ErrMoved):
			require.NoError(t, err)
		}
	}
	require.Equal(t, 15, <-pushed)
	files := git(t, bare, "ls-tree", "-r", "--name-only", recordsBranch)
	require.Equal(t, 15, strings.Count(files, "person-"))
	require.Equal(t, written, strings.Count(files, "releases/r"))
}

func TestGitVerifiesTheSignature(t *testing.T) {
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("ssh-keygen is not installed, and git checks SSH signatures with it: apt-get install -y openssh-client")
	}
	bare, r := newBare(t)
	o := options(t, "")
	sha, err := r.Commit(t.Context(), []gitrepo.Change{file("releases/qa/checkout.yaml", "a: 1\n")}, o)
	require.NoError(t, err)
	line, err := gitrepo.AllowedSigners("hotswap@example.com", key().Public().(ed25519.PublicKey))
	require.NoError(t, err)
	allowed := filepath.Join(t.TempDir(), "allowed")
	require.NoError(t, os.WriteFile(allowed, []byte(line), 0o600))
	verify := func(sha string) (string, error) {
		return gitSays(t.Context(), bare, "-c", "gpg.format=ssh", "-c", "gpg.ssh.allowedSignersFile="+allowed, "verify-commit", sha)
	}
	out, err := verify(sha)
	require.NoError(t, err, out)
	require.Contains(t, out, "Good \"git\" signature for hotswap@example.com")
	ours, err := r.SignedBy(t.Context(), sha, o.Sign)
	require.NoError(t, err)
	require.True(t, ours)

	forged := strings.Replace(git(t, bare, "cat-file", "commit", sha)+"\n", "checkout 1.5.0", "checkout 6.6.6", 1)
	path := filepath.Join(t.TempDir(), "forged")
	require.NoError(t, os.WriteFile(path, []byte(forged), 0o600))
	fake := git(t, bare, "hash-object", "-t", "commit", "-w", path)
	_, err = verify(fake)
	require.Error(t, err)
	ours, err = r.SignedBy(t.Context(), fake, o.Sign)
	require.NoError(t, err)
	require.False(t, ours)
}

func TestOnlyPlainPathsBelowReleasesAreWritten(t *testing.T) {
	bare, r := newBare(t)
	for _, path := range []string{
		"", "/etc/passwd", "../x", "releases", "releases/", "releases/../x", ".git/config", "releases/.hidden", "releases//b", "releases/a b", "releases/ä",
		"deployments/checkout.yaml", "releases/CON", "releases/a/b\n", "releases/" + strings.Repeat("a/", 8) + "b",
	} {
		_, err := r.Commit(t.Context(), []gitrepo.Change{file(path, "x")}, options(t, ""))
		require.ErrorIs(t, err, gitrepo.ErrBadName, path)
	}
	_, err := r.Commit(t.Context(), []gitrepo.Change{{Path: "releases/a", Content: make([]byte, 2<<20)}}, options(t, ""))
	require.ErrorIs(t, err, gitrepo.ErrLimit)
	_, err = r.Commit(t.Context(), make([]gitrepo.Change, 10_001), options(t, ""))
	require.ErrorIs(t, err, gitrepo.ErrLimit)
	require.Empty(t, git(t, bare, "for-each-ref"))
}

func TestAMessageIsCutAtALineBeforeItIsTooLongToBeReadAgain(t *testing.T) {
	bare, r := newBare(t)
	o := options(t, "")
	o.Message = strings.Repeat("production/checkout: checkout 1.5.0\n", 50_000)
	sha, err := r.Commit(t.Context(), []gitrepo.Change{file("releases/qa/checkout.yaml", "a: 1\n")}, o)
	require.NoError(t, err)
	said := git(t, bare, "log", "-1", "--format=%B", sha)
	require.Less(t, len(said), 70_000)
	require.True(t, strings.HasSuffix(said, "checkout 1.5.0\n…"), said[len(said)-60:])
	_, err = r.Commit(t.Context(), []gitrepo.Change{file("releases/qa/checkout.yaml", "a: 2\n")}, options(t, sha))
	require.NoError(t, err)
}

func TestWhoIsKilledBeforeTheBranchMovesHasDoneNothingAndDoesTheSameAgain(t *testing.T) {
	bare, r := newBare(t)
	first, err := r.Commit(t.Context(), []gitrepo.Change{file("releases/qa/checkout.yaml", "a: 1\n")}, options(t, ""))
	require.NoError(t, err)
	lock := filepath.Join(bare, "refs/heads", recordsBranch+".lock") // a push is moving the branch, so git waits
	require.NoError(t, os.WriteFile(lock, nil, 0o600))
	second := []gitrepo.Change{file("releases/qa/checkout.yaml", "a: 2\n")}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err = r.Commit(ctx, second, options(t, first))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, first, git(t, bare, "rev-parse", recordsBranch), "nobody sees it")
	lost := git(t, bare, "fsck", "--lost-found")
	require.Equal(t, 1, strings.Count(lost, "dangling commit"), "the objects were there")

	require.NoError(t, os.Remove(lock))
	again, err := r.Commit(t.Context(), second, options(t, first))
	require.NoError(t, err)
	require.Contains(t, lost, "dangling commit "+again, "it is the same commit")
	same, err := r.Commit(t.Context(), second, options(t, again))
	require.NoError(t, err)
	require.Equal(t, again, same, "whoever died after the branch moved finds nothing to do")
	same, err = r.Commit(t.Context(), second, options(t, first))
	require.NoError(t, err)
	require.Equal(t, again, same, "the same call is answered in the same way")
	_, err = r.Commit(t.Context(), []gitrepo.Change{file("releases/qa/checkout.yaml", "a: 1\n")}, options(t, first))
	require.ErrorIs(t, err, gitrepo.ErrMoved, "nothing would change, but not where the branch is")
}

func TestADeletedBranchIsWrittenAnewAsTheSameCommit(t *testing.T) {
	bare, r := newBare(t)
	all := []gitrepo.Change{file("releases/qa/checkout.yaml", "a: 1\n")}
	first, err := r.Commit(t.Context(), all, options(t, ""))
	require.NoError(t, err)
	git(t, bare, "pack-refs", "--all")
	git(t, bare, "update-ref", "-d", "refs/heads/"+recordsBranch)
	_, err = r.Commit(t.Context(), all, options(t, first))
	require.ErrorIs(t, err, gitrepo.ErrMoved)
	again, err := r.Commit(t.Context(), all, options(t, ""))
	require.NoError(t, err)
	require.Equal(t, first, again)
}

func TestAHookOfTheRepositoryIsNotRun(t *testing.T) {
	bare, r := newBare(t)
	require.NoError(t, os.MkdirAll(filepath.Join(bare, "hooks"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(bare, "hooks/reference-transaction"), []byte("#!/bin/sh\nexit 1\n"), 0o755))
	_, err := r.Commit(t.Context(), []gitrepo.Change{file("releases/qa/checkout.yaml", "a: 1\n")}, options(t, ""))
	require.NoError(t, err)
}
