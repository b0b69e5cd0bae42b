package forge

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrNotPull: an event that is about no pull request.
var ErrNotPull = errors.New("not an event of a pull request")

// Wake is all that an event of a pull request is used for: where to look. It is never
// believed; what is true is read from the forge.
type Wake struct {
	RepositoryID string // the forge's number, as in [Push]
	Repository   string // full name
	Number       int64
}

// HookID is the repository that the path of a webhook's address stands for.
type HookID struct {
	RepositoryID string // the forge's number; empty: it is not known yet, and the name must match
	Repository   string // full name
}

// ErrOtherRepository: a delivery signed with a secret of ours, at the address of another repository.
var ErrOtherRepository = errors.New("the delivery is of another repository")

// Match reports by an error that a delivery does not belong to the address it came to.
func (h HookID) Match(repositoryID, repository string) error {
	same := repositoryID == h.RepositoryID
	if h.RepositoryID == "" {
		same = strings.EqualFold(repository, h.Repository)
	}
	if !same || repositoryID == "" {
		return fmt.Errorf("%w: number %q, not %q", ErrOtherRepository, repositoryID, h.RepositoryID)
	}
	return nil
}

// pullBody is what the events about pull requests have in common on Gitea and GitHub. An
// issue_comment names the pull request as an issue that has a pull_request.
type pullBody struct {
	Number      int64 `json:"number"`
	PullRequest *struct {
		Number int64 `json:"number"`
	} `json:"pull_request"`
	Issue *struct {
		Number      int64            `json:"number"`
		PullRequest *json.RawMessage `json:"pull_request"`
	} `json:"issue"`
	Repository struct {
		ID       int64  `json:"id"`
		FullName string `json:"full_name"`
	} `json:"repository"`
}

// isPullEvent reports whether an event may be about a pull request. Gitea names reviews
// pull_request_approved, pull_request_rejected and pull_request_comment.
func isPullEvent(event string) bool {
	return event == "pull_request" || strings.HasPrefix(event, "pull_request_") || event == "issue_comment"
}

// ParsePull reads which pull request an event is about.
func ParsePull(d Delivery) (Wake, error) {
	if !isPullEvent(d.Event) {
		return Wake{}, fmt.Errorf("%w: event %s", ErrNotPull, d.Event)
	}
	if err := readable(d); err != nil {
		return Wake{}, err
	}
	var body pullBody
	if err := json.Unmarshal(d.Body, &body); err != nil {
		return Wake{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if d.Event == "issue_comment" && (body.Issue == nil || body.Issue.PullRequest == nil) && body.PullRequest == nil {
		return Wake{}, fmt.Errorf("%w: a comment on an issue", ErrNotPull)
	}
	if problem := body.problem(); problem != "" {
		return Wake{}, fmt.Errorf("%w: %s", ErrMalformed, problem)
	}
	return Wake{
		RepositoryID: strconv.FormatInt(body.Repository.ID, 10),
		Repository:   body.Repository.FullName,
		Number:       body.number(),
	}, nil
}

func (b pullBody) number() int64 {
	switch {
	case b.PullRequest != nil && b.PullRequest.Number != 0:
		return b.PullRequest.Number
	case b.Issue != nil && b.Issue.Number != 0:
		return b.Issue.Number
	}
	return b.Number
}

func (b pullBody) problem() string {
	switch {
	case b.number() <= 0:
		return "the pull request has no number"
	case b.Repository.ID <= 0:
		return "the repository has no id"
	case b.Repository.FullName == "" || !plainText(b.Repository.FullName):
		return "the repository has no name"
	}
	return ""
}

// NewPullBody writes the body of a pull_request event as the embedded forge sends it.
func NewPullBody(w Wake) ([]byte, error) {
	id, err := strconv.ParseInt(w.RepositoryID, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: the repository has no id", ErrMalformed)
	}
	body := map[string]any{
		"action": "edited", "number": w.Number,
		"pull_request": map[string]any{"number": w.Number},
		"repository":   map[string]any{"id": id, "full_name": w.Repository},
	}
	return json.Marshal(body)
}
