package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
)

// A Slotted is a slot as an operator's wish to go back is decided on: it is
// locked until the transaction ends.
type Slotted struct {
	Tenant      string
	Deployment  string
	Environment string
	Slot        promotion.Slot
	Open        string             // a restore of the slot that has not ended; empty: none
	Live        promotion.Former   // what runs; zero: nothing
	Formers     []promotion.Former // what ran, newest first
	Now         time.Time

	tx pgx.Tx
}

// A Past is a release of the past as a restore is made from it.
type Past struct {
	Release    string
	Generation int64
	Repository string
	Snapshot   intent.Snapshot
	Attempt    int // of the next promotion of the kind that was asked about
}

// A Beginning is a promotion that a person asked for, as its first decision.
type Beginning struct {
	Decision promotion.Decision
	Rows     []audit.Row // beside the decision's own
}

// Restore locks the slots of a deployment in the given environments, in order,
// lets decide say what begins, and stores all of it or nothing. It answers the ids of
// the promotions. [ErrNotFound] when there is no such slot. See [WithOnce].
func (s *Store) Restore(ctx context.Context, tenant, deployment string, environments []string, decide func([]Slotted) ([]Beginning, error)) ([]string, error) {
	ids, err := s.withinOnce(ctx, tenant, func(tx pgx.Tx) (ids []string, err error) {
		locked := map[string]Slotted{}
		for _, env := range slices.Sorted(slices.Values(environments)) { // one order for all: nobody waits in a circle
			sl, err := lockSlot(ctx, tx, tenant, env, deployment)
			if err != nil {
				return nil, fmt.Errorf("slot %s/%s: %w", env, deployment, err)
			}
			locked[env] = sl
		}
		var slots []Slotted
		for _, env := range environments {
			slots = append(slots, locked[env])
		}
		begin, err := decide(slots)
		if err != nil {
			return nil, err
		}
		b := &pgx.Batch{}
		for _, x := range begin {
			if err := s.queuePromotion(b, x.Decision); err != nil {
				return nil, err
			}
			if err := s.queueRows(b, x.Rows); err != nil {
				return nil, err
			}
			ids = append(ids, x.Decision.State.ID)
		}
		return ids, send(ctx, tx, b)
	})
	if err != nil {
		return nil, fmt.Errorf("roll back %s: %w", deployment, err)
	}
	return ids, nil
}

func lockSlot(ctx context.Context, tx pgx.Tx, tenant, environment, deployment string) (Slotted, error) {
	sl := Slotted{Tenant: tenant, Deployment: deployment, Environment: environment, tx: tx}
	at := []any{tenant, environment, deployment}
	b := &pgx.Batch{}
	b.Queue(`SELECT now(), coalesce(holder, ''), token, started, dirty, live,
			coalesce((SELECT min(id) FROM promotions q WHERE (q.tenant, q.environment, q.deployment) = ($1, $2, $3) AND q.kind = 'restore' AND q.finished_at IS NULL), '')
		FROM slots WHERE (tenant, environment, deployment) = ($1, $2, $3) FOR UPDATE`, at...).QueryRow(func(row pgx.Row) error {
		return missing(row.Scan(&sl.Now, &sl.Slot.Holder, &sl.Slot.Token, &sl.Slot.Started, &sl.Slot.Dirty, &sl.Slot.Live, &sl.Open))
	})
	b.Queue(formersQuery, at...).Query(func(rows pgx.Rows) (err error) {
		sl.Formers, err = pgx.CollectRows(rows, pgx.RowToStructByPos[promotion.Former])
		return err
	})
	if err := send(ctx, tx, b); err != nil {
		return sl, err
	}
	sl.Now = sl.Now.UTC()
	if i := slices.IndexFunc(sl.Formers, func(f promotion.Former) bool { return f.Promotion == sl.Slot.Live }); i >= 0 {
		sl.Live = sl.Formers[i]
	}
	return sl, nil
}

// formersQuery lists what ran in a slot, newest first: far enough back to find
// [promotion.MaxFormers] different releases even when one was restored often.
const formersQuery = `SELECT p.id, p.release, p.generation, r.digest, p.plan, coalesce(p.spec #>> '{instance,module,digest}', ''),
		coalesce(p.spec #>> '{instance,module,version}', ''), p.finished_at, h.artifact IS NOT NULL
	FROM promotions p JOIN releases r ON (r.tenant, r.id) = (p.tenant, p.release)
	LEFT JOIN holds h ON (h.tenant, h.environment, h.deployment, h.artifact) = (p.tenant, p.environment, p.deployment, p.spec #>> '{instance,module,digest}')
	WHERE (p.tenant, p.environment, p.deployment) = ($1, $2, $3) AND p.status = 'succeeded' AND p.kind <> 'remove'
	ORDER BY p.finished_at DESC, p.id DESC LIMIT 200`

