package conformance

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
)

// Run runs the whole suite. What a forge has no word for, by its Capabilities, is skipped.
func Run(t *testing.T, lab Lab) {
	for name, test := range map[string]func(*testing.T, Lab){
		"a repository says what it is":                                     testRepository,
		"what is not there, or cannot be, is an error":                     testNothing,
		"a pull request says who wrote, committed, pushed and proposed it": testFacts,
		"a person without write access approves, and it is not official":   testOfficial,
		"a dismissed review is seen":                                       testDismissed,
		"a push makes reviews of another commit":                           testStale,
		"every review of a person is there, in order":                      testOrder,
		"the last of more than fifty reviews is read":                      testManyReviews,
		"what is not submitted hides nothing":                              testPending,
		"a retargeted pull request says so":                                testRetarget,
		"a force-push is a push, and another head":                         testForcePush,
		"a pull request of a fork says so":                                 testFork,
		"a login changes and the number stays":                             testRename,
		"a permission that is taken away is gone at once":                  testPermission,
		"the members of a team are read now":                               testTeam,
		"a merge is of the expected head, approved, and once":              testMerge,
		"a merge that a person made is told with who made it":              testMergedByPerson,
		"what conflicts is not merged":                                     testConflict,
		"a closed pull request is not merged, and can be opened again":     testClosed,
		"a fast-forward makes no commit":                                   testFastForward,
		"one pull request for two branches, whoever asks how often":        testEnsure,
		"pull requests are listed by base and state":                       testPulls,
		"one comment, changed in place, whoever imitates it":               testComment,
		"a status is written when it says something new":                   testStatus,
		"people are asked once for a head":                                 testRequests,
		"a team is asked once for a head":                                  testTeamRequests,
		"the origin of a merged commit are all who took part":              testOrigin,
		"a webhook is signed, by either secret, and of its own repository": testHook,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, lab)
		})
	}
}

// Eventually waits for what a forge does after it has answered.
func Eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, 20*time.Second, 100*time.Millisecond, what)
}

// A story is a pull request of Author from the branch feature onto a base.
type story struct {
	t      *testing.T
	lab    Lab
	forge  forge.Forge
	repo   string
	base   string
	number int64
	head   string
	author approval.Account
}

func begin(t *testing.T, lab Lab) *story {
	t.Helper()
	s := &story{t: t, lab: lab, forge: lab.Forge(), repo: lab.Repository(t), base: "main", author: lab.Account(t, "author")}
	lab.Permit(t, s.repo, s.author, approval.Write)
	s.head = lab.Push(t, s.repo, "feature", s.base, s.author)
	s.number = lab.Open(t, s.repo, "feature", s.base, s.author)
	return s
}

// person makes one with a permission in the story's repository.
func (s *story) person(prefix string, p approval.Permission) approval.Account {
	s.t.Helper()
	who := s.lab.Account(s.t, prefix)
	if p != approval.None {
		s.lab.Permit(s.t, s.repo, who, p)
	}
	return who
}

func (s *story) review(by approval.Account, v approval.Verdict) {
	s.t.Helper()
	s.lab.Review(s.t, s.repo, s.number, by, v, s.head)
}

func (s *story) pull() approval.Pull {
	s.t.Helper()
	p, err := s.forge.Pull(s.t.Context(), s.repo, s.number)
	require.NoError(s.t, err)
	return p
}

// settled waits until the forge shows a head everywhere.
func (s *story) settled(head string) approval.Pull {
	s.t.Helper()
	var p approval.Pull
	Eventually(s.t, "the head moves to "+head, func() bool {
		var err error
		p, err = s.forge.Pull(s.t.Context(), s.repo, s.number)
		if err != nil {
			require.ErrorIs(s.t, err, forge.ErrMoving)
		}
		return err == nil && p.Head == head
	})
	return p
}

// of are the reviews of a person.
func of(p approval.Pull, who approval.Account) []approval.Review {
	var out []approval.Review
	for _, r := range p.Reviews {
		if r.By.ID == who.ID {
			out = append(out, r)
		}
	}
	return out
}

func ids(accounts []approval.Account) []int64 {
	out := make([]int64, 0, len(accounts))
	for _, a := range accounts {
		out = append(out, a.ID)
	}
	return out
}
