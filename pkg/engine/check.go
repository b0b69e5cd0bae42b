package engine

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/record"
	"hotswap.dev/hotswap/pkg/store"
)

// checkMarker finds our comment on a pull request of people again.
const checkMarker = "validate"

// Bounds of one look at the pull requests of a repository.
const (
	maxChecked   = 4   // looked at in full; the others are due at once
	maxKnown     = 500 // remembered
	maxChanges   = 20  // deployments that a comment shows
	followMerged = 10 * time.Second
	checkFailed  = 30 * time.Second // until a pull request that could not be read is looked at again
)

// lookTime dates the merges that are made to look at them, so that the same merge is the same commit. No branch has them.
var lookTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// checks looks at the open pull requests for the branch of a repository, says what each would
// do, and follows those that were merged until their releases have ended. It lists them at the
// forge, so a webhook that was lost makes no difference. Nothing of a pull request is released,
// and nothing of it decides: it is read as what might be merged.
func (e *Engine) checks(ctx context.Context, c store.Claim) error {
	st, err := e.store.LoadChecks(ctx, c)
	if err != nil {
		return err
	}
	later := st.Repository.Now.Add(e.options.Reconcile)
	f, name, ok := e.forge(c.Tenant, c.ID)
	if !ok || st.Repository.Synced == "" {
		return e.store.Rest(ctx, c, later)
	}
	if err := e.bound(ctx, c.Tenant, c.ID); err != nil {
		return err
	}
	open, err := f.Pulls(ctx, name, forge.Filter{Base: st.Repository.Branch, State: approval.Open})
	if err != nil {
		return err
	}
	work, cancel := reserved(ctx)
	defer cancel()
	k := &checker{engine: e, forge: f, name: name, step: st, wake: later}
	k.branch(work)
	for _, l := range open {
		k.open(work, l)
	}
	for _, known := range st.Known {
		if known.Number != 0 && !slices.ContainsFunc(open, func(l forge.Listed) bool { return l.Number == known.Number }) {
			k.gone(work, known)
		}
	}
	if err := k.strays(work); err != nil {
		slog.WarnContext(ctx, "pull requests that nobody keeps were not closed", "repository", name, "err", err)
		k.again(checkFailed)
	}
	return e.store.SaveChecks(ctx, c, st, k.now, k.statuses, k.wake) // what was done is remembered, also when time was short
}

// reserved is a step's time without what is kept to store its outcome.
func reserved(ctx context.Context) (context.Context, context.CancelFunc) {
	if end, ok := ctx.Deadline(); ok {
		return context.WithDeadline(ctx, end.Add(-storeTime))
	}
	return context.WithCancel(ctx)
}

// strays closes promotion pull requests that nobody keeps: somebody asked for one, and the forge opened it when the
// promotion had ended. Who keeps one is asked after they were listed: whoever opened one of these was there before.
func (k *checker) strays(ctx context.Context) error {
	open, err := k.forge.Pulls(ctx, k.name, forge.Filter{Base: record.Branch, State: approval.Open})
	if err != nil {
		return err
	}
	open = slices.DeleteFunc(open, func(l forge.Listed) bool { return l.Fork || !strings.HasPrefix(l.HeadRef, record.PromoteFolder) })
	if len(open) == 0 {
		return nil
	}
	kept, err := k.engine.store.KeptSlots(ctx, k.step.Repository.Tenant, k.step.Repository.Name)
	if err != nil {
		return err
	}
	for _, l := range open {
		if slices.Contains(kept, strings.TrimPrefix(l.HeadRef, record.PromoteFolder)) {
			continue
		}
		if err := away(ctx, k.forge, k.name, l.Number); err != nil {
			return err
		}
	}
	return nil
}

// A checker does one look.
type checker struct {
	engine   *Engine
	forge    forge.Forge
	name     string // of the repository at the forge
	step     store.CheckStep
	checked  int
	now      []store.Check // what is known after it
	statuses []store.CommitStatus
	wake     time.Time
}

