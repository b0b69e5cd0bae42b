package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/store"
)

// maxCommits is how many commits one sync reads. When there are more, the row
// is due again at once: each sync is one transaction of bounded size.
const maxCommits = 20

// repository reads a branch from the commit that was synced last to its tip and
// turns what changed into releases. It depends on Git and on what is stored
// only, so a lost, late or doubled webhook makes no difference.
func (e *Engine) repository(ctx context.Context, c store.Claim) error {
	r, err := e.store.LoadRepository(ctx, c.Tenant, c.ID)
	if err != nil {
		return err
	}
	later := r.Now.Add(e.options.Reconcile)
	repo, err := e.fetch(ctx, r.Tenant, r.Name, r.Branch)
	if err != nil {
		return err
	}
	tip, err := repo.Tip(ctx, r.Branch)
	if errors.Is(err, gitrepo.ErrNoBranch) || err == nil && tip == r.Synced {
		return e.store.Rest(ctx, c, later)
	}
	if err != nil {
		return err
	}
	y, err := e.read(ctx, repo, r, tip)
	if err != nil {
		return err
	}
	y.Wake = later
	if y.To != tip {
		y.Wake = r.Now
	}
	return e.store.CommitSync(ctx, c, r, y)
}

// read returns what came of the commits after r.Synced, at most maxCommits.
func (e *Engine) read(ctx context.Context, repo *gitrepo.Repository, r store.RepositoryState, tip string) (store.Sync, error) {
	commits, forced := []gitrepo.Commit{{SHA: tip}}, false
	if r.Synced != "" { // else the branch is new to us, and its past is not released again
		var err error
		commits, forced, err = repo.FirstParents(ctx, r.Synced, tip, maxCommits)
		switch {
		case unreadable(err): // one of them, and it will stay on the branch: the tip is compared with what was synced
			commits, forced = []gitrepo.Commit{{SHA: tip}}, false
		case err != nil:
			return store.Sync{}, err
		}
	}
	d := e.reader(repo, r)
	d.forced = forced
	if err := d.base(ctx); err != nil {
		return store.Sync{}, err
	}
	for i, c := range commits {
		if i > 0 && late(ctx) {
			break // what was read is stored; the rest is due at once
		}
		if err := d.commit(ctx, c); err != nil {
			return store.Sync{}, fmt.Errorf("commit %.12s: %w", c.SHA, err)
		}
	}
	return d.done(), nil
}

// storeTime is what is kept of a step's deadline to store what was read.
const storeTime = 3 * time.Second

// late reports whether reading must end now.
func late(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ok && time.Until(end) < storeTime
}

// A reader turns the commits of one sync into releases, in order.
type reader struct {
	engine  *Engine
	repo    *gitrepo.Repository
	at      store.RepositoryState
	forced  bool
	lost    bool // the synced commit cannot be read: compare with releases, not with it
	decoded map[string]intent.File
	before  version
	had     []intent.Problem // of before
	sync    store.Sync
	newest  map[string]store.Newest
	// environments are the newest valid ones that were read, by name: a release
	// needs those of its own commit, even if a later one breaks them.
	environments map[string]intent.Environment
	policies     map[string]intent.Policy // the same, of policies
}

func (e *Engine) reader(repo *gitrepo.Repository, at store.RepositoryState) *reader {
	return &reader{
		engine: e, repo: repo, at: at, decoded: map[string]intent.File{},
		environments: map[string]intent.Environment{}, policies: map[string]intent.Policy{},
	}
}

// A version is what a commit says.
type version struct {
	blobs   map[string]string // by path
	skipped map[string]string // why a file was not read, by deployment
	set     *intent.Set
}

// nameOf returns the deployment that a path is the file of.
func nameOf(p string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(p, intent.FolderDeployments+"/")
	return strings.TrimSuffix(rest, path.Ext(rest)), ok
}

// deployments returns the blob of each deployment that has a file; the blobs of
// all of them where several files have one name.
func (v version) deployments() map[string]string {
	out := map[string]string{}
	for _, p := range slices.Sorted(maps.Keys(v.blobs)) {
		if name, ok := nameOf(p); ok {
			out[name] += v.blobs[p]
		}
	}
	return out
}

