package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/record"
	"hotswap.dev/hotswap/pkg/store"
)

// pullLabel is on every pull request of ours.
const pullLabel = "hotswap/promotion"

// commentMarker finds our comment on a pull request again. People do not see it.
const commentMarker = "promotion"

// aboutPath is the file that the records' branch begins with: a pull request needs a
// branch to be for.
const aboutPath = record.Folder + "/about.md"

const about = `HotSwap writes this branch: one file for each environment and deployment, which says
what runs there. Promotion pull requests are for it, and merging one is the record
that it was approved.
`

// forge finds the forge of a repository.
func (e *Engine) forge(tenant, repository string) (forge.Forge, string, bool) {
	if e.options.Forges == nil {
		return nil, "", false
	}
	return e.options.Forges(tenant, repository)
}

// fetch opens a repository with branches as they are where it lives.
func (e *Engine) fetch(ctx context.Context, tenant, repository string, branches ...string) (*gitrepo.Repository, error) {
	repo, err := e.open(tenant, repository)
	if err != nil {
		return nil, err
	}
	if remote, ok := e.remote(tenant, repository); ok {
		if err := e.bound(ctx, tenant, repository); err != nil {
			return nil, err
		}
		if err := repo.Fetch(ctx, remote, branches...); err != nil {
			return nil, err
		}
	}
	return repo, nil
}

// boundFor is how long it is believed that a repository of the forge is the one that it was.
const boundFor = 10 * time.Second

// bound makes sure that the repository of the forge has the number that it was bound by: a name can be given to
// another repository, whose files and people are not those that were trusted.
func (e *Engine) bound(ctx context.Context, tenant, repository string) error {
	f, name, ok := e.forge(tenant, repository)
	if !ok {
		return nil
	}
	key := tenant + "/" + repository
	if at, ok := e.seen.Load(key); ok && time.Since(at.(time.Time)) < boundFor {
		return nil
	}
	want, err := e.store.ForgeID(ctx, tenant, repository)
	if err != nil || want == "" {
		return err
	}
	r, err := f.Repository(ctx, name)
	if err != nil {
		return err
	}
	if have := strconv.FormatInt(r.ID, 10); have != want {
		return fmt.Errorf("%w: %s at the forge has number %s, and was bound as %s", forge.ErrOtherRepository, name, have, want)
	}
	e.seen.Store(key, time.Now())
	return nil
}

// remote is where a repository lives; false: it is here.
func (e *Engine) remote(tenant, repository string) (gitrepo.Remote, bool) {
	if e.options.Remotes == nil {
		return gitrepo.Remote{}, false
	}
	return e.options.Remotes(tenant, repository)
}

// commit makes a commit, and moves the branch where the repository lives. A branch of
// the mirror that is ahead because somebody died in between is set back by the next fetch.
func (e *Engine) commit(ctx context.Context, tenant, repository string, repo *gitrepo.Repository, changes []gitrepo.Change, o gitrepo.CommitOptions) (string, error) {
	sha, err := repo.Commit(ctx, changes, o)
	if err != nil || sha == o.Expect {
		return sha, err
	}
	if remote, ok := e.remote(tenant, repository); ok {
		return sha, repo.Push(ctx, remote, o.Branch, sha, o.Expect)
	}
	return sha, nil
}

// pull brings the promotion pull request of one slot up to date, reads what its reviews
// come to, and tells people. Everything is looked at before it is done, so whoever dies
// in between is followed by one who does the rest.
func (e *Engine) pull(ctx context.Context, c store.Claim) error {
	st, err := e.store.LoadPull(ctx, c)
	if err != nil {
		return err
	}
	again := st.Now.Add(e.options.Reconcile)
	repository := st.Pull.Repository
	if st.Next != nil {
		repository = st.Release.Repository
	}
	f, repo, ok := e.forge(c.Tenant, repository)
	if st.Next == nil && !ok {
		return e.store.Rest(ctx, c, again)
	}
	k := &keeper{engine: e, forge: f, repo: repo, step: st, pull: st.Pull}
	k.pull.Repository, k.pull.Review = repository, nil
	switch {
	case !ok:
		err = fmt.Errorf("%w: repository %s has none that HotSwap knows of", errNoForge, repository)
	case e.options.Sign == nil:
		err = fmt.Errorf("%w: there is no key to sign commits with", errNoForge)
	default:
		err = k.keep(ctx)
	}
	if err != nil && !lasting(err) {
		return err
	}
	if err != nil { // people must be told why their promotion waits
		k.unread(err)
	}
	if k.soon {
		again = st.Now.Add(recordPause)
	}
	return e.store.SavePull(ctx, c, st, k.pull, again)
}

