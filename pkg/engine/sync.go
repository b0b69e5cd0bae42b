package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	repo, err := e.open(r.Tenant, r.Name)
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
		if commits, forced, err = repo.FirstParents(ctx, r.Synced, tip, maxCommits); err != nil {
			return store.Sync{}, err
		}
	}
	d := &reader{engine: e, repo: repo, at: r, forced: forced, decoded: map[string]intent.File{}}
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
	lost    bool // the synced commit is gone: compare with releases, not with blobs
	decoded map[string]intent.File
	before  version
	sync    store.Sync
	newest  map[string]store.Newest
}

// A version is what a commit says.
type version struct {
	blobs map[string]string // by path
	set   *intent.Set
}

// deployments returns the names of the deployments that have a file.
func (v version) deployments() map[string]string {
	out := map[string]string{}
	for path, blob := range v.blobs {
		if rest, ok := strings.CutPrefix(path, intent.FolderDeployments+"/"); ok {
			name, _, _ := strings.Cut(rest, ".")
			out[name] = blob
		}
	}
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
	d.before, _, err = d.load(ctx, d.at.Synced)
	if errors.Is(err, gitrepo.ErrNoCommit) && d.forced {
		d.lost, err = true, nil
	}
	return err
}

// load reads what a commit says, decoding each blob once.
func (d *reader) load(ctx context.Context, sha string) (version, []intent.Problem, error) {
	tree, err := d.repo.Tree(ctx, sha, intent.Folders(), gitrepo.Limits{})
	if err != nil {
		return version{}, nil, err
	}
	v := version{blobs: map[string]string{}}
	var files []intent.File
	for path, f := range tree.Files {
		key := path + "\x00" + f.Blob
		if _, ok := d.decoded[key]; !ok {
			doc, problems := intent.Decode(path, f.Content)
			d.decoded[key] = intent.File{Document: doc, Problems: problems}
		}
		files = append(files, d.decoded[key])
		v.blobs[path] = f.Blob
	}
	var problems []intent.Problem
	v.set, problems = intent.CheckDocuments(files, d.at.Tenant)
	for _, s := range tree.Skipped {
		v.blobs[s.Path] = "skipped"
		problems = append(problems, intent.Problem{File: s.Path, Line: 1, Column: 1, Rule: intent.RuleSyntax, Message: "not read: " + s.Reason, Severity: intent.Error})
	}
	return v, problems, nil
}

// commit adds what one commit changed.
func (d *reader) commit(ctx context.Context, c gitrepo.Commit) error {
	now, problems, err := d.load(ctx, c.SHA)
	if errors.Is(err, gitrepo.ErrLimit) {
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
		d.status(c, false, summary(problems, released, refused), texts(problems))
	default:
		d.status(c, true, fmt.Sprintf("%d intents valid, %d released", len(now.set.Deployments), len(released)), "")
	}
	d.before, d.sync.To = now, c.SHA
	return nil
}

