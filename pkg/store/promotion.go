package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/analysis"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/record"
	"hotswap.dev/hotswap/pkg/target"
)

// A Step is what one look at a promotion is decided on: everything was read in
// the transaction that will store the decision.
type Step struct {
	State       promotion.State
	Facts       promotion.Facts // Plan, Gates.Window, Limit and Verdict are left to the caller
	Snapshot    intent.Snapshot
	Environment intent.Environment // zero when it is not known any more
	Policy      *intent.Policy     // that the stage's gate names; nil: none, or it is gone
	Release     promotion.Source   // of the promotion's release
	Record      *record.Record     // what Git is to say about the slot; nil: nothing yet
	Selected    []string           // nodes of the environment, where the plan is to name them
	Samples     []analysis.Sample  // of the slot's units, in a phase that asks for a verdict
	Now         time.Time
}

// Advance reads a claimed promotion, lets decide say what follows, and stores
// all of it or nothing. It returns the decision that was stored, and [ErrLost]
// when somebody else moved the promotion or the slot meanwhile.
func (s *Store) Advance(ctx context.Context, c Claim, decide func(Step) (promotion.Decision, error)) (promotion.Decision, error) {
	var d promotion.Decision
	err := s.within(ctx, c.Tenant, func(tx pgx.Tx) error {
		step, err := loadStep(ctx, tx, c)
		if err != nil {
			return err
		}
		if step.State.Status.Final() { // its due row outlived it: a lost answer
			return retire(ctx, tx, c)
		}
		if d, err = decide(step); err != nil {
			return err
		}
		return s.commit(ctx, tx, c, step, d)
	})
	if err != nil {
		return promotion.Decision{}, fmt.Errorf("advance promotion %s: %w", c.ID, err)
	}
	return d, nil
}

func retire(ctx context.Context, tx pgx.Tx, c Claim) error {
	b := &pgx.Batch{}
	c.end(b)
	return send(ctx, tx, b)
}

// loadStep reads all of a step in one round trip.
func loadStep(ctx context.Context, tx pgx.Tx, c Claim) (Step, error) {
	var st Step
	b := &pgx.Batch{}
	b.Queue(promotionQuery, c.Tenant, c.ID).QueryRow(func(row pgx.Row) error {
		return missing(scanPromotion(row, &st.State))
	})
	queueContext(b, c, &st)
	b.Queue(candidatesQuery, c.Tenant, c.ID).Query(func(rows pgx.Rows) (err error) {
		st.Facts.Candidates, err = pgx.CollectRows(rows, scanCandidate)
		return err
	})
	b.Queue(observedQuery, c.Tenant, c.ID).Query(func(rows pgx.Rows) (err error) {
		st.Facts.Units, err = pgx.CollectRows(rows, scanObserved)
		return err
	})
	b.Queue(reviewQuery, c.Tenant, c.ID).Query(func(rows pgx.Rows) error {
		return maybe(rows, func() error { return rows.Scan(&st.Facts.Gates.Review) })
	})
	b.Queue(effectQuery, c.Tenant, c.ID).Query(func(rows pgx.Rows) (err error) {
		st.Facts.Effect, err = scanEffect(rows)
		return err
	})
	b.Queue(samplesQuery, c.Tenant, c.ID).Query(func(rows pgx.Rows) (err error) {
		st.Samples, err = pgx.CollectRows(rows, pgx.RowTo[analysis.Sample])
		return err
	})
	return st, send(ctx, tx, b)
}

