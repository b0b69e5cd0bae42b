package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
)

// A Step is what one look at a promotion is decided on: everything was read in
// the transaction that will store the decision.
type Step struct {
	State       promotion.State
	Facts       promotion.Facts // Plan is left to the caller
	Snapshot    intent.Snapshot
	Environment intent.Environment // zero when it is not known any more
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
	b.Queue(selectPromotion+" WHERE (p.tenant, p.id) = ($1, $2)", c.Tenant, c.ID).QueryRow(func(row pgx.Row) error {
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
	return st, send(ctx, tx, b)
}

// queueContext reads what surrounds a promotion: time, epoch, slot, release, environment.
func queueContext(b *pgx.Batch, c Claim, st *Step) {
	b.Queue(`SELECT now(), i.epoch, coalesce(s.holder, ''), coalesce(s.token, 0), coalesce(s.started, 0), coalesce(s.dirty, false),
			coalesce((SELECT max(q.generation) FROM promotions q
				WHERE (q.tenant, q.environment, q.deployment) = (p.tenant, p.environment, p.deployment)
				AND q.finished_at IS NULL AND q.status = 'queued'), 0)
		FROM installation i, promotions p LEFT JOIN slots s USING (tenant, environment, deployment)
		WHERE (p.tenant, p.id) = ($1, $2)`, c.Tenant, c.ID).QueryRow(func(row pgx.Row) error {
		f := &st.Facts
		err := row.Scan(&st.Now, &f.Epoch, &f.Slot.Holder, &f.Slot.Token, &f.Slot.Started, &f.Slot.Dirty, &f.Newest)
		st.Now = st.Now.UTC()
		return missing(err)
	})
	b.Queue(`SELECT r.snapshot, e.document FROM promotions p JOIN releases r ON (r.tenant, r.id) = (p.tenant, p.release)
		LEFT JOIN environments e ON (e.tenant, e.name) = (p.tenant, p.environment)
		WHERE (p.tenant, p.id) = ($1, $2)`, c.Tenant, c.ID).QueryRow(func(row pgx.Row) error {
		return missing(row.Scan(&st.Snapshot, &st.Environment))
	})
}

const selectPromotion = `SELECT p.id, p.tenant, p.release, p.deployment, p.environment, p.kind, p.attempt, p.generation, p.spec,
	p.status, p.phase, p.wave, p.version, p.token, p.plan, p.units, p.ending, p.reason, p.since FROM promotions p`

func scanPromotion(row pgx.Row, p *promotion.State) error {
	err := row.Scan(&p.ID, &p.Tenant, &p.Release, &p.Deployment, &p.Environment, &p.Kind, &p.Attempt, &p.Generation, &p.Spec,
		&p.Status, &p.Phase, &p.Wave, &p.Version, &p.Token, &p.Plan, &p.Units, &p.Ending, &p.Reason, &p.Since)
	p.Since = p.Since.UTC()
	return err
}

// candidatesQuery finds the nodes that the environment selects, for a promotion
// that waits for its slot.
const candidatesQuery = `SELECT n.name, coalesce(w.epoch, 0), coalesce(w.token, 0), coalesce(w.generation, 0), w.active
	FROM promotions p
	JOIN environments e ON (e.tenant, e.name) = (p.tenant, p.environment)
	JOIN nodes n ON n.tenant = p.tenant AND n.left_at IS NULL AND n.labels @> e.selector
	LEFT JOIN wanted w ON (w.tenant, w.node, w.environment, w.deployment) = (p.tenant, n.name, p.environment, p.deployment)
	WHERE (p.tenant, p.id) = ($1, $2) AND p.status = 'queued'
	ORDER BY n.name`

func scanCandidate(row pgx.CollectableRow) (promotion.Candidate, error) {
	var c promotion.Candidate
	err := row.Scan(&c.Node, &c.Wanted.Epoch, &c.Wanted.Token, &c.Wanted.Generation, &c.Former)
	return c, err
}

// observedQuery reads the units of a promotion that holds its slot.
const observedQuery = `SELECT u.node, n.name IS NULL OR n.left_at IS NOT NULL, coalesce(r.seen, n.last_seen, 'epoch'),
		coalesce(w.epoch, 0), coalesce(w.token, 0), coalesce(w.generation, 0), r.report
	FROM promotions p
	CROSS JOIN LATERAL jsonb_to_recordset(p.units) AS u(node text)
	LEFT JOIN nodes n ON (n.tenant, n.name) = (p.tenant, u.node)
	LEFT JOIN wanted w ON (w.tenant, w.node, w.environment, w.deployment) = (p.tenant, u.node, p.environment, p.deployment)
	LEFT JOIN reports r ON (r.tenant, r.node, r.environment, r.deployment) = (p.tenant, u.node, p.environment, p.deployment)
	WHERE (p.tenant, p.id) = ($1, $2) AND p.status IN ('running', 'rolling_back')`

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
		c.rest(b, d.Wake)
		return send(ctx, tx, b)
	}
	b.Queue(`UPDATE promotions SET status = $4, phase = $5, wave = $6, version = $7, token = $8, plan = $9, units = $10,
			ending = $11, reason = $12, since = $13, waiting_for = $14, finished_at = CASE WHEN $15 THEN now() END
		WHERE (tenant, id) = ($1, $2) AND `+versionCondition,
		p.Tenant, p.ID, st.State.Version, p.Status, p.Phase, p.Wave, p.Version, p.Token, p.Plan, units(p.Units),
		p.Ending, p.Reason, p.Since, orNull(d.Waiting), p.Status.Final()).Exec(changesOne)
	queueTransition(b, p.Tenant, *d.Transition)
	queueSlot(b, p, st.Facts.Slot, d.Slot)
	queueOrders(b, p, d.Orders)
	queueLive(b, p, d.Live)
	if err := s.queueRows(b, d.Rows); err != nil {
		return err
	}
	queuePokes(b, p, d)
	if p.Status.Final() {
		c.end(b)
	} else {
		c.rest(b, d.Wake)
	}
	return send(ctx, tx, b)
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
	b.Queue(`UPDATE slots SET holder = nullif($6, ''), token = $7, started = $8, dirty = $9
		WHERE (tenant, environment, deployment) = ($1, $2, $3) AND `+slotCondition,
		p.Tenant, p.Environment, p.Deployment, seen.Token, holder(seen.Holder), next.Holder, next.Token, next.Started, next.Dirty).Exec(changesOne)
}

