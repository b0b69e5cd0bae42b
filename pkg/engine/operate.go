package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
)

// A Rollback is a person's wish to go back.
type Rollback struct {
	Tenant       string
	Deployment   string
	Environments []string // in the order in which they go back, one after the other
	Release      string   // to go back to; empty: the newest that is older than what runs
	By           audit.Actor
	Reason       string
	Kind         string // what it came by, for the audit trail: "rollback" or "edit"
}

// Rollback begins a restore in each environment; each waits for the one before
// it. It answers the ids of the promotions. [store.ErrNotFound]: no such
// deployment or environment. [store.ErrConflict]: a promotion runs there, or is
// going back already. [promotion.ErrNoFormer]: nothing to go back to.
func (e *Engine) Rollback(ctx context.Context, r Rollback) (ids []string, err error) {
	ids, err = e.store.Restore(ctx, r.Tenant, r.Deployment, r.Environments, func(slots []store.Slotted) ([]store.Beginning, error) {
		var out []store.Beginning
		after := ""
		for _, sl := range slots {
			d, err := r.restore(ctx, sl, after)
			if err != nil {
				return nil, fmt.Errorf("environment %s: %w", sl.Environment, err)
			}
			after = d.State.ID
			out = append(out, store.Beginning{Decision: d})
		}
		return out, nil
	})
	if err != nil {
		return nil, err
	}
	e.sequence(ctx, map[string]bool{r.Tenant: true})
	return ids, nil
}

// restore is the first decision of the restore of one slot.
func (r Rollback) restore(ctx context.Context, sl store.Slotted, after string) (promotion.Decision, error) {
	switch {
	case sl.Slot.Holder != "":
		return promotion.Decision{}, fmt.Errorf("%w: promotion %s runs there; stop it, which takes it back, with: hotswap abort %s", store.ErrConflict, sl.Slot.Holder, sl.Slot.Holder)
	case sl.Open != "":
		return promotion.Decision{}, fmt.Errorf("%w: %s is going back already", store.ErrConflict, sl.Open)
	}
	former, err := promotion.ChooseFormer(sl.Live, sl.Formers, r.Release)
	if err != nil {
		return promotion.Decision{}, err
	}
	past, err := sl.Past(ctx, former.Release)
	if err != nil {
		return promotion.Decision{}, err
	}
	stage, ok := promotion.StageIn(past.Snapshot.Pipeline, sl.Environment)
	if !ok {
		return promotion.Decision{}, fmt.Errorf("%w: release %s has no stage for it", promotion.ErrNoFormer, former.Release)
	}
	p, err := promotion.New(promotion.Birth{
		Tenant: r.Tenant, Release: past.Release, Generation: past.Generation, Snapshot: past.Snapshot, Stage: stage,
		Kind: promotion.Restore, Attempt: past.Attempt, After: after,
	})
	if err != nil {
		return promotion.Decision{}, err
	}
	reason := fmt.Sprintf("%s to release %s (%s %s), asked by %s: %s", r.Kind, former.Release, past.Snapshot.Module.Name, former.Version, r.By.Name, r.Reason)
	return promotion.Decide(p, promotion.Event{Kind: promotion.Created, Actor: r.By, Reason: reason, Facts: promotion.Facts{Plan: former.Plan}}, sl.Now)
}

// Retry begins another attempt of a stage whose newest one has ended without
// success, for a person who may. It answers the promotion's id.
// [promotion.ErrNotNow] when the stage has no such attempt, or it is open.
func (e *Engine) Retry(ctx context.Context, tenant, release, stage string, by audit.Actor, reason string) (string, error) {
	ids, err := e.store.Retry(ctx, tenant, release, func(s store.ReleaseStep) (store.ReleaseResult, error) {
		st, ok := promotion.StageOf(s.Snapshot.Pipeline, stage)
		i := slices.IndexFunc(s.Stages, func(have promotion.StageStatus) bool { return have.Stage == stage })
		switch {
		case !ok:
			return store.ReleaseResult{}, fmt.Errorf("release %s has no stage %q; its stages are %s: %w", release, stage, stages(s), store.ErrNotFound)
		case i < 0:
			return store.ReleaseResult{}, fmt.Errorf("%w: release %s did not come to stage %s", promotion.ErrNotNow, release, stage)
		case !s.Stages[i].Status.Final() || s.Stages[i].Status == promotion.Succeeded:
			return store.ReleaseResult{}, fmt.Errorf("%w: stage %s is %s", promotion.ErrNotNow, stage, s.Stages[i].Status)
		}
		start := promotion.StageStart{Stage: st, Attempt: s.Stages[i].Attempt + 1}
		d, err := begin(tenant, s, start, by, fmt.Sprintf("attempt %d, asked by %s: %s", start.Attempt, by.Name, reason))
		if err != nil {
			return store.ReleaseResult{}, err
		}
		return store.ReleaseResult{
			Started: []promotion.Decision{d}, State: promotion.ReleaseOpen, Wake: s.Now,
			Waiting: &promotion.Waiting{What: "the end of stage " + stage, Since: s.Now, Next: s.Now, Command: "hotswap status"},
		}, nil
	})
	if err != nil {
		return "", err
	}
	e.sequence(ctx, map[string]bool{tenant: true})
	return ids[0], nil
}

func stages(s store.ReleaseStep) string {
	var names []string
	for _, st := range s.Snapshot.Pipeline.Spec.Stages {
		names = append(names, st.Name)
	}
	return strings.Join(names, ", ")
}

// drift compares the units of one slot with what is recorded.
func (e *Engine) drift(ctx context.Context, c store.Claim) error {
	return e.store.Drift(ctx, c, promotion.Drift)
}
