package approval

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A State is what a judgement comes to.
type State string

// The states. Only Yes opens a gate.
const (
	Yes    State = "approved"
	Not    State = "pending"
	No     State = "rejected" // an allowed approver asks for changes
	Unread State = "error"    // what is needed to judge could not be read
)

// A Rule names why an approval does not count, as the safety rules are numbered.
type Rule string

// The rules that one review can break.
const (
	NotTheHead   Rule = "R1"  // it is of another commit than what runs
	NotThePlan   Rule = "R2"  // the plan that was shown is not the one that would run
	NotTheLast   Rule = "R3"  // the reviewer said something else since, or it was dismissed
	AnAuthor     Rule = "R4"  // who wrote, pushed or triggered it does not approve it
	NoRole       Rule = "R5"  // the reviewer does not hold the role now
	ABot         Rule = "R6"  // bots and apps never count
	OtherBase    Rule = "R7"  // the pull request is for another branch
	AFork        Rule = "R8"  // its head is in another repository
	NotAReview   Rule = "R10" // a comment, a label, a status
	TooOld       Rule = "R11" // it was given too long ago
	NotOfficial  Rule = "R5o" // the forge says that it does not count
	NobodyKnown  Rule = "R5u" // the forge does not know the account
	NotByThisWay Rule = "API" // the policy takes no approvals by API
)

// A Question is all that a judgement depends on. Nothing else is looked at.
type Question struct {
	Policy Policy
	Plan   string // digest of the plan as it would be carried out now
	Shown  string // digest in the record that the head shows
	Head   string // commit of ours that holds that record
	Base   string // branch that the pull request must be for
	Pull   Pull
	// Members are what was asked for as it is now: permissions by the number of the
	// account, teams and accounts by the name that the policy calls them, in lower case.
	Members Members
	// Excluded are those who may not approve, and why in words.
	Excluded []Exclusion
	// Owners are the code owners of what is deployed, by login or team in lower case;
	// nil: they could not be read.
	Owners []string
	// Given are approvals by API whose signatures were proven.
	Given []Given
	Now   time.Time
}

// An Exclusion is somebody who may not approve.
type Exclusion struct {
	Account Account
	Why     string // "wrote commit 51bd02"
}

// A Given is an approval that an administrator gave by API, of a head and a plan.
type Given struct {
	By    Account
	Head  string
	Plan  string
	At    time.Time
	Glass bool   // the glass was broken: it opens the gate alone
	Role  string // that the person had
	Why   string
}

// An Ignored review does not count.
type Ignored struct {
	Login string `json:"login"`
	Rule  Rule   `json:"rule"`
	Why   string `json:"why"` // in words, for the one who gave it
}

// A Result is a judgement that explains itself.
type Result struct {
	State   State     `json:"state"`
	Says    string    `json:"says"`             // one sentence: who agreed, who is missing, what went wrong
	Counts  []string  `json:"counts,omitempty"` // logins whose approval counts, in the order of their names
	People  []string  `json:"people,omitempty"` // logins of those whose approval would help
	Teams   []string  `json:"teams,omitempty"`  // the same, of teams
	Ignored []Ignored `json:"ignored,omitempty"`
	Glass   bool      `json:"glass,omitempty"` // it is open because the glass was broken
}

// Judge says whether the plan is approved.
func Judge(q Question) Result {
	if err := q.Policy.Check(); err != nil {
		return Result{State: Unread, Says: err.Error()}
	}
	if r := q.whole(); r != nil {
		return *r
	}
	if r := q.glass(); r != nil {
		return *r
	}
	voices, ignored, no := q.voices()
	r := Result{Ignored: ignored}
	if len(no) > 0 {
		r.State, r.Says = No, strings.Join(no, ", ")+" asks for changes"
		return r
	}
	j := &judging{question: q, voices: voices}
	met := j.met(q.Policy.Approvals)
	slices.Sort(j.counts)
	r.Counts = slices.Compact(j.counts)
	if met.ok {
		if unknown := q.unlessPushed(voices, r.Counts); unknown != nil {
			met = *unknown
		}
	}
	switch {
	case met.ok:
		r.State, r.Says = Yes, met.says
	case j.unread != "":
		r.State, r.Says = Unread, j.unread
	default:
		r.State, r.Says = Not, met.says
		r.People, r.Teams = uniq(met.people), uniq(met.teams)
	}
	if r.State == Not && len(ignored) > 0 {
		r.Says += "; " + ignored[0].Why
	}
	return r
}

