package forge

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

// ErrNotPush: an event of another kind. As with ErrMalformed, the delivery is accepted and nothing is run.
var ErrNotPush = errors.New("not a push")

// zero is the commit id that stands for "none": before a branch, or after it.
const zero = "0000000000000000000000000000000000000000"

var commitID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{40}$`) })

// Push is what a push event claims. Only the repository tells what is true.
type Push struct {
	RepositoryID string // the forge's number for the repository; survives renaming
	Repository   string // full name, for example acme/deploy
	Ref          string // for example refs/heads/main
	Before       string // "" when the reference is new
	After        string // "" when it was deleted
}

// Branch is the branch pushed to; "" when it was something else, such as a tag.
func (p Push) Branch() string {
	branch, _ := strings.CutPrefix(p.Ref, "refs/heads/")
	if branch == p.Ref {
		return ""
	}
	return branch
}

// pushBody is the part of GitHub's and Gitea's push payload that both have in the same form.
type pushBody struct {
	Ref        string `json:"ref"`
	Before     string `json:"before"`
	After      string `json:"after"`
	Repository struct {
		ID       int64  `json:"id"`
		FullName string `json:"full_name"`
	} `json:"repository"`
}

// ParsePush reads a push of GitHub, Gitea or the embedded forge.
func ParsePush(d Delivery) (Push, error) {
	if d.Event != "push" {
		return Push{}, fmt.Errorf("%w: event %s", ErrNotPush, d.Event)
	}
	if err := readable(d); err != nil {
		return Push{}, err
	}
	var body pushBody
	if err := json.Unmarshal(d.Body, &body); err != nil {
		return Push{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if problem := body.problem(); problem != "" {
		return Push{}, fmt.Errorf("%w: %s", ErrMalformed, problem)
	}
	return Push{
		RepositoryID: strconv.FormatInt(body.Repository.ID, 10),
		Repository:   body.Repository.FullName,
		Ref:          body.Ref,
		Before:       strings.TrimPrefix(body.Before, zero),
		After:        strings.TrimPrefix(body.After, zero),
	}, nil
}

// readable says why a delivery's body cannot be read at all.
func readable(d Delivery) error {
	if d.Truncated {
		return fmt.Errorf("%w: its body was too large to keep", ErrMalformed)
	}
	if kind := d.Headers["Content-Type"]; strings.HasPrefix(kind, "application/x-www-form-urlencoded") {
		return fmt.Errorf("%w: set the webhook's content type to application/json", ErrMalformed)
	}
	return nil
}

func (b pushBody) problem() string {
	switch {
	case !commitID().MatchString(b.Before) || !commitID().MatchString(b.After):
		return "before and after are not commit ids"
	case !strings.HasPrefix(b.Ref, "refs/") || !plainText(b.Ref):
		return "ref is not a reference"
	case b.Repository.ID <= 0:
		return "the repository has no id"
	case b.Repository.FullName == "" || !plainText(b.Repository.FullName):
		return "the repository has no name"
	}
	return ""
}

func plainText(s string) bool {
	return len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' || r == unicode.ReplacementChar })
}

// NewPushBody writes the body of a push event as the embedded forge sends it. id is the repository's number.
func NewPushBody(id int64, p Push) ([]byte, error) {
	body := pushBody{Ref: p.Ref, Before: p.Before, After: p.After}
	body.Repository.ID, body.Repository.FullName = id, p.Repository
	if body.Before == "" {
		body.Before = zero
	}
	if body.After == "" {
		body.After = zero
	}
	if problem := body.problem(); problem != "" {
		return nil, fmt.Errorf("%w: %s", ErrMalformed, problem)
	}
	return json.Marshal(body)
}
