package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/record"
	"hotswap.dev/hotswap/pkg/store"
)

// judge says what the reviews of a pull request come to, by the policy and by what the
// forge says now. What cannot be read opens nothing, and says so.
func (e *Engine) judge(ctx context.Context, f forge.Forge, repo string, st store.ReviewStep, p approval.Pull) promotion.ReviewFact {
	fact := promotion.ReviewFact{Pull: p.Number, URL: p.URL, Head: p.Head, Plan: st.Pull.Plan, Merged: p.Merge, At: st.Now}
	q, err := e.question(ctx, f, repo, st, p)
	if err != nil {
		fact.State, fact.Says = promotion.ReviewUnread, err.Error()
		return fact
	}
	r := approval.Judge(q)
	fact.State, fact.Says, fact.By, fact.BreakGlass = promotion.ReviewState(r.State), r.Says, r.Counts, r.Glass
	fact.Missing = promotion.Missing{People: r.People, Teams: r.Teams}
	return fact
}

// question gathers all that a judgement depends on.
func (e *Engine) question(ctx context.Context, f forge.Forge, repo string, st store.ReviewStep, p approval.Pull) (approval.Question, error) {
	q := approval.Question{Plan: st.Promotion.Plan, Shown: st.Pull.Plan, Head: st.Pull.Head, Base: record.Branch, Pull: p, Now: st.Now}
	name := st.Promotion.Spec.Stage.Gates.Approval
	if st.Policy == nil {
		return q, fmt.Errorf("branch %s has no valid policies/%s.yaml", st.Branch, name)
	}
	q.Policy = st.Policy.Spec
	ask := forge.Ask{Logins: slices.Clone(q.Policy.Users()), Teams: slices.Clone(q.Policy.Teams())}
	var unowned error
	if q.Policy.AsksOwners() {
		q.Owners, unowned = e.owners(ctx, st)
		ask.Logins, ask.Teams = append(ask.Logins, people(q.Owners)...), append(ask.Teams, teams(q.Owners)...)
	}
	for _, r := range p.Reviews {
		if r.By.ID != 0 && !slices.ContainsFunc(ask.Accounts, func(a approval.Account) bool { return a.ID == r.By.ID }) {
			ask.Accounts = append(ask.Accounts, r.By)
		}
	}
	for _, g := range st.Given {
		ask.Logins = append(ask.Logins, g.Actor)
	}
	if st.Asker.Kind == audit.Person {
		ask.Logins = append(ask.Logins, st.Asker.Name)
	}
	ask.Logins, ask.Teams = lower(ask.Logins), lower(ask.Teams)
	var err error
	if q.Members, err = f.Members(ctx, repo, ask); err != nil {
		return q, fmt.Errorf("who may approve could not be read: %w", err)
	}
	if q.Given, err = e.given(st, q.Members); err != nil {
		return q, err
	}
	if approval.Judge(q).Glass { // asks for nobody else, so nothing else need be readable
		return q, nil
	}
	if unowned != nil {
		return q, fmt.Errorf("the code owners could not be read: %w", unowned)
	}
	if !q.Policy.AllowAuthors {
		q.Excluded, err = e.excluded(ctx, f, repo, st, p, q.Members)
	}
	return q, err
}