func (k *checker) again(in time.Duration) {
	if at := k.step.Repository.Now.Add(in); at.Before(k.wake) {
		k.wake = at
	}
}

// known is what was told on a pull request; false: it was not seen before.
func (k *checker) known(number int64) (store.Check, bool) {
	for _, known := range k.step.Known {
		if known.Number == number {
			return known, true
		}
	}
	return store.Check{Number: number}, false
}

// branch tells the status of the commit that was synced last.
func (k *checker) branch(ctx context.Context) {
	known, _ := k.known(0)
	status := k.step.Status
	if status != nil && known.Head != status.Commit {
		err := k.status(ctx, *status)
		switch {
		case err == nil, errors.Is(err, forge.ErrNotFound), errors.Is(err, forge.ErrInvalid), errors.Is(err, forge.ErrRefused):
			known = store.Check{Head: status.Commit, Against: status.Commit}
		default:
			slog.WarnContext(ctx, "status not told", "repository", k.name, "commit", status.Commit, "err", err)
			k.again(checkFailed)
		}
	}
	k.now = append(k.now, known)
}

// status tells a status to the forge. It is what a branch protection can require.
func (k *checker) status(ctx context.Context, s store.CommitStatus) error {
	state := forge.StatusSuccess
	if !s.OK {
		state = forge.StatusFailure
	}
	return k.forge.Status(ctx, k.name, s.Commit, forge.Status{Context: s.Context, State: state, Description: s.Description})
}

// open looks at an open pull request that is another one than when it was looked at last. What
// cannot be read now is tried again after a while, and does not keep the others from it.
func (k *checker) open(ctx context.Context, l forge.Listed) {
	known, seen := k.known(l.Number)
	now := k.step.Repository.Now
	same := known.Head == l.Head && known.Against == k.step.Repository.Synced
	if same && (known.RetryAt == nil || now.Before(*known.RetryAt)) {
		if known.RetryAt != nil {
			k.again(known.RetryAt.Sub(now))
		}
		k.now = append(k.now, known)
		return
	}
	if len(k.now) >= maxKnown { // those after it have their turn when others have ended
		return
	}
	if !seen { // before anything is said there: whoever dies then is followed by one who knows of it
		k.again(0)
		k.now = append(k.now, store.Check{Number: l.Number, Told: true})
		return
	}
	if k.checked++; k.checked > maxChecked || late(ctx) {
		k.again(0)
		k.now = append(k.now, known)
		return
	}
	next := store.Check{Number: l.Number, Head: l.Head, Against: k.step.Repository.Synced, Told: known.Told && known.Head != ""}
	if err := k.check(ctx, l, &next); err != nil {
		slog.WarnContext(ctx, "pull request not checked", "repository", k.name, "number", l.Number, "err", err)
		at := now.Add(checkFailed)
		next.RetryAt = &at
		k.again(checkFailed)
	}
	k.now = append(k.now, next)
}

// check says what a pull request would do. Where no intent is changed nothing is said, unless something was said before.
func (k *checker) check(ctx context.Context, l forge.Listed, next *store.Check) error {
	x, err := k.read(ctx, l)
	if err != nil {
		return err
	}
	if len(x.files) > 0 || x.unread != "" || next.Told {
		next.Told = true // also when the answer is lost
		if err := k.forge.Comment(ctx, k.name, l.Number, checkMarker, x.comment()); err != nil {
			return err
		}
	}
	status := store.CommitStatus{Commit: l.Head, Context: store.ValidateContext, OK: x.ok(), Description: x.summary(), Detail: texts(x.problems, x.refused)}
	if l.Fork { // the same commit may be of a pull request of ours, which this says nothing of
		status.Context = store.LintContext
		return k.status(ctx, status)
	}
	if err := k.status(ctx, status); err != nil {
		return err
	}
	k.statuses = append(k.statuses, status)
	return nil
}

