package engine

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
)

// comment is what stands on a pull request of people: first what is, then what must happen.
func (x proposedChange) comment() string {
	var b strings.Builder
	switch {
	case !x.ok():
		fmt.Fprintf(&b, "**Cannot be planned**: %s.\n**Next**: %s.\n", cell(x.summary()), x.mend())
	case x.fork:
		b.WriteString("**Linted**: no problems.\n**Next**: a maintainer decides; a pull request of a fork is not planned.\n")
	case len(x.files) == 0:
		b.WriteString("**No change**: no intent is changed any more.\n**Next**: nothing.\n")
	case len(x.releases) == 0:
		fmt.Fprintf(&b, "**Ready to merge**: %s changed; nothing is released by that.\n**Next**: a review and a merge.\n", count(len(x.files), "file"))
	default:
		fmt.Fprintf(&b, "**Ready to merge**: a merge releases %s.\n**Next**: %s.\n", x.names(), x.next())
	}
	x.table(&b)
	x.listProblems(&b)
	for i, r := range x.releases {
		if i == maxChanges {
			fmt.Fprintf(&b, "\n… and %d more.\n", len(x.releases)-i)
			break
		}
		r.write(&b)
	}
	return cut(b.String(), maxComment)
}

// names are the deployments that are released, the first few.
func (x proposedChange) names() string {
	var out []string
	for i, r := range x.releases {
		if i == 3 && len(x.releases) > 4 {
			out = append(out, fmt.Sprintf("%d more", len(x.releases)-i))
			break
		}
		out = append(out, r.words())
	}
	return strings.Join(out, ", ")
}

// words is a release in a few words.
func (r releaseChange) words() string {
	m := r.after.Module
	switch {
	case r.after.Remove:
		return "the removal of " + plain(r.deployment)
	case r.before == nil:
		return code(m.Name+" "+m.Version) + ", for the first time"
	case r.before.Module.Version != m.Version:
		return code(m.Name + " " + r.before.Module.Version + " → " + m.Version)
	default:
		return code(m.Name+" "+m.Version) + ", configured differently"
	}
}

// mend says what to do about what is wrong.
func (x proposedChange) mend() string {
	for _, p := range x.problems {
		if p.Severity == intent.Error && p.File != "" {
			return fmt.Sprintf("mend %s and push again; %s shows the same", code(fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)), code("hotswap lint"))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(x.refused)) {
		return cell(name + ": " + x.refused[name])
	}
	if x.conflict != "" {
		return "merge " + code(x.conflict) + " into it and push again"
	}
	return "mend that and push again"
}

// next says who must agree after a merge.
func (x proposedChange) next() string {
	var gates []string
	for _, r := range x.releases {
		for _, st := range r.after.Pipeline.Spec.Stages {
			if r.after.Remove {
				gates = append(gates, st.Name+" (an operator)")
			} else if p := st.Gates.Approval; p != "" {
				gates = append(gates, fmt.Sprintf("%s (policy %s)", st.Name, p))
			}
		}
	}
	slices.Sort(gates)
	if gates = slices.Compact(gates); len(gates) == 0 {
		return "a review and a merge; every stage then begins by itself"
	}
	return "a review and a merge; then these wait for approval: " + plain(strings.Join(gates, ", "))
}

