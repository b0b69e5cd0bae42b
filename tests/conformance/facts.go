package conformance

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
)

func testRepository(t *testing.T, lab Lab) {
	repo := lab.Repository(t)
	r, err := lab.Forge().Repository(t.Context(), repo)
	require.NoError(t, err)
	require.Positive(t, r.ID)
	require.Equal(t, forge.Repository{ID: r.ID, Name: repo, DefaultBranch: "main", Own: approval.Admin}, r)
	other, err := lab.Forge().Repository(t.Context(), lab.Repository(t))
	require.NoError(t, err)
	require.NotEqual(t, r.ID, other.ID)
}

func testNothing(t *testing.T, lab Lab) {
	f, ctx := lab.Forge(), t.Context()
	repo := lab.Repository(t)
	owner, _, _ := strings.Cut(repo, "/")
	_, err := f.Repository(ctx, owner+"/nothing")
	require.ErrorIs(t, err, forge.ErrNotFound)
	_, err = f.Pull(ctx, repo, 4711)
	require.ErrorIs(t, err, forge.ErrNotFound)
	_, err = f.Pulls(ctx, owner+"/nothing", forge.Filter{})
	require.ErrorIs(t, err, forge.ErrNotFound)
	_, err = f.Members(ctx, owner+"/nothing", forge.Ask{Logins: []string{"somebody"}})
	require.ErrorIs(t, err, forge.ErrNotFound)
	_, err = f.Origin(ctx, repo, strings.Repeat("0", 40))
	require.ErrorIs(t, err, forge.ErrNotFound)
	for _, name := range []string{"", "one", "a/b/c", "../x", owner + "/..", "a b/c", "a/b?x=y"} {
		_, err = f.Repository(ctx, name)
		require.ErrorIs(t, err, forge.ErrInvalid, name)
	}
	_, err = f.Ensure(ctx, repo, forge.PullRequest{HeadRef: "nothing", Base: "main", Title: "x"})
	require.Error(t, err)
	require.NotErrorIs(t, err, forge.ErrUnavailable)
}

func testFacts(t *testing.T, lab Lab) {
	s := begin(t, lab)
	second := s.person("second", approval.Write)
	head := lab.Push(t, s.repo, "feature", "main", second)
	p := s.settled(head)
	require.Equal(t, s.number, p.Number)
	require.Equal(t, approval.Open, p.State)
	require.Equal(t, "feature", p.HeadRef)
	require.Equal(t, "main", p.Base)
	require.Len(t, p.BaseCommit, 40)
	require.NotEqual(t, p.Head, p.BaseCommit)
	require.NotEmpty(t, p.URL)
	require.False(t, p.Fork)
	require.Empty(t, p.Merge)
	require.Zero(t, p.MergedBy)
	require.Equal(t, s.author, p.Author)
	require.ElementsMatch(t, []int64{s.author.ID, second.ID}, ids(p.Committers))
	if s.forge.Capabilities().Pushers { // a forge may know it a moment later, and says until then that it does not
		require.True(t, slices.ContainsFunc(p.Pushers, func(a approval.Account) bool { return a.ID == second.ID || a.ID == 0 }))
		Eventually(t, "it is known who pushed", func() bool {
			got := ids(s.pull().Pushers)
			slices.Sort(got)
			return slices.Equal(got, []int64{s.author.ID, second.ID})
		})
	}
	require.Empty(t, p.Reviews)
	require.False(t, p.UpdatedAt.IsZero())
}

func testOfficial(t *testing.T, lab Lab) {
	s := begin(t, lab)
	reader, writer := s.person("reader", approval.Read), s.person("writer", approval.Write)
	s.review(reader, approval.Approved)
	s.review(writer, approval.Approved)
	p := s.pull()
	require.Equal(t, []approval.Review{{
		ID: of(p, writer)[0].ID, By: writer, Verdict: approval.Approved, Commit: s.head, At: of(p, writer)[0].At, Official: true,
	}}, of(p, writer))
	require.Len(t, of(p, reader), 1, "what does not count is shown all the same")
	if s.forge.Capabilities().Official {
		require.False(t, of(p, reader)[0].Official)
	}
	m, err := s.forge.Members(t.Context(), s.repo, forge.Ask{Accounts: []approval.Account{reader, writer}})
	require.NoError(t, err)
	require.Equal(t, map[int64]approval.Permission{reader.ID: approval.Read, writer.ID: approval.Write}, m.Permissions)
}

