package simulation_test

import (
	"cmp"
	"fmt"
	"slices"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/promotion"
)

// ann is the person who asks for things.
var ann = audit.Actor{Kind: audit.Person, Name: "ann"}

// act asks something of a promotion, in one transaction, as store.Act does.
func (w *world) act(k key, what promotion.EventKind, reason string) error {
	s, err := w.loadStep(k)
	if err != nil {
		return err
	}
	due := dueKey{k.tenant, promotionDue, k.id}
	r := w.db.due.rows[due]
	d, err := promotion.Decide(s.row.State, promotion.Event{Kind: what, Actor: ann, Reason: reason, Facts: s.facts}, s.now)
	if err != nil {
		return err
	}
	return w.commit(claim{due, r.fence, r.pokes, r.attempts}, s, d)
}

// asked is act, for a person.
func (w *world) asked(k key, what promotion.EventKind, reason string) error {
	err := w.act(k, what, reason)
	w.twin.act(k, what, reason, err)
	return err
}

// formers are what ran in a slot, newest first.
func (w *world) formers(at slotKey) []promotion.Former {
	var out []promotion.Former
	for _, k := range w.db.bySlot[at] {
		p := w.db.promotions.rows[k]
		if p.Status != promotion.Succeeded || p.Kind == promotion.Remove {
			continue
		}
		m := p.Spec.Instance.Module
		out = append(out, promotion.Former{
			Promotion: p.ID, Release: p.Release, Generation: p.Generation, Plan: p.Plan,
			Artifact: m.Digest, Version: m.Version, At: p.finished, Held: w.db.holds[holdKey{at, m.Digest}] != "",
		})
	}
	slices.SortFunc(out, func(a, b promotion.Former) int {
		return cmp.Or(b.At.Compare(a.At), cmp.Compare(b.Promotion, a.Promotion))
	})
	return out[:min(len(out), 200)]
}

// rollBack begins a restore in each environment, one after the other, or none.
func (w *world) rollBack(tenant, deployment string, environments []string, ask string) error {
	var begin []promotion.Decision
	after := ""
	for _, env := range environments {
		d, err := w.restore(slotKey{tenant, env, deployment}, ask, after)
		if err != nil {
			return err
		}
		begin, after = append(begin, d), d.State.ID
	}
	for _, d := range begin {
		if err := w.create(d, w.now); err != nil {
			return err
		}
	}
	return nil
}

// restore is the first decision of the restore of one slot.
func (w *world) restore(at slotKey, ask, after string) (promotion.Decision, error) {
	slot, ok := w.db.slots.rows[at]
	switch {
	case !ok:
		return promotion.Decision{}, errNotFound
	case slot.Holder != "" || slices.ContainsFunc(w.db.openIn(at), func(p *promotionRow) bool { return p.Kind == promotion.Restore }):
		return promotion.Decision{}, errConflict
	}
	formers := w.formers(at)
	var live promotion.Former
	if i := slices.IndexFunc(formers, func(f promotion.Former) bool { return f.Promotion == slot.Live }); i >= 0 {
		live = formers[i]
	}
	former, err := promotion.ChooseFormer(live, formers, ask)
	if err != nil {
		return promotion.Decision{}, err
	}
	past := w.db.releases.rows[key{at.tenant, former.Release}]
	stage, ok := promotion.StageIn(past.snapshot.Pipeline, at.environment)
	if !ok {
		return promotion.Decision{}, promotion.ErrNoFormer
	}
	attempt := 0
	for _, k := range w.db.byRelease[key{at.tenant, past.id}] {
		if p := w.db.promotions.rows[k]; p.Kind == promotion.Restore && p.Environment == at.environment {
			attempt = max(attempt, p.Attempt)
		}
	}
	p, err := promotion.New(promotion.Birth{
		Tenant: at.tenant, Release: past.id, Generation: past.generation, Snapshot: *past.snapshot, Stage: stage, Kind: promotion.Restore, Attempt: attempt + 1, After: after,
	})
	if err != nil {
		return promotion.Decision{}, err
	}
	return promotion.Decide(p, promotion.Event{Kind: promotion.Created, Actor: ann, Reason: fmt.Sprintf("rollback to release %s (%s %s), asked by ann: back", former.Release, past.snapshot.Module.Name, former.Version), Facts: promotion.Facts{Plan: former.Plan}}, w.now)
}

