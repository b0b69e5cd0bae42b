package forge

import (
	"context"
	"time"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/secret"
)

// A Forge is where pull requests live. An adapter of it holds one account on one
// server; repo is the full name of a repository there, for example acme/deploy.
//
// Every call goes to the server and ends by its own deadline or by ctx; nothing is
// remembered that a person could change. An answer is whole or it is an error: what
// could not be read (page two, 403, 500, a deadline) is never a shorter list.
//
// What writes can be done again: it looks first and changes only what differs. After
// an error that is not one of the sentinels of a refusal (ErrUnavailable, a deadline)
// the caller does not know whether it was done, and reads again.
//
// All implementations pass tests/conformance.
type Forge interface {
	// Capabilities says what this forge can and cannot; it asks nobody.
	Capabilities() Capabilities
	Repositories
	Pulls
	Proposals
	Standing
	Speech
}

// Repositories are what a forge says of a repository itself.
type Repositories interface {
	// Repository says what it is and what our account may do in it. Its ID is to be
	// compared with the one that was seen first: a name can be given to another.
	Repository(ctx context.Context, repo string) (Repository, error)
	// Hook makes sure that one webhook of the repository goes to hook.URL, with this
	// secret, and no second one.
	Hook(ctx context.Context, repo string, hook Hook) error
}

// Pulls read pull requests.
type Pulls interface {
	// Pull reads all facts of one, reviews of all pages included. Head and base are
	// compared before and after; when they moved it is read again, a few times, then ErrMoving.
	Pull(ctx context.Context, repo string, number int64) (approval.Pull, error)
	// Pulls lists all that the filter lets through, in the order of their numbers.
	Pulls(ctx context.Context, repo string, filter Filter) ([]Listed, error)
}

// Proposals open, close and merge pull requests.
type Proposals interface {
	// Ensure finds the one open pull request of want.Head onto want.Base, or opens it,
	// and corrects its title, body and labels when they differ. Labels of others stay.
	Ensure(ctx context.Context, repo string, want PullRequest) (Listed, error)
	// Close closes without merging. One that is closed already stays so: no error.
	// One that is merged is ErrMerged.
	Close(ctx context.Context, repo string, number int64) error
	// Merge merges if the head is m.ExpectedHead at that moment, and returns the
	// commit that it made. ErrHeadMoved, ErrRefused (protection; its text says what),
	// ErrConflict, ErrClosed; ErrMerged with its commit when exactly this head was
	// merged before. After anything else, ask Pull.
	Merge(ctx context.Context, repo string, number int64, m Merge) (string, error)
}

// Standing says who people are, and what they may do and have done.
type Standing interface {
	// Members answers what is asked for as it is now.
	Members(ctx context.Context, repo string, ask Ask) (approval.Members, error)
	// Origin are the accounts that took part in bringing a commit onto its branch:
	// who wrote, committed, pushed, proposed and merged it. Who is not known to the
	// forge has ID 0; when it is not known who pushed, one of them has ID 0 and the
	// login [approval.UnknownPusher].
	Origin(ctx context.Context, repo string, commit string) ([]approval.Account, error)
}

// Speech is what the forge is told to show to people.
type Speech interface {
	// Status sets one status of a commit, unless it says the same already.
	Status(ctx context.Context, repo, commit string, s Status) error
	// Comment keeps one comment of ours on a pull request: found by the marker, which
	// people do not see, and by our own account; written in place when text differs.
	Comment(ctx context.Context, repo string, number int64, marker, text string) error
	// RequestReviews asks those who were not asked for this head yet and have not
	// reviewed it. The author is not asked. Teams as in [Ask]. Who may not review is ErrRefused.
	RequestReviews(ctx context.Context, repo string, number int64, logins, teams []string) error
}

// Capabilities say what a forge has a word for. Where one is false the caller does
// without: the adapter answers what is safe, never what is convenient.
type Capabilities struct {
	Kind              string // "gitea", "builtin", …
	DismissesSilently bool   // no webhook tells of a dismissed review: only a reconcile finds it
	RetriesWebhooks   bool   // a delivery that was not accepted comes again
	Official          bool   // says itself whether a review counts; else Official is always true
	Stale             bool   // says itself that the head moved since a review
	Teams             bool
	Bots              bool // tells bots from people; else only the forge's own system accounts are marked
	Pushers           bool // says who moved a branch
	ReviewRequests    bool
	Labels            bool
	ExpectedHead      bool // a merge names the head that it is for, and the server compares it
	Protection        bool // branches can be protected by the server
	LineAnnotations   bool // a status can point at a line
	Forks             bool
}

// Repository is what a forge says of one repository.
type Repository struct {
	ID            int64  // survives renaming
	Name          string // full name as it is now
	DefaultBranch string
	Archived      bool
	Own           approval.Permission // of our account
}

// Filter chooses pull requests. The zero value lets all through.
type Filter struct {
	Base  string             // branch; empty: any
	State approval.PullState // empty: any
	// Since leaves out what was updated before it. A forge need not count every
	// change as an update (Gitea does not count a dismissed review), so open
	// ones are best listed without it.
	Since time.Time
}

// Listed is a pull request as a list shows it: enough to see that something moved,
// and not enough to judge it.
type Listed struct {
	Number     int64
	URL        string // for people
	State      approval.PullState
	Head       string // commit
	HeadRef    string // branch of it
	Base       string // branch
	BaseCommit string
	Fork       bool
	UpdatedAt  time.Time
}

// PullRequest is what a pull request of ours is to be.
type PullRequest struct {
	HeadRef string // branch in the same repository
	Base    string // branch
	Title   string // one line
	Body    string
	Labels  []string // by name; made when the repository has none of it
}

// Method is how a merge is made.
type Method string

// The methods. FastForward makes no commit: the base becomes the head, and Merge returns the head.
const (
	MergeCommit Method = "merge"
	Squash      Method = "squash"
	FastForward Method = "fast-forward"
)

// Merge asks for a merge.
type Merge struct {
	ExpectedHead string // commit id; must be given
	Message      string // title, and after an empty line the rest; empty: the forge's own
	Method       Method // empty: MergeCommit
}

// StatusState is what a status says.
type StatusState string

// The states of a status.
const (
	StatusPending StatusState = "pending"
	StatusSuccess StatusState = "success"
	StatusFailure StatusState = "failure"
	StatusError   StatusState = "error"
)

// MaxDescription is the longest description of a status, in characters; a longer one is cut.
const MaxDescription = 140

// Status is one line under a commit.
type Status struct {
	Context     string // what it is about, for example hotswap/validate; the key of it
	State       StatusState
	Description string
	URL         string // where people read more; may be empty
}

// Ask is what [Standing.Members] is to answer. A policy is read from the base branch; a
// person in it is a login, a team is "name" in the repository's owner, or "organisation/name".
type Ask struct {
	Accounts []approval.Account // whose permission; usually the reviewers
	Logins   []string           // whose account and permission; usually the people of a policy
	Teams    []string           // whose members
}

// Hook is the webhook that a repository is to have: pushes and everything about
// pull requests, as JSON.
type Hook struct {
	URL    string
	Secret secret.Secret
}
