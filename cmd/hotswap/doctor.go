package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/forge/builtin"
	"hotswap.dev/hotswap/pkg/store"
)

// Bounds of what the doctor calls ill.
const (
	silentAfter = 30 * time.Second // a node that has not reported
	maxSkew     = 2 * time.Second  // between our clock and the database's
	staleRow    = 2 * time.Minute  // an audit row without a leaf
	partTime    = 10 * time.Second // of one examination
)

func doctorCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Examine an installation: what is wrong, why, and the command that mends it",
		Long: "Examine an installation from the machine that it runs on: data folder, Git, PostgreSQL, functions, forge,\n" +
			"work that nobody takes, nodes that are silent, the audit trail. Nothing is changed.\n\n" +
			"Exit code: 0 nothing is wrong (warnings are allowed), 1 something is.",
		Example: "  hotswap doctor\n" +
			"  hotswap doctor -o json --data /var/lib/hotswap",
		Args: usageArgs(cobra.NoArgs),
	}
	data, output := dataFlag(c), outputFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := output.check(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.Context(), commandTime)
		defer cancel()
		found := examine(ctx, *data)
		var err error
		if output.value == "json" {
			err = writeJSON(c.OutOrStdout(), found)
		} else {
			err = writeExamination(c.OutOrStdout(), found)
		}
		if err == nil && slices.ContainsFunc(found, func(x examination) bool { return x.State == ill }) {
			err = exitError{code: exitFailed}
		}
		return err
	}
	return c
}

// What an examination comes to.
const (
	well    = "ok"
	warning = "warning"
	ill     = "failed"
)

// An examination is one line of what the doctor says.
type examination struct {
	Part  string `json:"part"`
	State string `json:"state"` // ok, warning or failed
	Says  string `json:"says"`
	Why   string `json:"why,omitempty"` // what follows from it
	Do    string `json:"do,omitempty"`  // the command that mends it, or the next look
	See   string `json:"see,omitempty"` // where the documentation tells more
}

// A doctor collects what is found, part by part.
type doctor struct {
	part  string
	found []examination
}

func (d *doctor) ok(format string, args ...any) {
	d.found = append(d.found, examination{Part: d.part, State: well, Says: fmt.Sprintf(format, args...)})
}

func (d *doctor) bad(state, says, why, do, see string) {
	d.found = append(d.found, examination{Part: d.part, State: state, Says: says, Why: why, Do: do, See: see})
}

// examine looks at every part of an installation. Without its data folder or its database there
// is nothing more to look at.
func examine(ctx context.Context, data string) []examination {
	d := &doctor{}
	d.git(ctx)
	d.part = "data folder"
	in, err := openInstallation(ctx, data)
	if err != nil {
		d.closed(data, err)
		return d.found
	}
	defer in.store.Close()
	if err := in.may(ctx, auth.PromotionRead, "promotions"); err != nil {
		d.bad(ill, "not allowed to look", err.Error(), "run this as the user that hotswap serve runs as", "docs/how-to/run-on-one-machine.md")
		return d.found
	}
	d.ok("%s is readable by its owner only; its keys are there", data)
	for _, look := range []func(context.Context, *installation){d.database, d.functions, d.repository, d.forge, d.nodes} {
		within, cancel := context.WithTimeout(ctx, partTime)
		look(within, in)
		cancel()
	}
	return d.found
}

// closed says why an installation cannot be opened.
func (d *doctor) closed(data string, err error) {
	var exit exitError
	if errors.As(err, &exit) && exit.code == exitAuth {
		d.bad(ill, "the secrets cannot be read", err.Error(), "run this as the user that hotswap serve runs as", "docs/how-to/run-on-one-machine.md")
		return
	}
	d.bad(ill, "the installation cannot be opened", err.Error(), "hotswap serve --data "+data, "docs/how-to/run-on-one-machine.md")
}

// minGit is the first version that merges without a work tree.
var minGit = [2]int{2, 38}

func (d *doctor) git(ctx context.Context) {
	d.part = "git"
	ctx, cancel := context.WithTimeout(ctx, partTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, "git", "version").Output()
	var have [2]int
	if err == nil {
		_, err = fmt.Sscanf(strings.TrimSpace(string(out)), "git version %d.%d", &have[0], &have[1])
	}
	switch {
	case err != nil:
		d.bad(ill, "git does not answer", err.Error(), "install git", "README.md")
	case slices.Compare(have[:], minGit[:]) < 0:
		d.bad(ill, fmt.Sprintf("git %d.%d is too old", have[0], have[1]), "the built-in forge merges with git merge-tree --write-tree", fmt.Sprintf("install git %d.%d or newer", minGit[0], minGit[1]), "README.md")
	default:
		d.ok("%s", strings.TrimSpace(string(out)))
	}
}