// holder is a slot's holder as SQL has it: null when the slot is free.
func holder(h string) *string {
	if h == "" {
		return nil
	}
	return &h
}

func queueOrders(b *pgx.Batch, p promotion.State, orders []promotion.UnitOrder) {
	for _, o := range orders {
		b.Queue(`INSERT INTO wanted (tenant, node, environment, deployment, epoch, token, generation, active, standby, promotion, at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now())
			ON CONFLICT (tenant, node, environment, deployment) DO UPDATE SET epoch = excluded.epoch, token = excluded.token,
				generation = excluded.generation, active = excluded.active, standby = excluded.standby, promotion = excluded.promotion, at = excluded.at`,
			p.Tenant, o.Node, p.Environment, p.Deployment, o.Order.Position.Epoch, o.Order.Position.Token, o.Order.Position.Generation,
			orNull(o.Order.Active), orNull(o.Order.Standby), p.ID)
	}
}

// orNull is v as a jsonb parameter, SQL's null for a nil pointer.
func orNull[T any](v *T) any {
	if v == nil {
		return nil
	}
	return v
}

func queueLive(b *pgx.Batch, p promotion.State, live []promotion.Live) {
	for _, l := range live {
		b.Queue(`INSERT INTO live (tenant, environment, deployment, node, instance, promotion, at) VALUES ($1, $2, $3, $4, $5, $6, now())
			ON CONFLICT (tenant, environment, deployment, node) DO UPDATE SET instance = excluded.instance, promotion = excluded.promotion, at = excluded.at`,
			p.Tenant, p.Environment, p.Deployment, l.Node, orNull(l.Instance), p.ID)
	}
}

// queuePokes wakes whoever the decision concerns: the release when the
// promotion is final, everybody queued for the slot when the slot changed.
func queuePokes(b *pgx.Batch, p promotion.State, d promotion.Decision) {
	if p.Status.Final() {
		b.Queue(poke+" WHERE (tenant, kind, id) = ($1, 'release', $2)", p.Tenant, p.Release)
	}
	if d.Slot != nil {
		b.Queue(pokeSlot, p.Tenant, p.Environment, p.Deployment, p.ID)
	}
}

// Stop applies a person's wish to stop a promotion, outside of the claim: the
// row's version keeps it from racing with a worker. [ErrNotFound] for an
// unknown promotion, [promotion.ErrFinal] for one that has ended.
func (s *Store) Stop(ctx context.Context, tenant, id string, decide func(Step) (promotion.Decision, error)) (promotion.Decision, error) {
	var d promotion.Decision
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		c := Claim{Tenant: tenant, Kind: Promotion, ID: id}
		// A step locks the promotion before its due row, and so does this: the other way round they would wait for each other.
		if _, err := tx.Exec(ctx, "SELECT FROM promotions WHERE (tenant, id) = ($1, $2) FOR UPDATE", tenant, id); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, "SELECT fence, pokes FROM due WHERE (tenant, kind, id) = ($1, $2, $3) FOR UPDATE", tenant, Promotion, id).Scan(&c.Fence, &c.Pokes)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		step, err := loadStep(ctx, tx, c)
		if err != nil {
			return err
		}
		if d, err = decide(step); err != nil {
			return err
		}
		return s.commit(ctx, tx, c, step, d)
	})
	if err != nil {
		return promotion.Decision{}, fmt.Errorf("stop promotion %s: %w", id, err)
	}
	return d, nil
}
