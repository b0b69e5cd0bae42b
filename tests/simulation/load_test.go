package simulation_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/analysis"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/target"
)

// A step is what one look at a promotion is decided on, read at one time.
type step struct {
	row   *promotionRow
	facts promotion.Facts
	from  *releaseRow
	env   *environmentRow // nil: not known any more
	now   time.Time
	truth truth
}

// loadStep reads what pkg/store reads for a step, and completes it as pkg/engine does.
func (w *world) loadStep(k key) (step, error) {
	p, ok := w.db.promotions.rows[k]
	if !ok {
		return step{}, errNotFound
	}
	s := step{row: p, now: w.now, from: w.db.releases.rows[key{k.tenant, p.Release}], env: w.db.environments[key{k.tenant, p.Environment}]}
	f := &s.facts
	f.Epoch, f.Slot = w.db.epoch, w.db.slots.rows[p.slot()]
	f.Held = w.db.holds[holdKey{p.slot(), p.Spec.Instance.Module.Digest}]
	if a, ok := w.db.promotions.rows[key{k.tenant, p.Spec.After}]; ok {
		f.After = a.Status
	}
	w.others(p, f)
	f.Gates.Checks = w.db.checks[k]
	if s.env != nil {
		f.Limit = s.env.document.Spec.Limits.PromotionsPerCluster
	}
	switch p.Status {
	case promotion.Gating, promotion.Queued:
		if err := w.gates(&s); err != nil {
			return s, err
		}
		if p.Status == promotion.Queued {
			w.candidates(&s)
		}
	case promotion.Running, promotion.RollingBack:
		f.Units = w.observed(p)
		return s, w.verdict(&s)
	}
	return s, nil
}

// others reads who else is about to take the slot.
func (w *world) others(p *promotionRow, f *promotion.Facts) {
	for _, q := range w.db.openIn(p.slot()) {
		switch {
		case q.Kind == promotion.Restore:
			if q.Status == promotion.Queued && q.ID != p.ID && (f.Restore == "" || q.ID < f.Restore) {
				f.Restore = q.ID
			}
			continue
		case (q.Status == promotion.Queued || w.mutant == newestOfAll) && q.Spec.Concurrency != intent.Queue:
			f.Newest = max(f.Newest, q.Generation)
		}
		waits := q.Status == promotion.Gating || q.Status == promotion.Queued
		if q.Kind == promotion.Promote && waits && q.Spec.Concurrency == intent.Queue && (f.Oldest == 0 || q.Generation < f.Oldest) {
			f.Oldest = q.Generation
		}
	}
}

// gates reads what opens the gates: the plan, the windows, and since when the
// needed stages have succeeded.
func (w *world) gates(s *step) error {
	p := s.row
	for _, k := range w.db.byRelease[key{p.Tenant, p.Release}] {
		q := w.db.promotions.rows[k]
		if q.Status == promotion.Succeeded && q.Kind != promotion.Restore && slices.Contains(p.Spec.Stage.Needs, q.Spec.Stage.Name) {
			s.facts.Gates.Needs = later(s.facts.Gates.Needs, q.finished)
		}
	}
	if p.Kind == promotion.Restore {
		return nil
	}
	stage := p.Spec.Stage
	if s.env == nil {
		return fmt.Errorf("environment %s is not known", stage.Environment)
	}
	plan, err := w.plan(s.from, stage.Name, s.env)
	if err != nil {
		return err
	}
	if s.facts.Plan = plan.digest; plan.digest != p.Plan {
		s.facts.Parts = &plan.parts
	}
	s.truth = w.truthOf(s)
	if len(stage.Gates.Windows) > 0 {
		fact, err := w.allows(s.env, stage.Gates.Windows)
		if err != nil {
			return err
		}
		s.facts.Gates.Window = &fact
	}
	w.forget(s)
	return nil
}

// candidates reads the units that a start may change, and the load of their clusters.
func (w *world) candidates(s *step) {
	p := s.row
	var selector map[string]string
	label := ""
	if s.env != nil {
		selector, label = s.env.document.Spec.Selector, s.env.document.Spec.ClusterLabel
	}
	for _, name := range w.db.nodesOf(p.Tenant, map[string]string{}) {
		n := w.db.nodes.rows[key{p.Tenant, name}]
		c := promotion.Candidate{Node: name, Cluster: n.labels[label]}
		if o := w.db.wanted[placeKey{p.Tenant, name, p.Environment, p.Deployment}]; o != nil {
			c.Wanted, c.Former = o.order.Position, o.order.Active
		}
		if p.Kind != promotion.Remove && selects(selector, n.labels) || p.Kind != promotion.Promote && c.Former != nil {
			s.facts.Candidates = append(s.facts.Candidates, c)
		}
	}
	if s.env == nil || s.env.document.Spec.Limits.PromotionsPerCluster == 0 {
		return
	}
	for _, c := range w.clusters {
		if n := w.db.changing(p.Tenant, p.Environment, c); n > 0 {
			s.facts.Load = append(s.facts.Load, promotion.ClusterLoad{Cluster: c, Running: n})
		}
	}
}

