package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/forge/builtin"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/platform"
	"hotswap.dev/hotswap/pkg/record"
	"hotswap.dev/hotswap/pkg/store"
)

// demoPeople are the accounts of the demo, and the forge where they act.
type demoPeople struct {
	at    forgeAt
	forge *builtin.Forge
	ann   approval.Account            // who writes
	teams map[string]approval.Account // by login: who reviews
}

// demoTeams are whose reviews the demo's policies ask for.
func demoTeams() map[string][]string {
	return map[string][]string{"deployers": {"bo"}, "sre": {"bo", "chris"}}
}

// startPeople makes the accounts, as an administrator would with hotswap account.
func (d *demo) startPeople(ctx context.Context) error {
	in := d.parts.installation
	dir, err := platform.OpenDataDir(d.data)
	if err != nil {
		return err
	}
	p := demoPeople{teams: map[string]approval.Account{}, at: forgeAt{
		store: in.store, tenant: in.Tenant, repository: in.Repository, url: in.URL, webhook: in.secrets.Webhook,
		open: func(name string) (*gitrepo.Repository, error) {
			return gitrepo.Open(dir.Path("git", in.Tenant, name+".git"))
		},
	}}
	if p.forge, err = openForge(ctx, p.at); err != nil {
		return err
	}
	for _, login := range []string{"ann", "bo", "chris"} {
		who, err := in.store.EnsureAccount(ctx, in.Tenant, store.NewAccount{Login: login, Email: login + "@example.com"}, in.operator.Actor)
		if err == nil {
			err = in.store.PermitAccount(ctx, in.Tenant, in.Repository, login, approval.Write, in.operator.Actor)
		}
		if err != nil {
			return err
		}
		p.teams[login] = who
	}
	p.ann = p.teams["ann"]
	for team, logins := range demoTeams() {
		for _, login := range logins {
			if err := in.store.SetMember(ctx, in.Tenant, team, login, true, in.operator.Actor); err != nil {
				return err
			}
		}
	}
	d.parts.people = p
	d.component("people", "ann writes · deployers bo · sre bo, chris", "accounts of the built-in forge; their reviews open staging and production")
	return nil
}

// propose opens a pull request that brings a version to main.
func (d *demo) propose(ctx context.Context, title, version string) (forge.Listed, error) {
	p := d.parts.people
	branch := "checkout-" + version
	for _, args := range [][]string{{"fetch", "-q", "origin", "main"}, {"checkout", "-q", "-B", branch, "FETCH_HEAD"}} {
		if _, err := d.git(ctx, args...); err != nil {
			return forge.Listed{}, err
		}
	}
	if err := d.commit(ctx, version); err != nil {
		return forge.Listed{}, err
	}
	for _, args := range [][]string{{"push", "-q", "-f", "origin", branch}, {"checkout", "-q", "main"}} {
		if _, err := d.git(ctx, args...); err != nil {
			return forge.Listed{}, err
		}
	}
	return p.forge.Open(ctx, p.at.full(), forge.PullRequest{HeadRef: branch, Base: "main", Title: title}, p.ann)
}

// checked waits until HotSwap has said what a pull request would do, and answers its first two lines.
func (d *demo) checked(ctx context.Context, number int64) (says []string, err error) {
	p := d.parts.people
	err = waitFor(ctx, fmt.Sprintf("a word on pull request #%d", number), d.path("logs"), func(ctx context.Context) bool {
		s, err := p.forge.Show(ctx, p.at.full(), number)
		if err != nil {
			return false
		}
		for _, c := range s.Comments {
			if c.By.Login == builtin.Own {
				says = firstLines(c.Body)
			}
		}
		return len(says) > 0
	})
	return says, err
}

