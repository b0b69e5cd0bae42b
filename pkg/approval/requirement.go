package approval

import (
	"fmt"
	"slices"
	"strings"
)

// judging is one judgement under way.
type judging struct {
	question Question
	voices   []voice
	counts   []string // logins that counted for something
	unread   string   // what could not be read, the first of it
}

// A finding is whether a requirement is met, and what it says.
type finding struct {
	ok            bool
	says          string
	people, teams []string // whose approval would help
}

// met judges a requirement. Everything below it is judged, so that a person sees
// all that is missing at once. One person may count for several requirements.
func (j *judging) met(r Requirement) finding {
	switch {
	case len(r.All) > 0:
		return j.all(r.All)
	case len(r.Any) > 0:
		return j.any(r.Any)
	case r.User != "":
		return j.user(r.User)
	case r.Team != "":
		return j.team(r)
	case r.CodeOwners:
		return j.owners(r)
	default:
		return j.of(r, "people who may write", func(voice) bool { return true }, nil, nil)
	}
}

func (j *judging) all(parts []Requirement) finding {
	out := finding{ok: true}
	var says []string
	for _, part := range parts {
		f := j.met(part)
		says = append(says, f.says)
		if !f.ok {
			out.ok = false
			out.people, out.teams = append(out.people, f.people...), append(out.teams, f.teams...)
		}
	}
	out.says = strings.Join(says, ", and ")
	return out
}

func (j *judging) any(parts []Requirement) finding {
	var out finding
	var says []string
	for _, part := range parts {
		f := j.met(part)
		if f.ok {
			return f
		}
		says = append(says, f.says)
		out.people, out.teams = append(out.people, f.people...), append(out.teams, f.teams...)
	}
	out.says = strings.Join(says, ", or ")
	return out
}

func (j *judging) user(login string) finding {
	a, ok := j.question.Members.Accounts[strings.ToLower(login)]
	if !ok || a.ID == 0 {
		j.cannot("the forge has no account " + login)
		return finding{says: "the approval of " + login}
	}
	for _, v := range j.voices {
		if v.ID == a.ID {
			j.counts = append(j.counts, v.Login)
			return finding{ok: true, says: v.Login + " approved"}
		}
	}
	return finding{says: "the approval of " + a.Login, people: []string{a.Login}}
}

func (j *judging) team(r Requirement) finding {
	members, ok := j.question.Members.Teams[strings.ToLower(r.Team)]
	if !ok {
		j.cannot("the members of team " + r.Team + " could not be read")
		return finding{says: "the approval of " + r.Team}
	}
	return j.of(r, r.Team, func(v voice) bool { return slices.Contains(members, v.ID) }, nil, []string{r.Team})
}

// owners judges a requirement of code owners: people, and members of teams.
func (j *judging) owners(r Requirement) finding {
	if j.question.Owners == nil {
		j.cannot("CODEOWNERS could not be read")
		return finding{says: "the approval of a code owner"}
	}
	ids := map[int64]bool{}
	var people, teams []string
	for _, o := range j.question.Owners {
		if a, ok := j.question.Members.Accounts[o]; ok && a.ID != 0 {
			ids[a.ID] = true
			people = append(people, a.Login)
			continue
		}
		for _, id := range j.question.Members.Teams[o] {
			ids[id] = true
		}
		if _, ok := j.question.Members.Teams[o]; ok {
			teams = append(teams, o)
		}
	}
	return j.of(r, "code owners", func(v voice) bool { return ids[v.ID] }, people, teams)
}

// of counts the different people who belong to something.
func (j *judging) of(r Requirement, name string, belongs func(voice) bool, people, teams []string) finding {
	var by []string
	for _, v := range j.voices {
		if v.ID != 0 && belongs(v) {
			by = append(by, v.Login)
		}
	}
	slices.Sort(by)
	j.counts = append(j.counts, by...)
	says := fmt.Sprintf("%d of %d of %s", len(by), r.count(), name)
	if len(by) > 0 {
		says += ": " + strings.Join(by, ", ")
	}
	if len(by) >= r.count() {
		return finding{ok: true, says: says}
	}
	return finding{says: says, people: people, teams: teams}
}

func (j *judging) cannot(what string) {
	if j.unread == "" {
		j.unread = what
	}
}
