package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/record"
	"hotswap.dev/hotswap/pkg/store"
)

// deliverer is the actor of what is written to Git.
var deliverer = audit.Actor{Kind: audit.System, Name: "deliver"}

// recordPause is the least time between two commits of records in one repository.
const recordPause = time.Second

// recordEmail is the address of HotSwap in its commits. It receives nothing.
const recordEmail = "hotswap@hotswap.dev"

// records writes what Git is to say about the slots of one repository: first it
// looks at what others did to the branch, then it writes everything that differs
// in one commit. Whoever dies before the branch moved has done nothing; whoever
// dies after it is followed by one who finds nothing left to write.
func (e *Engine) records(ctx context.Context, c store.Claim) error {
	rs, err := e.store.LoadRecords(ctx, c)
	if err != nil {
		return err
	}
	later := rs.Now.Add(e.options.Reconcile)
	if e.options.Sign == nil || len(rs.All)+len(rs.Proposed) == 0 {
		return e.store.Rest(ctx, c, later)
	}
	repo, err := e.fetch(ctx, c.Tenant, c.ID, record.Branch)
	if err != nil {
		return err
	}
	b := &branch{engine: e, repo: repo, records: rs}
	if err := b.look(ctx); err != nil {
		return err
	}
	tip, err := b.write(ctx)
	if errors.Is(err, gitrepo.ErrMoved) { // somebody pushed meanwhile: look again
		return e.store.Rest(ctx, c, rs.Now.Add(recordPause))
	}
	if err != nil {
		return err
	}
	return e.store.RecordsWritten(ctx, c, rs, tip, rs.All, b.rows, later, recordPause)
}

// A branch is the records' branch as one step sees it.
type branch struct {
	engine  *Engine
	repo    *gitrepo.Repository
	records store.Records
	tip     string            // empty: there is no branch
	theirs  string            // where others left the branch, if they moved it
	files   map[string][]byte // below releases/, by path
	rows    []audit.Row
}

// look reads the branch, and judges what others did to it since our last commit.
func (b *branch) look(ctx context.Context) (err error) {
	b.tip, err = b.repo.Tip(ctx, record.Branch)
	if err != nil && !errors.Is(err, gitrepo.ErrNoBranch) {
		return err
	}
	if b.files, err = b.read(ctx, b.tip); err != nil {
		return err
	}
	last := b.records.Tip
	if last == "" { // nothing of ours is there yet, but what was proposed may be
		b.theirs = b.tip
		return b.merges(b.there())
	}
	push, err := b.repo.Pushed(ctx, last, b.tip, b.engine.options.Sign)
	if err != nil || !push.Moved {
		return err
	}
	b.theirs = push.Tip
	switch {
	case b.theirs == "":
		b.row("records.deleted", fmt.Sprintf("the branch %s was deleted at %.12s; it is written anew", record.Branch, last))
		return nil
	case push.Forced:
		b.row("records.forced", fmt.Sprintf("the branch %s was forced from %.12s to %.12s", record.Branch, last, b.theirs))
	}
	return b.judge(ctx)
}

func (b *branch) read(ctx context.Context, sha string) (map[string][]byte, error) {
	files := map[string][]byte{}
	if sha == "" {
		return files, nil
	}
	folders := []string{record.Folder}
	for _, r := range b.records.All {
		folders = append(folders, record.Folder+"/"+r.Document.Environment)
	}
	for _, p := range b.records.Proposed {
		folders = append(folders, record.Folder+"/"+p.Document.Environment)
	}
	slices.Sort(folders)
	folders = slices.Compact(folders)
	tree, err := b.repo.Tree(ctx, sha, folders, gitrepo.Limits{FileBytes: record.MaxBytes})
	if err != nil {
		return nil, err
	}
	for path, f := range tree.Files {
		files[path] = f.Content
	}
	for _, s := range tree.Skipped {
		files[s.Path] = []byte(s.Reason) // it is there, and no record
	}
	return files, nil
}

