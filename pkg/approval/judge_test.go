package approval

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

const (
	head = "7f3a9c0011223344556677889900aabbccddeeff"
	old  = "51bd020011223344556677889900aabbccddeeff"
)

var (
	ann   = Account{ID: 1, Login: "ann"}
	bo    = Account{ID: 2, Login: "bo"}
	chris = Account{ID: 3, Login: "chris"}
	dana  = Account{ID: 4, Login: "dana"}
	robot = Account{ID: 9, Login: "robot", Bot: true}
)

func review(id int64, by Account, v Verdict) Review {
	return Review{ID: id, By: by, Verdict: v, Commit: head, At: noon.Add(-time.Hour), Official: true}
}

// control is a question that two reviews of the team sre answer with yes.
func control() Question {
	return Question{
		Policy: Policy{Approvals: Requirement{Team: "sre", Count: 2}},
		Plan:   "sha256:plan-1", Shown: "sha256:plan-1", Head: head, Base: "hotswap/releases",
		Pull: Pull{
			Number: 3, State: Open, Head: head, Base: "hotswap/releases",
			Reviews: []Review{review(11, bo, Approved), review(12, chris, Approved)},
		},
		Members: Members{
			Permissions: map[int64]Permission{1: Write, 2: Write, 3: Write, 4: Admin, 9: Write},
			Teams:       map[string][]int64{"sre": {2, 3, 4}},
			Accounts:    map[string]Account{"ann": ann, "bo": bo, "chris": chris, "dana": dana},
		},
		Excluded: []Exclusion{{ann, "wrote commit 0b31"}},
		Owners:   []string{"dana", "sre"},
		Now:      noon,
	}
}

func TestTheControlIsApproved(t *testing.T) {
	r := Judge(control())
	require.Equal(t, Yes, r.State)
	require.Equal(t, "2 of 2 of sre: bo, chris", r.Says)
	require.Equal(t, []string{"bo", "chris"}, r.Counts)
	require.Empty(t, r.Ignored)
}