// merge merges a pull request as ann, and answers the commit.
func (d *demo) merge(ctx context.Context, l forge.Listed) (string, error) {
	p := d.parts.people
	commit, err := p.forge.MergeBy(ctx, p.at.full(), l.Number, forge.Merge{ExpectedHead: l.Head}, p.ann)
	if err != nil {
		return "", err
	}
	_, err = d.git(ctx, "pull", "-q", "--ff-only", "origin", "main")
	return commit, err
}

// firstLines are the two lines of a comment of ours that people read first, without markup.
func firstLines(body string) []string {
	lines := strings.SplitN(strings.TrimSpace(forge.Unmarked(body)), "\n", 3)
	lines = lines[:min(2, len(lines))]
	for i := range lines {
		lines[i] = oneLine(strings.NewReplacer("**", "", "`", "").Replace(lines[i]))
	}
	return lines
}

// review plays the reviewers: what a promotion pull request waits for is told first, and
// approved at the next look, by one person after the other.
func (w *watcher) review(ctx context.Context) error {
	p := w.demo.parts.people
	list, err := p.forge.Pulls(ctx, p.at.full(), forge.Filter{Base: record.Branch})
	if err != nil {
		return err
	}
	for _, l := range list {
		if err := w.comment(ctx, l.Number); err != nil || l.State != approval.Open {
			continue
		}
		environment := environmentOf(l)
		if _, shown := w.comments[l.Number]; !shown || environment == "" {
			continue
		}
		pull, err := p.forge.Pull(ctx, p.at.full(), l.Number)
		if err != nil {
			return err
		}
		who, missing := w.reviewer(environment, pull)
		if !missing {
			continue
		}
		if _, err := p.forge.Review(ctx, p.at.full(), l.Number, builtin.Review{Verdict: approval.Approved, Commit: pull.Head, Text: "looks good"}, who); err != nil {
			return err
		}
		w.tell(environment, fmt.Sprintf("%s approves pull request #%d at %.8s", who.Login, l.Number, pull.Head), "")
	}
	return nil
}

// says tells the first lines of a comment.
func says(tell func(what, detail, result string), number int64, lines []string) {
	for i, line := range lines {
		if i == 0 {
			line = fmt.Sprintf("#%d says %s", number, line)
		}
		tell("", "  "+line, "")
	}
}

// environmentOf is the environment that a promotion pull request is for.
func environmentOf(l forge.Listed) string {
	rest, ours := strings.CutPrefix(l.HeadRef, record.PromoteFolder)
	environment, _, _ := strings.Cut(rest, "/")
	if !ours {
		return ""
	}
	return environment
}

// reviewer is who of the demo's people has not approved the head yet, and is to.
func (w *watcher) reviewer(environment string, pull approval.Pull) (approval.Account, bool) {
	team := map[string]string{"staging": "deployers", "production": "sre"}[environment]
	for _, login := range demoTeams()[team] {
		if !slices.Contains(approvers(pull), login) {
			return w.demo.parts.people.teams[login], true
		}
	}
	return approval.Account{}, false
}

// comment tells the first lines of our comment on a pull request when they change, as
// people read them.
func (w *watcher) comment(ctx context.Context, number int64) error {
	p := w.demo.parts.people
	s, err := p.forge.Show(ctx, p.at.full(), number)
	if err != nil {
		return err
	}
	for _, c := range s.Comments {
		if c.By.Login != builtin.Own {
			continue
		}
		lines := firstLines(c.Body)
		text, _, _ := strings.Cut(strings.Join(lines, " "), ": ") // its state; how many have approved is told by who approves
		before, seen := w.comments[number]
		w.comments[number] = text
		if before == text || !seen && s.State != approval.Open { // of a release before
			continue
		}
		if w.asked != fmt.Sprint(number) && s.State == approval.Open {
			w.asked = fmt.Sprint(number)
			w.tell(environmentOf(forge.Listed{HeadRef: s.HeadRef}), fmt.Sprintf("promotion pull request #%d \"%s\"", number, oneLine(s.Title)), "waiting")
		}
		says(w.tell, number, lines)
	}
	return nil
}
