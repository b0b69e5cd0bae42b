package engine

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/promotion"
)

// maxComment bounds a comment, in bytes.
const maxComment = 30_000

// waitingComment is what stands on a pull request that waits for reviews: first what
// is, then what must happen.
func waitingComment(p promotion.State, w *promotion.Waiting, r promotion.ReviewFact) string {
	var b strings.Builder
	switch r.State {
	case promotion.ReviewApproved:
		fmt.Fprintf(&b, "**Approved**: %s takes %s to %s.\n", code(p.ID), moduleOf(p), p.Environment)
	case promotion.ReviewRejected:
		fmt.Fprintf(&b, "**Rejected**: %s does not take %s to %s.\n", code(p.ID), moduleOf(p), p.Environment)
	case promotion.ReviewUnread:
		fmt.Fprintf(&b, "**Cannot be judged now**: %s waits to take %s to %s.\n", code(p.ID), moduleOf(p), p.Environment)
	default:
		fmt.Fprintf(&b, "**Waiting for approval**: %s waits to take %s to %s.\n", code(p.ID), moduleOf(p), p.Environment)
	}
	fmt.Fprintf(&b, "**Next**: %s\n\n", next(p, w, r))
	b.WriteString("| | |\n|---|---|\n")
	line(&b, "approvals", r.Says)
	line(&b, "policy", p.Spec.Stage.Gates.Approval)
	line(&b, "plan", code(short(p.Plan)))
	if strings.HasPrefix(p.Reason, promotion.PlanMoved) {
		line(&b, "moved", p.Reason)
	}
	line(&b, "head", code(short(r.Head)))
	if len(r.By) > 0 {
		line(&b, "approved by", strings.Join(r.By, ", "))
	}
	b.WriteString("\nA review of the newest commit is one of this plan. When the plan moves there is a new commit, and it is reviewed anew.\n")
	return cut(b.String(), maxComment)
}

// next says what must happen, by whom and until when.
func next(p promotion.State, w *promotion.Waiting, r promotion.ReviewFact) string {
	switch {
	case r.State == promotion.ReviewRejected:
		return another(p) + "."
	case w == nil:
		return r.Says + "."
	case r.State == promotion.ReviewPending:
		return fmt.Sprintf("%s; until %s.", awaited(r), stamp(p.Expiry()))
	case r.State == promotion.ReviewUnread:
		return "HotSwap asks again by itself; nothing opens until it was read: " + plain(r.Says) + "."
	case r.State == promotion.ReviewApproved:
		return approvedNext(w.What)
	default:
		text := w.What
		if w.Evidence != "" {
			text += " (" + w.Evidence + ")"
		}
		return text + "."
	}
}

// another tells how an attempt that ended is followed by one.
func another(p promotion.State) string {
	return "another attempt is begun with " + code("hotswap promote "+p.Release+"/"+p.Spec.Stage.Name+" --reason …")
}

// approvedNext is what else is waited for than the reviews, which were read later.
func approvedNext(what string) string {
	rest := slices.DeleteFunc(strings.Split(what, ", and "), func(s string) bool { return strings.HasPrefix(s, "reviews that approve") })
	if len(rest) == 0 {
		return "nothing is to be done; HotSwap merges it when it is its turn."
	}
	return strings.Join(rest, ", and ") + "."
}

// awaited says whose review is waited for.
func awaited(r promotion.ReviewFact) string {
	var who []string
	for _, name := range r.Missing.People {
		who = append(who, plain(name))
	}
	for _, name := range r.Missing.Teams {
		who = append(who, "team "+plain(name))
	}
	if len(who) == 0 {
		return plain(r.Says)
	}
	return fmt.Sprintf("a review of %s (%s)", strings.Join(who, " or "), plain(r.Says))
}