// policyFiles are the names of policies that have a file, valid or not; nil: it is not known.
func (v version) policyFiles() []string {
	if v.set == nil {
		return nil
	}
	out := []string{}
	for p := range v.blobs {
		if rest, ok := strings.CutPrefix(p, intent.FolderPolicies+"/"); ok {
			out = append(out, strings.TrimSuffix(rest, path.Ext(rest)))
		}
	}
	slices.Sort(out)
	return out
}

// refuses reports whether the version has the deployment and refuses it.
func (v version) refuses(deployment string) bool {
	return v.set != nil && intent.HasErrors(v.set.Problems(deployment))
}

// base reads the commit that was synced last.
func (d *reader) base(ctx context.Context) (err error) {
	d.newest = map[string]store.Newest{}
	if d.at.Synced == "" {
		return nil
	}
	d.before, d.had, err = d.load(ctx, d.at.Synced)
	if errors.Is(err, gitrepo.ErrNoCommit) && d.forced || unreadable(err) {
		d.lost, err = true, nil
	}
	return err
}

// unreadable reports whether a commit is too large or malformed. It will be the
// next time too: it is passed over, and said.
func unreadable(err error) bool {
	return errors.Is(err, gitrepo.ErrLimit) || errors.Is(err, gitrepo.ErrBadName)
}

// load reads what a commit says, decoding each blob once.
func (d *reader) load(ctx context.Context, sha string) (version, []intent.Problem, error) {
	tree, err := d.repo.Tree(ctx, sha, intent.Folders(), gitrepo.Limits{Files: intent.MaxFiles, TotalBytes: intent.MaxTreeBytes})
	if err != nil {
		return version{}, nil, err
	}
	v := version{blobs: map[string]string{}, skipped: map[string]string{}}
	var files []intent.File
	for name, f := range tree.Files {
		key := name + "\x00" + f.Blob
		if _, ok := d.decoded[key]; !ok {
			doc, problems := intent.Decode(name, f.Content)
			d.decoded[key] = intent.File{Document: doc, Problems: problems}
		}
		files = append(files, d.decoded[key])
		v.blobs[name] = f.Blob
	}
	var problems []intent.Problem
	v.set, problems = intent.CheckDocuments(files, d.at.Tenant)
	for _, s := range tree.Skipped {
		v.blobs[s.Path] = "skipped"
		if name, ok := nameOf(s.Path); ok {
			v.skipped[name] = s.Path + " is not read: " + s.Reason
		}
		problems = append(problems, intent.Problem{File: s.Path, Line: 1, Column: 1, Rule: intent.RuleSyntax, Message: "not read: " + s.Reason, Severity: intent.Error})
	}
	return v, problems, nil
}

// commit adds what one commit changed.
func (d *reader) commit(ctx context.Context, c gitrepo.Commit) error {
	now, problems, err := d.load(ctx, c.SHA)
	if unreadable(err) {
		d.sync.To = c.SHA
		d.status(c, false, "nothing was read: "+err.Error(), "")
		return nil
	}
	if err != nil {
		return err
	}
	released, refused, err := d.changes(ctx, c, now)
	if err != nil {
		return err
	}
	switch {
	case len(refused) > 0 || intent.HasErrors(problems):
		names := slices.Sorted(maps.Keys(refused))
		d.status(c, false, summary(problems, released, names), texts(problems, refused))
	default:
		d.status(c, true, fmt.Sprintf("%s valid, %d released", count(len(now.set.Deployments), "intent"), len(released)), "")
	}
	maps.Copy(d.environments, now.set.Environments)
	maps.Copy(d.policies, now.set.Policies)
	d.before, d.sync.To, d.lost = now, c.SHA, false
	return nil
}