// TestEveryKnownWayAroundAReviewIsClosed changes one thing of the control at a time.
func TestEveryKnownWayAroundAReviewIsClosed(t *testing.T) {
	first := func(change func(*Review)) func(*Question) {
		return func(q *Question) { change(&q.Pull.Reviews[0]) }
	}
	for name, c := range map[string]struct {
		change func(*Question)
		state  State
		rule   Rule
		says   string
	}{
		"R4 whoever pushed it is hidden, and may be one of the two": {func(q *Question) {
			q.Excluded = append(q.Excluded, Exclusion{Account{Login: UnknownPusher}, "wrote or brought commit 0b31"})
		}, Not, "", "the forge does not know who wrote or brought commit 0b31; it may be bo, and without that approval: 1 of 2 of sre: chris"},
		"R1 the review is of an older commit (approved, then pushed)": {first(func(r *Review) { r.Commit = old }), Not, NotTheHead, "bo reviewed 51bd0200, the head is 7f3a9c00"},
		"R1 the forge calls it stale":                                 {first(func(r *Review) { r.Stale = true }), Not, NotTheHead, "bo reviewed"},
		"R1 the review is of no commit":                               {first(func(r *Review) { r.Commit = "" }), Not, NotTheHead, "bo reviewed nothing"},
		"R1 somebody pushed to our branch": {func(q *Question) {
			q.Pull.Head = old
			for i := range q.Pull.Reviews {
				q.Pull.Reviews[i].Commit = old
			}
		}, Not, NotTheHead, "the head is 51bd0200, and the plan is in 7f3a9c00"},
		"R2 the plan moved since it was shown":   {func(q *Question) { q.Plan = "sha256:plan-2" }, Not, NotThePlan, "the pull request shows plan plan-1, and plan-2 would be carried out"},
		"R3 the reviewer asks for changes since": {func(q *Question) { q.Pull.Reviews = append(q.Pull.Reviews, review(13, bo, ChangesRequested)) }, No, "", "bo asks for changes"},
		"R3 in whatever order the forge lists them": {func(q *Question) {
			q.Pull.Reviews = append([]Review{review(13, bo, ChangesRequested)}, q.Pull.Reviews...)
		}, No, "", "bo asks for changes"},
		"R3 the review was dismissed (Gitea tells nobody)": {first(func(r *Review) { r.Dismissed = true }), Not, NotTheLast, "the review of bo was dismissed"},
		"R3 an approval before the dismissed one does not come back": {func(q *Question) {
			again := review(13, bo, Approved)
			again.Dismissed = true
			q.Pull.Reviews = append(q.Pull.Reviews, again)
		}, Not, NotTheLast, "the review of bo was dismissed"},
		"R4 who wrote it approves it":                  {func(q *Question) { q.Excluded = append(q.Excluded, Exclusion{bo, "pushed commit 0b31"}) }, Not, AnAuthor, "bo pushed commit 0b31, and does not approve it"},
		"R5 the permission was taken away since":       {func(q *Question) { q.Members.Permissions[2] = Read }, Not, NoRole, "bo may not write to the repository now"},
		"R5 nobody knows what the reviewer may":        {func(q *Question) { delete(q.Members.Permissions, 2) }, Not, NoRole, "bo may not write to the repository now"},
		"R5 the reviewer left the team":                {func(q *Question) { q.Members.Teams["sre"] = []int64{3, 4} }, Not, "", "1 of 2 of sre: chris"},
		"R5 a renamed login of somebody else":          {first(func(r *Review) { r.By = Account{ID: 77, Login: "bo"} }), Not, NoRole, "bo may not write"},
		"R5 an account that the forge does not know":   {first(func(r *Review) { r.By = Account{Login: "bo"} }), Not, NobodyKnown, "the forge does not know bo"},
		"R5 an outsider's review that is not official": {first(func(r *Review) { r.Official = false }), Not, NotOfficial, "the review of bo is not official"},
		"R6 a bot approves": {func(q *Question) {
			q.Pull.Reviews[0] = review(11, robot, Approved)
			q.Members.Teams["sre"] = append(q.Members.Teams["sre"], robot.ID)
		}, Not, ABot, "robot is a bot"},
		"R7 retargeted (CVE-2026-58439)":           {func(q *Question) { q.Pull.Base = "main" }, Not, OtherBase, "it is for branch main, not for hotswap/releases"},
		"R8 from a fork":                           {func(q *Question) { q.Pull.Fork = true }, Not, AFork, "its head is in a fork"},
		"R10 a comment that says approve":          {first(func(r *Review) { r.Verdict = Commented }), Not, "", "1 of 2 of sre: chris"},
		"R10 a review that is not submitted":       {first(func(r *Review) { r.Verdict = Pending }), Not, "", "1 of 2 of sre: chris"},
		"R10 a verdict that nobody knows":          {first(func(r *Review) { r.Verdict = "lgtm" }), Not, "", "1 of 2 of sre: chris"},
		"R11 given eight days ago":                 {first(func(r *Review) { r.At = noon.Add(-7*24*time.Hour - time.Second) }), Not, TooOld, "bo reviewed it on 2025-12-26"},
		"one person twice":                         {first(func(r *Review) { r.By = chris }), Not, "", "1 of 2 of sre: chris"},
		"the first approval of anybody (Atlantis)": {func(q *Question) { q.Pull.Reviews = []Review{review(11, ann, Approved)} }, Not, AnAuthor, "ann wrote commit 0b31"},
		"approvers that nobody listed (PipeCD)":    {first(func(r *Review) { r.By = Account{ID: 8, Login: "eve"} }), Not, NoRole, "eve may not write"},
		"the pull request was closed":              {func(q *Question) { q.Pull.State = Closed }, No, "", "pull request 3 was closed"},
		"there is no pull request":                 {func(q *Question) { q.Pull.Number = 0 }, Unread, "", "there is no pull request"},
		"no plan":                                  {func(q *Question) { q.Plan, q.Shown = "", "" }, Unread, "", "there is no pull request that shows the plan"},
		"the team could not be read":               {func(q *Question) { q.Members.Teams = nil }, Unread, "", "the members of team sre could not be read"},
		"a policy of nothing":                      {func(q *Question) { q.Policy = Policy{} }, Unread, "", "exactly one of"},
		"a policy that asks for nobody":            {func(q *Question) { q.Policy.Approvals = Requirement{All: []Requirement{}} }, Unread, "", "exactly one of"},
		"an approval by API that the policy does not take": {func(q *Question) {
			q.Pull.Reviews = q.Pull.Reviews[1:]
			q.Given = []Given{{By: dana, Head: head, Plan: q.Plan, At: noon}}
		}, Not, NotByThisWay, "the policy takes no approvals by API"},
		"a glass that may not be broken": {func(q *Question) {
			q.Pull.Reviews = nil
			q.Given = []Given{{By: dana, Head: head, Plan: q.Plan, At: noon, Glass: true, Role: "admin", Why: "checkout is down"}}
		}, Not, "", "0 of 2 of sre"},
	} {
		t.Run(name, func(t *testing.T) {
			q := control()
			require.Equal(t, Yes, Judge(q).State)
			c.change(&q)
			r := Judge(q)
			require.Equal(t, c.state, r.State, r.Says)
			require.Contains(t, r.Says, c.says)
			if c.rule != "" {
				require.True(t, slices.ContainsFunc(r.Ignored, func(i Ignored) bool { return i.Rule == c.rule }), "%+v", r.Ignored)
			}
		})
	}
}

func TestWhoIsMissingIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		ask    Requirement
		state  State
		says   string
		people []string
		teams  []string
	}{
		"a user":                     {Requirement{User: "Dana"}, Not, "the approval of dana", []string{"dana"}, nil},
		"a user that is not there":   {Requirement{User: "zed"}, Unread, "the forge has no account zed", nil, nil},
		"more of a team":             {Requirement{Team: "SRE", Count: 3}, Not, "2 of 3 of SRE: bo, chris", nil, []string{"SRE"}},
		"a code owner, of a team":    {Requirement{CodeOwners: true}, Yes, "2 of 1 of code owners: bo, chris", nil, nil},
		"three code owners":          {Requirement{CodeOwners: true, Count: 3}, Not, "2 of 3 of code owners: bo, chris", []string{"dana"}, []string{"sre"}},
		"anybody who may write":      {Requirement{Writers: true, Count: 2}, Yes, "2 of 2 of people who may write: bo, chris", nil, nil},
		"all of which one is there":  {Requirement{All: []Requirement{{Team: "sre"}, {User: "dana"}}}, Not, "2 of 1 of sre: bo, chris, and the approval of dana", []string{"dana"}, nil},
		"any of which one is there":  {Requirement{Any: []Requirement{{User: "dana"}, {User: "bo"}}}, Yes, "bo approved", nil, nil},
		"any of which none is there": {Requirement{Any: []Requirement{{User: "dana"}, {Team: "sre", Count: 3}}}, Not, "the approval of dana, or 2 of 3 of sre: bo, chris", []string{"dana"}, []string{"sre"}},
		"one person for two needs":   {Requirement{All: []Requirement{{User: "bo"}, {Team: "sre"}}}, Yes, "bo approved, and 2 of 1 of sre: bo, chris", nil, nil},
		"any with a team that could not be read, where another is met": {Requirement{Any: []Requirement{{Team: "ops"}, {User: "bo"}}}, Yes, "bo approved", nil, nil},
		"all with a team that could not be read":                       {Requirement{All: []Requirement{{Team: "ops"}, {User: "bo"}}}, Unread, "the members of team ops could not be read", nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			q := control()
			q.Policy.Approvals = c.ask
			r := Judge(q)
			require.Equal(t, c.state, r.State)
			require.Equal(t, c.says, r.Says)
			require.ElementsMatch(t, c.people, r.People)
			require.ElementsMatch(t, c.teams, r.Teams)
		})
	}
}

func TestCodeOwnersThatCouldNotBeReadApproveNothing(t *testing.T) {
	q := control()
	q.Policy.Approvals, q.Owners = Requirement{CodeOwners: true}, nil
	require.Equal(t, Unread, Judge(q).State)
	q.Owners = []string{}
	require.Equal(t, Not, Judge(q).State, "nobody owns it: nobody can approve it as an owner")
}

func TestAHiddenPusherCostsOneApproval(t *testing.T) {
	hidden := func() Question {
		q := control()
		q.Excluded = append(q.Excluded, Exclusion{Account{Login: UnknownPusher}, "wrote or brought commit 0b31"})
		return q
	}
	q := hidden()
	r := Judge(q)
	require.Equal(t, Not, r.State)
	require.Equal(t, []string{"sre"}, r.Teams, "whose approval would help")
	q.Pull.Reviews = append(q.Pull.Reviews, review(13, dana, Approved))
	require.Equal(t, Yes, Judge(q).State, "whichever of the three it was, two others approved")
	q = hidden()
	q.Policy.AllowAuthors = true
	require.Equal(t, Yes, Judge(q).State)
	q = hidden()
	q.Excluded[1].Account.Login = "Mallory <m@example.com>"
	require.Equal(t, Yes, Judge(q).State, "who signed a commit and is nobody here approves nothing here")
}

