package crash_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/pkg/target"
	"hotswap.dev/hotswap/tests/counted"
)

// A scenario is one way that a release can go, and how everything must be in
// the end, whatever died on the way.
type scenario struct {
	name    string
	misdeed map[string]func(*target.PlaceReport) // what goes wrong on a node, by its name

	newer bool                                       // 1.6.0 was pushed together with 1.5.0
	after func(ctx context.Context, k *worker) error // what a person does when the release has ended

	releases   map[string]string // state by version
	promotions map[string]string // status by version, stage and kind, but for those of before
	runs       map[string]string // version by node
	orders     map[string]int64  // orders per node since 1.4.2 ran
	switches   map[string]int    // of the traffic at most, per node: an order may be overtaken
}

// findings collects what does not hold, each with its invariant.
type findings struct{ all []string }

func (f *findings) Error() string {
	return fmt.Sprintf("%d invariants do not hold:\n\t%s", len(f.all), strings.Join(f.all, "\n\t"))
}

func (f *findings) add(invariant, format string, args ...any) {
	f.all = append(f.all, invariant+": "+fmt.Sprintf(format, args...))
}

// always checks what must hold at every moment, even when work is open.
func (w *world) always(ctx context.Context, s *store.Store, f *findings) {
	err := s.EachPromotion(ctx, tenant, func(r store.Replayed) error {
		if err := promotion.CheckReplay(r.Stored, r.Transitions); err != nil {
			f.add("replay = rows", "%v", err)
		}
		for i, t := range r.Transitions {
			if t.From != int64(i) {
				f.add("transitions without a gap", "%s: transition %d starts from version %d", r.Stored.ID, i, t.From)
			}
		}
		return nil
	})
	if err != nil {
		f.add("replay = rows", "%v", err)
	}
	differences, err := counted.Differences()
	if err != nil {
		f.add("what is counted = what the transitions tell", "%v", err)
	}
	w.none(ctx, f, "what is counted = what the transitions tell", differences)
	w.none(ctx, f, "one running promotion per slot", `SELECT format('%s/%s: %s', environment, deployment, count(*)) FROM promotions
		WHERE status IN ('running', 'rolling_back') GROUP BY environment, deployment HAVING count(*) > 1`)
	w.none(ctx, f, "who holds the slot runs, and who runs holds it", `SELECT p.id FROM promotions p LEFT JOIN slots s ON s.holder = p.id
		WHERE (p.status IN ('running', 'rolling_back')) IS DISTINCT FROM (s.holder IS NOT NULL)`)
	w.none(ctx, f, "open rows are due", `SELECT p.id FROM promotions p LEFT JOIN due d ON (d.tenant, d.kind, d.id) = (p.tenant, 'promotion', p.id)
		WHERE p.finished_at IS NULL AND (d.id IS NULL OR p.waiting_for IS NULL)`)
	w.none(ctx, f, "final states stay", "SELECT id FROM promotions WHERE finished_at IS NOT NULL AND (waiting_for IS NOT NULL OR status IN ('gating', 'queued', 'running', 'rolling_back'))")
	for _, g := range w.agents {
		g.check(f)
	}
}

// check says what is wrong with what a node was made to do.
func (g *agent) check(f *findings) {
	g.mu.Lock()
	defer g.mu.Unlock()
	last := obeyed{}
	for _, o := range g.ledger {
		if !o.Position.Newer(last.Position) {
			f.add("a node obeys only what is newer", "%s obeyed %v after %v", g.name, o.Position, last.Position)
		}
		last = o
	}
}

// finally checks that all is as if nothing had happened.
func (w *world) finally(ctx context.Context, s *store.Store, sc scenario, f *findings) {
	w.always(ctx, s, f)
	w.release(ctx, sc, f)
	w.audit(ctx, s, f)
	w.none(ctx, f, "work ends", "SELECT format('%s %s', kind, id) FROM due WHERE kind NOT IN ('repository', 'slot', 'record')")
	w.none(ctx, f, "every delivery is settled", "SELECT delivery FROM inbox WHERE state <> 'done'")
	w.none(ctx, f, "no 2xx without a row", "SELECT $1::text WHERE $2 AND NOT EXISTS (SELECT FROM inbox WHERE delivery = $1)", w.push.id, w.push.accepted())
	w.none(ctx, f, "slots are free and clean, each taken once", `SELECT format('%s/%s: holder %s, token %s, dirty %s', environment, deployment, holder, token, dirty)
		FROM slots WHERE holder IS NOT NULL OR dirty OR token <> (SELECT count(*) FROM promotions p WHERE (p.environment, p.deployment) = (slots.environment, slots.deployment) AND p.token > 0)`)
	w.none(ctx, f, "what is live is what the slot's last success brought", `SELECT l.node FROM live l JOIN slots s USING (tenant, environment, deployment)
		LEFT JOIN promotions p ON (p.tenant, p.id) = (s.tenant, s.live) WHERE l.instance ->> 'digest' IS DISTINCT FROM p.spec #>> '{instance,digest}'`)
	w.none(ctx, f, "every slot has its record", "SELECT format('%s/%s', environment, deployment) FROM slots LEFT JOIN records USING (tenant, environment, deployment) WHERE records.version IS NULL")
	w.none(ctx, f, "live = wanted", `SELECT node FROM wanted FULL JOIN live USING (tenant, environment, deployment, node)
		WHERE wanted.active IS DISTINCT FROM live.instance`)
	for _, g := range w.agents {
		g.ended(sc, f)
	}
}