// judge tells for each file that others touched what that means. A file that they
// did not touch asks for nothing, although it may be older than its record.
func (b *branch) judge(ctx context.Context) error {
	edits, err := b.edits(ctx)
	if err != nil {
		return err
	}
	if err := b.merges(edits); err != nil {
		return err
	}
	if err := b.ours(ctx, edits); err != nil {
		return err
	}
	for _, r := range b.records.All {
		e, touched := edits[r.Document.Path()]
		if !touched {
			continue
		}
		former, err := b.former(ctx, r.Document)
		if err != nil {
			return err
		}
		switch j := record.JudgeEdit(e.Path, e.Before, e.After, former); {
		case e.Odd != "":
			b.slotRow(r.Document, "record.repaired", e.Odd)
		case j.Kind == record.Drift:
			b.slotRow(r.Document, "record.repaired", j.Why)
		case j.Kind == record.Restore:
			b.restore(ctx, r.Document, j)
		}
	}
	return nil
}

// there are the files of the branch as if others had made them all.
func (b *branch) there() map[string]gitrepo.Changed {
	out := map[string]gitrepo.Changed{}
	for path, text := range b.files {
		out[path] = gitrepo.Changed{Path: path, After: text}
	}
	return out
}

// merges tells of pull requests of ours that others merged, and takes them out of the
// edits: what is approved is a record, and what is not is undone, in the name of who did it.
func (b *branch) merges(edits map[string]gitrepo.Changed) error {
	for _, p := range b.records.Proposed {
		text, err := p.Document.Render()
		if err != nil {
			return err
		}
		path := p.Document.Path()
		if e, touched := edits[path]; !touched || !bytes.Equal(e.After, text) {
			continue
		}
		delete(edits, path)
		if !p.Approved {
			b.slotRow(p.Document, "record.bypassed", fmt.Sprintf("pull request %d was merged although plan %s is not approved; it is undone and nothing runs by it", p.Number, short(p.Document.PlanDigest)))
		}
	}
	return nil
}

// ours takes out of the edits what the merges of our own pull requests brought since our
// last commit: their promotions may have ended since, and what was recorded then is
// nobody's wish to go back there. What somebody made of it afterwards is an edit.
func (b *branch) ours(ctx context.Context, edits map[string]gitrepo.Changed) error {
	for _, m := range b.records.Merges {
		path := record.Record{Environment: m.Environment, Deployment: m.Deployment}.Path()
		e, touched := edits[path]
		if !touched || e.Odd != "" {
			continue
		}
		before, err := b.repo.Ancestor(ctx, m.Commit, b.records.Tip)
		if err != nil {
			return err
		}
		since, err := b.repo.Ancestor(ctx, m.Commit, b.theirs)
		if err != nil {
			return err
		}
		if before || !since {
			continue
		}
		tree, err := b.repo.Tree(ctx, m.Commit, []string{record.Folder + "/" + m.Environment}, gitrepo.Limits{FileBytes: record.MaxBytes})
		if err != nil {
			return err
		}
		if f, ok := tree.Files[path]; ok && bytes.Equal(f.Content, e.After) {
			delete(edits, path)
		}
	}
	return nil
}

// edits are the files that others touched, by path. When our last commit is gone
// for good, those are all that are not as they are to be.
func (b *branch) edits(ctx context.Context) (map[string]gitrepo.Changed, error) {
	limits := gitrepo.Limits{FileBytes: record.MaxBytes}
	changed, err := b.repo.Diff(ctx, b.records.Tip, b.theirs, record.Folder, limits)
	gone := errors.Is(err, gitrepo.ErrNoCommit)
	if gone {
		changed, err = b.repo.Diff(ctx, "", b.theirs, record.Folder, limits)
	}
	if err != nil {
		return nil, err
	}
	edits := map[string]gitrepo.Changed{}
	for _, c := range changed {
		edits[c.Path] = c
	}
	for _, r := range b.records.All {
		path := r.Document.Path()
		if text, err := r.Document.Render(); gone && err == nil && bytes.Equal(edits[path].After, text) {
			delete(edits, path)
		}
	}
	return edits, nil
}

func (b *branch) former(ctx context.Context, r record.Record) ([]record.Pair, error) {
	formers, err := b.engine.store.Formers(ctx, b.records.Tenant, r.Environment, r.Deployment)
	if err != nil {
		return nil, err
	}
	var out []record.Pair
	seen := map[string]bool{}
	for _, f := range formers {
		if key := f.Release + f.Plan; !seen[key] && len(out) <= promotion.MaxFormers {
			seen[key] = true
			out = append(out, record.Pair{Release: f.Release, ReleaseDigest: f.Digest, PlanDigest: f.Plan, Artifact: f.Artifact, Held: f.Held})
		}
	}
	return out, nil
}