func TestApprovalsByAPIFollowTheSameRules(t *testing.T) {
	good := Given{By: dana, Head: head, Plan: "sha256:plan-1", At: noon}
	for name, c := range map[string]struct {
		change func(*Question, *Given)
		state  State
		rule   Rule
	}{
		"control":              {func(*Question, *Given) {}, Yes, ""},
		"of another head":      {func(_ *Question, g *Given) { g.Head = old }, Not, NotTheHead},
		"of another plan":      {func(_ *Question, g *Given) { g.Plan = "sha256:plan-0" }, Not, NotThePlan},
		"by an author":         {func(q *Question, _ *Given) { q.Excluded = []Exclusion{{dana, "triggered it"}} }, Not, AnAuthor},
		"by a bot":             {func(_ *Question, g *Given) { g.By.Bot = true }, Not, ABot},
		"by nobody known":      {func(_ *Question, g *Given) { g.By.ID = 0 }, Not, NobodyKnown},
		"by who may not write": {func(q *Question, _ *Given) { q.Members.Permissions[4] = Read }, Not, NoRole},
		"too long ago":         {func(_ *Question, g *Given) { g.At = noon.Add(-8 * 24 * time.Hour) }, Not, TooOld},
		"by who reviewed too":  {func(_ *Question, g *Given) { g.By = chris }, Not, ""},
		"by who is in no team": {func(q *Question, _ *Given) { q.Members.Teams["sre"] = []int64{2, 3} }, Not, ""},
		"and somebody says no": {func(q *Question, _ *Given) {
			q.Pull.Reviews = append(q.Pull.Reviews, review(13, ann, ChangesRequested))
		}, No, ""},
		"no was of an old head": {func(q *Question, _ *Given) {
			r := review(13, ann, ChangesRequested)
			r.Commit = old
			q.Pull.Reviews = append(q.Pull.Reviews, r)
		}, Yes, ""},
	} {
		t.Run(name, func(t *testing.T) {
			q, g := control(), good
			q.Policy.APIApprovals, q.Pull.Reviews = true, q.Pull.Reviews[1:]
			c.change(&q, &g)
			q.Given = []Given{g}
			r := Judge(q)
			require.Equal(t, c.state, r.State, r.Says)
			if c.rule != "" {
				require.True(t, slices.ContainsFunc(r.Ignored, func(i Ignored) bool { return i.Rule == c.rule }), "%+v", r.Ignored)
			}
		})
	}
}

func TestABrokenGlassOpensAloneAndOnlyForThisPlan(t *testing.T) {
	good := Given{By: dana, Head: head, Plan: "sha256:plan-1", At: noon, Glass: true, Role: "admin", Why: "checkout is down"}
	for name, c := range map[string]struct {
		change func(*Given)
		open   bool
	}{
		"control":              {func(*Given) {}, true},
		"without a reason":     {func(g *Given) { g.Why = "" }, false},
		"by another role":      {func(g *Given) { g.Role = "deployer" }, false},
		"for another plan":     {func(g *Given) { g.Plan = "sha256:plan-0" }, false},
		"for another head":     {func(g *Given) { g.Head = old }, false},
		"eight days ago":       {func(g *Given) { g.At = noon.Add(-8 * 24 * time.Hour) }, false},
		"an ordinary approval": {func(g *Given) { g.Glass = false }, false},
	} {
		t.Run(name, func(t *testing.T) {
			q, g := control(), good
			q.Policy.BreakGlass, q.Pull.Reviews = []string{"admin"}, nil
			c.change(&g)
			q.Given = []Given{g}
			r := Judge(q)
			require.Equal(t, c.open, r.State == Yes, r.Says)
			require.Equal(t, c.open, r.Glass)
		})
	}
}

