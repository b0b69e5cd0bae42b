package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/intent"
)

// exitDiffers is what `hotswap diff` ends with when something differs, as diff(1)
// does. Every error of it is above.
const exitDiffers = 1

func diffCommand() *cobra.Command {
	output, ask := "text", diffQuestion{against: "HEAD"}
	c := &cobra.Command{
		Use:   "diff [PATH]",
		Short: "Show what changed files mean for each deployment and environment",
		Long: "Compare the files of a repository with a revision of Git, by what they mean: the module, the effective\n" +
			"configuration of each environment, the pipeline, and the environments themselves. For each deployment\n" +
			"it is said whether a commit of these files is a release. Nothing is sent anywhere.\n\n" +
			"Exit code: 0 nothing differs, 1 something does, 2 it could not be compared, 3 an intent is invalid, 6 timed out.",
		Example: "  # what the files of the current folder change\n  hotswap diff || test $? -eq 1\n\n" +
			"  # against the commit before, for another program\n  hotswap diff --against HEAD~1 -o json || test $? -eq 1",
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return usagef("unknown output %q; it is text or json", output)
			}
			root := "."
			if len(args) == 1 {
				root = args[0]
			}
			return runDiff(c.Context(), root, ask, output, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().StringVarP(&output, "output", "o", output, "text or json")
	c.Flags().StringVar(&ask.against, "against", ask.against, "the revision of Git that is compared with")
	c.Flags().StringVar(&ask.deployment, "deployment", "", "compare only this deployment")
	c.Flags().StringVar(&ask.tenant, "tenant", "", "the tenant that the repository belongs to")
	return c
}

// runDiff compares and writes. No error of it ends with [exitDiffers].
func runDiff(ctx context.Context, root string, ask diffQuestion, output string, out, talk io.Writer) error {
	report, refused, err := diffRepository(ctx, root, ask, talk)
	if err == nil && output == "json" {
		err = writeJSON(out, report)
	} else if err == nil {
		_, err = io.WriteString(out, report.text())
	}
	var exit exitError
	switch {
	case errors.As(err, &exit):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return exitError{exitTimedOut, err}
	case err != nil:
		return exitError{exitUsage, err}
	case refused:
		return exitError{code: exitInvalid} // its problems are written
	case len(report.Deployments)+len(report.Environments) > 0:
		return exitError{code: exitDiffers}
	}
	return nil
}

// A diffQuestion is what a diff was asked for.
type diffQuestion struct {
	against    string // revision
	deployment string // "": all
	tenant     string // "": what the documents say
}

// A diffReport is what `hotswap diff -o json` prints: what differs, by name.
type diffReport struct {
	Against      string            `json:"against"`
	Commit       string            `json:"commit"` // that Against names
	Deployments  []deploymentDiff  `json:"deployments"`
	Environments []environmentDiff `json:"environments"`
}

// What became of a document.
const (
	added   = "added"
	changed = "changed"
	removed = "removed"
)

// A deploymentDiff is what differs of one deployment. Released says that its own
// file changed, so that a commit is a release (docs/adr/0010). From and To are
// release digests, empty when there is no valid intent on that side.
type deploymentDiff struct {
	Deployment  string              `json:"deployment"`
	Change      string              `json:"change"`
	Released    bool                `json:"released"`
	From        string              `json:"from,omitempty"`
	To          string              `json:"to,omitempty"`
	Differences []intent.Difference `json:"differences"`
}

// An environmentDiff is what differs of one environment. No release freezes it.
type environmentDiff struct {
	Environment string              `json:"environment"`
	Change      string              `json:"change"`
	Differences []intent.Difference `json:"differences"`
}

// diffRepository compares the files below root with a revision. What is invalid
// now is written to talk, and the rest is compared all the same.
func diffRepository(ctx context.Context, root string, ask diffQuestion, talk io.Writer) (report diffReport, refused bool, err error) {
	repositories, err := openRepositories([]string{root})
	if err != nil {
		return diffReport{}, false, err
	}
	r := repositories[0]
	was, err := readRevision(ctx, r.root, ask.against)
	if err != nil {
		return diffReport{}, false, err
	}
	for _, p := range was.skipped {
		fmt.Fprintf(talk, "skipped %s of %s: it is not a regular file\n", p, ask.against)
	}
	c := comparison{oldTree: was.tree, newTree: r.tree}
	c.old, _ = intent.CheckTree(was.tree, ask.tenant)
	var problems []intent.Problem
	c.new, problems = intent.CheckTree(r.tree, ask.tenant)
	names := union(deploymentNames(was.tree), deploymentNames(r.tree))
	if ask.deployment != "" {
		if !slices.Contains(names, ask.deployment) {
			return diffReport{}, false, usagef("there is no deployment %q in %s, now or at %s; there are: %s", ask.deployment, r.root, ask.against, strings.Join(names, ", "))
		}
		names, problems = []string{ask.deployment}, c.new.Problems(ask.deployment)
	}
	for _, p := range r.asked(problems) {
		fmt.Fprintf(talk, "%s\n\n", p.Text())
	}
	report, err = c.report(names, ask.deployment == "", talk)
	report.Against, report.Commit = ask.against, was.commit
	return report, intent.HasErrors(problems), err
}

// union returns the strings of both, in order, each once.
func union(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// A comparison is two states of a repository.
type comparison struct {
	oldTree, newTree intent.Tree
	old, new         *intent.Set
}

// report compares the named deployments and their environments, or with all
// every environment there is.
func (c comparison) report(names []string, all bool, talk io.Writer) (diffReport, error) {
	out := diffReport{Deployments: []deploymentDiff{}, Environments: []environmentDiff{}}
	concerned := map[string]bool{}
	for _, name := range names {
		was, wasErr := frozen(c.old, name)
		now, nowErr := frozen(c.new, name)
		for _, err := range []error{wasErr, nowErr} {
			if err != nil && !errors.Is(err, intent.ErrInvalid) && !errors.Is(err, intent.ErrUnknownDeployment) {
				return out, err
			}
		}
		for env := range maps.All(was.Configs) {
			concerned[env] = true
		}
		for env := range maps.All(now.Configs) {
			concerned[env] = true
		}
		before, after := documentFile(c.oldTree, intent.FolderDeployments, name), documentFile(c.newTree, intent.FolderDeployments, name)
		if after != nil && nowErr != nil {
			continue // its problems are written
		}
		if before != nil && wasErr != nil {
			fmt.Fprintf(talk, "%s was invalid there: it is compared with nothing\n", name)
		}
		d, err := compareDeployment(name, was, now, before, after)
		if err != nil {
			return out, err
		}
		if d.Released || len(d.Differences) > 0 {
			out.Deployments = append(out.Deployments, d)
		}
	}
	for _, name := range union(slices.Collect(maps.Keys(c.old.Environments)), slices.Collect(maps.Keys(c.new.Environments))) {
		if d, differs := c.environment(name); differs && (all || concerned[name]) {
			out.Environments = append(out.Environments, d)
		}
	}
	return out, nil
}

// frozen is the snapshot of a deployment with a tenant in it.
func frozen(s *intent.Set, name string) (intent.Snapshot, error) {
	snapshot, err := s.Snapshot(name)
	if err == nil && snapshot.Tenant == "" {
		snapshot.Tenant = offlineTenant
	}
	return snapshot, err
}

// documentFile returns the bytes of a document's file with the line ends of Git,
// nil if there is none.
func documentFile(tree intent.Tree, folder, name string) []byte {
	for _, ext := range []string{".yaml", ".yml"} {
		if data, ok := tree[folder+"/"+name+ext]; ok {
			return append([]byte{}, bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))...)
		}
	}
	return nil
}

