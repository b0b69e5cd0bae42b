// Package conformance is what every adapter of pkg/forge must do, told by what people do on the forge and what is then
// read from it. A [Lab] is a forge together with the means to act on it as people.
package conformance

import (
	"testing"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/gitrepo"
)

// Releases is the branch that is protected besides main.
const Releases = "hotswap/releases"

// A Lab is one forge under test. Every method acts at once and ends the test when it
// cannot. Accounts and repositories that it makes are new each time.
type Lab interface {
	// Forge is the forge as our own account, who administers every repository of the lab.
	Forge() forge.Forge
	// Own is our own account.
	Own(t *testing.T) approval.Account

	// Repository makes one with the branches main and Releases, of one commit each.
	// Both are protected: nobody pushes, but our own account to Releases; a merge needs one
	// official approval that is not stale, and none that asks for changes.
	Repository(t *testing.T) string
	// Protect changes how many approvals a merge onto a protected branch needs.
	Protect(t *testing.T, repo, branch string, approvals int)
	// Git opens the repository: where it is, or a mirror that is fetched from the remote
	// with our own account.
	Git(t *testing.T, repo string) (*gitrepo.Repository, *gitrepo.Remote)
	// Account makes a person. The prefix is for people; their login is unique.
	Account(t *testing.T, prefix string) approval.Account
	// Permit says what a person may do in a repository; None takes it away.
	Permit(t *testing.T, repo string, who approval.Account, p approval.Permission)
	// Rename gives a person another login and returns the account as it is now.
	Rename(t *testing.T, who approval.Account) approval.Account
	// Team makes a team of the repository's owner, with write permission there.
	// Returns the name that a policy calls it. Only where Capabilities has Teams.
	Team(t *testing.T, repo string, members ...approval.Account) string

	// Push adds a commit to a branch as a person, who is its author and committer too,
	// and returns it. The branch is made from from when it is not there.
	Push(t *testing.T, repo, branch, from string, by approval.Account) string
	// Write is Push of these files, by path. An empty one is removed.
	Write(t *testing.T, repo, branch, from string, files map[string]string, by approval.Account) string
	// ForcePush replaces what a branch brings by another commit on from.
	ForcePush(t *testing.T, repo, branch, from string, by approval.Account) string
	// Open opens a pull request.
	Open(t *testing.T, repo, head, base string, by approval.Account) int64
	// OpenFromFork makes a fork of the person's with one more commit and opens a pull
	// request of it. Only where Capabilities has Forks.
	OpenFromFork(t *testing.T, repo, base string, by approval.Account) int64
	// Conflict opens a pull request that cannot be merged onto the base.
	Conflict(t *testing.T, repo, base string, by approval.Account) int64

	Review(t *testing.T, repo string, number int64, by approval.Account, v approval.Verdict, commit string)
	// Dismiss takes away the last review of a person.
	Dismiss(t *testing.T, repo string, number int64, of approval.Account)
	Retarget(t *testing.T, repo string, number int64, base string)
	Reopen(t *testing.T, repo string, number int64)
	// MergeBy presses the button as a person.
	MergeBy(t *testing.T, repo string, number int64, by approval.Account)
	Say(t *testing.T, repo string, number int64, by approval.Account, text string)

	// Comments are the texts of all comments, oldest first.
	Comments(t *testing.T, repo string, number int64) []string
	// Statuses are all that were ever written to a commit, oldest first: "context state description".
	Statuses(t *testing.T, repo, commit string) []string
	// Requests is how often somebody was asked for a review.
	Requests(t *testing.T, repo string, number int64) int
	// Body is what people read in a pull request.
	Body(t *testing.T, repo string, number int64) (title, body string, labels []string)
}
