package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/record"
)

// queueEffects writes what a decision asks of the outside, each with its due row.
func queueEffects(b *pgx.Batch, tenant string, effects []promotion.Effect) {
	for _, e := range effects {
		b.Queue(`INSERT INTO effects (tenant, key, kind, promotion, pull, head, state, at) VALUES ($1, $2, $3, $4, $5, $6, 'due', now())
			ON CONFLICT DO NOTHING`, tenant, e.Key, e.Kind, e.Promotion, e.Pull, e.Head)
		b.Queue(addDue, tenant, Effect, e.Key)
	}
}

// effectQuery reads the effect that a promotion waits for.
const effectQuery = `SELECT f.key, f.state, f.commit, f.why FROM effects f
	WHERE (f.tenant, f.key) = ($1, (SELECT p.progress ->> 'effect' FROM promotions p WHERE (p.tenant, p.id) = ($1, $2)))`

func scanEffect(rows pgx.Rows) (*promotion.EffectFact, error) {
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[promotion.EffectFact])
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

// An EffectStep is an effect that is due.
type EffectStep struct {
	Effect     promotion.Effect
	State      promotion.EffectState
	Asked      int             // how often the outside was asked
	Wanted     bool            // its promotion waits for it
	Promotion  promotion.State // that asked for it
	Repository string
	Proposal   *record.Record // that a merge is to bring
	Now        time.Time
}

// LoadEffect returns a claimed effect.
func (s *Store) LoadEffect(ctx context.Context, c Claim) (EffectStep, error) {
	var e EffectStep
	e.Effect.Key = c.ID
	err := s.within(ctx, c.Tenant, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue(`SELECT f.kind, f.promotion, f.pull, f.head, f.state, f.asked, p.status = 'running' AND p.progress ->> 'effect' = f.key, r.repository, u.proposal, now()
			FROM effects f JOIN promotions p ON (p.tenant, p.id) = (f.tenant, f.promotion) JOIN releases r ON (r.tenant, r.id) = (p.tenant, p.release)
			LEFT JOIN pulls u ON (u.tenant, u.environment, u.deployment, u.promotion, u.head) = (p.tenant, p.environment, p.deployment, p.id, f.head)
			WHERE (f.tenant, f.key) = ($1, $2)`, c.Tenant, c.ID).QueryRow(func(row pgx.Row) error {
			err := row.Scan(&e.Effect.Kind, &e.Effect.Promotion, &e.Effect.Pull, &e.Effect.Head, &e.State, &e.Asked, &e.Wanted, &e.Repository, &e.Proposal, &e.Now)
			e.Now = e.Now.UTC()
			return missing(err)
		})
		b.Queue(selectPromotion+" JOIN effects f ON (f.tenant, f.promotion) = (p.tenant, p.id) WHERE (f.tenant, f.key) = ($1, $2)", c.Tenant, c.ID).QueryRow(func(row pgx.Row) error {
			return missing(scanPromotion(row, &e.Promotion))
		})
		return send(ctx, tx, b)
	})
	if err != nil {
		return e, fmt.Errorf("load effect %.12s: %w", c.ID, err)
	}
	return e, nil
}

// AskEffect takes down that the outside is about to be asked, before it is: whoever
// follows a crash knows that the answer is not known. [ErrLost] when the claim is.
func (s *Store) AskEffect(ctx context.Context, c Claim) error {
	err := s.within(ctx, c.Tenant, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue("SELECT FROM due WHERE (tenant, kind, id) = ($1, $2, $3) AND "+fenceCondition+" FOR UPDATE", c.Tenant, c.Kind, c.ID, c.Fence).Exec(changesOne)
		b.Queue("UPDATE effects SET state = 'uncertain', asked = asked + 1 WHERE (tenant, key) = ($1, $2) AND state IN ('due', 'uncertain')", c.Tenant, c.ID).Exec(changesOne)
		return send(ctx, tx, b)
	})
	if err != nil {
		return fmt.Errorf("ask effect %.12s: %w", c.ID, err)
	}
	return nil
}

// DoubtEffect takes down why there is no answer, and looks again at wake.
func (s *Store) DoubtEffect(ctx context.Context, c Claim, why string, wake time.Time) error {
	err := s.within(ctx, c.Tenant, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue("UPDATE effects SET why = $3 WHERE (tenant, key) = ($1, $2) AND why <> $3", c.Tenant, c.ID, noNUL(why))
		queueEffectSaid(b, c)
		c.rest(b, wake)
		return send(ctx, tx, b)
	})
	if err != nil {
		return fmt.Errorf("doubt effect %.12s: %w", c.ID, err)
	}
	return nil
}

// EndEffect stores what came of an effect and wakes its promotion.
func (s *Store) EndEffect(ctx context.Context, c Claim, f promotion.EffectFact, rows []audit.Row) error {
	err := s.within(ctx, c.Tenant, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue("UPDATE effects SET state = $3, commit = $4, why = $5 WHERE (tenant, key) = ($1, $2) AND state IN ('due', 'uncertain')",
			c.Tenant, c.ID, f.State, f.Commit, noNUL(f.Why)).Exec(changesOne)
		if err := s.queueRows(b, rows); err != nil {
			return err
		}
		queueEffectSaid(b, c)
		c.end(b)
		return send(ctx, tx, b)
	})
	if err != nil {
		return fmt.Errorf("end effect %.12s: %w", c.ID, err)
	}
	return nil
}

func queueEffectSaid(b *pgx.Batch, c Claim) {
	b.Queue(poke+" FROM effects f WHERE (due.tenant, due.kind, due.id) = (f.tenant, 'promotion', f.promotion) AND (f.tenant, f.key) = ($1, $2)", c.Tenant, c.ID)
}