// table shows which stages each deployment goes through.
func (x proposedChange) table(b *strings.Builder) {
	if len(x.releases) == 0 {
		return
	}
	b.WriteString("\n| deployment | now | then | stages |\n|---|---|---|---|\n")
	for i, r := range x.releases {
		if i == maxChanges {
			fmt.Fprintf(b, "| … | | | |\n")
			break
		}
		now, then, stages := "–", "removed", []string{}
		if r.before != nil {
			now = code(r.before.Module.Version)
		}
		if !r.after.Remove {
			then = code(r.after.Module.Version)
		}
		for _, st := range r.after.Pipeline.Spec.Stages {
			stages = append(stages, st.Name)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", plain(r.deployment), now, then, plain(strings.Join(stages, " → ")))
	}
}

// listProblems shows all that lint shows.
func (x proposedChange) listProblems(b *strings.Builder) {
	if text := texts(x.problems, x.refused); text != "" {
		fmt.Fprintf(b, "\n%s\n", fence(text))
	}
	if x.had > 0 {
		fmt.Fprintf(b, "\nThe branch itself has %s already, which this leaves as they are.\n", count(x.had, "problem"))
	}
}

// fence is a text of people that stays a text: no line of it can end the block.
func fence(text string) string {
	return "```text\n" + strings.ReplaceAll(strings.TrimRight(text, "\n"), "```", "'''") + "\n```"
}

// write shows how a release would go and what it changes.
func (r releaseChange) write(b *strings.Builder) {
	fmt.Fprintf(b, "\n<details><summary>%s: how it would go</summary>\n\n| stage | units | strategy | gates | on failure | last run |\n|---|---|---|---|---|---|\n", plain(r.deployment))
	for _, st := range r.after.Pipeline.Spec.Stages {
		env := r.environments[st.Environment]
		units := "nodes with " + intent.Labels(env.Spec.Selector)
		if r.after.Remove {
			fmt.Fprintf(b, "| %s | %s | it is taken away | an operator | – | – |\n", plain(st.Name), cell(units))
			continue
		}
		gates := strings.Join(st.Gates.Texts(env.Spec.Windows), "; ")
		failure := cmp.Or(st.OnFailure.Action, intent.DefaultAction)
		if st.OnFailure.Hold {
			failure += ", the artifact is held"
		}
		last := "–"
		if took, ok := r.took[st.Name]; ok {
			last = took.Round(time.Second).String()
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", plain(st.Name), cell(units), cell(st.Strategy.Text()), cell(or(gates, "–")), cell(failure), last)
	}
	b.WriteString("\n</details>\n")
	if r.before == nil {
		return
	}
	var lines []string
	for i, d := range intent.DiffSnapshots(*r.before, r.after) {
		if i == maxShownDifferences {
			lines = append(lines, "…")
			break
		}
		lines = append(lines, d.String())
	}
	if len(lines) > 0 {
		fmt.Fprintf(b, "\n<details><summary>%s: what is different</summary>\n\n%s\n\n</details>\n", plain(r.deployment), fence(strings.Join(lines, "\n")))
	}
}

// journeyComment tells how the releases of a merged pull request go.
func journeyComment(journeys []store.Journey) string {
	var b strings.Builder
	state, next := journeysState(journeys)
	var what []string
	for _, j := range journeys {
		what = append(what, releaseChange{deployment: j.Deployment, after: j.Snapshot, before: &j.Snapshot}.what())
	}
	fmt.Fprintf(&b, "**%s**: %s.\n**Next**: %s.\n\n| release | stage | state | says |\n|---|---|---|---|\n", state, strings.Join(what[:min(len(what), maxChanges)], ", "), next)
	for _, j := range journeys {
		for _, st := range j.Snapshot.Pipeline.Spec.Stages {
			at := stageOf(j, st.Name)
			says := ""
			if at.Status.Final() { // what runs says something else with every look
				says = at.Reason
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", code(j.Release), plain(st.Name), strings.ReplaceAll(string(cmp.Or(at.Status, "not begun")), "_", " "), cell(says))
		}
	}
	return cut(b.String(), maxComment)
}

func (r releaseChange) what() string {
	if r.after.Remove {
		return "the removal of " + plain(r.deployment)
	}
	return code(r.after.Module.Name + " " + r.after.Module.Version)
}

// stageOf is how far a release has come in a stage; the zero value: it has not begun there.
func stageOf(j store.Journey, stage string) store.StageAt {
	for _, at := range j.Stages {
		if at.Stage == stage {
			return at
		}
	}
	return store.StageAt{Stage: stage}
}

// journeysState is what all of them come to, the worst first, and what must happen.
func journeysState(journeys []store.Journey) (state, next string) {
	waits, open, superseded := []string{}, false, true
	for _, j := range journeys {
		open = open || j.State == promotion.ReleaseOpen
		superseded = superseded && j.State == promotion.ReleaseSuperseded
		for _, at := range j.Stages {
			where := fmt.Sprintf("%s of %s", at.Stage, j.Release)
			switch at.Status {
			case promotion.RolledBack, promotion.RollingBack:
				return "Rolled back", fmt.Sprintf("%s came back; mend it and open another pull request, or lift the hold", plain(where))
			case promotion.Failed, promotion.Rejected, promotion.Expired, promotion.Cancelled:
				return "Stopped", fmt.Sprintf("%s is %s; another attempt is begun with %s", plain(where), at.Status, code("hotswap promote "+j.Release+"/"+at.Stage+" --reason …"))
			case promotion.Gating, promotion.Queued:
				waits = append(waits, where)
			}
		}
	}
	switch {
	case open && len(waits) > 0:
		return "Rolling out", "waits: " + plain(strings.Join(waits, ", ")) + "; " + code("hotswap status") + " says for what"
	case open:
		return "Rolling out", "nothing is to be done"
	case superseded:
		return "Superseded", "nothing; a newer release goes on"
	default:
		return "Deployed", "nothing"
	}
}