// restore begins what an edit asks for. Who may push to the records' branch may
// roll back: the Git server has asked the authoriser.
func (b *branch) restore(ctx context.Context, r record.Record, j record.Judgement) {
	_, err := b.engine.Rollback(ctx, Rollback{
		Tenant: b.records.Tenant, Deployment: r.Deployment, Environments: []string{r.Environment}, Release: j.Release,
		By: audit.Actor{Kind: audit.Person, Name: "git"}, Reason: fmt.Sprintf("commit %.12s on %s", b.theirs, record.Branch), Kind: "edit",
	})
	switch {
	case err == nil:
		b.slotRow(r, "record.restore", "an edit asks for release "+j.Release+": "+j.Why)
	case errors.Is(err, store.ErrConflict) && strings.Contains(err.Error(), "is going back already"): // by a step that died after it began
		b.slotRow(r, "record.restore", "an edit asks for release "+j.Release+", which is coming back")
	default:
		b.slotRow(r, "record.refused", fmt.Sprintf("an edit asks for release %s: %v", j.Release, err))
	}
}

// write commits every record that the branch does not have, and takes away what is
// none. It answers the tip afterwards.
func (b *branch) write(ctx context.Context) (string, error) {
	var changes []gitrepo.Change
	at, names := time.Time{}, []string{}
	wanted := map[string]bool{}
	for _, r := range b.records.All {
		text, err := r.Document.Render()
		if err != nil {
			return "", err
		}
		path := r.Document.Path()
		wanted[path] = true
		if r.Document.At.After(at) {
			at = r.Document.At
		}
		if string(b.files[path]) != string(text) && !b.approved(path) {
			changes = append(changes, gitrepo.Change{Path: path, Content: text})
			names = append(names, said(r.Document))
		}
	}
	for _, p := range b.records.Proposed { // the first of its slot has no record yet
		wanted[p.Document.Path()] = wanted[p.Document.Path()] || b.approved(p.Document.Path())
		if p.Document.At.After(at) {
			at = p.Document.At
		}
	}
	for path := range b.files {
		if _, _, isRecord := record.Slot(path); !wanted[path] && isRecord {
			changes = append(changes, gitrepo.Change{Path: path})
			names = append(names, "not a record of ours: "+path)
		}
	}
	if len(changes) == 0 && b.tip != "" {
		return b.tip, nil
	}
	return b.engine.commit(ctx, b.records.Tenant, b.records.Repository, b.repo, changes, gitrepo.CommitOptions{
		Branch: record.Branch, Expect: b.tip, Name: "HotSwap", Email: recordEmail, At: at, Sign: b.engine.options.Sign,
		Message: subject(names) + "\n",
	})
}

// approved reports whether a file is what an approved pull request of ours brought: its
// promotion is about to begin.
func (b *branch) approved(path string) bool {
	for _, p := range b.records.Proposed {
		if text, err := p.Document.Render(); p.Approved && err == nil && p.Document.Path() == path && bytes.Equal(b.files[path], text) {
			return true
		}
	}
	return false
}

// said is a record in a line of a commit's message.
func said(r record.Record) string {
	what := "nothing runs"
	if r.Module.Name != "" {
		what = r.Module.Name + " " + r.Module.Version
	}
	return fmt.Sprintf("%s/%s: %s (%s %s)", r.Environment, r.Deployment, what, r.Promotion, r.State)
}

// subject is the message of a commit: one line for one record, a list for more.
func subject(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return fmt.Sprintf("%d records\n\n%s", len(names), strings.Join(names, "\n"))
}

func (b *branch) row(action, reason string) {
	b.rows = append(b.rows, audit.Row{
		ID: fmt.Sprintf("records/%s/%s/%s/%s", b.records.Repository, action, b.records.Tip, b.theirs), Tenant: b.records.Tenant, At: b.records.Now, Actor: deliverer,
		Action: action, Subject: "records of " + b.records.Repository, Reason: reason,
	})
}

func (b *branch) slotRow(r record.Record, action, reason string) {
	b.rows = append(b.rows, audit.Row{
		ID:     fmt.Sprintf("records/%s/%s/%s/%s/%s", b.records.Repository, action, r.Environment, r.Deployment, b.theirs),
		Tenant: b.records.Tenant, At: b.records.Now, Actor: deliverer, Action: action, Subject: "slot " + r.Environment + "/" + r.Deployment, Reason: reason,
		Attributes: map[string]string{"commit": b.theirs, "environment": r.Environment, "deployment": r.Deployment},
	})
}