func (d *doctor) database(ctx context.Context, in *installation) {
	d.part = "database"
	began := time.Now()
	h, err := in.store.Health(ctx, in.Tenant)
	took := time.Since(began)
	if err != nil {
		d.bad(ill, "PostgreSQL does not answer", err.Error(), "hotswap serve starts it, if it is its own; else see its log", "docs/runbooks/postgresql-down.md#diagnosis")
		return
	}
	d.health(h, took)
}

// health says what the database said, which answered after took.
func (d *doctor) health(h store.Health, took time.Duration) {
	d.part = "database"
	d.ok("PostgreSQL %s answers in %d ms", h.Version, took.Milliseconds())
	if h.ReadOnly {
		d.bad(ill, "it takes no writes", "nothing goes on: it is a standby, or set read-only", "point --database-url-file at the primary", "docs/runbooks/postgresql-down.md#mitigation")
	}
	if h.Bypasses {
		d.bad(ill, "our role sees every tenant's rows", "row level security does not bind a superuser or a role with BYPASSRLS", "connect as hotswap_app", "docs/how-to/existing-postgresql.md")
	}
	if skew := time.Since(h.Now).Abs(); skew > maxSkew+took {
		d.bad(warning, fmt.Sprintf("its clock and ours differ by %s", skew.Round(time.Second)), "bearer tokens are refused early or late; deadlines are the database's", "synchronise the clocks", "docs/how-to/existing-postgresql.md")
	}
	d.work(h)
	d.trail(h)
}

func (d *doctor) functions(ctx context.Context, in *installation) {
	d.part = "functions"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, in.URL+"/healthz", nil)
	if err == nil {
		var resp *http.Response
		if resp, err = http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				err = errors.New(resp.Status)
			}
		}
	}
	if err != nil {
		d.bad(ill, "the gateway does not answer at "+in.URL, err.Error(), "hotswap serve", "docs/how-to/run-on-one-machine.md")
		return
	}
	d.ok("the gateway answers at %s", in.URL)
}

func (d *doctor) work(h store.Health) {
	d.part = "work"
	for _, w := range h.Overdue {
		d.bad(ill, fmt.Sprintf("%s: %d due for up to %s, and taken by nobody", w.Kind, w.Count, w.Oldest.Round(time.Second)),
			"the function that does this is not woken, or all of them are busy", "see the log of hotswap serve; its cron wakes every function", "docs/runbooks/promotion-waits.md#diagnosis")
	}
	for _, w := range h.Failing {
		d.bad(warning, fmt.Sprintf("%s %s failed %d times in a row", w.Kind, w.ID, w.Attempts), "it is tried again with growing pauses", "hotswap status", "docs/runbooks/promotion-waits.md#diagnosis")
	}
	for _, key := range h.Uncertain {
		d.bad(ill, "it is not known whether "+key+" was done", "the forge was asked and has not answered since", "look at the pull request: hotswap pr list", "docs/how-to/reviews.md")
	}
	if h.Dead > 0 {
		d.bad(warning, fmt.Sprintf("%d webhooks of the last day could not be understood", h.Dead), "a reconcile finds what they were about, a minute later", "hotswap audit list --limit 100", "docs/runbooks/promotion-waits.md#diagnosis")
	}
	if len(h.Overdue)+len(h.Failing)+len(h.Uncertain) == 0 {
		d.ok("nothing that is due is left undone")
	}
}

func (d *doctor) repository(ctx context.Context, in *installation) {
	d.part = "repository"
	rows, err := in.store.Repositories(ctx, in.Tenant)
	if err != nil {
		d.bad(ill, "repositories cannot be listed", err.Error(), "hotswap status", "docs/runbooks/postgresql-down.md#diagnosis")
		return
	}
	for _, r := range rows {
		switch {
		case r.Waiting != nil:
			d.bad(ill, "repository "+r.Name+" cannot be read", cmp.Or(r.Waiting.Evidence, r.Waiting.What), "hotswap status", "docs/runbooks/promotion-waits.md#diagnosis")
		case r.Synced == "":
			d.bad(warning, "branch "+r.Branch+" of repository "+r.Name+" has no commit yet", "nothing is released before there is one", "push to "+r.Branch, "README.md")
		default:
			d.ok("repository %s is read to commit %.12s of %s", r.Name, r.Synced, r.Branch)
		}
	}
	said, err := in.store.Statuses(ctx, in.Tenant, in.Repository, 1000)
	if err != nil {
		d.bad(ill, "what was said of commits cannot be read", err.Error(), "hotswap status", "docs/runbooks/postgresql-down.md#diagnosis")
		return
	}
	for _, s := range said {
		for _, r := range rows {
			if s.Commit == r.Synced && s.Context == store.ValidateContext && !s.OK {
				d.bad(warning, "the newest commit of "+r.Name+" is not valid: "+s.Description, "what runs is untouched by that", "hotswap lint", "docs/reference/rules.md")
			}
		}
	}
}

