package approval

import (
	"errors"
	"fmt"
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

// Check returns an [ErrPolicy] that says where and why.
func (p Policy) Check() error {
	if err := p.Approvals.check("approvals", 0); err != nil {
		return err
	}
	if p.ValidFor != "" {
		if d, err := time.ParseDuration(p.ValidFor); err != nil || d <= 0 {
			return fmt.Errorf("%w: validFor %q is no duration such as 168h", ErrPolicy, p.ValidFor)
		}
	}
	return nil
}

func (r Requirement) check(at string, depth int) error {
	kinds := 0
	for _, is := range []bool{len(r.All) > 0, len(r.Any) > 0, r.Team != "", r.User != "", r.CodeOwners, r.Writers} {
		if is {
			kinds++
		}
	}
	alone := r.Team == "" && !r.CodeOwners && !r.Writers
	switch {
	case kinds != 1:
		return fmt.Errorf("%w: %s must say exactly one of all, any, team, user, codeOwners and writers; it says %d", ErrPolicy, at, kinds)
	case depth > maxDepth:
		return fmt.Errorf("%w: %s is nested too deeply", ErrPolicy, at)
	case len(r.All)+len(r.Any) > maxParts:
		return fmt.Errorf("%w: %s has more than %d parts", ErrPolicy, at, maxParts)
	case r.Count < 0 || r.Count > maxCount || alone && r.Count != 0:
		return fmt.Errorf("%w: %s: count is from 1 to %d, and only with team, codeOwners or writers", ErrPolicy, at, maxCount)
	}
	for i, part := range r.All {
		if err := part.check(fmt.Sprintf("%s.all[%d]", at, i), depth+1); err != nil {
			return err
		}
	}
	for i, part := range r.Any {
		if err := part.check(fmt.Sprintf("%s.any[%d]", at, i), depth+1); err != nil {
			return err
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
