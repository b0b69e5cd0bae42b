// Package approval judges whether a plan is approved: reviews of a promotion pull
// request and a policy go in; who counts, who does not and why, and who is missing
// come out. It is pure: it asks no forge and no clock.
//
// Whatever could not be read is not there: an approval that cannot be proven is none.
package approval

import "time"

// An Account is a person, a bot or an app of a forge. ID is the forge's number of
// it and all that is ever compared; Login is for people to read, and may be changed.
// An account whose ID is 0 is unknown and equals no other.
type Account struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
	Bot   bool   `json:"bot,omitempty"`
}

// A Verdict is what a review says.
type Verdict string

// The verdicts. Only the last of the decisive ones, Approved and ChangesRequested,
// counts of each reviewer.
const (
	Approved         Verdict = "approved"
	ChangesRequested Verdict = "changes_requested"
	Commented        Verdict = "commented"
	Pending          Verdict = "pending" // not submitted yet
	Unknown          Verdict = "unknown"
)

// A Review is what one account said of one commit.
type Review struct {
	ID        int64     `json:"id"` // of the forge, rising
	By        Account   `json:"by"`
	Verdict   Verdict   `json:"verdict"`
	Commit    string    `json:"commit"` // that was reviewed
	At        time.Time `json:"at"`
	Official  bool      `json:"official"`            // the forge says that it counts; true where a forge has no such word
	Stale     bool      `json:"stale,omitempty"`     // the forge says that the head moved since
	Dismissed bool      `json:"dismissed,omitempty"` // somebody took it away
}

// A Permission is what an account may do in a repository.
type Permission string

// The permissions, from least to most.
const (
	None  Permission = "none"
	Read  Permission = "read"
	Write Permission = "write"
	Admin Permission = "admin"
)

// A PullState is where a pull request stands.
type PullState string

// The states of a pull request.
const (
	Open   PullState = "open"
	Merged PullState = "merged"
	Closed PullState = "closed" // without a merge
)

// Pull are the facts of a pull request, all read from the forge after one another
// with the head compared before and after: they belong to one head.
type Pull struct {
	Number     int64     `json:"number"`
	URL        string    `json:"url"` // for people
	Title      string    `json:"title"`
	State      PullState `json:"state"`
	Head       string    `json:"head"`    // commit
	HeadRef    string    `json:"headRef"` // branch of it
	Base       string    `json:"base"`    // branch that it is for
	BaseCommit string    `json:"baseCommit"`
	Fork       bool      `json:"fork,omitempty"`        // its head is in another repository
	Merge      string    `json:"mergeCommit,omitempty"` // commit that the merge made
	MergedBy   Account   `json:"mergedBy,omitzero"`
	Author     Account   `json:"author"`
	// Committers wrote or committed what is in it, Pushers moved its branch. Who
	// could not be found has ID 0.
	Committers []Account `json:"committers,omitempty"`
	Pushers    []Account `json:"pushers,omitempty"`
	Reviews    []Review  `json:"reviews,omitempty"` // all of them, in the order of their ids
	UpdatedAt  time.Time `json:"updatedAt"`
}

// Members are what reviewers may do now, by the number of their account.
type Members struct {
	Permissions map[int64]Permission `json:"permissions,omitempty"`
	Teams       map[string][]int64   `json:"teams,omitempty"` // by the name that a policy calls them
	// Accounts are the people that a policy names, by login in lower case, as they
	// are now. A login that nobody has is missing.
	Accounts map[string]Account `json:"accounts,omitempty"`
}