func (d *doctor) forge(ctx context.Context, in *installation) {
	d.part = "forge"
	if in.Gitea != nil {
		d.foreign(ctx, in)
		return
	}
	own, err := in.store.Account(ctx, in.Tenant, builtin.Own)
	if err != nil {
		d.bad(warning, "the built-in forge has no account of ours", err.Error(), "hotswap serve makes it", "docs/how-to/reviews.md")
		return
	}
	p, err := in.store.AccountPermission(ctx, in.Tenant, in.Repository, own.ID)
	switch {
	case err != nil:
		d.bad(ill, "our account's permission cannot be read", err.Error(), "hotswap status", "docs/how-to/reviews.md")
	case p != approval.Admin:
		d.bad(ill, "our account may only "+string(p)+" in "+in.Repository, "it merges promotion pull requests", "restart hotswap serve, which puts it right", "docs/how-to/reviews.md")
	default:
		d.ok("account %s administers %s", own.Login, in.Repository)
	}
}

// foreign asks the Gitea that is worked with.
func (d *doctor) foreign(ctx context.Context, in *installation) {
	const see = "docs/how-to/gitea.md"
	g, err := openGitea(in.dir, *in.Gitea, in.Tenant)
	if err != nil {
		d.bad(ill, "the forge cannot be opened", err.Error(), "restart hotswap serve when that is mended", see)
		return
	}
	r, err := g.Repository(ctx, g.at.Repository)
	switch {
	case err != nil:
		d.bad(ill, g.at.URL+" does not tell of "+g.at.Repository, err.Error(), "look whether it runs, and whether the token in secrets/"+giteaToken+" is still good", see)
	case r.Own != approval.Admin:
		d.bad(ill, "our account may only "+string(r.Own)+" in "+g.at.Repository, "what reviewers may do there cannot be asked", "make it an administrator of the repository", see)
	case r.Archived:
		d.bad(ill, g.at.Repository+" is archived", "nothing can be merged there", "unarchive it", see)
	default:
		d.ok("our account administers %s at %s", g.at.Repository, g.at.URL)
	}
}

func (d *doctor) nodes(ctx context.Context, in *installation) {
	d.part = "nodes"
	all, err := in.store.Nodes(ctx, in.Tenant)
	if err != nil {
		d.bad(ill, "nodes cannot be listed", err.Error(), "hotswap status", "docs/runbooks/postgresql-down.md#diagnosis")
		return
	}
	d.reports(all, time.Now())
}

// reports says which nodes report.
func (d *doctor) reports(all []store.NodeRow, now time.Time) {
	silent := 0
	for _, n := range all {
		if n.LastSeen != nil && now.Sub(*n.LastSeen) <= silentAfter {
			continue
		}
		silent++
		since := "has never reported"
		if n.LastSeen != nil {
			since = "has not reported since " + clock(*n.LastSeen)
		}
		d.bad(ill, "node "+n.Name+" "+since, "its units cannot be changed, and promotions there wait", "on the node: systemctl status hotswap-node", "docs/runbooks/node-silent.md#diagnosis")
	}
	switch {
	case len(all) == 0:
		d.bad(warning, "no node has joined", "there is nothing to roll out to", "hotswap join-token create node-1.token --label environment=production", "docs/how-to/join-a-node.md")
	case silent == 0:
		d.ok("%d nodes report", len(all))
	}
}

func (d *doctor) trail(h store.Health) {
	d.part = "audit trail"
	if h.Unsequenced > 0 && h.Now.Sub(h.OldestRow) > staleRow {
		d.bad(ill, fmt.Sprintf("%d rows wait for their place since %s", h.Unsequenced, clock(h.OldestRow)), "nobody could prove yet that one of them is missing", "see the log of hotswap serve", "docs/how-to/verify-the-audit-trail.md")
		return
	}
	d.ok("every row has its place; hotswap audit verify checks them all")
}

// writeExamination shows what was found, part by part.
func writeExamination(w io.Writer, found []examination) error {
	var b strings.Builder
	part, count := "", map[string]int{}
	for _, x := range found {
		if x.Part != part {
			part = x.Part
			fmt.Fprintf(&b, "%s\n", part)
		}
		count[x.State]++
		fmt.Fprintf(&b, "  %-8s %s\n", x.State, oneLine(x.Says))
		for _, line := range [][2]string{{"why", x.Why}, {"do", x.Do}, {"see", x.See}} {
			if line[1] != "" {
				fmt.Fprintf(&b, "           %-4s %s\n", line[0], oneLine(line[1]))
			}
		}
	}
	fmt.Fprintf(&b, "\n%d ok, %d warnings, %d failed\n", count[well], count[warning], count[ill])
	_, err := io.WriteString(w, b.String())
	return err
}