// lower are names as the answers call them, each once.
func lower(names []string) []string {
	out := []string{}
	for _, n := range names {
		if n = strings.ToLower(n); !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

func people(owners []string) []string {
	return slices.DeleteFunc(slices.Clone(owners), func(o string) bool { return strings.Contains(o, "/") })
}

func teams(owners []string) []string {
	return slices.DeleteFunc(slices.Clone(owners), func(o string) bool { return !strings.Contains(o, "/") })
}

// excluded are those who may not approve (R4): who wrote, committed, pushed, proposed or
// merged what is brought, and who asked for this attempt.
func (e *Engine) excluded(ctx context.Context, f forge.Forge, repo string, st store.ReviewStep, p approval.Pull, m approval.Members) ([]approval.Exclusion, error) {
	if len(st.Commits) > store.MaxBroughtReleases {
		return nil, fmt.Errorf("more than %d releases lie between what runs and this one, too many to tell who wrote them: promote an older one first", store.MaxBroughtReleases)
	}
	var out []approval.Exclusion
	for _, a := range slices.Concat([]approval.Account{p.Author}, p.Committers, p.Pushers) {
		if a.ID == 0 {
			continue // what counts is that the head is the commit that we made, whoever brought it there
		}
		out = append(out, approval.Exclusion{Account: a, Why: "changed the pull request"})
	}
	if a, ok := m.Accounts[strings.ToLower(st.Asker.Name)]; ok && st.Asker.Kind == audit.Person {
		out = append(out, approval.Exclusion{Account: a, Why: "asked for this attempt"})
	}
	for _, commit := range st.Commits {
		accounts, err := f.Origin(ctx, repo, commit)
		if err != nil {
			return nil, fmt.Errorf("who wrote commit %.8s could not be read: %w", commit, err)
		}
		for _, a := range accounts {
			out = append(out, approval.Exclusion{Account: a, Why: fmt.Sprintf("wrote or brought commit %.8s", commit)})
		}
	}
	return out, nil
}

// owners are the code owners of the intent, by the branch as it is now (R9).
func (e *Engine) owners(ctx context.Context, st store.ReviewStep) ([]string, error) {
	repo, err := e.fetch(ctx, st.Promotion.Tenant, st.Repository, st.Branch)
	if err != nil {
		return nil, err
	}
	tip, err := repo.Tip(ctx, st.Branch)
	if err != nil {
		return nil, err
	}
	file, err := ownersFile(ctx, repo, tip)
	if err != nil {
		return nil, err
	}
	return approval.Owners(file, intent.FolderDeployments+"/"+st.Promotion.Deployment+".yaml")
}

// ownersFile is the CODEOWNERS file of a commit; none: empty, and nobody owns anything.
func ownersFile(ctx context.Context, repo *gitrepo.Repository, commit string) ([]byte, error) {
	for _, path := range approval.OwnersPaths() {
		file, err := repo.File(ctx, commit, path, approval.MaxOwnersBytes)
		if errors.Is(err, gitrepo.ErrNoFile) {
			continue
		}
		return file, err
	}
	return nil, nil
}

// given are the approvals that were given past the forge and can be proven.
func (e *Engine) given(st store.ReviewStep, m approval.Members) ([]approval.Given, error) {
	var out []approval.Given
	for _, g := range st.Given {
		if err := e.store.ProveApproval(st.Promotion.Tenant, st.Promotion.ID, g); err != nil {
			return nil, fmt.Errorf("the approval of %s by API is not as it was signed: %w", g.Actor, err)
		}
		by := m.Accounts[strings.ToLower(g.Actor)]
		if by.Login == "" {
			by.Login = g.Actor
		}
		out = append(out, approval.Given{
			By: by, Head: g.Head, Plan: g.Plan, At: g.At, Glass: g.Source == store.BreakGlass, Role: g.Role, Why: g.Reason,
		})
	}
	return out, nil
}

// Simulate says what the reviews of a promotion come to now, and would if these people
// had approved its head, too. It changes nothing. [store.ErrNotFound]; [store.ErrConflict]
// when the promotion has no pull request.
func (e *Engine) Simulate(ctx context.Context, tenant, id string, with []string) (approval.Result, error) {
	st, err := e.store.LoadReview(ctx, tenant, id)
	if err != nil {
		return approval.Result{}, err
	}
	f, repo, ok := e.forge(tenant, st.Repository)
	if !ok || st.Pull.Promotion != id || st.Pull.Number == 0 {
		return approval.Result{}, fmt.Errorf("%w: promotion %s has no pull request", store.ErrConflict, id)
	}
	p, err := f.Pull(ctx, repo, st.Pull.Number)
	if err != nil {
		return approval.Result{}, err
	}
	m, err := f.Members(ctx, repo, forge.Ask{Logins: lower(with)})
	if err != nil {
		return approval.Result{}, err
	}
	last := int64(0)
	for _, r := range p.Reviews {
		last = max(last, r.ID)
	}
	for i, login := range with {
		by, known := m.Accounts[strings.ToLower(login)]
		if !known {
			return approval.Result{}, fmt.Errorf("account %s: %w", login, store.ErrNotFound)
		}
		p.Reviews = append(p.Reviews, approval.Review{ID: last + 1 + int64(i), By: by, Verdict: approval.Approved, Commit: p.Head, At: st.Now, Official: true})
	}
	q, err := e.question(ctx, f, repo, st, p)
	if err != nil {
		return approval.Result{State: approval.Unread, Says: err.Error()}, nil
	}
	return approval.Judge(q), nil
}
