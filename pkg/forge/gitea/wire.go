package gitea

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
)

// ghost is the number of Gitea's stand-in for a deleted account.
const ghost = -1

// The types below are the parts of Gitea's answers that are used. What must be there
// is checked by problem: a missing field reads as zero, and zero must not pass.

type user struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
}

type team struct {
	ID         int64             `json:"id"`
	Name       string            `json:"name"`
	Permission string            `json:"permission"`
	Units      map[string]string `json:"units_map"` // what it may do with each part of a repository
}

// code is what a team may do with the files of its repositories.
func (t *team) code() approval.Permission {
	for _, p := range []string{t.Permission, t.Units["repo.code"]} {
		switch p {
		case "owner", "admin":
			return approval.Admin
		case "write":
			return approval.Write
		}
	}
	return approval.None
}

type label struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
}

type branch struct {
	Ref    string `json:"ref"`
	SHA    string `json:"sha"`
	RepoID int64  `json:"repo_id"` // -1: the repository is gone
}

type pull struct {
	Number    int64     `json:"number"`
	HTMLURL   string    `json:"html_url"`
	Title     string    `json:"title"`
	Body      string    `json:"body"`
	State     string    `json:"state"`
	Merged    *bool     `json:"merged"`
	Merge     string    `json:"merge_commit_sha"`
	MergedBy  *user     `json:"merged_by"`
	User      *user     `json:"user"`
	Head      *branch   `json:"head"`
	Base      *branch   `json:"base"`
	MergeBase string    `json:"merge_base"`
	UpdatedAt time.Time `json:"updated_at"`
	Labels    []label   `json:"labels"`
	AskedTeam []*team   `json:"requested_reviewers_teams"`
}

func (p *pull) problem() string {
	switch {
	case p.Number <= 0:
		return "a pull request without a number"
	case p.State != "open" && p.State != "closed", p.Merged == nil:
		return "a pull request without a state"
	case p.Head == nil || !commitForm().MatchString(p.Head.SHA) || p.Head.Ref == "":
		return "a pull request without a head"
	case p.Base == nil || p.Base.Ref == "" || p.Base.RepoID <= 0:
		return "a pull request without a base"
	case p.Base.SHA != "" && !commitForm().MatchString(p.Base.SHA):
		return "a base that is no commit"
	case *p.Merged && !commitForm().MatchString(p.Merge):
		return "a merge without a commit"
	case p.UpdatedAt.IsZero():
		return "a pull request without a time"
	}
	return ""
}

func (p *pull) state() approval.PullState {
	switch {
	case *p.Merged:
		return approval.Merged
	case p.State == "open":
		return approval.Open
	}
	return approval.Closed
}

func (p *pull) fork() bool { return p.Head.RepoID != p.Base.RepoID }

func (p *pull) listed() forge.Listed {
	return forge.Listed{
		Number: p.Number, URL: p.HTMLURL, State: p.state(), Head: p.Head.SHA, HeadRef: p.Head.Ref,
		Base: p.Base.Ref, BaseCommit: p.Base.SHA, Fork: p.fork(), UpdatedAt: p.UpdatedAt,
	}
}

type review struct {
	ID        int64     `json:"id"`
	User      *user     `json:"user"`
	Team      *team     `json:"team"` // a request to a team, not a review
	State     string    `json:"state"`
	Commit    string    `json:"commit_id"`
	At        time.Time `json:"submitted_at"`
	Official  *bool     `json:"official"`
	Stale     *bool     `json:"stale"`
	Dismissed *bool     `json:"dismissed"`
}

// requested is the state of a request for a review, which Gitea keeps among the reviews.
const requested = "REQUEST_REVIEW"

func (r *review) problem() string {
	switch {
	case r.ID <= 0:
		return "a review without a number"
	case r.Official == nil || r.Stale == nil || r.Dismissed == nil:
		return "a review that does not say whether it counts"
	case r.User == nil && r.State != requested:
		return "a review of nobody"
	case r.Commit != "" && !commitForm().MatchString(r.Commit):
		return "a review of what is no commit"
	}
	return ""
}