// changes releases every intent that changed and is valid, or that was refused
// before and is valid now, and refuses the changed ones that are not: refused
// says why, by name.
func (d *reader) changes(ctx context.Context, c gitrepo.Commit, now version) (released []string, refused map[string]string, err error) {
	before, after := d.before.deployments(), now.deployments()
	var changed []string
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if after[name] != before[name] || d.before.refuses(name) {
			changed = append(changed, name)
		}
	}
	var deleted []string
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, ok := after[name]; !ok {
			deleted = append(deleted, name)
		}
	}
	if len(changed)+len(deleted) == 0 {
		return nil, nil, nil
	}
	if err := d.learn(ctx, append(slices.Clone(changed), deleted...)); err != nil {
		return nil, nil, err
	}
	position, err := d.repo.Position(ctx, c.SHA)
	if err != nil && !unreadable(err) { // behind a commit that cannot be read, generations rise one by one
		return nil, nil, err
	}
	for _, name := range deleted {
		if err := d.remove(ctx, c, name, int64(position)); err != nil {
			return nil, nil, err
		}
	}
	refused = map[string]string{}
	for _, name := range changed {
		if (after[name] == before[name] || d.lost) && d.newest[name].Blob == after[name] {
			continue // released already: what was broken and is whole again is not its own file
		}
		why := d.release(c, now, name, int64(position), after[name])
		switch {
		case why == "":
			released = append(released, name)
		case after[name] != before[name]:
			d.row(c, "intent.refused", name, why)
			refused[name] = why
		}
	}
	return released, refused, nil
}