// TestWhatDoesNotCountChangesNothing adds and shuffles reviews that break a rule each.
func TestWhatDoesNotCountChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := control()
		q.Pull.Reviews = q.Pull.Reviews[:rapid.IntRange(0, 2).Draw(t, "that count")]
		before := Judge(q)
		for range rapid.IntRange(0, 6).Draw(t, "that do not") {
			r := review(rapid.Int64Range(1, 30).Draw(t, "id"), Account{ID: 50, Login: "eve"}, rapid.SampledFrom([]Verdict{Approved, ChangesRequested, Commented, Pending, Unknown}).Draw(t, "verdict"))
			switch rapid.IntRange(0, 4).Draw(t, "how") {
			case 0:
				r.By = robot
			case 1:
				r.By.ID = 0
			case 2:
				r.By, r.Verdict = dana, Commented
			case 3:
				r.By, r.Commit = dana, old
			}
			q.Pull.Reviews = append(q.Pull.Reviews, r)
		}
		after := Judge(q)
		if before.State != after.State || !slices.Equal(before.Counts, after.Counts) {
			t.Fatalf("%+v, and with more %+v", before, after)
		}
		q.Pull.Reviews = rapid.Permutation(q.Pull.Reviews).Draw(t, "order")
		if again := Judge(q); again.State != after.State || !slices.Equal(again.Counts, after.Counts) {
			t.Fatalf("%+v, and in another order %+v", after, again)
		}
	})
}

// TestLessNeverApproves takes things away from what is not approved, and from what is.
func TestLessNeverApproves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := control()
		q.Policy.Approvals = requirements(0).Draw(t, "policy")
		for i := range q.Pull.Reviews {
			q.Pull.Reviews[i].By = rapid.SampledFrom([]Account{ann, bo, chris, dana}).Draw(t, "by")
		}
		before := Judge(q)
		q.Pull.Reviews = q.Pull.Reviews[:rapid.IntRange(0, 1).Draw(t, "left")]
		if after := Judge(q); after.State == Yes && before.State != Yes {
			t.Fatalf("fewer approvals approve: %+v, then %+v", before, after)
		}
	})
}

// requirements draws what may be asked for.
func requirements(depth int) *rapid.Generator[Requirement] {
	return rapid.Custom(func(t *rapid.T) Requirement {
		kinds := 6
		if depth == 2 {
			kinds = 4
		}
		count := rapid.IntRange(0, 3).Draw(t, "count")
		switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
		case 0:
			return Requirement{Team: "sre", Count: count}
		case 1:
			return Requirement{User: rapid.SampledFrom([]string{"ann", "bo", "dana"}).Draw(t, "user")}
		case 2:
			return Requirement{Writers: true, Count: count}
		case 3:
			return Requirement{CodeOwners: true, Count: count}
		case 4:
			return Requirement{All: rapid.SliceOfN(requirements(depth+1), 1, 3).Draw(t, "all")}
		default:
			return Requirement{Any: rapid.SliceOfN(requirements(depth+1), 1, 3).Draw(t, "any")}
		}
	})
}

func TestAPolicySaysWhatIsWrongWithIt(t *testing.T) {
	deep := Requirement{User: "ann"}
	for range 6 {
		deep = Requirement{All: []Requirement{deep}}
	}
	for says, p := range map[string]Policy{
		"approvals: it must say exactly one of":        {Approvals: Requirement{Team: "sre", User: "ann"}},
		"approvals.all.1: it must say exactly one of":  {Approvals: Requirement{All: []Requirement{{User: "ann"}, {}}}},
		"approvals.any.0: count is from 1 to 20":       {Approvals: Requirement{Any: []Requirement{{User: "ann", Count: 2}}}},
		"approvals: count is from 1 to 20":             {Approvals: Requirement{Team: "sre", Count: 21}},
		"it is nested too deeply":                      {Approvals: deep},
		"it has more than 20 parts":                    {Approvals: Requirement{All: make([]Requirement, 21)}},
		`validFor: "soon" is no duration such as 168h`: {Approvals: Requirement{User: "ann"}, ValidFor: "soon"},
	} {
		err := p.Check()
		require.ErrorIs(t, err, ErrPolicy)
		require.ErrorContains(t, err, says)
	}
	p := Policy{Approvals: Requirement{All: []Requirement{{Team: "sre"}, {Any: []Requirement{{User: "Ann"}, {User: "ann"}, {Team: "ops"}}}}}}
	require.NoError(t, p.Check())
	require.Equal(t, []string{"Ann"}, p.Users())
	require.Equal(t, []string{"sre", "ops"}, p.Teams())
}