// Past reads the release of a former, for a restore. It belongs to the
// transaction that the slot is locked in.
func (sl Slotted) Past(ctx context.Context, release string) (Past, error) {
	return loadPast(ctx, sl.tx, sl.Tenant, release, promotion.Restore, sl.Environment)
}

func loadPast(ctx context.Context, tx pgx.Tx, tenant, release string, kind promotion.Kind, environment string) (src Past, err error) {
	err = tx.QueryRow(ctx, `SELECT r.id, r.generation, r.repository, r.snapshot,
			1 + coalesce((SELECT max(attempt) FROM promotions p WHERE (p.tenant, p.release, p.kind, p.environment) = ($1, $2, $3, $4)), 0)
		FROM releases r WHERE (r.tenant, r.id) = ($1, $2)`, tenant, release, kind, environment).
		Scan(&src.Release, &src.Generation, &src.Repository, &src.Snapshot, &src.Attempt)
	return src, missing(err)
}

// Retry reads a release as [Store.AdvanceRelease] does, whatever its state, lets
// decide say which attempt begins, and opens the release again.
func (s *Store) Retry(ctx context.Context, tenant, release string, decide func(ReleaseStep) (ReleaseResult, error)) ([]string, error) {
	ids, err := s.withinOnce(ctx, tenant, func(tx pgx.Tx) (ids []string, err error) {
		c := Claim{Tenant: tenant, Kind: Release, ID: release}
		if _, err := tx.Exec(ctx, "SELECT FROM releases WHERE (tenant, id) = ($1, $2) FOR UPDATE", tenant, release); err != nil {
			return nil, err
		}
		st, err := loadRelease(ctx, tx, c)
		if err != nil {
			return nil, err
		}
		res, err := decide(st)
		if err != nil {
			return nil, err
		}
		b := &pgx.Batch{}
		b.Queue("UPDATE releases SET state = $4, waiting_for = $5, version = version + 1 WHERE (tenant, id) = ($1, $2) AND "+versionCondition,
			tenant, release, st.version, res.State, orNull(res.Waiting)).Exec(changesOne)
		for _, d := range res.Started {
			if err := s.queuePromotion(b, d); err != nil {
				return nil, err
			}
			ids = append(ids, d.State.ID)
		}
		if err := s.queueRows(b, res.Rows); err != nil {
			return nil, err
		}
		b.Queue("INSERT INTO due (tenant, kind, id, wake_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING", tenant, Release, release, res.Wake)
		return ids, send(ctx, tx, b)
	})
	if err != nil {
		return nil, fmt.Errorf("retry release %s: %w", release, err)
	}
	return ids, nil
}

// A HoldRow is a hold as lists show it.
type HoldRow struct {
	Environment string    `json:"environment"`
	Deployment  string    `json:"deployment"`
	Artifact    string    `json:"artifact"`
	Reason      string    `json:"reason"`
	By          string    `json:"by"`
	Since       time.Time `json:"since"`
}