// changes releases every intent that changed and is valid, or that was refused
// before and is valid now, and refuses the changed ones that are not.
func (d *reader) changes(ctx context.Context, c gitrepo.Commit, now version) (released, refused []string, err error) {
	before, after := d.before.deployments(), now.deployments()
	var changed []string
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if after[name] != before[name] || d.before.refuses(name) {
			changed = append(changed, name)
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			d.row(c, "intent.removed", name, "the intent was deleted; what runs is untouched")
		}
	}
	if err := d.learn(ctx, changed); err != nil {
		return nil, nil, err
	}
	for _, name := range changed {
		why, ok := d.release(ctx, c, now, name)
		switch {
		case !ok && after[name] != before[name]:
			d.row(c, "intent.refused", name, why)
			refused = append(refused, name)
		case ok && why == "":
			released = append(released, name)
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

// release adds a release of a deployment, or says why not: ok is false when the
// intent is refused; a reason with ok means that there is nothing new.
func (d *reader) release(ctx context.Context, c gitrepo.Commit, now version, name string) (why string, ok bool) {
	for _, p := range now.set.Problems(name) {
		if p.Severity == intent.Error {
			return p.String(), false
		}
	}
	snapshot, err := now.set.Snapshot(name)
	if err != nil {
		return err.Error(), false
	}
	digest, err := snapshot.Digest()
	if err != nil {
		return err.Error(), false
	}
	last := d.newest[name]
	if last.Repository != "" && last.Repository != d.at.Name {
		return fmt.Sprintf("deployment %s belongs to repository %s", name, last.Repository), false
	}
	if d.lost && last.Digest == digest {
		return "unchanged", true
	}
	position, err := d.repo.Position(ctx, c.SHA)
	if err != nil {
		return err.Error(), false
	}
	// The place on the first-parent line, but never a step back: a forced branch may be shorter.
	generation := max(int64(position), last.Generation+1)
	d.newest[name] = store.Newest{Generation: generation, Repository: d.at.Name, Digest: digest}
	rel := store.NewRelease{
		ID: fmt.Sprintf("%s-%d", name, generation), Deployment: name, Generation: generation,
		Commit: c.SHA, Snapshot: snapshot, Digest: digest,
	}
	d.sync.Releases = append(d.sync.Releases, rel)
	d.sync.Rows = append(d.sync.Rows, audit.Row{
		ID: "release/" + rel.ID + "/release.created", Tenant: d.at.Tenant, At: d.at.Now, Actor: validator,
		Action: "release.created", Subject: "release " + rel.ID,
		Reason: fmt.Sprintf("%s %s in commit %.12s of %s", snapshot.Module.Name, snapshot.Module.Version, c.SHA, d.at.Name),
		Attributes: map[string]string{
			"commit": c.SHA, "repository": d.at.Name, "deployment": name, "releaseDigest": digest,
			"module": snapshot.Module.Name, "version": snapshot.Module.Version, "artifact": snapshot.Module.Digest,
		},
	})
	return "", true
}

// validator is the actor of what validation does by itself.
var validator = audit.Actor{Kind: audit.System, Name: "validate"}

func (d *reader) row(c gitrepo.Commit, action, name, reason string) {
	d.sync.Rows = append(d.sync.Rows, audit.Row{
		ID: fmt.Sprintf("commit/%s/%s/%s/%s", d.at.Name, c.SHA, action, name), Tenant: d.at.Tenant, At: d.at.Now, Actor: validator,
		Action: action, Subject: "intent " + name, Reason: reason,
		Attributes: map[string]string{"commit": c.SHA, "repository": d.at.Name},
	})
}

func (d *reader) status(c gitrepo.Commit, ok bool, description, detail string) {
	d.sync.Statuses = append(d.sync.Statuses, store.CommitStatus{
		Commit: c.SHA, Context: "hotswap/validate", OK: ok, Description: description, Detail: detail,
	})
}

// done closes the sync: the environments as they are now, and its own row.
func (d *reader) done() store.Sync {
	if d.before.set != nil {
		for _, name := range slices.Sorted(maps.Keys(d.before.set.Environments)) {
			d.sync.Environments = append(d.sync.Environments, d.before.set.Environments[name])
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
	s := fmt.Sprintf("%d problems", n)
	if n == 1 {
		s = "1 problem"
	}
	if len(refused) > 0 {
		s += "; refused: " + strings.Join(refused, ", ")
	}
	if len(released) > 0 {
		s += "; released: " + strings.Join(released, ", ")
	}
	return s + "; what runs is untouched by what was refused"
}

// maxDetail bounds the text of a status, in bytes.
const maxDetail = 30_000

func texts(problems []intent.Problem) string {
	var b strings.Builder
	for _, p := range problems {
		if b.Len() > maxDetail {
			b.WriteString("…\n")
			break
		}
		b.WriteString(p.Text())
		b.WriteString("\n")
	}
	return b.String()
}

// maxAttempts is how often a delivery is tried before it is dead.
const maxAttempts = 20

// delivery looks at one webhook: it wakes the repository that it is about.
func (e *Engine) delivery(ctx context.Context, c store.Claim) error {
	d, pending, err := e.store.LoadDelivery(ctx, c)
	if err != nil {
		return err
	}
	if !pending { // settled, and the answer was lost
		return e.store.Settle(ctx, c, d, store.Settlement{Note: "settled before"})
	}
	return e.store.Settle(ctx, c, d, settle(d, c))
}

func settle(d store.Delivery, c store.Claim) store.Settlement {
	dead := func(why string) store.Settlement {
		return store.Settlement{Dead: true, Note: why, Rows: func(now time.Time) []audit.Row {
			return []audit.Row{{
				ID: "delivery/" + d.Source + "/" + d.ID + "/dead", Tenant: d.Tenant, At: now, Actor: validator,
				Action: "delivery.abandoned", Subject: "delivery " + d.Source + "/" + d.ID, Reason: why,
			}}
		}}
	}
	if c.Attempts >= maxAttempts {
		return dead(fmt.Sprintf("given up after %d attempts", c.Attempts))
	}
	return interpret(d, dead)
}