func testDismissed(t *testing.T, lab Lab) {
	s := begin(t, lab)
	writer := s.person("writer", approval.Write)
	s.review(writer, approval.Approved)
	require.False(t, of(s.pull(), writer)[0].Dismissed)
	lab.Dismiss(t, s.repo, s.number, writer)
	got := of(s.pull(), writer)
	require.Len(t, got, 1)
	require.True(t, got[0].Dismissed)
}

func testStale(t *testing.T, lab Lab) {
	s := begin(t, lab)
	writer := s.person("writer", approval.Write)
	s.review(writer, approval.Approved)
	head := lab.Push(t, s.repo, "feature", "main", s.author)
	p := s.settled(head)
	require.Equal(t, s.head, of(p, writer)[0].Commit, "a review stays with its commit")
	require.NotEqual(t, p.Head, of(p, writer)[0].Commit)
	if s.forge.Capabilities().Stale {
		Eventually(t, "the review is stale", func() bool { return of(s.pull(), writer)[0].Stale })
	}
}

func testOrder(t *testing.T, lab Lab) {
	s := begin(t, lab)
	writer := s.person("writer", approval.Write)
	said := []approval.Verdict{approval.Approved, approval.ChangesRequested, approval.Commented, approval.Approved}
	for _, v := range said {
		s.review(writer, v)
	}
	p := s.pull()
	require.Len(t, p.Reviews, len(said))
	for i, r := range p.Reviews {
		require.Equal(t, said[i], r.Verdict)
		require.True(t, i == 0 || r.ID > p.Reviews[i-1].ID)
	}
}

func testManyReviews(t *testing.T, lab Lab) {
	s := begin(t, lab)
	talker, writer := s.person("talker", approval.Write), s.person("writer", approval.Write)
	for range 104 {
		s.review(talker, approval.Commented)
	}
	s.review(writer, approval.ChangesRequested)
	p := s.pull()
	require.Len(t, p.Reviews, 105)
	require.Equal(t, writer.ID, p.Reviews[104].By.ID)
	require.Equal(t, approval.ChangesRequested, p.Reviews[104].Verdict)
}

func testPending(t *testing.T, lab Lab) {
	s := begin(t, lab)
	writer := s.person("writer", approval.Write)
	for range 3 {
		s.review(s.person("undecided", approval.Write), approval.Pending)
	}
	s.review(writer, approval.Approved)
	p := s.pull()
	require.Len(t, of(p, writer), 1)
	for _, r := range p.Reviews {
		require.Contains(t, []approval.Verdict{approval.Approved, approval.Pending}, r.Verdict)
	}
}

func testRetarget(t *testing.T, lab Lab) {
	s := begin(t, lab)
	writer := s.person("writer", approval.Write)
	s.review(writer, approval.Approved)
	require.Equal(t, "main", s.pull().Base)
	lab.Retarget(t, s.repo, s.number, Releases)
	require.Equal(t, Releases, s.pull().Base)
}

func testForcePush(t *testing.T, lab Lab) {
	s := begin(t, lab)
	other := s.person("other", approval.Write)
	lab.Push(t, s.repo, "feature", "main", s.author)
	head := lab.ForcePush(t, s.repo, "feature", "main", other)
	p := s.settled(head)
	require.Equal(t, []int64{other.ID}, ids(p.Committers), "only what is in it now")
	if s.forge.Capabilities().Pushers {
		Eventually(t, "it is known who pushed", func() bool {
			pushers := ids(s.pull().Pushers)
			return len(pushers) == 2 && (pushers[0] == other.ID || pushers[1] == other.ID)
		})
	}
}

func testFork(t *testing.T, lab Lab) {
	if !lab.Forge().Capabilities().Forks {
		t.Skip("it has no forks")
	}
	repo, stranger := lab.Repository(t), lab.Account(t, "stranger")
	number := lab.OpenFromFork(t, repo, "main", stranger)
	p, err := lab.Forge().Pull(t.Context(), repo, number)
	require.NoError(t, err)
	require.True(t, p.Fork)
	require.Equal(t, stranger, p.Author)
	require.Contains(t, ids(p.Committers), stranger.ID)
	if lab.Forge().Capabilities().Pushers {
		require.Contains(t, ids(p.Pushers), int64(0), "nobody knows who pushed to another's repository")
	}
	all, err := lab.Forge().Pulls(t.Context(), repo, forge.Filter{State: approval.Open})
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.True(t, all[0].Fork)
}

