package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
)

// Bounds of what a pull request shows.
const (
	maxShownCommits     = 20
	maxShownDifferences = 50
)

// body is the text of the pull request: what it does, where that comes from, and what
// the stages before showed. It stays while the plan does.
func (k *keeper) body(ctx context.Context) (string, error) {
	var b strings.Builder
	next, former := k.step.Next, k.step.Former
	fmt.Fprintf(&b, "Merging this takes %s to **%s**. HotSwap merges it when the policy %s is satisfied; a merge by hand without that is undone.\n\n",
		moduleOf(*next), next.Environment, code(next.Spec.Stage.Gates.Approval))
	b.WriteString("| | now | then |\n|---|---|---|\n")
	row := func(name, now, then string) {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, or(now, "–"), or(then, "–"))
	}
	now := promotion.State{Deployment: next.Deployment}
	if former != nil {
		now.Spec.Instance.Module.Name, now.Spec.Instance.Module.Version = former.Snapshot.Module.Name, former.Snapshot.Module.Version
		row("module", moduleOf(now), moduleOf(*next))
		row("release", code(former.ID), code(next.Release))
		row("intent", code(short(former.Commit)), code(short(k.step.Release.Commit)))
	} else {
		row("module", "nothing runs", moduleOf(*next))
		row("release", "", code(next.Release))
		row("intent", "", code(short(k.step.Release.Commit)))
	}
	row("artifact", code(short(now.Spec.Instance.Module.Digest)), code(short(next.Spec.Instance.Module.Digest)))
	row("plan", "", code(short(next.Plan)))
	fmt.Fprintf(&b, "\nStrategy: %s.\n", strategyOf(next.Spec.Stage))
	k.stages(&b)
	k.differences(&b)
	if err := k.commits(ctx, &b); err != nil {
		return "", err
	}
	return cut(b.String(), maxComment), nil
}

// strategyOf is how the units are changed, in a line.
func strategyOf(st intent.Stage) string {
	text := st.Strategy.Type
	if len(st.Strategy.Waves) > 0 {
		text += " in waves of " + strings.Join(st.Strategy.Waves, ", ")
	}
	if st.Strategy.Analysis != "" {
		text += ", compared by analysis " + st.Strategy.Analysis
	}
	if st.OnFailure.Action == "fail" {
		return text + "; on failure the units stay as they are"
	}
	return text + "; on failure they go back"
}

// stages tells what the stages before showed.
func (k *keeper) stages(b *strings.Builder) {
	if len(k.step.Before) == 0 {
		return
	}
	b.WriteString("\n| stage before | ended | what it showed |\n|---|---|---|\n")
	for _, s := range k.step.Before {
		fmt.Fprintf(b, "| %s | %s %s | %s |\n", plain(s.Stage), s.Status, stamp(s.At), cell(s.Reason))
	}
}

// differences tells what is configured differently here from what runs.
func (k *keeper) differences(b *strings.Builder) {
	if k.step.Former == nil {
		return
	}
	var lines []string
	for _, d := range intent.DiffSnapshots(k.step.Former.Snapshot, k.step.Snapshot) {
		if d.Environment == "" || d.Environment == k.step.Place.Environment {
			lines = append(lines, d.String())
		}
	}
	if len(lines) == 0 {
		return
	}
	b.WriteString("\n<details><summary>What is different</summary>\n\n```\n")
	for i, l := range lines {
		if i == maxShownDifferences {
			fmt.Fprintf(b, "… and %d more\n", len(lines)-i)
			break
		}
		b.WriteString(strings.ReplaceAll(l, "```", "'''") + "\n")
	}
	b.WriteString("```\n</details>\n")
}

// commits tells which commits of the branch lie between what runs and this.
func (k *keeper) commits(ctx context.Context, b *strings.Builder) error {
	repo, err := k.engine.open(k.step.Tenant, k.pull.Repository)
	if err != nil {
		return err
	}
	from := ""
	if k.step.Former != nil {
		from = k.step.Former.Commit
	}
	if from == k.step.Release.Commit {
		return nil
	}
	log, more, err := repo.Between(ctx, from, k.step.Release.Commit, maxShownCommits)
	if errors.Is(err, gitrepo.ErrNoCommit) { // forced away since; what is released does not depend on it
		return nil
	}
	if err != nil {
		return err
	}
	b.WriteString("\n<details><summary>Commits</summary>\n\n")
	for _, c := range log {
		fmt.Fprintf(b, "- %s %s (%s)\n", code(short(c.SHA)), plain(c.Subject), plain(c.Author.Name))
	}
	if more {
		b.WriteString("- … and older ones\n")
	}
	b.WriteString("\n</details>\n")
	return nil
}

// cell is a text of ours or of somebody as a cell of a table.
func cell(s string) string {
	return strings.NewReplacer("\n", " ", "|", "\\|").Replace(plain(s))
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