// release checks the release of the commit, its stages and what was ordered.
func (w *world) release(ctx context.Context, sc scenario, f *findings) {
	w.equal(ctx, f, "one release for each commit", sc.releases,
		"SELECT snapshot #>> '{module,version}', string_agg(state, ',') FROM releases WHERE snapshot #>> '{module,version}' <> $1 GROUP BY 1", oldVersion)
	w.equal(ctx, f, "every stage is left once", sc.promotions,
		`SELECT format('%s %s %s', spec #>> '{instance,module,version}', stage, kind), string_agg(status, ',') FROM promotions
			WHERE kind <> 'promote' OR spec #>> '{instance,module,version}' <> $1 GROUP BY 1`, oldVersion)
	w.equal(ctx, f, "what is wanted", sc.runs, "SELECT node, coalesce(active #>> '{module,version}', '') || coalesce(' and ' || (standby #>> '{module,version}'), '') FROM wanted")
	w.equal(ctx, f, "what the nodes report", sc.runs, "SELECT node, coalesce(report #>> '{active,version}', '') || coalesce(' and ' || (report #>> '{standby,version}'), '') FROM reports")
	w.none(ctx, f, "every commit has its status", "SELECT commit FROM releases LEFT JOIN statuses USING (tenant, commit) WHERE statuses.state IS DISTINCT FROM 'success'")
	if sc.newer { // how far the older one came before it was overtaken depends on who was disturbed
		return
	}
	orders := map[string]string{}
	for _, g := range begin.agents {
		orders[g.name] = fmt.Sprint(g.position.Generation + sc.orders[g.name])
	}
	w.equal(ctx, f, "each order is given once", orders, "SELECT node, generation::text FROM wanted")
}

// audit checks that every transition has its row and every row its leaf.
func (w *world) audit(ctx context.Context, s *store.Store, f *findings) {
	wr := writer()
	v := audit.NewVerifier(tenant, audit.Keys{wr.ID(): wr.Public()})
	if err := s.VerifyAudit(ctx, tenant, v); err != nil {
		f.add("the audit trail verifies", "%v", err)
		return
	}
	r := v.Report()
	if r.Verdict != audit.Verified || r.Transitions == 0 {
		f.add("the audit trail verifies", "%s: %d rows, %d transitions, %+v", r.Result, r.Rows, r.Transitions, r.Findings)
	}
	w.none(ctx, f, "leaves = transitions", `SELECT format('%s transitions, %s rows about them, %s leaves of %s rows', t, a, l, r) FROM (SELECT
		(SELECT count(*) FROM transitions) t, (SELECT count(*) FROM audit WHERE promotion IS NOT NULL) a,
		(SELECT count(*) FROM audit_leaves) l, (SELECT count(*) FROM audit) r) n WHERE t <> a OR l <> r`)
	w.none(ctx, f, "a thing done is told once", `SELECT format('%s %s', action, header::jsonb ->> 'subject') FROM audit
		WHERE action IN ('release.created', 'promotion.started', 'promotion.succeeded', 'release.succeeded', 'release.failed', 'promotion.failed', 'rollback.started')
		GROUP BY action, header::jsonb ->> 'subject' HAVING count(*) > 1`)
}

// ended checks the ledger of a node as a whole.
func (g *agent) ended(sc scenario, f *findings) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !sc.newer && int64(len(g.ledger)) > sc.orders[g.name] {
		f.add("each order is obeyed at most once", "%s obeyed %d orders of %d: %+v", g.name, len(g.ledger), sc.orders[g.name], g.ledger)
	}
	runs, switches := oldVersion, 0
	for _, o := range g.ledger {
		if o.Active != runs {
			runs = o.Active
			switches++
		}
	}
	if runs != sc.runs[g.name] || switches > sc.switches[g.name] && !sc.newer {
		f.add("traffic is switched once", "%s ends on %s after %d switches, not on %s after at most %d: %+v", g.name, runs, switches, sc.runs[g.name], sc.switches[g.name], g.ledger)
	}
}

// none adds a finding for every row that the query returns.
func (w *world) none(ctx context.Context, f *findings, invariant, query string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rows, _ := w.admin.Query(ctx, query, args...) // its error is that of the rows
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		f.add(invariant, "%v", err)
	}
	for _, r := range found {
		f.add(invariant, "%s", r)
	}
}

// equal adds a finding unless the query returns exactly these pairs; "a|b" is either.
func (w *world) equal(ctx context.Context, f *findings, invariant string, want map[string]string, query string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rows, _ := w.admin.Query(ctx, query, args...)
	got := map[string]string{}
	var k, v string
	_, err := pgx.ForEachRow(rows, []any{&k, &v}, func() error { got[k] = v; return nil })
	switch {
	case err != nil:
		f.add(invariant, "%v", err)
		return
	}
	for k, v := range want { // what may also not be there
		if _, ok := got[k]; !ok && strings.HasPrefix(v, "|") {
			got[k] = ""
		}
	}
	switch {
	case !maps.EqualFunc(got, want, func(got, want string) bool { return slices.Contains(strings.Split(want, "|"), got) }):
		f.add(invariant, "is %s, not %s", pairs(got), pairs(want))
	}
}

func pairs(m map[string]string) (out []string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return out
}