func testRename(t *testing.T, lab Lab) {
	s := begin(t, lab)
	before := s.person("before", approval.Write)
	s.review(before, approval.Approved)
	after := lab.Rename(t, before)
	require.NotEqual(t, before.Login, after.Login)
	thief := s.person("thief", approval.Read)
	require.Equal(t, []approval.Account{after}, []approval.Account{of(s.pull(), before)[0].By})
	ask := forge.Ask{Accounts: []approval.Account{before, {ID: 987654321, Login: thief.Login}}, Logins: []string{before.Login, strings.ToUpper(after.Login)}}
	m, err := s.forge.Members(t.Context(), s.repo, ask)
	require.NoError(t, err)
	require.Equal(t, approval.Write, m.Permissions[before.ID], "asked by the login it had")
	require.Equal(t, approval.None, m.Permissions[987654321], "a login of another gives nothing")
	require.Equal(t, map[string]approval.Account{strings.ToLower(after.Login): after}, m.Accounts)
}

func testPermission(t *testing.T, lab Lab) {
	s := begin(t, lab)
	who := s.person("who", approval.Admin)
	permission := func() approval.Permission {
		m, err := s.forge.Members(t.Context(), s.repo, forge.Ask{Accounts: []approval.Account{who}, Logins: []string{"nobody-of-that-name"}})
		require.NoError(t, err)
		require.Empty(t, m.Accounts)
		return m.Permissions[who.ID]
	}
	require.Equal(t, approval.Admin, permission())
	lab.Permit(t, s.repo, who, approval.Write)
	require.Equal(t, approval.Write, permission())
	lab.Permit(t, s.repo, who, approval.None)
	require.Contains(t, []approval.Permission{approval.None, approval.Read}, permission(), "a public repository can be read by all")
}

func testTeam(t *testing.T, lab Lab) {
	if !lab.Forge().Capabilities().Teams {
		t.Skip("it has no teams")
	}
	s := begin(t, lab)
	one, two := lab.Account(t, "one"), lab.Account(t, "two")
	name := lab.Team(t, s.repo, one, two)
	owner, _, _ := strings.Cut(s.repo, "/")
	m, err := s.forge.Members(t.Context(), s.repo, forge.Ask{Accounts: []approval.Account{one}, Teams: []string{name, owner + "/" + name, "no-such-team", "no-such-owner/team"}})
	require.NoError(t, err)
	require.Len(t, m.Teams, 2, "a team that there is not is missing")
	require.ElementsMatch(t, []int64{one.ID, two.ID}, m.Teams[name])
	require.ElementsMatch(t, []int64{one.ID, two.ID}, m.Teams[owner+"/"+name])
	require.Equal(t, approval.Write, m.Permissions[one.ID], "by the team")
}

func testOrigin(t *testing.T, lab Lab) {
	s := begin(t, lab)
	second, reviewer, merger := s.person("second", approval.Write), s.person("reviewer", approval.Write), s.person("merger", approval.Write)
	s.head = lab.Push(t, s.repo, "feature", "main", second)
	s.settled(s.head)
	s.review(reviewer, approval.Approved)
	lab.MergeBy(t, s.repo, s.number, merger)
	p := s.pull()
	require.Equal(t, approval.Merged, p.State)
	who, err := s.forge.Origin(t.Context(), s.repo, p.Merge)
	require.NoError(t, err)
	for _, a := range []approval.Account{s.author, second, merger} {
		require.Contains(t, ids(who), a.ID)
	}
	require.NotContains(t, ids(who), reviewer.ID)

	pushed := lab.Push(t, s.repo, "elsewhere", "main", second)
	Eventually(t, "it is known who pushed", func() bool {
		who, err = s.forge.Origin(t.Context(), s.repo, pushed)
		require.NoError(t, err)
		return len(who) == 1
	})
	require.Equal(t, []int64{second.ID}, ids(who))
}
