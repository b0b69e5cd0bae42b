package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
)

// watch tells what happens to a commit until its release has ended, and how. It
// plays the operator too: what waits for one gets a yes.
func (d *demo) watch(ctx context.Context, commit string, tell func(what, detail, result string)) (promotion.ReleaseState, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, playTime, errTooLong)
	defer cancel()
	if tell == nil {
		tell = func(string, string, string) {}
	}
	w := watcher{demo: d, commit: commit, tell: tell, comments: map[int64]string{}}
	for {
		state, err := w.look(ctx)
		if err != nil || state != promotion.ReleaseOpen {
			return state, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return state, fmt.Errorf("watch commit %.12s: %w; last: %s", commit, context.Cause(ctx), w.last)
		}
	}
}

// A watcher remembers what was told.
type watcher struct {
	demo      *demo
	commit    string
	tell      func(what, detail, result string)
	told      int // steps of the timeline
	asked     string
	validated bool
	last      string
	comments  map[int64]string // first lines of ours, by pull request
}

// look tells what is new. A database that is away for a moment is looked at again.
func (w *watcher) look(ctx context.Context) (promotion.ReleaseState, error) {
	st := w.demo.parts.installation.store
	if !w.validated {
		if err := w.validation(ctx, st); err != nil || !w.validated {
			return promotion.ReleaseOpen, err
		}
	}
	rel, err := st.ReleaseOf(ctx, demoTenant, demoRepository, w.commit)
	if err != nil {
		w.last = err.Error()
		return promotion.ReleaseOpen, nil
	}
	steps, err := st.Timeline(ctx, demoTenant, rel.ID)
	if err != nil {
		w.last = err.Error()
		return promotion.ReleaseOpen, nil
	}
	for _, t := range steps[min(w.told, len(steps)):] {
		w.step(t)
	}
	w.told = len(steps)
	w.agree(ctx, st, rel.ID)
	if err := w.review(ctx); err != nil {
		w.last = err.Error()
	}
	return rel.State, nil
}

// validation tells what was said about the commit.
func (w *watcher) validation(ctx context.Context, st *store.Store) error {
	statuses, err := st.Statuses(ctx, demoTenant, demoRepository, 20)
	if err != nil {
		w.last = err.Error()
		return nil
	}
	i := slices.IndexFunc(statuses, func(s store.CommitStatus) bool { return s.Commit == w.commit })
	if i < 0 {
		w.last = "not validated yet"
		return nil
	}
	if !statuses[i].OK {
		return fmt.Errorf("the intent is not valid: %s\n%s", statuses[i].Description, statuses[i].Detail)
	}
	w.validated = true
	w.tell("validate", statuses[i].Description, "success")
	return nil
}

// agree says yes to a promotion of the release that waits for an operator and for
// nothing else, as a person would with hotswap promote.
func (w *watcher) agree(ctx context.Context, st *store.Store, release string) {
	rows, err := st.Promotions(ctx, demoTenant, 20)
	if err != nil {
		w.last = err.Error()
		return
	}
	for _, p := range rows {
		if p.Status != promotion.Gating || p.Waiting == nil || !strings.HasPrefix(p.ID, release+"/") || !strings.HasPrefix(p.Waiting.What, "an operator") || p.Waiting.Evidence != "" {
			continue
		}
		if w.asked != p.ID {
			w.asked = p.ID
			w.tell(p.Environment, "waits for "+p.Waiting.What, "waiting")
			return // the next look answers, so that one can see it wait
		}
		in := w.demo.parts.installation
		if _, err := in.engine().Act(ctx, in.Tenant, p.ID, promotion.Promoted, in.operator.Actor, "the demo's operator has looked"); err != nil {
			w.last = err.Error()
			continue
		}
		w.tell(p.Environment, "hotswap promote "+p.ID, "")
	}
}

// step tells one step of a promotion.
func (w *watcher) step(t store.TransitionRow) {
	w.last = t.Promotion + ": " + t.Reason
	state := string(t.Status)
	switch t.Status {
	case promotion.Gating, promotion.Queued:
		return
	case promotion.Running:
		state = string(t.Phase)
	case promotion.Succeeded:
		state = "done"
	}
	w.tell(t.Environment, t.Reason, state)
}
