package conformance

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
)

func (s *story) merge(head string) (string, error) {
	return s.forge.Merge(s.t.Context(), s.repo, s.number, forge.Merge{ExpectedHead: head, Message: "Release checkout\n\nof today"})
}

func testMerge(t *testing.T, lab Lab) {
	s := begin(t, lab)
	writer := s.person("writer", approval.Write)
	if s.forge.Capabilities().Protection {
		_, err := s.merge(s.head)
		require.ErrorIs(t, err, forge.ErrRefused, "nobody has approved")
		require.Equal(t, approval.Open, s.pull().State)
	}
	s.review(writer, approval.Approved)
	_, err := s.merge("")
	require.ErrorIs(t, err, forge.ErrInvalid)
	_, err = s.merge(strings.Repeat("0", 40))
	require.ErrorIs(t, err, forge.ErrHeadMoved)
	require.Equal(t, approval.Open, s.pull().State)

	made, err := s.merge(s.head)
	require.NoError(t, err)
	p := s.pull()
	require.Equal(t, approval.Merged, p.State)
	require.Equal(t, made, p.Merge)
	require.Equal(t, s.head, p.Head)
	require.Equal(t, lab.Own(t).ID, p.MergedBy.ID)
	require.Contains(t, ids(p.Committers), s.author.ID, "what was in it is still told")

	again, err := s.merge(s.head)
	require.ErrorIs(t, err, forge.ErrMerged)
	require.Equal(t, made, again)
	_, err = s.merge(strings.Repeat("0", 40))
	require.ErrorIs(t, err, forge.ErrHeadMoved)
	require.ErrorIs(t, s.forge.Close(t.Context(), s.repo, s.number), forge.ErrMerged)
}

func testMergedByPerson(t *testing.T, lab Lab) {
	s := begin(t, lab)
	writer, merger := s.person("writer", approval.Write), s.person("merger", approval.Write)
	s.review(writer, approval.Approved)
	lab.MergeBy(t, s.repo, s.number, merger)
	p := s.pull()
	require.Equal(t, approval.Merged, p.State)
	require.Equal(t, merger, p.MergedBy)
	require.Len(t, p.Merge, 40)
	made, err := s.merge(s.head)
	require.ErrorIs(t, err, forge.ErrMerged)
	require.Equal(t, p.Merge, made)
	lab.Push(t, s.repo, "feature", "main", writer)
	after := s.pull()
	require.Equal(t, s.head, after.Head, "where the branch goes then is not of it")
	require.Equal(t, approval.Merged, after.State)
	require.Equal(t, ids(p.Committers), ids(after.Committers))
}

func testConflict(t *testing.T, lab Lab) {
	s := begin(t, lab)
	writer := s.person("writer", approval.Write)
	s.number = lab.Conflict(t, s.repo, "main", s.author)
	s.head = s.pull().Head
	s.review(writer, approval.Approved)
	_, err := s.merge(s.head)
	require.ErrorIs(t, err, forge.ErrConflict)
	require.Equal(t, approval.Open, s.pull().State)
}

func testClosed(t *testing.T, lab Lab) {
	s := begin(t, lab)
	s.review(s.person("writer", approval.Write), approval.Approved)
	require.NoError(t, s.forge.Close(t.Context(), s.repo, s.number))
	require.NoError(t, s.forge.Close(t.Context(), s.repo, s.number), "again")
	p := s.pull()
	require.Equal(t, approval.Closed, p.State)
	require.Equal(t, s.head, p.Head)
	_, err := s.merge(s.head)
	require.ErrorIs(t, err, forge.ErrClosed)
	lab.Reopen(t, s.repo, s.number)
	require.Equal(t, approval.Open, s.pull().State)
	_, err = s.merge(s.head)
	require.NoError(t, err)
}

func testFastForward(t *testing.T, lab Lab) {
	s := begin(t, lab)
	s.review(s.person("writer", approval.Write), approval.Approved)
	made, err := s.forge.Merge(t.Context(), s.repo, s.number, forge.Merge{ExpectedHead: s.head, Method: forge.FastForward})
	require.NoError(t, err)
	require.Equal(t, s.head, made)
	require.Equal(t, s.head, s.pull().BaseCommit)
}