// read reads what a pull request would change: what the branch would be, merged with it. Of a
// fork only its own files are read, and nothing of ours is said.
func (k *checker) read(ctx context.Context, l forge.Listed) (proposedChange, error) {
	r := k.step.Repository
	repo, err := k.engine.open(r.Tenant, r.Name)
	if err != nil {
		return proposedChange{}, err
	}
	if remote, ok := k.engine.remote(r.Tenant, r.Name); ok {
		if err := repo.FetchPulls(ctx, remote, l.Number); err != nil {
			return proposedChange{}, err
		}
		tip, err := repo.PullTip(ctx, l.Number)
		if err == nil && tip != l.Head {
			err = forge.ErrMoving
		}
		if err != nil {
			return proposedChange{}, err
		}
	}
	d := k.engine.reader(repo, r)
	x := proposedChange{fork: l.Fork}
	if err := d.base(ctx); err != nil {
		return x, err
	}
	if l.Fork {
		err := d.linted(ctx, l.Head, &x)
		return x, err
	}
	merged, err := repo.Join(ctx, gitrepo.Join{Base: r.Synced, Head: l.Head, Name: "HotSwap", Email: recordEmail, Message: "a look\n", At: lookTime})
	if errors.Is(err, gitrepo.ErrMergeConflict) {
		x.unread, x.conflict = "it conflicts with branch "+r.Branch, r.Branch
		return x, nil
	}
	if err != nil {
		return x, err
	}
	err = d.proposed(ctx, merged, &x)
	return x, err
}

// linted reads the files of a fork by themselves.
func (d *reader) linted(ctx context.Context, head string, x *proposedChange) error {
	now, problems, err := d.load(ctx, head)
	if unreadable(err) {
		x.unread = "its intents cannot be read: " + err.Error()
		return nil
	}
	x.problems, x.files = problems, differing(d.before, now)
	return err
}