// progressComment is what stands on a pull request that was merged, to the end of its
// promotion.
func progressComment(p promotion.State, w *promotion.Waiting) string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**: %s with %s in %s.\n", outcomeOf(p), code(p.ID), moduleOf(p), p.Environment)
	switch {
	case p.Status == promotion.RollingBack:
		fmt.Fprintf(&b, "**Next**: nothing is to be done; %s.\n", plain(strings.TrimSuffix(p.Reason, ".")))
	case !p.Status.Final() && (w == nil || p.Phase != promotion.Paused): // what it does is another thing with every step
		fmt.Fprintf(&b, "**Next**: nothing is to be done; %s shows every step.\n", code("hotswap watch "+p.Release))
	case w != nil:
		fmt.Fprintf(&b, "**Next**: %s", w.What)
		if w.Evidence != "" {
			fmt.Fprintf(&b, " (%s)", w.Evidence)
		}
		b.WriteString(".\n")
	default:
		fmt.Fprintf(&b, "**Next**: nothing; %s.\n", strings.TrimSuffix(p.Reason, "."))
	}
	b.WriteString("\n| | |\n|---|---|\n")
	if n := p.Waves(); n > 0 {
		line(&b, "wave", fmt.Sprintf("%d of %d", p.Wave+1, n))
		line(&b, "units", fmt.Sprint(len(p.Units)))
	}
	if p.Status.Final() {
		line(&b, "since", stamp(p.Since))
	}
	if a := p.Progress.Approval; a != nil {
		line(&b, "approved by", strings.Join(a.Names, ", "))
	}
	line(&b, "plan", code(short(p.Plan)))
	line(&b, "recorded by", code(short(p.Progress.Recorded)))
	return cut(b.String(), maxComment)
}

// closedComment is the last word on a pull request that is closed without a merge.
func closedComment(p promotion.State) string {
	next := "nothing"
	if p.Status == promotion.Expired || p.Status == promotion.Rejected {
		next = another(p)
	}
	return cut(fmt.Sprintf("**%s**: %s does not take %s to %s.\n**Next**: %s; %s.\n", outcomeOf(p), code(p.ID), moduleOf(p), p.Environment, next, strings.TrimSuffix(p.Reason, ".")), maxComment)
}

func outcomeOf(p promotion.State) string {
	switch p.Status {
	case promotion.Succeeded:
		return "Deployed"
	case promotion.RolledBack:
		return "Rolled back"
	case promotion.RollingBack:
		return "Rolling back"
	case promotion.Running:
		return "Rolling out"
	default:
		text := strings.ReplaceAll(string(p.Status), "_", " ")
		return strings.ToUpper(text[:1]) + text[1:]
	}
}

func moduleOf(p promotion.State) string {
	m := p.Spec.Instance.Module
	if m.Name == "" {
		return "the removal of " + plain(p.Deployment)
	}
	return code(m.Name + " " + m.Version)
}

func line(b *strings.Builder, name, value string) {
	if value != "" && value != code("") {
		fmt.Fprintf(b, "| %s | %s |\n", name, strings.NewReplacer("\n", " ", "|", "\\|").Replace(plainWords(value)))
	}
}

// plain takes from a text of somebody what a forge would act on: mentions, links, markup.
func plain(s string) string {
	return strings.NewReplacer("@", "@\u200b", "`", "'", "<", "‹", ">", "›", "[", "(", "]", ")", "*", "·").Replace(s)
}

// plainWords is plain, but for code that we wrote ourselves.
func plainWords(s string) string {
	if strings.HasPrefix(s, "`") && strings.HasSuffix(s, "`") && strings.Count(s, "`") == 2 {
		return s
	}
	return plain(s)
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + strings.ReplaceAll(s, "`", "'") + "`"
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04") + " UTC"
}

// short is a digest or a commit as people see it.
func short(digest string) string {
	if _, hex, ok := strings.Cut(digest, ":"); ok {
		digest = hex
	}
	return digest[:min(len(digest), 8)]
}

// cut ends a text at a line when it is too long.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	s = s[:limit-len("\n…\n")]
	return s[:strings.LastIndexByte(s, '\n')+1] + "…\n"
}
