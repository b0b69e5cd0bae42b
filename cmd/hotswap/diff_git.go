package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/intent"
)

// A revision is what a commit holds in the known folders of a repository.
type revision struct {
	commit  string // its whole name
	tree    intent.Tree
	skipped []string // entries that are no plain files, such as links
}

// readRevision reads the known folders below root, a folder of a checkout, as
// they are at a revision. A folder that is not there is an empty one.
func readRevision(ctx context.Context, root, name string) (revision, error) {
	if name == "" || strings.HasPrefix(name, "-") {
		return revision{}, usagef("%q is not a revision", name)
	}
	out := revision{tree: intent.Tree{}}
	err := git(ctx, root, "", func(r *bufio.Reader) (err error) {
		out.commit, err = r.ReadString('\n')
		out.commit = strings.TrimSpace(out.commit)
		return ignoreEnd(err)
	}, "rev-parse", "--verify", name+"^{commit}")
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed) && !errors.Is(err, context.DeadlineExceeded):
		return revision{}, usagef("there is no revision %q to compare %s with: %w", name, root, err)
	case err != nil:
		return revision{}, err
	}
	var files []treeEntry
	err = git(ctx, root, "", func(r *bufio.Reader) (err error) {
		files, out.skipped, err = readEntries(r)
		return err
	}, append([]string{"ls-tree", "-r", "-z", out.commit, "--"}, intent.Folders()...)...)
	if err != nil || len(files) == 0 {
		return out, err
	}
	var ids strings.Builder
	for _, f := range files {
		ids.WriteString(f.id + "\n")
	}
	err = git(ctx, root, ids.String(), func(r *bufio.Reader) (err error) {
		for _, f := range files {
			if out.tree[f.path], err = readBlob(r); err != nil {
				return fmt.Errorf("%s: %w", f.path, err)
			}
		}
		return nil
	}, "cat-file", "--batch")
	return out, err
}

// A treeEntry is one line of git ls-tree.
type treeEntry struct {
	mode, kind, id string
	path           string // from the folder that git was asked in
}

var errGitSaid = errors.New("git said something else than expected")

// parseEntry reads "100644 blob 8ab686… TAB deployments/shop.yaml"
// (git-ls-tree(1), output format).
func parseEntry(line string) (treeEntry, error) {
	facts, path, ok := strings.Cut(line, "\t")
	words := strings.Split(facts, " ")
	if !ok || len(words) != 3 || path == "" {
		return treeEntry{}, fmt.Errorf("%w: %.80q", errGitSaid, line)
	}
	return treeEntry{mode: words[0], kind: words[1], id: words[2], path: path}, nil
}

// maxListing bounds the listing of the folders, in bytes.
const maxListing = 16 << 20

// readEntries reads the files of a listing that belong to the tree, at most one
// more than allowed, so that the check says so.
func readEntries(r *bufio.Reader) (files []treeEntry, skipped []string, err error) {
	listing, err := io.ReadAll(io.LimitReader(r, maxListing+1))
	if err != nil {
		return nil, nil, err
	}
	if len(listing) > maxListing {
		return nil, nil, fmt.Errorf("the folders list more than %d MiB of names", maxListing>>20)
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(listing), "\x00"), "\x00") {
		if line == "" {
			continue
		}
		e, err := parseEntry(line)
		switch {
		case err != nil:
			return nil, nil, err
		case !intent.Reads(e.path):
		case e.kind != "blob" || e.mode != "100644" && e.mode != "100755":
			skipped = append(skipped, e.path)
		case len(files) <= intent.MaxFiles:
			files = append(files, e)
		}
	}
	return files, skipped, nil
}

// readBlob reads one answer of git cat-file --batch, "ID blob SIZE", the bytes
// and a line end. It keeps one byte more than a file may have, at most.
func readBlob(r *bufio.Reader) ([]byte, error) {
	head, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	words := strings.Fields(head)
	if len(words) != 3 || words[1] != "blob" {
		return nil, fmt.Errorf("%w: %.80q", errGitSaid, head)
	}
	size, err := strconv.ParseInt(words[2], 10, 64)
	if err != nil || size < 0 {
		return nil, fmt.Errorf("%w: %.80q", errGitSaid, head)
	}
	body := &io.LimitedReader{R: r, N: size}
	data, err := io.ReadAll(io.LimitReader(body, intent.MaxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return nil, err
	}
	if body.N > 0 {
		return nil, io.ErrUnexpectedEOF
	}
	_, err = r.Discard(1)
	return data, err
}

func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// git runs the user's git in a folder and lets read take what it prints. A folder
// belongs to the repository it lies in, whatever a hook has put into the environment.
func git(ctx context.Context, folder, stdin string, read func(*bufio.Reader) error, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, gitTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.Stdin, cmd.WaitDelay = folder, strings.NewReader(stdin), time.Second
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "GIT_DIR=") || strings.HasPrefix(v, "GIT_WORK_TREE=") || strings.HasPrefix(v, "GIT_INDEX_FILE=")
	})
	cmd.Env = append(cmd.Env, "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0", "GIT_NO_REPLACE_OBJECTS=1", "LC_ALL=C")
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("start git: %w", err)
	}
	readErr := read(bufio.NewReader(out))
	late := ctx.Err()
	if readErr != nil {
		cancel() // it may still want to say more
	}
	err = cmd.Wait()
	switch {
	case late != nil:
		return fmt.Errorf("git %s: %w", args[0], late)
	case readErr != nil:
		return fmt.Errorf("git %s: %w %s", args[0], readErr, strings.TrimSpace(said.String()))
	case err != nil:
		return fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(said.String()))
	}
	return nil
}