func testEnsure(t *testing.T, lab Lab) {
	s := begin(t, lab)
	ctx := t.Context()
	lab.Push(t, s.repo, "record", Releases, lab.Own(t))
	want := forge.PullRequest{HeadRef: "record", Base: Releases, Title: "Promote checkout to production", Body: "One *plan*.\n\n- a line\n"}
	if s.forge.Capabilities().Labels {
		want.Labels = []string{"hotswap", "production"}
	}
	first, err := s.forge.Ensure(ctx, s.repo, want)
	require.NoError(t, err)
	require.Equal(t, approval.Open, first.State)
	require.Equal(t, Releases, first.Base)
	require.NotEqual(t, s.number, first.Number)
	updated := s.updated(first.Number)
	again, err := s.forge.Ensure(ctx, s.repo, want)
	require.NoError(t, err)
	require.Equal(t, first.Number, again.Number)
	require.Equal(t, updated, s.updated(first.Number), "nothing was written")

	want.Title, want.Body = "Promote checkout 1.5.1", "Another plan."
	changed, err := s.forge.Ensure(ctx, s.repo, want)
	require.NoError(t, err)
	require.Equal(t, first.Number, changed.Number)
	title, body, labels := lab.Body(t, s.repo, first.Number)
	require.Equal(t, want.Title, title)
	require.Equal(t, want.Body, body)
	require.ElementsMatch(t, want.Labels, labels)

	require.NoError(t, s.forge.Close(ctx, s.repo, first.Number))
	next, err := s.forge.Ensure(ctx, s.repo, want)
	require.NoError(t, err)
	require.Greater(t, next.Number, first.Number, "a closed one is not opened again")
	for _, bad := range []forge.PullRequest{{Base: "main", Title: "x"}, {HeadRef: "record", Base: "main"}, {HeadRef: "record", Base: "main", Title: "a\nb"}} {
		_, err = s.forge.Ensure(ctx, s.repo, bad)
		require.ErrorIs(t, err, forge.ErrInvalid)
	}
}

// updated is when a pull request was changed last.
func (s *story) updated(number int64) string {
	s.t.Helper()
	p, err := s.forge.Pull(s.t.Context(), s.repo, number)
	require.NoError(s.t, err)
	return p.UpdatedAt.String()
}

func testPulls(t *testing.T, lab Lab) {
	s := begin(t, lab)
	ctx := t.Context()
	lab.Push(t, s.repo, "other", Releases, s.author)
	other := lab.Open(t, s.repo, "other", Releases, s.author)
	require.NoError(t, s.forge.Close(ctx, s.repo, other))
	s.review(s.person("writer", approval.Write), approval.Approved)
	_, err := s.merge(s.head)
	require.NoError(t, err)
	lab.Push(t, s.repo, "third", "main", s.author)
	third := lab.Open(t, s.repo, "third", "main", s.author)
	p, err := s.forge.Pull(ctx, s.repo, third)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		filter forge.Filter
		want   []int64
	}{
		"all":             {forge.Filter{}, []int64{s.number, other, third}},
		"of a base":       {forge.Filter{Base: Releases}, []int64{other}},
		"open":            {forge.Filter{State: approval.Open}, []int64{third}},
		"merged":          {forge.Filter{State: approval.Merged}, []int64{s.number}},
		"closed":          {forge.Filter{State: approval.Closed}, []int64{other}},
		"open, of a base": {forge.Filter{State: approval.Open, Base: Releases}, nil},
		"changed since":   {forge.Filter{Since: p.UpdatedAt, State: approval.Open}, []int64{third}},
		"changed later":   {forge.Filter{Since: p.UpdatedAt.AddDate(1, 0, 0)}, nil},
	} {
		got, err := s.forge.Pulls(ctx, s.repo, c.filter)
		require.NoError(t, err, name)
		var numbers []int64
		for _, l := range got {
			numbers = append(numbers, l.Number)
			require.Len(t, l.Head, 40, name)
			require.NotEmpty(t, l.HeadRef, name)
		}
		require.Equal(t, c.want, numbers, name)
	}
}