// learn looks up the newest releases of deployments that were not asked for yet.
func (d *reader) learn(ctx context.Context, names []string) error {
	var ask []string
	for _, n := range names {
		if _, ok := d.newest[n]; !ok {
			ask = append(ask, n)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	found, err := d.engine.store.NewestReleases(ctx, d.at.Tenant, ask)
	maps.Copy(d.newest, found)
	return err
}

// release adds a release of a deployment, or says why the intent is refused.
// Position is the commit's place on the first-parent line.
func (d *reader) release(c gitrepo.Commit, now version, name string, position int64, blob string) (refusal string) {
	if why, ok := now.skipped[name]; ok {
		return why
	}
	for _, p := range now.set.Problems(name) {
		if p.Severity == intent.Error {
			return p.String()
		}
	}
	snapshot, err := now.set.Snapshot(name)
	if err != nil {
		return err.Error()
	}
	digest, err := snapshot.Digest()
	if err != nil {
		return err.Error()
	}
	last := d.newest[name]
	if last.Repository != "" && last.Repository != d.at.Name {
		return fmt.Sprintf("deployment %s belongs to repository %s", name, last.Repository)
	}
	reason := fmt.Sprintf("%s %s in commit %.12s of %s", snapshot.Module.Name, snapshot.Module.Version, c.SHA, d.at.Name)
	d.add(c, name, position, store.NewRelease{Blob: blob, Snapshot: snapshot, Digest: digest}, reason+differences(last.Snapshot, snapshot))
	return ""
}

// add gives a release its generation and its row.
func (d *reader) add(c gitrepo.Commit, name string, position int64, rel store.NewRelease, reason string) {
	// The place on the first-parent line, but never a step back: a forced branch may be shorter.
	rel.Generation = max(position, d.newest[name].Generation+1)
	d.newest[name] = store.Newest{Generation: rel.Generation, Repository: d.at.Name, Blob: rel.Blob, Snapshot: &rel.Snapshot}
	rel.ID, rel.Deployment, rel.Commit = fmt.Sprintf("%s-%d", name, rel.Generation), name, c.SHA
	d.sync.Releases = append(d.sync.Releases, rel)
	d.sync.Rows = append(d.sync.Rows, audit.Row{
		ID: "release/" + rel.ID + "/release.created", Tenant: d.at.Tenant, At: d.at.Now, Actor: validator,
		Action: "release.created", Subject: "release " + rel.ID, Reason: reason,
		Attributes: map[string]string{
			"commit": c.SHA, "repository": d.at.Name, "deployment": name, "releaseDigest": rel.Digest,
			"module": rel.Snapshot.Module.Name, "version": rel.Snapshot.Module.Version, "artifact": rel.Snapshot.Module.Digest,
		},
	})
}

// remove asks for what was released under a deleted intent to be taken away: a
// release of its own, whose every stage waits for a person. Nothing is undeployed
// because a file is gone.
func (d *reader) remove(ctx context.Context, c gitrepo.Commit, name string, position int64) error {
	last, known := d.newest[name]
	if !known || last.Repository != d.at.Name || last.Snapshot.Remove {
		d.row(c, "intent.removed", name, "the intent was deleted; there is nothing to take away")
		return nil
	}
	snapshot := *last.Snapshot
	snapshot.Remove = true
	digest, err := snapshot.Digest()
	if err != nil {
		return err
	}
	d.row(c, "intent.removed", name, "the intent was deleted; what runs is untouched until an operator agrees")
	d.add(c, name, position, store.NewRelease{Snapshot: snapshot, Digest: digest}, fmt.Sprintf("the removal of %s, deleted in commit %.12s of %s", name, c.SHA, d.at.Name))
	return nil
}

// maxDifferences is how many changed fields the row of a release names.
const maxDifferences = 20

// differences says what else than the version a release changes: nothing for the first one.
func differences(before *intent.Snapshot, now intent.Snapshot) string {
	if before == nil || before.Remove {
		return ""
	}
	var parts []string
	for _, x := range intent.DiffSnapshots(*before, now) {
		if len(parts) == maxDifferences {
			parts = append(parts, "…")
			break
		}
		parts = append(parts, x.String())
	}
	if len(parts) == 0 {
		return ""
	}
	return "; " + strings.Join(parts, "; ")
}

// validator is the actor of what validation does by itself.
var validator = audit.Actor{Kind: audit.System, Name: "validate"}

func (d *reader) row(c gitrepo.Commit, action, name, reason string) {
	d.sync.Rows = append(d.sync.Rows, audit.Row{
		// A branch may be forced back to a commit that was told of before: that is a new event.
		ID: fmt.Sprintf("repository/%s/%d/%s/%s/%s", d.at.Name, d.at.Version+1, c.SHA, action, name), Tenant: d.at.Tenant, At: d.at.Now, Actor: validator,
		Action: action, Subject: "intent " + name, Reason: reason,
		Attributes: map[string]string{"commit": c.SHA, "repository": d.at.Name},
	})
}

func (d *reader) status(c gitrepo.Commit, ok bool, description, detail string) {
	d.sync.Statuses = append(d.sync.Statuses, store.CommitStatus{
		Commit: c.SHA, Context: store.ValidateContext, OK: ok, Description: description, Detail: detail,
	})
}

// done closes the sync: the environments as they are now, and its own row.
func (d *reader) done() store.Sync {
	for _, name := range slices.Sorted(maps.Keys(d.environments)) {
		d.sync.Environments = append(d.sync.Environments, d.environments[name])
	}
	d.sync.PolicyFiles = d.before.policyFiles()
	for _, name := range d.sync.PolicyFiles {
		if p, ok := d.policies[name]; ok {
			d.sync.Policies = append(d.sync.Policies, p)
		}
	}
	action, reason := "repository.synced", fmt.Sprintf("read to commit %.12s", d.sync.To)
	if d.forced {
		action, reason = "repository.forced", fmt.Sprintf("the branch was forced from %.12s to %.12s", d.at.Synced, d.sync.To)
	}
	d.sync.Rows = append(d.sync.Rows, audit.Row{
		ID: fmt.Sprintf("repository/%s/%d", d.at.Name, d.at.Version+1), Tenant: d.at.Tenant, At: d.at.Now, Actor: validator,
		Action: action, Subject: "repository " + d.at.Name, Reason: reason,
		Attributes: map[string]string{"from": d.at.Synced, "to": d.sync.To, "branch": d.at.Branch},
	})
	return d.sync
}

// summary is the one line of a failed status.
func summary(problems []intent.Problem, released, refused []string) string {
	n := 0
	for _, p := range problems {
		if p.Severity == intent.Error {
			n++
		}
	}
	s := count(n, "problem")
	if len(refused) > 0 {
		s += "; refused: " + strings.Join(refused, ", ")
	}
	if len(released) > 0 {
		s += "; released: " + strings.Join(released, ", ")
	}
	return s + "; what runs is untouched by what was refused"
}

// count returns "1 intent", "2 intents".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// maxDetail bounds the text of a status, in bytes.
const maxDetail = 30_000

// texts are the problems as lint shows them, then what else was refused and why.
func texts(problems []intent.Problem, refused map[string]string) string {
	var b strings.Builder
	said := map[string]bool{}
	for _, p := range problems {
		if b.Len() > maxDetail {
			b.WriteString("…\n")
			break
		}
		b.WriteString(p.Text())
		b.WriteString("\n")
		said[p.String()] = true
	}
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		if why := refused[name]; !said[why] && b.Len() <= maxDetail {
			fmt.Fprintf(&b, "refused %s: %s\n", name, why)
		}
	}
	return b.String()
}