// queueContext reads what surrounds a promotion: time, epoch, slot, gates,
// release, environment, record.
func queueContext(b *pgx.Batch, c Claim, st *Step) {
	f := &st.Facts
	b.Queue(slotQuery, c.Tenant, c.ID).QueryRow(func(row pgx.Row) error {
		err := row.Scan(&st.Now, &f.Epoch, &f.Slot.Holder, &f.Slot.Token, &f.Slot.Started, &f.Slot.Dirty, &f.Slot.Live,
			&f.Newest, &f.Oldest, &f.Restore, &f.Held, &f.After, &f.Gates.Needs)
		st.Now = st.Now.UTC()
		if f.Gates.Needs = f.Gates.Needs.UTC(); f.Gates.Needs.Unix() == 0 {
			f.Gates.Needs = time.Time{}
		}
		return missing(err)
	})
	b.Queue(contextQuery, c.Tenant, c.ID).QueryRow(func(row pgx.Row) error {
		return missing(row.Scan(&st.Snapshot, &st.Release.Digest, &st.Release.Commit, &st.Release.Repository, &st.Environment, &st.Record, &st.Policy))
	})
	b.Queue(checksQuery, c.Tenant, c.ID).Query(func(rows pgx.Rows) (err error) {
		f.Gates.Checks, err = pgx.CollectRows(rows, pgx.RowToStructByPos[promotion.CheckFact])
		return err
	})
	b.Queue(loadQuery, c.Tenant, c.ID).Query(func(rows pgx.Rows) (err error) {
		f.Load, err = pgx.CollectRows(rows, pgx.RowToStructByPos[promotion.ClusterLoad])
		return err
	})
	b.Queue(selectedQuery, c.Tenant, c.ID).Query(func(rows pgx.Rows) (err error) {
		st.Selected, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
}

// onePromotion is the promotion ($1, $2) as a table. OFFSET 0 keeps it apart: whatever a
// query asks of it is looked at before anything else is read, and what is joined to it
// laterally, behind an OFFSET 0 of its own, is looked up by index. Left to the planner, a
// table that was not analysed yet is read whole for each step: it knows of no row that it
// would have to leave out.
const onePromotion = "(SELECT * FROM promotions WHERE (tenant, id) = ($1, $2) OFFSET 0) p"

// contextQuery reads the release of a promotion, and what its environment, its policy and
// its slot's record say now.
const contextQuery = `SELECT r.snapshot, r.digest, r.commit, r.repository, e.document, k.document, y.document
	FROM promotions p JOIN releases r ON (r.tenant, r.id) = (p.tenant, p.release)
	LEFT JOIN environments e ON (e.tenant, e.name) = (p.tenant, p.environment)
	LEFT JOIN records k ON (k.tenant, k.environment, k.deployment) = (p.tenant, p.environment, p.deployment)
	LEFT JOIN policies y ON (y.tenant, y.repository, y.name) = (r.tenant, r.repository, p.spec #>> '{stage,gates,approval}')
	WHERE (p.tenant, p.id) = ($1, $2)`

const checksQuery = "SELECT name, passed, detail, at FROM checks WHERE (tenant, promotion) = ($1, $2) ORDER BY name"

// loadQuery counts what runs in each cluster of a promotion's environment, where it waits
// for its slot and there is a limit.
const loadQuery = `SELECT l.cluster, l.running FROM ` + onePromotion + `
	JOIN environments e ON (e.tenant, e.name) = (p.tenant, p.environment) AND (e.document #>> '{spec,limits,promotionsPerCluster}')::int > 0
	CROSS JOIN LATERAL (SELECT coalesce(u.cluster, '') AS cluster, count(DISTINCT q.id)::int AS running
		FROM promotions q CROSS JOIN LATERAL jsonb_to_recordset(q.units) AS u(cluster text)
		WHERE (q.tenant, q.environment) = (p.tenant, p.environment) AND q.finished_at IS NULL AND q.status IN ('running', 'rolling_back')
		GROUP BY 1 OFFSET 0) l
	WHERE p.status = 'queued' ORDER BY 1`

// slotQuery reads the slot of a promotion, who else is about to take it, and
// what its gates depend on.
const slotQuery = `SELECT now(), (SELECT epoch FROM installation), coalesce(s.holder, ''), coalesce(s.token, 0), coalesce(s.started, 0), coalesce(s.dirty, false), coalesce(s.live, ''),
		coalesce(o.newest, 0), coalesce(o.oldest, 0), coalesce(o.restore, ''), coalesce(h.reason, ''),
		coalesce((SELECT a.status FROM promotions a WHERE (a.tenant, a.id) = (p.tenant, p.spec ->> 'after')), ''), coalesce(n.at, 'epoch')
	FROM ` + onePromotion + `
	LEFT JOIN slots s USING (tenant, environment, deployment)
	LEFT JOIN LATERAL (SELECT h.reason FROM holds h
		WHERE (h.tenant, h.environment, h.deployment, h.artifact) = (p.tenant, p.environment, p.deployment, p.spec #>> '{instance,module,digest}') OFFSET 0) h ON true
	CROSS JOIN LATERAL (SELECT max(q.generation) FILTER (WHERE q.kind <> 'restore' AND q.status = 'queued' AND q.spec ->> 'concurrency' IS DISTINCT FROM 'queue') AS newest,
			min(q.generation) FILTER (WHERE q.kind = 'promote' AND q.status IN ('gating', 'queued') AND q.spec ->> 'concurrency' = 'queue') AS oldest,
			min(q.id) FILTER (WHERE q.kind = 'restore' AND q.status = 'queued' AND q.id <> p.id) AS restore
		FROM promotions q WHERE (q.tenant, q.environment, q.deployment) = (p.tenant, p.environment, p.deployment) AND q.finished_at IS NULL) o
	CROSS JOIN LATERAL (SELECT max(q.finished_at) AS at FROM
		(SELECT * FROM promotions WHERE (tenant, release) = (p.tenant, p.release) AND p.status IN ('gating', 'queued') OFFSET 0) q
		WHERE q.status = 'succeeded' AND q.kind <> 'restore'
		AND q.stage IN (SELECT jsonb_array_elements_text(CASE jsonb_typeof(p.spec #> '{stage,needs}') WHEN 'array' THEN p.spec #> '{stage,needs}' ELSE '[]' END))) n`

// selectedQuery names the nodes of the environment for a plan that is to name them.
const selectedQuery = `SELECT n.name FROM ` + onePromotion + `
	JOIN environments e ON (e.tenant, e.name) = (p.tenant, p.environment)
	CROSS JOIN LATERAL (SELECT n.name FROM nodes n WHERE n.tenant = p.tenant AND n.left_at IS NULL AND n.labels @> e.selector OFFSET 0) n
	WHERE p.status IN ('gating', 'queued') AND p.spec #>> '{stage,strategy,units}' = 'exact'
	ORDER BY n.name`

// samplesQuery reads the readings that a verdict may need: since the phase began,
// and from before it the units' own past.
const samplesQuery = `SELECT jsonb_set(m.sample, '{at}', to_jsonb(m.at)) FROM ` + onePromotion + `
	CROSS JOIN LATERAL (SELECT m.node, m.instance, m.at, m.sample FROM samples m
		WHERE (m.tenant, m.environment, m.deployment) = (p.tenant, p.environment, p.deployment) AND m.at >= p.since - interval '1 hour' OFFSET 0) m
	WHERE p.status = 'running' AND p.phase IN ('stabilising', 'analysing')
	ORDER BY m.node, m.instance, m.at LIMIT 100000`

const selectPromotion = `SELECT p.id, p.tenant, p.release, p.deployment, p.environment, p.kind, p.attempt, p.generation, p.spec,
	p.status, p.phase, p.wave, p.version, p.token, p.plan, p.units, p.ending, p.reason, p.since, p.progress FROM promotions p`

// promotionQuery reads the promotion ($1, $2).
const promotionQuery = selectPromotion + " WHERE (p.tenant, p.id) = ($1, $2)"

func scanPromotion(row pgx.Row, p *promotion.State) error {
	err := row.Scan(&p.ID, &p.Tenant, &p.Release, &p.Deployment, &p.Environment, &p.Kind, &p.Attempt, &p.Generation, &p.Spec,
		&p.Status, &p.Phase, &p.Wave, &p.Version, &p.Token, &p.Plan, &p.Units, &p.Ending, &p.Reason, &p.Since, &p.Progress)
	p.Since = p.Since.UTC()
	return err
}

// candidatesQuery finds the nodes that the environment selects, for a promotion
// that waits for its slot; for one that goes back or takes away, also those that
// run something there and are not selected any more.
const candidatesQuery = `SELECT n.name, coalesce(n.labels ->> (e.document #>> '{spec,clusterLabel}'), ''),
		coalesce(n.epoch, 0), coalesce(n.token, 0), coalesce(n.generation, 0), n.active
	FROM ` + onePromotion + `
	LEFT JOIN environments e ON (e.tenant, e.name) = (p.tenant, p.environment)
	CROSS JOIN LATERAL (SELECT n.name, n.labels, w.epoch, w.token, w.generation, w.active FROM nodes n
		LEFT JOIN LATERAL (SELECT * FROM wanted w
			WHERE (w.tenant, w.node, w.environment, w.deployment) = (p.tenant, n.name, p.environment, p.deployment) OFFSET 0) w ON true
		WHERE n.tenant = p.tenant AND n.left_at IS NULL
		AND (p.kind <> 'remove' AND n.labels @> e.selector OR p.kind <> 'promote' AND w.active IS NOT NULL) OFFSET 0) n
	WHERE p.status = 'queued'
	ORDER BY n.name`

func scanCandidate(row pgx.CollectableRow) (promotion.Candidate, error) {
	var c promotion.Candidate
	err := row.Scan(&c.Node, &c.Cluster, &c.Wanted.Epoch, &c.Wanted.Token, &c.Wanted.Generation, &c.Former)
	return c, err
}

// observedQuery reads the units of a promotion that holds its slot.
const observedQuery = `SELECT u.node, n.name IS NULL OR n.left_at IS NOT NULL, coalesce(r.seen, n.last_seen, 'epoch'),
		coalesce(w.epoch, 0), coalesce(w.token, 0), coalesce(w.generation, 0), r.report
	FROM ` + onePromotion + `
	CROSS JOIN LATERAL jsonb_to_recordset(p.units) AS u(node text)
	LEFT JOIN LATERAL (SELECT * FROM nodes n WHERE (n.tenant, n.name) = (p.tenant, u.node) OFFSET 0) n ON true
	LEFT JOIN LATERAL (SELECT * FROM wanted w WHERE (w.tenant, w.node, w.environment, w.deployment) = (p.tenant, u.node, p.environment, p.deployment) OFFSET 0) w ON true
	LEFT JOIN LATERAL (SELECT * FROM reports r WHERE (r.tenant, r.node, r.environment, r.deployment) = (p.tenant, u.node, p.environment, p.deployment) OFFSET 0) r ON true
	WHERE p.status IN ('running', 'rolling_back')`

func scanObserved(row pgx.CollectableRow) (promotion.Observed, error) {
	var o promotion.Observed
	err := row.Scan(&o.Node, &o.Gone, &o.Seen, &o.Wanted.Epoch, &o.Wanted.Token, &o.Wanted.Generation, &o.Report)
	if o.Seen = o.Seen.UTC(); o.Seen.Unix() == 0 {
		o.Seen = time.Time{}
	}
	return o, err
}

// commit stores a decision in one round trip. Every statement that could write
// over somebody else's work checks that it does not.
func (s *Store) commit(ctx context.Context, tx pgx.Tx, c Claim, st Step, d promotion.Decision) error {
	b := &pgx.Batch{}
	p := d.State
	if d.Transition == nil {
		b.Queue("UPDATE promotions SET waiting_for = $4 WHERE (tenant, id) = ($1, $2) AND "+versionCondition,
			p.Tenant, p.ID, p.Version, orNull(d.Waiting)).Exec(changesOne)
		if d.Ask {
			queuePullDue(b, p)
		}
		c.rest(b, d.Wake)
		return send(ctx, tx, b)
	}
	b.Queue(`UPDATE promotions SET status = $4, phase = $5, wave = $6, version = $7, token = $8, plan = $9, units = $10,
			ending = $11, reason = $12, since = $13, waiting_for = $14, finished_at = CASE WHEN $15 THEN now() END, progress = $16
		WHERE (tenant, id) = ($1, $2) AND `+versionCondition,
		p.Tenant, p.ID, st.State.Version, p.Status, p.Phase, p.Wave, p.Version, p.Token, p.Plan, units(p.Units),
		p.Ending, p.Reason, p.Since, orNull(d.Waiting), p.Status.Final(), p.Progress).Exec(changesOne)
	queueTransition(b, p.Tenant, *d.Transition)
	queueCounts(b, st.State, d)
	queueSlot(b, p, st.Facts.Slot, d.Slot)
	queueLoad(b, p, d.Load)
	queueOrders(b, p.Tenant, p.ID, d.Orders)
	queueLive(b, p.Tenant, p.ID, p.Place(), d.Live)
	queueHold(b, p, d)
	queueEffects(b, p.Tenant, d.Effects)
	rec, recorded := promotion.Recorded(st.Record, st.Release, st.Snapshot, d)
	if recorded {
		queueRecord(b, p.Tenant, st.Release.Repository, rec, p.Status.Final())
	}
	if st.State.Phase == promotion.Recording && p.Status == promotion.Running {
		queueProposal(b, p.Tenant, st.Release.Repository, promotion.Proposed(st.Record, st.Release, st.Snapshot, p))
	}
	if err := s.queueRows(b, d.Rows); err != nil {
		return err
	}
	queuePokes(b, p, d, st)
	if p.Status.Final() {
		c.end(b)
	} else {
		c.rest(b, d.Wake)
	}
	if d.Slot != nil && d.Slot.Holder == "" {
		b.Queue(pokeOne, p.Tenant, Slot, slotID(p.Place()))
	}
	if recorded {
		queueRecordDue(b, p.Tenant, st.Release.Repository)
	}
	queuePullDue(b, p)
	return send(ctx, tx, b)
}

// queueLoad refuses, with [ErrConflict], to begin in a cluster that has no room any
// more: somebody else was there first. Only where there is a limit do beginnings wait
// for each other. The promotion itself may be stored as running already.
func queueLoad(b *pgx.Batch, p promotion.State, load []promotion.Load) {
	for _, l := range load {
		b.Queue("SELECT FROM pg_advisory_xact_lock(hashtextextended(format('hotswap cluster %s %s %s', $1::text, $2::text, $3::text), 0))",
			p.Tenant, p.Environment, l.Cluster)
		b.Queue(`SELECT count(*) < $5 FROM promotions q WHERE (q.tenant, q.environment) = ($1, $2) AND q.finished_at IS NULL
			AND q.status IN ('running', 'rolling_back') AND q.id <> $4 AND EXISTS (SELECT FROM jsonb_to_recordset(q.units) AS u(cluster text) WHERE coalesce(u.cluster, '') = $3)`,
			p.Tenant, p.Environment, l.Cluster, p.ID, l.Limit).QueryRow(func(row pgx.Row) error {
			var room bool
			if err := row.Scan(&room); err != nil || room {
				return err
			}
			return fmt.Errorf("cluster %s of %s has no room: %w", l.Cluster, p.Environment, ErrConflict)
		})
	}
}

func queueHold(b *pgx.Batch, p promotion.State, d promotion.Decision) {
	if d.Hold != nil {
		b.Queue(`INSERT INTO holds (tenant, environment, deployment, artifact, reason, actor, since) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT DO NOTHING`, p.Tenant, p.Environment, p.Deployment, d.Hold.Artifact, d.Hold.Reason, promotion.System.Name, d.Transition.At)
	}
}

// units is the JSON of a promotion's units: an empty list rather than null.
func units(u []promotion.Unit) []promotion.Unit {
	if u == nil {
		return []promotion.Unit{}
	}
	return u
}

func queueTransition(b *pgx.Batch, tenant string, t promotion.Transition) {
	b.Queue("INSERT INTO transitions (tenant, promotion, from_version, at, event, outcome) VALUES ($1, $2, $3, $4, $5, $6)"+transitionConflict,
		tenant, t.Promotion, t.From, t.At, t.Event, t.To)
}

func queueSlot(b *pgx.Batch, p promotion.State, seen promotion.Slot, next *promotion.Slot) {
	if next == nil {
		return
	}
	b.Queue(`UPDATE slots SET holder = nullif($6, ''), token = $7, started = $8, dirty = $9, live = $10
		WHERE (tenant, environment, deployment) = ($1, $2, $3) AND `+slotCondition,
		p.Tenant, p.Environment, p.Deployment, seen.Token, holder(seen.Holder), next.Holder, next.Token, next.Started, next.Dirty, next.Live).Exec(changesOne)
}

// holder is a slot's holder as SQL has it: null when the slot is free.
func holder(h string) *string {
	if h == "" {
		return nil
	}
	return &h
}

// queueOrders writes what places should run from now on, by a promotion.
func queueOrders(b *pgx.Batch, tenant, by string, orders []promotion.UnitOrder) {
	for _, u := range orders {
		o := u.Order
		b.Queue(`INSERT INTO wanted (tenant, node, environment, deployment, epoch, token, generation, active, standby, smoke, keep_for, promotion, at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, now())
			ON CONFLICT (tenant, node, environment, deployment) DO UPDATE SET epoch = excluded.epoch, token = excluded.token,
				generation = excluded.generation, active = excluded.active, standby = excluded.standby, smoke = excluded.smoke,
				keep_for = excluded.keep_for, promotion = excluded.promotion, at = excluded.at`,
			tenant, u.Node, o.Place.Environment, o.Place.Deployment, o.Position.Epoch, o.Position.Token, o.Position.Generation,
			orNull(o.Active), orNull(o.Standby), orNull(o.Smoke), o.KeepFor, by)
	}
}

// orNull is v as a jsonb parameter, SQL's null for a nil pointer.
func orNull[T any](v *T) any {
	if v == nil {
		return nil
	}
	return v
}

func queueLive(b *pgx.Batch, tenant, by string, at target.Place, live []promotion.Live) {
	for _, l := range live {
		b.Queue(`INSERT INTO live (tenant, environment, deployment, node, instance, promotion, at) VALUES ($1, $2, $3, $4, $5, $6, now())
			ON CONFLICT (tenant, environment, deployment, node) DO UPDATE SET instance = excluded.instance, promotion = excluded.promotion, at = excluded.at`,
			tenant, at.Environment, at.Deployment, l.Node, orNull(l.Instance), by)
	}
}

// queuePokes wakes whoever the decision concerns: the release and who waits for
// this one when the promotion is final, everybody who waits for the slot when it is
// free or one that had a turn has gone, and with a cluster that has room again
// everybody who waits in the environment. Who was overtaken kept nobody waiting, and
// a slot that was taken changes nothing for those who wait: of a flood, each looks once.
func queuePokes(b *pgx.Batch, p promotion.State, d promotion.Decision, st Step) {
	if p.Status.Final() {
		b.Queue(poke+" WHERE (tenant, kind, id) = ($1, 'release', $2)", p.Tenant, p.Release)
	}
	before := st.State.Status
	free := d.Slot != nil && d.Slot.Holder == ""
	room := free && st.Environment.Spec.Limits.PromotionsPerCluster > 0
	left := before == promotion.Queued || before == promotion.Gating && p.Status.Final()
	turn := left && p.Status != promotion.Superseded && p.Status != promotion.Running
	switch {
	case room || p.Kind == promotion.Restore && p.Status.Final():
		b.Queue(pokeWaiting, p.Tenant, p.Environment, p.ID)
	case free || turn:
		b.Queue(pokeSlot, p.Tenant, p.Environment, p.Deployment, p.ID)
	}
}

// Act applies what a person asks of a promotion, outside of the claim: the row's
// version keeps it from racing with a worker. [ErrNotFound] for an unknown
// promotion, [promotion.ErrFinal] for one that has ended, [promotion.ErrNotNow]
// for what its state does not allow.
func (s *Store) Act(ctx context.Context, tenant, id string, decide func(Step) (promotion.Decision, error)) (promotion.Decision, error) {
	var d promotion.Decision
	_, err := s.withinOnce(ctx, tenant, func(tx pgx.Tx) ([]string, error) {
		c := Claim{Tenant: tenant, Kind: Promotion, ID: id}
		// A step locks the promotion before its due row, and so does this: the other way round they would wait for each other.
		if _, err := tx.Exec(ctx, "SELECT FROM promotions WHERE (tenant, id) = ($1, $2) FOR UPDATE", tenant, id); err != nil {
			return nil, err
		}
		err := tx.QueryRow(ctx, "SELECT fence, pokes FROM due WHERE (tenant, kind, id) = ($1, $2, $3) FOR UPDATE", tenant, Promotion, id).Scan(&c.Fence, &c.Pokes)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return nil, err
		}
		step, err := loadStep(ctx, tx, c)
		if err != nil {
			return nil, err
		}
		if d, err = decide(step); err != nil {
			return nil, err
		}
		return []string{id}, s.commit(ctx, tx, c, step, d)
	})
	if err != nil {
		return promotion.Decision{}, fmt.Errorf("promotion %s: %w", id, err)
	}
	return d, nil
}

// Peek returns a promotion as it is, with its release and the time: for what is
// read elsewhere before a step is decided. Nothing may be decided on it.
func (s *Store) Peek(ctx context.Context, tenant, id string) (p promotion.State, snapshot intent.Snapshot, at time.Time, err error) {
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue(promotionQuery, tenant, id).QueryRow(func(row pgx.Row) error {
			return missing(scanPromotion(row, &p))
		})
		b.Queue("SELECT r.snapshot, now() FROM promotions p JOIN releases r ON (r.tenant, r.id) = (p.tenant, p.release) WHERE (p.tenant, p.id) = ($1, $2)",
			tenant, id).QueryRow(func(row pgx.Row) error {
			return missing(row.Scan(&snapshot, &at))
		})
		return send(ctx, tx, b)
	})
	if err != nil {
		return p, snapshot, at, fmt.Errorf("promotion %s: %w", id, err)
	}
	return p, snapshot, at.UTC(), nil
}