func testComment(t *testing.T, lab Lab) {
	s := begin(t, lab)
	ctx := t.Context()
	marked, err := forge.Marked("plan", "I am the plan")
	require.NoError(t, err)
	lab.Say(t, s.repo, s.number, s.author, marked)
	for _, text := range []string{"Plan *one*.\n", "Plan *one*.\n", "Plan two."} {
		require.NoError(t, s.forge.Comment(ctx, s.repo, s.number, "plan", text))
	}
	require.NoError(t, s.forge.Comment(ctx, s.repo, s.number, "lint", "No problems."))
	got := lab.Comments(t, s.repo, s.number)
	require.Len(t, got, 3)
	require.Equal(t, marked, got[0], "another's comment is left alone")
	require.True(t, strings.HasSuffix(got[1], "\nPlan two."))
	require.True(t, forge.HasMarker(got[1], "plan"))
	require.True(t, strings.HasSuffix(got[2], "\nNo problems."))
	require.ErrorIs(t, s.forge.Comment(ctx, s.repo, s.number, "a --> b", "x"), forge.ErrInvalid)
	require.ErrorIs(t, s.forge.Comment(ctx, s.repo, s.number, "plan", strings.Repeat("x", forge.MaxComment+1)), forge.ErrInvalid)
	require.ErrorIs(t, s.forge.Comment(ctx, s.repo, 4711, "plan", "x"), forge.ErrNotFound)
}

func testStatus(t *testing.T, lab Lab) {
	s := begin(t, lab)
	set := func(state forge.StatusState, description string) {
		require.NoError(t, s.forge.Status(t.Context(), s.repo, s.head, forge.Status{
			Context: "hotswap/validate", State: state, Description: description, URL: "https://hotswap.example/1",
		}))
	}
	set(forge.StatusPending, "looking")
	set(forge.StatusPending, "looking")
	require.Len(t, lab.Statuses(t, s.repo, s.head), 1)
	set(forge.StatusSuccess, "looking")
	set(forge.StatusPending, "looking")
	require.Len(t, lab.Statuses(t, s.repo, s.head), 3, "what it said before the last is not what it says")
	long := strings.Repeat("ü", 200)
	set(forge.StatusFailure, long)
	set(forge.StatusFailure, long)
	require.Len(t, lab.Statuses(t, s.repo, s.head), 4)
	require.NoError(t, s.forge.Status(t.Context(), s.repo, s.head, forge.Status{Context: "hotswap/plan", State: forge.StatusError, Description: "x"}))
	require.Len(t, lab.Statuses(t, s.repo, s.head), 5)
	require.Error(t, s.forge.Status(t.Context(), s.repo, strings.Repeat("1", 40), forge.Status{Context: "x", State: forge.StatusError}))
}

func testRequests(t *testing.T, lab Lab) {
	if !lab.Forge().Capabilities().ReviewRequests {
		t.Skip("it asks nobody")
	}
	s := begin(t, lab)
	one, two := s.person("one", approval.Write), s.person("two", approval.Write)
	ask := func(logins ...string) error {
		return s.forge.RequestReviews(t.Context(), s.repo, s.number, logins, nil)
	}
	require.NoError(t, ask(one.Login, s.author.Login))
	require.NoError(t, ask(one.Login, two.Login))
	require.NoError(t, ask(strings.ToUpper(one.Login), two.Login))
	require.Equal(t, 2, lab.Requests(t, s.repo, s.number))
	s.review(one, approval.Approved)
	require.NoError(t, ask(one.Login, two.Login))
	require.Equal(t, 2, lab.Requests(t, s.repo, s.number), "who has reviewed this head is left in peace")
	s.settled(lab.Push(t, s.repo, "feature", "main", s.author))
	require.NoError(t, ask(one.Login, two.Login))
	require.Equal(t, 3, lab.Requests(t, s.repo, s.number), "a new head asks again")

	three := s.person("three", approval.Write)
	require.ErrorIs(t, ask("nobody-of-that-name", three.Login), forge.ErrRefused)
	require.Equal(t, 4, lab.Requests(t, s.repo, s.number), "the other is asked all the same")
}

func testTeamRequests(t *testing.T, lab Lab) {
	if c := lab.Forge().Capabilities(); !c.ReviewRequests || !c.Teams {
		t.Skip("it asks no teams")
	}
	s := begin(t, lab)
	member := lab.Account(t, "member")
	name := lab.Team(t, s.repo, member)
	ask := func() {
		require.NoError(t, s.forge.RequestReviews(t.Context(), s.repo, s.number, nil, []string{name}))
	}
	ask()
	ask()
	require.Equal(t, 1, lab.Requests(t, s.repo, s.number))
	s.review(member, approval.Approved)
	before := lab.Requests(t, s.repo, s.number) // a forge may note that the request is answered
	ask()
	require.Equal(t, before, lab.Requests(t, s.repo, s.number))
	require.ErrorIs(t, s.forge.RequestReviews(t.Context(), s.repo, s.number, nil, []string{"no-such-team"}), forge.ErrRefused)
}