// differing are the intents' files that two versions do not have alike.
func differing(a, b version) []string {
	var out []string
	for name, blob := range a.blobs {
		if b.blobs[name] != blob {
			out = append(out, name)
		}
	}
	for name := range b.blobs {
		if _, ok := a.blobs[name]; !ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// proposed compares what a commit says with what was synced last.
func (d *reader) proposed(ctx context.Context, sha string, x *proposedChange) error {
	before := d.before
	now, problems, err := d.load(ctx, sha)
	if unreadable(err) {
		x.unread = "its intents cannot be read: " + err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	x.files = differing(before, now)
	x.problems, x.had = fresh(problems, d.had)
	_, refused, err := d.changes(ctx, gitrepo.Commit{SHA: sha}, now)
	if err != nil {
		return err
	}
	x.refused = refused
	names := make([]string, 0, len(d.sync.Releases))
	for _, rel := range d.sync.Releases {
		names = append(names, rel.Deployment)
	}
	took, err := d.engine.store.LastRuns(ctx, d.at.Tenant, names)
	if err != nil {
		return err
	}
	for _, rel := range d.sync.Releases {
		c := releaseChange{deployment: rel.Deployment, after: rel.Snapshot, environments: now.set.Environments, took: took[rel.Deployment]}
		if before.set != nil {
			if s, err := before.set.Snapshot(rel.Deployment); err == nil {
				c.before = &s
			}
		}
		x.releases = append(x.releases, c)
	}
	return nil
}

// fresh are the problems that the branch does not have already, and how many it has: whoever mends one file need
// not mend all.
func fresh(problems, had []intent.Problem) (out []intent.Problem, known int) {
	said := map[string]bool{}
	for _, p := range had {
		said[p.String()] = true
	}
	for _, p := range problems {
		if said[p.String()] {
			known++
		} else {
			out = append(out, p)
		}
	}
	return out, known
}

// gone follows a pull request that is open no more: its comment tells how its releases go.
func (k *checker) gone(ctx context.Context, known store.Check) {
	if late(ctx) {
		k.again(0)
		k.now = append(k.now, known)
		return
	}
	err := k.follow(ctx, &known)
	switch {
	case errors.Is(err, errEnded), errors.Is(err, forge.ErrNotFound):
	case err != nil:
		slog.WarnContext(ctx, "merged pull request not followed", "repository", k.name, "number", known.Number, "err", err)
		k.again(checkFailed)
		k.now = append(k.now, known)
	default:
		k.again(followMerged)
		k.now = append(k.now, known)
	}
}

// errEnded: there is nothing more to tell.
var errEnded = errors.New("it has ended")

func (k *checker) follow(ctx context.Context, known *store.Check) error {
	if !known.Told {
		return errEnded
	}
	if known.Merge == "" {
		p, err := k.forge.Pull(ctx, k.name, known.Number)
		if err != nil {
			return err
		}
		if p.State != approval.Merged || p.Base != k.step.Repository.Branch {
			return errEnded // closed, or for another branch by now; opened again, it is looked at again
		}
		known.Merge = p.Merge
	}
	commits, err := k.brought(ctx, *known)
	if err != nil {
		return err
	}
	journeys, err := k.engine.store.Journeys(ctx, k.step.Repository.Tenant, k.step.Repository.Name, commits)
	if err != nil {
		return err
	}
	if len(journeys) == 0 {
		return k.unreleased(ctx, known)
	}
	if err := k.forge.Comment(ctx, k.name, known.Number, checkMarker, journeyComment(journeys)); err != nil {
		return err
	}
	for _, j := range journeys {
		if j.State == promotion.ReleaseOpen || slices.ContainsFunc(j.Stages, func(at store.StageAt) bool {
			return at.Ended == nil || k.step.Repository.Now.Sub(*at.Ended) < lateWrites
		}) {
			return nil
		}
	}
	return errEnded
}

// brought are the commits of the branch's own line that a merge made: several, when it was a fast-forward.
func (k *checker) brought(ctx context.Context, known store.Check) ([]string, error) {
	commits := []string{known.Merge}
	if known.Merge != known.Head || known.Against == "" {
		return commits, nil
	}
	repo, err := k.engine.open(k.step.Repository.Tenant, k.step.Repository.Name)
	if err != nil {
		return nil, err
	}
	line, _, err := repo.FirstParents(ctx, known.Against, known.Merge, maxCommits)
	if errors.Is(err, gitrepo.ErrNoCommit) || unreadable(err) {
		return commits, nil
	}
	for _, c := range line {
		commits = append(commits, c.SHA)
	}
	return commits, err
}

// unreleased ends the story of a merge that released nothing, once that is known: the branch was read past it, or was
// forced to where it is not.
func (k *checker) unreleased(ctx context.Context, known *store.Check) error {
	r := k.step.Repository
	repo, err := k.engine.open(r.Tenant, r.Name)
	if err != nil {
		return err
	}
	ahead, err := repo.Ancestor(ctx, r.Synced, known.Merge)
	if err == nil && (!ahead || known.Merge == r.Synced) || errors.Is(err, gitrepo.ErrNoCommit) {
		return errEnded
	}
	return err
}

// A proposedChange is what a pull request would do.
type proposedChange struct {
	fork     bool
	files    []string // that it changes
	unread   string   // why nothing can be said; empty: it can
	conflict string   // branch that it conflicts with, if it does
	problems []intent.Problem
	had      int // problems that the branch has already
	refused  map[string]string
	releases []releaseChange
}

// A releaseChange is a release that a merge would make.
type releaseChange struct {
	deployment   string
	before       *intent.Snapshot // as the branch has it; nil: not yet, or not valid
	after        intent.Snapshot
	environments map[string]intent.Environment
	took         map[string]time.Duration // the last run, by stage
}

func (x proposedChange) ok() bool {
	return x.unread == "" && !intent.HasErrors(x.problems) && len(x.refused) == 0
}

// summary is the one line of the status.
func (x proposedChange) summary() string {
	switch {
	case x.unread != "":
		return x.unread
	case !x.ok():
		n := len(x.refused)
		for _, p := range x.problems {
			if p.Severity == intent.Error {
				n++
			}
		}
		return count(n, "problem") + "; nothing of this is released as it is"
	case x.fork:
		return "linted: no problems"
	case len(x.files) == 0:
		return "no intent is changed"
	default:
		return "valid; a merge releases " + count(len(x.releases), "deployment")
	}
}
