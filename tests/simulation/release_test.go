package simulation_test

import (
	"fmt"
	"time"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/promotion"
)

// A releaseStep is what one look at a release is decided on.
type releaseStep struct {
	row    *releaseRow
	stages []promotion.StageStatus
	now    time.Time
}

func (w *world) loadRelease(k key) (releaseStep, error) {
	r, ok := w.db.releases.rows[k]
	if !ok {
		return releaseStep{}, errNotFound
	}
	s := releaseStep{row: r, now: w.now}
	newest := map[string]int{}
	for _, pk := range w.db.byRelease[k] {
		p := w.db.promotions.rows[pk]
		if p.Kind == promotion.Restore {
			continue
		}
		st := promotion.StageStatus{Stage: p.Spec.Stage.Name, Status: p.Status, Attempt: p.Attempt, Harmful: p.Progress.Harmful}
		if i, ok := newest[st.Stage]; !ok {
			newest[st.Stage] = len(s.stages)
			s.stages = append(s.stages, st)
		} else if st.Attempt > s.stages[i].Attempt {
			s.stages[i] = st
		}
	}
	return s, nil
}

// A releaseResult is what is to be stored about a release.
type releaseResult struct {
	started []promotion.Decision
	state   promotion.ReleaseState
	waiting *promotion.Waiting
	rows    []audit.Row
	wake    time.Time
}

// decideRelease starts the stages that can start, or ends the release, as pkg/engine does.
func (w *world) decideRelease(tenant string, s releaseStep) (releaseResult, error) {
	d := promotion.DecideRelease(s.row.snapshot.Pipeline, s.stages)
	res := releaseResult{state: d.State, wake: s.now.Add(time.Hour)}
	for _, start := range d.Start {
		first, err := w.begin(tenant, s, start, promotion.System, "")
		if err != nil {
			return res, err
		}
		res.started = append(res.started, first)
	}
	if d.State == promotion.ReleaseOpen {
		res.waiting = &promotion.Waiting{What: "the end of its stages", Since: s.now, Next: res.wake}
	} else {
		attempts := 0
		for _, st := range s.stages {
			attempts += max(0, st.Attempt-1)
		}
		res.rows = []audit.Row{{ID: fmt.Sprintf("release/%s/release.%s/%d", s.row.id, d.State, attempts), Tenant: tenant, At: s.now, Actor: promotion.System}}
	}
	return res, nil
}

// begin is the first decision of a promotion of a release through a stage.
func (w *world) begin(tenant string, s releaseStep, start promotion.StageStart, by audit.Actor, reason string) (promotion.Decision, error) {
	env := w.db.environments[key{tenant, start.Stage.Environment}]
	if env == nil {
		return promotion.Decision{}, fmt.Errorf("environment %q is not known", start.Stage.Environment)
	}
	plan, err := w.plan(s.row, start.Stage.Name, env)
	if err != nil {
		return promotion.Decision{}, err
	}
	kind := promotion.Promote
	if s.row.snapshot.Remove {
		kind = promotion.Remove
	}
	p, err := promotion.New(promotion.Birth{
		Tenant: tenant, Release: s.row.id, Generation: s.row.generation, Snapshot: *s.row.snapshot, Stage: start.Stage, Kind: kind, Attempt: start.Attempt,
	})
	if err != nil {
		return promotion.Decision{}, err
	}
	return promotion.Decide(p, promotion.Event{Kind: promotion.Created, Actor: by, Reason: reason, Facts: promotion.Facts{Plan: plan.digest, Parts: &plan.parts}}, s.now)
}

func (w *world) commitRelease(c claim, s releaseStep, res releaseResult) error {
	k := key{c.tenant, c.id}
	now := w.db.releases.rows[k]
	if now == nil || !w.fenced(c) || now.version != s.row.version && w.mutant != noFence {
		return errLost
	}
	w.check.accepted(c)
	if err := w.putRelease(k, now, s, res); err != nil {
		return err
	}
	if res.state == promotion.ReleaseOpen {
		w.rest(c, res.wake)
	} else {
		w.db.due.drop(c.dueKey)
	}
	return nil
}

// putRelease stores what came of a look at a release, but for its due row.
func (w *world) putRelease(k key, now *releaseRow, s releaseStep, res releaseResult) error {
	for _, d := range res.started {
		if w.db.promotions.has(key{k.tenant, d.State.ID}) {
			if w.mutant != noFence {
				w.violates("one attempt once", "promotion %s is begun a second time", d.State.ID)
			}
			return errConflict
		}
	}
	n := *now
	n.state, n.waiting, n.version = res.state, res.waiting, now.version+1
	w.db.releases.put(k, &n)
	for _, d := range res.started {
		if err := w.create(d, s.now); err != nil {
			return err
		}
	}
	w.tell(res.rows)
	return nil
}