// UnknownPusher is the login that a forge gives whoever brought a commit and whom it does not name.
const UnknownPusher = "unknown pusher"

// unlessPushed answers what is missing where it is not known who pushed a commit: any one of those who approve
// may be that person, so the approvals must do without any one of them (R4). Nil: they do.
func (q Question) unlessPushed(voices []voice, counts []string) *finding {
	i := slices.IndexFunc(q.Excluded, func(x Exclusion) bool { return x.Account.ID == 0 && x.Account.Login == UnknownPusher })
	if i < 0 || q.Policy.AllowAuthors {
		return nil
	}
	for _, login := range counts {
		others := slices.DeleteFunc(slices.Clone(voices), func(v voice) bool { return v.Login == login })
		without := (&judging{question: q, voices: others}).met(q.Policy.Approvals)
		if !without.ok {
			without.says = fmt.Sprintf("the forge does not know who %s; it may be %s, and without that approval: %s", q.Excluded[i].Why, login, without.says)
			return &without
		}
	}
	return nil
}

// whole is a judgement about the pull request itself, where no review can count.
func (q Question) whole() *Result {
	not := func(rule Rule, says string) *Result {
		return &Result{State: Not, Says: says, Ignored: []Ignored{{Rule: rule, Why: says}}}
	}
	switch {
	case q.Plan == "" || q.Head == "" || q.Pull.Number == 0:
		return &Result{State: Unread, Says: "there is no pull request that shows the plan"}
	case q.Shown != q.Plan:
		return not(NotThePlan, fmt.Sprintf("the pull request shows plan %s, and %s would be carried out", brief(q.Shown), brief(q.Plan)))
	case q.Pull.Head != q.Head:
		return not(NotTheHead, fmt.Sprintf("the head is %s, and the plan is in %s", brief(q.Pull.Head), brief(q.Head)))
	case q.Pull.Base != q.Base:
		return not(OtherBase, fmt.Sprintf("it is for branch %s, not for %s", q.Pull.Base, q.Base))
	case q.Pull.Fork:
		return not(AFork, "its head is in a fork")
	case q.Pull.State == Closed:
		return &Result{State: No, Says: fmt.Sprintf("pull request %d was closed", q.Pull.Number)}
	}
	return nil
}

// glass looks for a broken glass: an allowed role opened the gate alone, for this plan.
func (q Question) glass() *Result {
	for _, g := range q.Given {
		fresh := q.Now.Sub(g.At) <= q.Policy.valid()
		if g.Glass && g.Plan == q.Plan && g.Head == q.Head && g.Why != "" && fresh && slices.Contains(q.Policy.BreakGlass, g.Role) {
			return &Result{State: Yes, Glass: true, Counts: []string{g.By.Login}, Says: fmt.Sprintf("%s broke the glass: %s", g.By.Login, g.Why)}
		}
	}
	return nil
}

// A voice is the approval of one person.
type voice struct {
	Account
	at time.Time
}

// voices are the approvals that count, one for each person, those that do not, and
// who asks for changes.
func (q Question) voices() (out []voice, ignored []Ignored, no []string) {
	for _, r := range lastOfEach(q.Pull.Reviews) {
		if r.Verdict == ChangesRequested {
			if q.blocks(r) {
				no = append(no, r.By.Login)
			}
			continue
		}
		if why, rule := q.against(r); rule != "" {
			ignored = append(ignored, Ignored{Login: r.By.Login, Rule: rule, Why: why})
			continue
		}
		out = append(out, voice{r.By, r.At})
	}
	for _, g := range q.Given {
		if g.Glass {
			continue
		}
		why, rule := q.againstGiven(g)
		same := slices.ContainsFunc(out, func(v voice) bool { return v.ID == g.By.ID })
		switch {
		case rule != "":
			ignored = append(ignored, Ignored{Login: g.By.Login, Rule: rule, Why: why})
		case !same:
			out = append(out, voice{g.By, g.At})
		}
	}
	return out, ignored, no
}

