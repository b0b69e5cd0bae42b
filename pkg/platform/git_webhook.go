package platform

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sort"
	"strings"

	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/forge/builtin"
)

// refChange is one reference before and after a push; "" where it was not there.
type refChange struct {
	ref, before, after string
}

// refs lists the branches of a repository with their commits.
func (g *GitServer) refs(ctx context.Context, path string) (map[string]string, error) {
	out, err := g.run(ctx, "--git-dir="+path, "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads")
	if err != nil {
		return nil, err
	}
	refs := make(map[string]string)
	for line := range strings.Lines(out) {
		sha, ref, _ := strings.Cut(strings.TrimSpace(line), " ")
		refs[ref] = sha
	}
	return refs, nil
}

// compareRefs lists what differs, in the order of the names.
func compareRefs(before, after map[string]string) []refChange {
	var changes []refChange
	for ref, sha := range after {
		if before[ref] != sha {
			changes = append(changes, refChange{ref, before[ref], sha})
		}
	}
	for ref, sha := range before {
		if _, there := after[ref]; !there {
			changes = append(changes, refChange{ref, sha, ""})
		}
	}
	sort.Slice(changes, func(i, j int) bool { return changes[i].ref < changes[j].ref })
	return changes
}

// tell sends one push event. It is a hint: one that is lost is found by the reconcile that reads the tips.
func (g *GitServer) tell(ctx context.Context, repository string, change refChange) {
	if g.options.WebhookURL == "" {
		return
	}
	log := g.options.Log.With("repository", repository, "ref", change.ref, "after", change.after)
	status, err := g.send(ctx, repository, change)
	switch {
	case err != nil:
		log.Warn("webhook not delivered", "error", err)
	case status/100 != 2:
		log.Warn("webhook refused", "status", status)
	default:
		log.Info("webhook delivered", "status", status)
	}
}

func (g *GitServer) send(ctx context.Context, repository string, change refChange) (status int, err error) {
	body, err := forge.NewPushBody(RepositoryID(repository), forge.Push{
		Repository: repository, Ref: change.ref, Before: change.before, After: change.after,
	})
	if err != nil {
		return 0, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.options.WebhookURL, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("webhook: %w", err)
	}
	if err := forge.SignDelivery(r.Header, "push", body, g.options.WebhookKey); err != nil {
		return 0, err
	}
	answer, err := g.client.Do(r)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}

// RepositoryID is the number of a repository of the embedded forge.
func RepositoryID(name string) int64 { return builtin.RepositoryID(name) }