// verdict of a review. One of no commit (Gitea kept none in old versions) approves nothing.
func (r *review) verdict() approval.Verdict {
	switch r.State {
	case "APPROVED":
		return approval.Approved
	case "REQUEST_CHANGES":
		return approval.ChangesRequested
	case "COMMENT":
		return approval.Commented
	case "PENDING":
		return approval.Pending
	}
	return approval.Unknown
}

type signature struct {
	Name  string `json:"name"`
	Email string `json:"email"`
}

// commit has two people that the forge found by their mail address, and what the commit itself says.
type commit struct {
	SHA       string `json:"sha"`
	Author    *user  `json:"author"`
	Committer *user  `json:"committer"`
	Commit    *struct {
		Author    *signature `json:"author"`
		Committer *signature `json:"committer"`
	} `json:"commit"`
}

func (c *commit) problem() string {
	if !commitForm().MatchString(c.SHA) || c.Commit == nil || c.Commit.Author == nil || c.Commit.Committer == nil {
		return "a commit without its people"
	}
	return ""
}

// event is an entry of a pull request's timeline; its Body is JSON when Type is "pull_push".
type event struct {
	Type string `json:"type"`
	User *user  `json:"user"`
	Body string `json:"body"`
}

func (e *event) problem() string {
	if e.Type == "" {
		return "an event without a type"
	}
	return ""
}

// activity is an entry of a repository's feed; its Content is JSON when something was pushed.
type activity struct {
	ID      int64  `json:"id"`
	Type    string `json:"op_type"`
	User    *user  `json:"act_user"`
	Ref     string `json:"ref_name"`
	Content string `json:"content"`
}

func (a *activity) problem() string {
	if a.ID <= 0 || a.Type == "" {
		return "an activity without a type"
	}
	return ""
}

// pushedEvent returns the commits that an entry of the timeline says were pushed.
func pushedEvent(body string) ([]string, error) {
	var content struct {
		IDs []string `json:"commit_ids"`
	}
	if err := json.Unmarshal([]byte(body), &content); err != nil {
		return nil, fmt.Errorf("%w: what was pushed: %w", forge.ErrMalformed, err)
	}
	return content.IDs, nil
}

// pushedActivity returns the commits that an activity says were pushed: some of
// them, when they were many. A branch that was made without a push has none.
func pushedActivity(content string) ([]string, error) {
	if strings.TrimSpace(content) == "" {
		return nil, nil
	}
	type item struct{ Sha1 string }
	var pushed struct {
		Commits    []*item
		HeadCommit *item
	}
	if err := json.Unmarshal([]byte(content), &pushed); err != nil {
		return nil, fmt.Errorf("%w: what was pushed: %w", forge.ErrMalformed, err)
	}
	var ids []string
	for _, c := range append(pushed.Commits, pushed.HeadCommit) {
		if c != nil {
			ids = append(ids, c.Sha1)
		}
	}
	return ids, nil
}

type comment struct {
	ID   int64  `json:"id"`
	User *user  `json:"user"`
	Body string `json:"body"`
}

func (c *comment) problem() string {
	if c.ID <= 0 || c.User == nil {
		return "a comment of nobody"
	}
	return ""
}

type status struct {
	Context     string `json:"context"`
	State       string `json:"status"`
	Description string `json:"description"`
	URL         string `json:"target_url"`
}

func (s *status) problem() string {
	if s.Context == "" || s.State == "" {
		return "a status without a context"
	}
	return ""
}

func (l *label) problem() string {
	if l.ID <= 0 {
		return "a label without a number"
	}
	return ""
}

func (t *team) problem() string {
	if t.ID <= 0 || t.Name == "" {
		return "a team without a number"
	}
	return ""
}

func (u *user) problem() string {
	if u.ID == 0 || u.Login == "" {
		return "an account without a number"
	}
	return ""
}