// compareDeployment compares two freezes of a deployment. One without a
// deployment's name is none; before and after are the files they come from.
func compareDeployment(name string, was, now intent.Snapshot, before, after []byte) (deploymentDiff, error) {
	out := deploymentDiff{Deployment: name, Change: changed, Released: !bytes.Equal(before, after) || was.Deployment == ""}
	var err error
	if was.Deployment != "" {
		if out.From, err = was.Digest(); err != nil {
			return out, err
		}
	}
	switch {
	case after == nil: // the removal is a release of what was, see intent.Snapshot
		out.Change = removed
		now = was
		now.Remove = true
	case was.Deployment == "":
		out.Change = added
	}
	if now.Deployment != "" {
		if out.To, err = now.Digest(); err != nil {
			return out, err
		}
	}
	out.Differences = diffFreezes(was, now)
	return out, nil
}

// diffFreezes returns the differences of two freezes: also those of tenant and
// order of stages, which are part of the release's digest.
func diffFreezes(was, now intent.Snapshot) []intent.Difference {
	out := []intent.Difference{}
	if was.Tenant != now.Tenant {
		out = append(out, intent.Difference{Field: "tenant", From: was.Tenant, To: now.Tenant})
	}
	if from, to := stageNames(was), stageNames(now); from != to {
		out = append(out, intent.Difference{Field: "pipeline.stages", From: from, To: to})
	}
	return append(out, intent.DiffSnapshots(was, now)...)
}