// lastOfEach are the last decisive reviews, one for each account, in the order of their
// ids. A review that was dismissed decides nothing, and neither does the one before it:
// that was answered already.
func lastOfEach(reviews []Review) []Review {
	sorted := slices.Clone(reviews)
	slices.SortFunc(sorted, func(a, b Review) int { return cmp.Or(cmp.Compare(a.ID, b.ID), a.At.Compare(b.At)) })
	last := map[int64]Review{}
	var order []int64
	var unknown []Review
	for _, r := range sorted {
		if r.Verdict != Approved && r.Verdict != ChangesRequested {
			continue
		}
		if r.By.ID == 0 {
			unknown = append(unknown, r)
			continue
		}
		if _, ok := last[r.By.ID]; !ok {
			order = append(order, r.By.ID)
		}
		last[r.By.ID] = r
	}
	out := unknown
	for _, id := range order {
		out = append(out, last[id])
	}
	return out
}

// blocks reports whether a wish for changes counts: of the head as it is, by somebody
// who may write now. Authors may say no to their own work.
func (q Question) blocks(r Review) bool {
	p := q.Members.Permissions[r.By.ID]
	return r.By.ID != 0 && !r.By.Bot && !r.Dismissed && !r.Stale && r.Commit == q.Pull.Head && (p == Write || p == Admin)
}

// against says which rule a review breaks; empty: none, and it counts.
func (q Question) against(r Review) (why string, rule Rule) {
	who := r.By.Login
	switch {
	case r.By.ID == 0:
		return fmt.Sprintf("the forge does not know %s", or(who, "a reviewer")), NobodyKnown
	case r.By.Bot:
		return who + " is a bot", ABot
	case r.Dismissed:
		return fmt.Sprintf("the review of %s was dismissed", who), NotTheLast
	case r.Commit != q.Pull.Head || r.Stale:
		return fmt.Sprintf("%s reviewed %s, the head is %s", who, brief(r.Commit), brief(q.Pull.Head)), NotTheHead
	case !r.Official:
		return fmt.Sprintf("the forge says that the review of %s is not official", who), NotOfficial
	case q.Now.Sub(r.At) > q.Policy.valid():
		return fmt.Sprintf("%s reviewed it on %s, which is more than %s ago", who, r.At.UTC().Format(time.DateOnly), q.Policy.valid()), TooOld
	}
	return q.person(r.By)
}

// person says why somebody may not approve at all.
func (q Question) person(a Account) (why string, rule Rule) {
	if p := q.Members.Permissions[a.ID]; p != Write && p != Admin {
		return a.Login + " may not write to the repository now", NoRole
	}
	if q.Policy.AllowAuthors {
		return "", ""
	}
	for _, x := range q.Excluded {
		if x.Account.ID != 0 && x.Account.ID == a.ID {
			return fmt.Sprintf("%s %s, and does not approve it", a.Login, x.Why), AnAuthor
		}
	}
	return "", ""
}

// againstGiven is against, for an approval by API.
func (q Question) againstGiven(g Given) (why string, rule Rule) {
	who := g.By.Login
	switch {
	case !q.Policy.APIApprovals:
		return "the policy takes no approvals by API, and so not that of " + who, NotByThisWay
	case g.By.ID == 0:
		return fmt.Sprintf("the forge does not know %s", or(who, "an approver")), NobodyKnown
	case g.By.Bot:
		return who + " is a bot", ABot
	case g.Head != q.Head:
		return fmt.Sprintf("%s approved %s, the head is %s", who, brief(g.Head), brief(q.Head)), NotTheHead
	case g.Plan != q.Plan:
		return fmt.Sprintf("%s approved plan %s, and %s would be carried out", who, brief(g.Plan), brief(q.Plan)), NotThePlan
	case q.Now.Sub(g.At) > q.Policy.valid():
		return fmt.Sprintf("%s approved it more than %s ago", who, q.Policy.valid()), TooOld
	}
	return q.person(g.By)
}

func brief(s string) string {
	if _, hex, ok := strings.Cut(s, ":"); ok {
		s = hex
	}
	return or(s[:min(len(s), 8)], "nothing")
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func uniq(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return slices.Compact(s)
}
