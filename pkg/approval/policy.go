package approval

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of a policy.
const (
	maxDepth = 4  // of requirements in requirements
	maxParts = 20 // of one requirement
	maxCount = 20
)

// DefaultValid is for how long an approval counts where a policy says nothing (R11).
const DefaultValid = 7 * 24 * time.Hour

// A Policy says whose approvals open the gate of a stage. It is read from the base
// branch as it is now, never from what is to be approved (R9).
type Policy struct {
	Approvals Requirement `json:"approvals"`
	// AllowAuthors lets those approve who wrote, committed, pushed or triggered what is
	// to be approved (R4). Default: they may not.
	AllowAuthors bool `json:"allowAuthors,omitempty"`
	// ValidFor is for how long an approval counts, a Go duration. Default 168h.
	ValidFor string `json:"validFor,omitempty"`
	// APIApprovals lets an administrator approve by API, under the same rules.
	APIApprovals bool `json:"apiApprovals,omitempty"`
	// BreakGlass are the roles that may open the gate alone, with a reason, in an
	// emergency. Empty: nobody.
	BreakGlass []string `json:"breakGlass,omitempty"`
}

// A Requirement is exactly one of: all of several requirements, any of several, a
// number of the members of a team, a user, a number of code owners of what is deployed,
// or a number of people who may write to the repository.
type Requirement struct {
	All        []Requirement `json:"all,omitempty"`
	Any        []Requirement `json:"any,omitempty"`
	Team       string        `json:"team,omitempty"`
	User       string        `json:"user,omitempty"`
	CodeOwners bool          `json:"codeOwners,omitempty"`
	Writers    bool          `json:"writers,omitempty"`
	// Count is how many different people, for Team, CodeOwners and Writers. Default 1.
	Count int `json:"count,omitempty"`
}

// ErrPolicy reports a policy that says nothing that can be judged by.
var ErrPolicy = errors.New("not a policy")

// Wrong is the [ErrPolicy] that says where and why.
type Wrong struct {
	At  []string // field by field: "approvals", "all", "1"
	Why string
}

func (w Wrong) Error() string {
	return fmt.Sprintf("%v: %s: %s", ErrPolicy, strings.Join(w.At, "."), w.Why)
}

// Is makes errors.Is(err, ErrPolicy) true.
func (w Wrong) Is(target error) bool { return target == ErrPolicy }

// Check returns a [Wrong] when the policy says nothing that can be judged by.
func (p Policy) Check() error {
	if err := p.Approvals.check([]string{"approvals"}, 0); err != nil {
		return err
	}
	if p.ValidFor != "" {
		if d, err := time.ParseDuration(p.ValidFor); err != nil || d <= 0 {
			return Wrong{At: []string{"validFor"}, Why: fmt.Sprintf("%q is no duration such as 168h", p.ValidFor)}
		}
	}
	return nil
}

func (r Requirement) check(at []string, depth int) error {
	kinds := 0
	for _, is := range []bool{len(r.All) > 0, len(r.Any) > 0, r.Team != "", r.User != "", r.CodeOwners, r.Writers} {
		if is {
			kinds++
		}
	}
	alone := r.Team == "" && !r.CodeOwners && !r.Writers
	switch {
	case kinds != 1:
		return Wrong{at, fmt.Sprintf("it must say exactly one of all, any, team, user, codeOwners and writers; it says %d", kinds)}
	case depth > maxDepth:
		return Wrong{at, "it is nested too deeply"}
	case len(r.All)+len(r.Any) > maxParts:
		return Wrong{at, fmt.Sprintf("it has more than %d parts", maxParts)}
	case r.Count < 0 || r.Count > maxCount || alone && r.Count != 0:
		return Wrong{at, fmt.Sprintf("count is from 1 to %d, and only with team, codeOwners or writers", maxCount)}
	}
	for field, parts := range map[string][]Requirement{"all": r.All, "any": r.Any} { // one of them is empty
		for i, part := range parts {
			if err := part.check(append(slices.Clone(at), field, strconv.Itoa(i)), depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// count is how many people are needed.
func (r Requirement) count() int { return max(r.Count, 1) }

// valid is for how long an approval counts.
func (p Policy) valid() time.Duration {
	if d, err := time.ParseDuration(p.ValidFor); err == nil && d > 0 {
		return d
	}
	return DefaultValid
}

// Users and Teams are all that the policy names, each once, as it spells them: what
// must be asked for before it can be judged.
func (p Policy) Users() []string {
	return p.Approvals.names(func(r Requirement) string { return r.User })
}

// Teams are those that it names.
func (p Policy) Teams() []string {
	return p.Approvals.names(func(r Requirement) string { return r.Team })
}

// AsksOwners reports whether it asks for code owners.
func (p Policy) AsksOwners() bool {
	return len(p.Approvals.names(func(r Requirement) string {
		if r.CodeOwners {
			return "owners"
		}
		return ""
	})) > 0
}

func (r Requirement) names(of func(Requirement) string) (out []string) {
	seen := map[string]bool{}
	var walk func(Requirement)
	walk = func(r Requirement) {
		if n := of(r); n != "" && !seen[strings.ToLower(n)] {
			seen[strings.ToLower(n)] = true
			out = append(out, n)
		}
		for _, part := range append(append([]Requirement{}, r.All...), r.Any...) {
			walk(part)
		}
	}
	walk(r)
	return out
}