// changing counts the promotions that run in a cluster.
func (db *tables) changing(tenant, environment, cluster string) (n int) {
	for _, k := range db.open {
		p := db.promotions.rows[k]
		if k.tenant == tenant && p.Environment == environment && p.holds() && slices.ContainsFunc(p.Units, func(u promotion.Unit) bool { return u.Cluster == cluster }) {
			n++
		}
	}
	return n
}

// observed reads the units of a promotion that holds its slot.
func (w *world) observed(p *promotionRow) []promotion.Observed {
	out := make([]promotion.Observed, 0, len(p.Units))
	for _, u := range p.Units {
		n, known := w.db.nodes.rows[key{p.Tenant, u.Node}]
		at := placeKey{p.Tenant, u.Node, p.Environment, p.Deployment}
		o := promotion.Observed{Node: u.Node, Gone: !known || n.left, Seen: n.seen}
		if r := w.db.reports[at]; r != nil {
			o.Seen, o.Report = r.seen, &r.report
		}
		if x := w.db.wanted[at]; x != nil {
			o.Wanted = x.order.Position
		}
		out = append(out, o)
	}
	return out
}

// verdict judges the samples, in a phase that asks for it.
func (w *world) verdict(s *step) error {
	name := s.row.AnalysisOf()
	if name == "" {
		return nil
	}
	spec, err := promotion.AnalysisSpec(*s.from.snapshot, name)
	if err != nil {
		return err
	}
	all, from := w.db.samples[s.row.slot()], s.row.Since.Add(-time.Hour)
	i, _ := slices.BinarySearchFunc(all, from, func(x sampleRow, t time.Time) int { return x.At.Compare(t) })
	samples := make([]analysis.Sample, 0, len(all)-i)
	for _, x := range all[i:] {
		samples = append(samples, x.Sample)
	}
	s.facts.Verdict = promotion.Verdict(s.row.State, spec, samples, nil, s.now)
	return nil
}

// loadDrift reads a slot with its units.
func (w *world) loadDrift(c claim) (f promotion.DriftFacts) {
	f.Tenant, f.Epoch = c.tenant, w.db.epoch
	f.Place.Environment, f.Place.Deployment, _ = strings.Cut(c.id, "/")
	at := slotKey{c.tenant, f.Place.Environment, f.Place.Deployment}
	f.Slot, f.Open = w.db.slots.rows[at], w.db.findings[at]
	f.Instance = w.instanceOf(c.tenant, f.Slot.Live)
	var selector map[string]string
	if e := w.db.environments[key{c.tenant, f.Place.Environment}]; e != nil {
		selector = e.document.Spec.Selector
	}
	for _, name := range w.names(c.tenant) {
		n := w.db.nodes.rows[key{c.tenant, name}]
		u := promotion.Resident{Node: name, Selected: !n.left && selects(selector, n.labels), Gone: n.left, Seen: later(n.seen, n.joined), Ordered: n.joined}
		pk := placeKey{c.tenant, name, f.Place.Environment, f.Place.Deployment}
		o := w.db.wanted[pk]
		if o != nil {
			u.Wanted, u.Active, u.Ordered = o.order.Position, o.order.Active, o.at
		}
		if r := w.db.reports[pk]; r != nil {
			u.Seen, u.Report = r.seen, &r.report
		}
		if u.Selected || o != nil {
			f.Units = append(f.Units, u)
		}
	}
	return f
}

// instanceOf is what a promotion made live; nil: nothing.
func (w *world) instanceOf(tenant, id string) *target.Instance {
	p, ok := w.db.promotions.rows[key{tenant, id}]
	if !ok || p.Spec.Instance.Digest == "" {
		return nil
	}
	return &p.Spec.Instance
}

// names are the tenant's nodes by name, those that left too.
func (w *world) names(tenant string) []string {
	var out []string
	for _, k := range w.db.nodes.order {
		if k.tenant == tenant {
			out = append(out, k.id)
		}
	}
	slices.Sort(out)
	return out
}