// errNoForge: there can be no pull requests.
var errNoForge = errors.New("there is no forge for pull requests")

// lasting reports whether an error of a forge is worth telling to people.
func lasting(err error) bool {
	for _, known := range []error{
		forge.ErrUnavailable, forge.ErrLimited, forge.ErrDenied, forge.ErrNotFound, forge.ErrTooMuch, forge.ErrRefused,
		forge.ErrMalformed, forge.ErrMoving, forge.ErrOtherRepository, forge.ErrInvalid, gitrepo.ErrRefused, errNoForge,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// A keeper keeps the pull request of one slot.
type keeper struct {
	engine *Engine
	forge  forge.Forge
	repo   string // name at the forge
	step   store.PullStep
	pull   store.Pull // as it becomes
	soon   bool       // Git is about to say what the pull request is to be based on
}

func (k *keeper) keep(ctx context.Context) error {
	if err := k.past(ctx); err != nil {
		return err
	}
	if k.step.Next != nil {
		if err := k.present(ctx); err != nil {
			return err
		}
	}
	return k.follow(ctx)
}

// past puts away a pull request whose promotion waits no more. One that goes to a
// newer promotion of the slot stays open and is changed.
func (k *keeper) past(ctx context.Context) error {
	p := k.step.Living
	if p == nil || k.pull.Promotion == "" || k.step.Next != nil && k.step.Next.ID == p.ID {
		return nil
	}
	number := k.pull.Number
	k.pull = store.Pull{Repository: k.pull.Repository, Number: number, MergedPromotion: k.pull.MergedPromotion, MergedNumber: k.pull.MergedNumber}
	if p.Progress.Recorded != "" {
		k.pull.Number, k.pull.MergedPromotion, k.pull.MergedNumber = 0, p.ID, number
		k.step.Merged = p
		return nil
	}
	if k.step.Next != nil || number == 0 {
		return nil
	}
	if err := k.say(ctx, number, closedComment(*p)); err != nil {
		return err
	}
	if err := away(ctx, k.forge, k.repo, number); err != nil {
		return err
	}
	k.pull.Number = 0
	return nil
}

// away closes a pull request; one that is merged or gone needs that no more.
func away(ctx context.Context, f forge.Forge, repo string, number int64) error {
	if err := f.Close(ctx, repo, number); err != nil && !errors.Is(err, forge.ErrMerged) && !errors.Is(err, forge.ErrNotFound) {
		return err
	}
	return nil
}

// present keeps the pull request of the promotion that is next, and judges it.
func (k *keeper) present(ctx context.Context) error {
	next := k.step.Next
	same := k.pull.Promotion == next.ID && k.pull.Plan == next.Plan && k.pull.Head != "" && k.pull.Number != 0
	if same {
		done, err := k.looked(ctx)
		if done || err != nil {
			return err
		}
	}
	behind, err := k.behind(ctx)
	if behind || err != nil {
		k.soon = behind
		return err
	}
	if err := k.propose(ctx); err != nil {
		return err
	}
	if err := k.open(ctx); err != nil {
		return err
	}
	p, err := k.forge.Pull(ctx, k.repo, k.pull.Number)
	if err != nil {
		return err
	}
	return k.judge(ctx, p)
}

// behind reports whether the records' branch does not say yet how the promotion before
// ended. A head that was made before it does would have to be made, and reviewed, again.
func (k *keeper) behind(ctx context.Context) (bool, error) {
	ended := k.step.Record
	if ended == nil {
		return false, nil
	}
	repo, err := k.engine.fetch(ctx, k.step.Tenant, k.pull.Repository, record.Branch)
	if err != nil {
		return false, err
	}
	tip, err := repo.Tip(ctx, record.Branch)
	if errors.Is(err, gitrepo.ErrNoBranch) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	text, err := k.file(ctx, repo, tip)
	if err != nil {
		return false, err
	}
	said, err := record.Parse(k.path(), text)
	if err != nil { // no record, or somebody's: the step of the records puts it right
		return false, nil
	}
	return said.Promotion == ended.Promotion && said.State != ended.State, nil
}

// looked reads the pull request that shows the plan as it is. It answers true when
// nothing is to be shown anew.
func (k *keeper) looked(ctx context.Context) (bool, error) {
	p, err := k.forge.Pull(ctx, k.repo, k.pull.Number)
	switch {
	case errors.Is(err, forge.ErrNotFound):
		if err := k.tell(ctx, "pull.gone", "", fmt.Sprintf("pull request %d is gone; another one is opened", k.pull.Number)); err != nil {
			return false, err
		}
		k.pull.Number = 0
		return false, nil
	case err != nil:
		return false, err
	case k.step.Next.Phase == promotion.Recording: // it is being merged
		return true, nil
	case p.State == approval.Closed:
		k.pull.Review = k.review(p, promotion.ReviewRejected, fmt.Sprintf("pull request %d was closed", p.Number))
		return true, nil
	case p.State == approval.Merged && p.Head == k.pull.Head:
		return k.mergedBySomebody(ctx, p)
	case p.State == approval.Merged:
		if err := k.tell(ctx, "pull.merged-with-more", p.Head, fmt.Sprintf("pull request %d was merged with commit %.12s on it, which is not ours; another one is opened", p.Number, p.Head)); err != nil {
			return false, err
		}
		k.pull.Number = 0
		return false, nil
	case p.Base != record.Branch:
		if err := k.tell(ctx, "pull.retargeted", p.Base, fmt.Sprintf("pull request %d was set onto branch %s; it is closed and another one is opened", p.Number, p.Base)); err != nil {
			return false, err
		}
		if err := k.forge.Close(ctx, k.repo, p.Number); err != nil {
			return false, err
		}
		k.pull.Number = 0
		return false, nil
	case p.Head != k.pull.Head:
		return false, k.tell(ctx, "pull.head-moved", p.Head, fmt.Sprintf("somebody moved the head of pull request %d to %.12s; it is set back", p.Number, p.Head))
	}
	stale, err := k.stale(ctx)
	if stale || err != nil {
		return false, err
	}
	if err := k.open(ctx); err != nil { // title and text may have been edited
		return false, err
	}
	return true, k.judge(ctx, p)
}

// mergedBySomebody judges a merge that was not ours. When the plan was approved it is
// the record. When it was not, Git is put right first, see [Engine.records], and then
// another pull request is opened.
func (k *keeper) mergedBySomebody(ctx context.Context, p approval.Pull) (bool, error) {
	if err := k.judge(ctx, p); err != nil {
		return false, err
	}
	if k.pull.Review.State == promotion.ReviewApproved || k.pull.Review.State == promotion.ReviewUnread {
		return true, nil
	}
	undone, err := k.undone(ctx)
	if err != nil || !undone {
		k.pull.Review.Says = fmt.Sprintf("pull request %d was merged without approval, which is undone: %s", p.Number, k.pull.Review.Says)
		return true, err
	}
	k.pull.Number = 0
	return false, nil
}

// undone reports whether the records' branch does not have what is proposed.
func (k *keeper) undone(ctx context.Context) (bool, error) {
	now, _, err := k.files(ctx)
	if err != nil {
		return false, err
	}
	want, err := k.pull.Proposal.Render()
	return !bytes.Equal(now, want), err
}

// stale reports whether the head cannot be merged any more: the file that it changes is
// another one now than when it was made, or somebody brought it there past its pull request.
func (k *keeper) stale(ctx context.Context) (bool, error) {
	now, then, err := k.files(ctx)
	if err != nil || !bytes.Equal(now, then) {
		return err == nil, err
	}
	repo, err := k.engine.open(k.step.Tenant, k.pull.Repository)
	if err != nil {
		return false, err
	}
	tip, err := repo.Tip(ctx, record.Branch)
	if err != nil {
		return false, err
	}
	return repo.Ancestor(ctx, k.pull.Head, tip)
}

// files are the slot's file on the records' branch, and where the head of the pull request began.
func (k *keeper) files(ctx context.Context) (now, then []byte, err error) {
	repo, err := k.engine.fetch(ctx, k.step.Tenant, k.pull.Repository, record.Branch, k.branch())
	if err != nil {
		return nil, nil, err
	}
	tip, err := repo.Tip(ctx, record.Branch)
	if err != nil {
		return nil, nil, err
	}
	parents, err := repo.Parents(ctx, k.pull.Head)
	if err != nil {
		return nil, nil, err
	}
	if now, err = k.file(ctx, repo, tip); err != nil || len(parents) == 0 {
		return now, nil, err
	}
	then, err = k.file(ctx, repo, parents[0])
	return now, then, err
}

func (k *keeper) file(ctx context.Context, repo *gitrepo.Repository, commit string) ([]byte, error) {
	path := k.path()
	tree, err := repo.Tree(ctx, commit, []string{record.Folder + "/" + k.step.Place.Environment}, gitrepo.Limits{FileBytes: record.MaxBytes})
	if err != nil {
		return nil, err
	}
	f, ok := tree.Files[path]
	if !ok {
		return nil, nil
	}
	return f.Content, nil
}

func (k *keeper) path() string {
	return record.Record{Environment: k.step.Place.Environment, Deployment: k.step.Place.Deployment}.Path()
}

// branch is where the head of the slot's pull request lies.
func (k *keeper) branch() string {
	return record.PromoteFolder + k.step.Place.Environment + "/" + k.step.Place.Deployment
}

// propose makes the commit that a review of the pull request is a review of: the slot's
// file as it is to be. The same plan on the same base makes the same commit.
func (k *keeper) propose(ctx context.Context) error {
	repo, err := k.engine.fetch(ctx, k.step.Tenant, k.pull.Repository, record.Branch, k.branch())
	if err != nil {
		return err
	}
	next := *k.step.Next
	proposal := promotion.Proposed(k.step.Record, k.step.Release, k.step.Snapshot, next)
	text, err := proposal.Render()
	if err != nil {
		return err
	}
	base, err := k.base(ctx, repo, proposal.At)
	if err != nil {
		return err
	}
	at, err := repo.Tip(ctx, k.branch())
	if err != nil && !errors.Is(err, gitrepo.ErrNoBranch) {
		return err
	}
	o := k.options(k.branch(), at, proposal.At, k.subject()+"\n\nPlan: "+next.Plan+"\n")
	o.Parent = base
	head, err := k.engine.commit(ctx, k.step.Tenant, k.pull.Repository, repo, []gitrepo.Change{{Path: k.path(), Content: text}}, o)
	if err != nil {
		return err
	}
	k.pull.Promotion, k.pull.Plan, k.pull.Head, k.pull.Proposal = next.ID, next.Plan, head, &proposal
	return nil
}

// base is the tip of the records' branch, which is begun when it is not there.
func (k *keeper) base(ctx context.Context, repo *gitrepo.Repository, at time.Time) (string, error) {
	tip, err := repo.Tip(ctx, record.Branch)
	if !errors.Is(err, gitrepo.ErrNoBranch) {
		return tip, err
	}
	return k.engine.commit(ctx, k.step.Tenant, k.pull.Repository, repo, []gitrepo.Change{{Path: aboutPath, Content: []byte(about)}},
		k.options(record.Branch, "", at, "The records of HotSwap begin\n"))
}

func (k *keeper) options(branch, expect string, at time.Time, message string) gitrepo.CommitOptions {
	return gitrepo.CommitOptions{
		Branch: branch, Expect: expect, Name: "HotSwap", Email: recordEmail, At: at, Sign: k.engine.options.Sign, Message: message,
	}
}

// subject is what the pull request is about, in a line. It stays while its plan does.
func (k *keeper) subject() string {
	next := k.step.Next
	what := "remove " + next.Deployment
	if m := next.Spec.Instance.Module; m.Name != "" {
		what = m.Name + " " + m.Version
	}
	return fmt.Sprintf("%s: %s", k.step.Place.Environment, what)
}

// open makes sure that there is a pull request, and that it says what it is about.
func (k *keeper) open(ctx context.Context) error {
	body, err := k.body(ctx)
	if err != nil {
		return err
	}
	l, err := k.forge.Ensure(ctx, k.repo, forge.PullRequest{
		HeadRef: k.branch(), Base: record.Branch, Title: k.subject(), Body: body, Labels: []string{pullLabel},
	})
	if err != nil {
		return err
	}
	k.pull.Number, k.pull.URL = l.Number, l.URL
	return nil
}

// judge reads what the reviews come to, tells people, and asks who is missing.
func (k *keeper) judge(ctx context.Context, p approval.Pull) error {
	st, err := k.engine.store.LoadReview(ctx, k.step.Tenant, k.step.Next.ID)
	if err != nil {
		return err
	}
	st.Pull, st.Now = k.pull, k.step.Now // what was read before it is not older
	r := k.engine.judge(ctx, k.forge, k.repo, st, p)
	k.pull.Review = &r
	if err := k.say(ctx, k.pull.Number, waitingComment(*k.step.Next, k.step.Waiting, r)); err != nil {
		return err
	}
	if p.State != approval.Open || r.State != promotion.ReviewPending || k.pull.Asked == k.pull.Head || len(r.Missing.People)+len(r.Missing.Teams) == 0 {
		return nil
	}
	err = k.forge.RequestReviews(ctx, k.repo, k.pull.Number, r.Missing.People, r.Missing.Teams)
	if err != nil && !errors.Is(err, forge.ErrRefused) && !errors.Is(err, forge.ErrNotFound) {
		return err
	}
	k.pull.Asked = k.pull.Head // who may not be asked is named in the comment
	return nil
}

// lateWrites is how late what somebody asked of a forge, who lost the lease since, may still be done there. Until then
// what was told is looked at again.
const lateWrites = time.Minute

// follow tells on the merged pull request how its promotion goes on.
func (k *keeper) follow(ctx context.Context) error {
	if k.step.Merged == nil || k.pull.MergedNumber == 0 {
		return nil
	}
	if err := k.say(ctx, k.pull.MergedNumber, progressComment(*k.step.Merged, k.step.Then)); err != nil {
		return err
	}
	if m := k.step.Merged; m.Status.Final() && k.step.Now.Sub(m.Since) >= lateWrites {
		k.pull.MergedPromotion, k.pull.MergedNumber = "", 0
	}
	return nil
}

func (k *keeper) say(ctx context.Context, number int64, text string) error {
	return k.forge.Comment(ctx, k.repo, number, commentMarker, text)
}

// review is what is known without asking who may approve.
func (k *keeper) review(p approval.Pull, state promotion.ReviewState, says string) *promotion.ReviewFact {
	return &promotion.ReviewFact{State: state, Says: says, Pull: p.Number, URL: p.URL, Head: p.Head, Plan: k.pull.Plan, Merged: p.Merge, At: k.step.Now}
}

// unread says why nothing is known.
func (k *keeper) unread(err error) {
	if k.pull.Promotion == "" && k.step.Next != nil { // it is told why it waits before it has a pull request
		k.pull.Promotion = k.step.Next.ID
	}
	k.pull.Review = &promotion.ReviewFact{
		State: promotion.ReviewUnread, Says: err.Error(), Pull: k.pull.Number, URL: k.pull.URL, Head: k.pull.Head, Plan: k.pull.Plan, At: k.step.Now,
	}
}

// tell writes an audit row before what was found is put right: whoever dies in between must not leave it right and
// untold. To is what somebody did it to, so that the same is told once.
func (k *keeper) tell(ctx context.Context, action, to, reason string) error {
	place := k.step.Place.Environment + "/" + k.step.Place.Deployment
	return k.engine.store.Record(ctx, k.step.Tenant, func(time.Time) []audit.Row {
		return []audit.Row{{
			ID: fmt.Sprintf("pull/%s/%d/%s/%s/%s", place, k.pull.Number, action, k.pull.Head, to), Tenant: k.step.Tenant, At: k.step.Now, Actor: deliverer,
			Action: action, Subject: "slot " + place, Reason: reason,
			Attributes: map[string]string{"environment": k.step.Place.Environment, "deployment": k.step.Place.Deployment, "promotion": k.pull.Promotion},
		}}
	})
}