func stageNames(s intent.Snapshot) string {
	var names []string
	for _, stage := range s.Pipeline.Spec.Stages {
		names = append(names, stage.Name)
	}
	return strings.Join(names, ", ")
}

// environment compares an environment.
func (c comparison) environment(name string) (environmentDiff, bool) {
	was, before := c.old.Environments[name]
	now, after := c.new.Environments[name]
	if !after && documentFile(c.newTree, intent.FolderEnvironments, name) != nil {
		return environmentDiff{}, false // its problems are written
	}
	out := environmentDiff{Environment: name, Change: changed, Differences: []intent.Difference{}}
	switch {
	case !before:
		out.Change = added
	case !after:
		out.Change = removed
	}
	from, to := environmentFields(was.Spec), environmentFields(now.Spec)
	for _, field := range union(slices.Collect(maps.Keys(from)), slices.Collect(maps.Keys(to))) {
		if from[field] != to[field] {
			out.Differences = append(out.Differences, intent.Difference{Field: field, From: from[field], To: to[field]})
		}
	}
	return out, len(out.Differences) > 0
}

// environmentFields has a text for each field of an environment that is set.
func environmentFields(e intent.EnvironmentSpec) map[string]string {
	out := map[string]string{"target": e.Target, "clusterLabel": e.ClusterLabel}
	for label, value := range e.Selector {
		out["selector."+label] = value
	}
	if n := e.Limits.PromotionsPerCluster; n != 0 {
		out["limits.promotionsPerCluster"] = strconv.Itoa(n)
	}
	for _, w := range e.Windows {
		b, err := json.Marshal(w)
		if err == nil { // a window is strings alone
			out["windows."+w.Name] = string(b)
		}
	}
	return out
}

// text is the report for people; empty when nothing differs.
func (r diffReport) text() string {
	var parts []string
	for _, d := range r.Deployments {
		parts = append(parts, d.text())
	}
	for _, e := range r.Environments {
		head := fmt.Sprintf("environment %s: %s; it counts at once, without a release", e.Environment, e.Change)
		parts = append(parts, lines(head, e.Differences))
	}
	return strings.Join(parts, "\n")
}

// text leaves the pipeline of a new deployment out: hotswap plan shows it whole.
func (d deploymentDiff) text() string {
	shown := d.Differences
	var head string
	switch {
	case d.Change == removed:
		head = "removed; what runs is taken away stage by stage, each when an operator agrees"
		shown = nil
	case d.Change == added:
		head = "a first release; its stages: hotswap plan --deployment " + d.Deployment
		shown = slices.DeleteFunc(slices.Clone(shown), func(x intent.Difference) bool {
			return strings.HasPrefix(x.Field, "pipeline.") || strings.HasPrefix(x.Field, "analyses.")
		})
	case d.Released && len(d.Differences) == 0:
		head = "a new release of the same content"
	case d.Released:
		head = "a new release"
	default:
		head = "no release, since its own file is the same; its next one takes this along"
	}
	return lines(d.Deployment+": "+head, shown)
}

func lines(head string, differences []intent.Difference) string {
	var b strings.Builder
	b.WriteString(head + "\n")
	for _, d := range differences {
		b.WriteString("  " + d.String() + "\n")
	}
	return b.String()
}