// retry begins another attempt of a stage that ended without success.
func (w *world) retry(k key, stage string) error {
	s, err := w.loadRelease(k)
	if err != nil {
		return err
	}
	st, _ := promotion.StageOf(s.row.snapshot.Pipeline, stage)
	i := slices.IndexFunc(s.stages, func(have promotion.StageStatus) bool { return have.Stage == stage })
	if i < 0 || !s.stages[i].Status.Final() || s.stages[i].Status == promotion.Succeeded {
		return promotion.ErrNotNow
	}
	attempt := s.stages[i].Attempt + 1
	d, err := w.begin(k.tenant, s, promotion.StageStart{Stage: st, Attempt: attempt}, ann, fmt.Sprintf("attempt %d, asked by ann: again", attempt))
	if err != nil {
		return err
	}
	res := releaseResult{
		started: []promotion.Decision{d}, state: promotion.ReleaseOpen,
		waiting: &promotion.Waiting{What: "the end of stage " + stage, Since: s.now, Next: s.now},
	}
	if err := w.putRelease(k, s.row, s, res); err != nil {
		return err
	}
	w.addDue(dueKey{k.tenant, releaseDue, k.id})
	return nil
}

// cleanSlot accepts what the units of a dirty slot run.
func (w *world) cleanSlot(at slotKey) error {
	s, ok := w.db.slots.rows[at]
	if !ok || !s.Dirty || s.Holder != "" {
		return errConflict
	}
	s.Dirty = false
	w.db.slots.put(at, s)
	w.check.cleaned(at)
	w.pokeSlot(at, "")
	w.tell([]audit.Row{{ID: fmt.Sprintf("slot/%s/%s/cleaned/%d", at.environment, at.deployment, s.Token), Tenant: at.tenant}})
	return nil
}

// setHold bars an artifact from a slot; liftHold lets it in again.
func (w *world) setHold(at holdKey) error {
	if !w.db.slots.has(at.slotKey) || w.db.holds[at] != "" {
		return errConflict
	}
	w.db.holds[at] = "ann does not trust it"
	return w.holdChanged(at, "hold.set")
}

func (w *world) liftHold(at holdKey) error {
	if w.db.holds[at] == "" {
		return errConflict
	}
	delete(w.db.holds, at)
	return w.holdChanged(at, "hold.lifted")
}

func (w *world) holdChanged(at holdKey, action string) error {
	w.pokeSlot(at.slotKey, "")
	w.tell([]audit.Row{{ID: fmt.Sprintf("%s/%s/%s/%s/%d", action, at.environment, at.deployment, at.artifact, w.now.UnixMicro()), Tenant: at.tenant}})
	return nil
}

// setCheck stores what an external check says about an open promotion.
func (w *world) setCheck(k key, name string, passed bool) error {
	if p := w.db.promotions.rows[k]; p == nil || !p.finished.IsZero() {
		return errNotFound
	}
	checks := slices.DeleteFunc(slices.Clone(w.db.checks[k]), func(c promotion.CheckFact) bool { return c.Name == name })
	w.db.checks[k] = append(checks, promotion.CheckFact{Name: name, Passed: passed, At: w.now})
	w.poke(dueKey{k.tenant, promotionDue, k.id})
	w.tell([]audit.Row{{ID: fmt.Sprintf("check/%s/%s/%d", k.id, name, w.now.UnixMicro()), Tenant: k.tenant}})
	return nil
}

// restoreBackup puts the database back to an earlier time and says so by a new epoch.
// Who was connected is not any more, and an answer that was under way does not come.
func (w *world) restoreBackup() {
	environments := w.db.environments // Git has them, and what was released since
	w.db = w.saved.backup()
	w.db.environments = environments
	w.sync()
	for _, k := range w.workers {
		k.claims, k.tx = nil, nil
	}
	w.net = slices.DeleteFunc(w.net, func(m message) bool { return m.orders != nil })
	w.db.epoch++
	if w.mutant != countedEpoch {
		w.epoch = max(w.epoch+1, w.db.epoch)
		w.db.epoch = w.epoch
	}
	for _, k := range w.db.due.order {
		if k.kind != releaseDue {
			w.poke(k)
		}
	}
	w.tell([]audit.Row{{ID: fmt.Sprintf("installation/epoch/%d", w.db.epoch), Tenant: w.shapes[0].name}})
}