// Holds returns the tenant's holds, newest first.
func (s *Store) Holds(ctx context.Context, tenant string) ([]HoldRow, error) {
	var out []HoldRow
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT environment, deployment, artifact, reason, actor, since FROM holds
			WHERE tenant = $1 ORDER BY since DESC, environment, deployment`, tenant)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[HoldRow])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list holds: %w", err)
	}
	return out, nil
}

// SetHold bars an artifact from a slot, in the name of a person. [ErrNotFound]
// when there is no such slot, [ErrConflict] when it is barred already.
func (s *Store) SetHold(ctx context.Context, tenant string, h HoldRow, by audit.Actor) error {
	return s.changeHold(ctx, tenant, h, by, "hold.set", "INSERT INTO holds (tenant, environment, deployment, artifact, reason, actor, since) VALUES ($1, $2, $3, $4, $5, $6, now()) ON CONFLICT DO NOTHING",
		tenant, h.Environment, h.Deployment, h.Artifact, h.Reason, by.Name)
}

// LiftHold lets an artifact into a slot again, in the name of a person, and wakes
// who waits. [ErrNotFound] when there is no such slot, [ErrConflict] when it is not barred.
func (s *Store) LiftHold(ctx context.Context, tenant string, h HoldRow, by audit.Actor) error {
	return s.changeHold(ctx, tenant, h, by, "hold.lifted", "DELETE FROM holds WHERE (tenant, environment, deployment, artifact) = ($1, $2, $3, $4)",
		tenant, h.Environment, h.Deployment, h.Artifact)
}

func (s *Store) changeHold(ctx context.Context, tenant string, h HoldRow, by audit.Actor, action, change string, args ...any) error {
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		var at time.Time
		if err := tx.QueryRow(ctx, "SELECT now() FROM slots WHERE (tenant, environment, deployment) = ($1, $2, $3) FOR UPDATE", tenant, h.Environment, h.Deployment).Scan(&at); err != nil {
			return missing(err)
		}
		tag, err := tx.Exec(ctx, change, args...)
		if err := one(tag, err, ErrConflict); err != nil {
			return err
		}
		b := &pgx.Batch{}
		b.Queue(pokeSlot, tenant, h.Environment, h.Deployment, "")
		if err := queueRecordedHolds(ctx, tx, b, tenant, h.Environment, h.Deployment); err != nil {
			return err
		}
		err = s.queueRows(b, []audit.Row{{
			ID: fmt.Sprintf("%s/%s/%s/%s/%d", action, h.Environment, h.Deployment, h.Artifact, at.UnixMicro()), Tenant: tenant, At: at.UTC(), Actor: by,
			Action: action, Subject: "slot " + h.Environment + "/" + h.Deployment, Reason: h.Reason,
			Attributes: map[string]string{"artifact": h.Artifact},
		}})
		if err != nil {
			return err
		}
		return send(ctx, tx, b)
	})
	if err != nil {
		return fmt.Errorf("%s for %s/%s: %w", action, h.Environment, h.Deployment, err)
	}
	return nil
}

// SetCheck stores what an external check says about an open promotion, and wakes
// it. [ErrNotFound] for a promotion that is unknown or has ended.
func (s *Store) SetCheck(ctx context.Context, tenant, promotionID string, c promotion.CheckFact, by audit.Actor) error {
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		var at time.Time
		if err := tx.QueryRow(ctx, "SELECT now() FROM promotions WHERE (tenant, id) = ($1, $2) AND finished_at IS NULL FOR UPDATE", tenant, promotionID).Scan(&at); err != nil {
			return missing(err)
		}
		b := &pgx.Batch{}
		b.Queue(`INSERT INTO checks (tenant, promotion, name, passed, detail, at) VALUES ($1, $2, $3, $4, $5, now())
			ON CONFLICT (tenant, promotion, name) DO UPDATE SET passed = excluded.passed, detail = excluded.detail, at = excluded.at`,
			tenant, promotionID, c.Name, c.Passed, c.Detail)
		b.Queue(pokeOne, tenant, Promotion, promotionID)
		said := "failed"
		if c.Passed {
			said = "passed"
		}
		err := s.queueRows(b, []audit.Row{{
			ID: fmt.Sprintf("check/%s/%s/%d", promotionID, c.Name, at.UnixMicro()), Tenant: tenant, At: at.UTC(), Actor: by,
			Action: "check." + said, Subject: "check " + c.Name + " of promotion " + promotionID, Reason: cmp.Or(c.Detail, "it gave no detail"),
		}})
		if err != nil {
			return err
		}
		return send(ctx, tx, b)
	})
	if err != nil {
		return fmt.Errorf("check %s of %s: %w", c.Name, promotionID, err)
	}
	return nil
}

// RaiseEpoch says that the database was restored from a backup, in the name of a
// person: from now on every order is newer than all that nodes have seen. No unit
// is moved by it; what they run and is not recorded becomes a finding. It answers
// the new epoch.
func (s *Store) RaiseEpoch(ctx context.Context, tenant string, by audit.Actor, reason string) (epoch int64, err error) {
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		at, err := now(ctx, tx)
		if err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, "SELECT raise_epoch()").Scan(&epoch); err != nil {
			return err
		}
		b := &pgx.Batch{}
		b.Queue(poke+" WHERE tenant = $1 AND kind IN ('promotion', 'slot')", tenant)
		err = s.queueRows(b, []audit.Row{{
			ID: fmt.Sprintf("installation/epoch/%d", epoch), Tenant: tenant, At: at, Actor: by, Action: "epoch.raised",
			Subject: "installation", Reason: reason, Attributes: map[string]string{"epoch": fmt.Sprint(epoch)},
		}})
		if err != nil {
			return err
		}
		return send(ctx, tx, b)
	})
	if err != nil {
		return 0, fmt.Errorf("raise epoch: %w", err)
	}
	return epoch, nil
}
