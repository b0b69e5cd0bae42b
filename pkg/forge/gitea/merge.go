package gitea

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/forge/rest"
)

// Merge implements [forge.Forge]. We never force: what protects the branch holds for
// an administrator's token too.
func (g *Gitea) Merge(ctx context.Context, repo string, number int64, m forge.Merge) (string, error) {
	if !commitForm().MatchString(m.ExpectedHead) {
		return "", fmt.Errorf("%w: a merge names the head that it is for", forge.ErrInvalid)
	}
	ctx, cancel, path, err := g.begin(ctx, repo)
	if err != nil {
		return "", err
	}
	defer cancel()
	made, err := g.merge(ctx, path, number, m)
	if err != nil {
		err = fmt.Errorf("merge %s#%d: %w", repo, number, err)
	}
	return made, err
}

// errUnchecked: Gitea refuses what it has not checked and what conflicts in the same words.
var errUnchecked = errors.New("not checked yet, or a conflict")

func (g *Gitea) merge(ctx context.Context, path string, number int64, m forge.Merge) (string, error) {
	for try := range tries {
		if err := g.pauseBefore(ctx, try); err != nil {
			return "", err
		}
		if made, err := g.mergeable(ctx, path, number, m); made != "" || err != nil {
			return made, err
		}
		err := g.askMerge(ctx, path, number, m)
		if errors.Is(err, errUnchecked) {
			continue
		}
		if err != nil {
			return "", err
		}
		return g.merged(ctx, path, number, m)
	}
	return "", fmt.Errorf("%w, or the forge has not checked it yet", forge.ErrConflict)
}

// mergeable looks before it asks: what is merged already needs no second try.
func (g *Gitea) mergeable(ctx context.Context, path string, number int64, m forge.Merge) (string, error) {
	p, err := g.pull(ctx, path, number)
	switch {
	case err != nil:
		return "", err
	case p.Head.SHA != m.ExpectedHead:
		return "", fmt.Errorf("%w to %s", forge.ErrHeadMoved, p.Head.SHA)
	case p.state() == approval.Merged:
		return p.Merge, forge.ErrMerged
	case p.state() == approval.Closed:
		return "", forge.ErrClosed
	}
	return "", nil
}

func (g *Gitea) askMerge(ctx context.Context, path string, number int64, m forge.Merge) error {
	title, message, _ := strings.Cut(m.Message, "\n")
	body := map[string]any{
		"Do": method(m.Method), "head_commit_id": m.ExpectedHead,
		"MergeTitleField": strings.TrimSpace(title), "MergeMessageField": strings.TrimSpace(message),
		"force_merge": false, "merge_when_checks_succeed": false, "delete_branch_after_merge": false,
	}
	return mergeRefusal(g.send(ctx, http.MethodPost, pullPath(path, number)+"/merge", body, nil))
}

func method(m forge.Method) string {
	switch m {
	case forge.Squash:
		return "squash"
	case forge.FastForward:
		return "fast-forward-only"
	}
	return "merge"
}

// mergeRefusal tells Gitea's refusals apart: by status, and where one status means
// several things by its words (routers/api/v1/repo/pull.go of 1.26). What is not
// known is a refusal, never a success.
func mergeRefusal(err error) error {
	var r *rest.Refusal
	if !errors.As(err, &r) {
		return err
	}
	switch {
	case r.Status == http.StatusMethodNotAllowed && r.Message == "Please try again later",
		r.Status == http.StatusMethodNotAllowed && r.Message == "The PR is already merged":
		return errUnchecked // the next look tells
	case r.Status == http.StatusConflict && r.Message == "head out of date":
		return forge.ErrHeadMoved
	case r.Status == http.StatusConflict && r.Message == "merge push out of date":
		return errUnchecked // the base moved while it was merged
	case r.Status == http.StatusConflict && strings.HasPrefix(r.Message, "PushRejected"):
		return err // ErrRefused, with what a hook said
	case r.Status == http.StatusConflict:
		return forge.ErrConflict
	case r.Status == http.StatusNotFound:
		return forge.ErrClosed // it was there a moment ago
	}
	return err
}

// merged reads which commit a merge made.
func (g *Gitea) merged(ctx context.Context, path string, number int64, m forge.Merge) (string, error) {
	p, err := g.pull(ctx, path, number)
	switch {
	case err != nil:
		return "", err
	case p.state() != approval.Merged || p.Head.SHA != m.ExpectedHead:
		return "", fmt.Errorf("%w: it says that it merged and shows no merge", forge.ErrUnavailable)
	}
	return p.Merge, nil
}
