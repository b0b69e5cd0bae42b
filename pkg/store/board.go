package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/promotion"
)

// A BoardRow is one slot as a board shows it: what is live, and what is under way.
type BoardRow struct {
	Deployment  string             `json:"deployment"`
	Environment string             `json:"environment"`
	Module      string             `json:"module,omitempty"`
	Version     string             `json:"version,omitempty"` // live; empty: nothing
	Release     string             `json:"release,omitempty"` // live
	Since       *time.Time         `json:"since,omitempty"`
	Units       int                `json:"units"` // that run it
	Dirty       bool               `json:"dirty,omitempty"`
	Holds       int                `json:"holds"`
	Findings    int                `json:"findings"`    // open
	GitRecorded bool               `json:"gitRecorded"` // Git says all that there is to say
	Next        *BoardNext         `json:"next,omitempty"`
	Waiting     *promotion.Waiting `json:"waitingFor,omitempty"` // of Next
}

// A BoardNext is the promotion that is under way in a slot: the one that runs, or
// the newest that waits.
type BoardNext struct {
	Promotion string           `json:"promotion"`
	Version   string           `json:"version"`
	Status    promotion.Status `json:"status"`
	Phase     promotion.Phase  `json:"phase,omitempty"`
	Wave      int              `json:"wave"`  // from 1
	Waves     int              `json:"waves"` // 0 before it started
}

// Board returns the tenant's slots by deployment, each deployment's in the order in
// which its environments were first reached.
func (s *Store) Board(ctx context.Context, tenant string) ([]BoardRow, error) {
	var out []BoardRow
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, boardQuery, tenant)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, scanBoard)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("board: %w", err)
	}
	return out, nil
}

const boardQuery = `SELECT s.deployment, s.environment, coalesce(p.spec #>> '{instance,module,name}', ''), coalesce(p.spec #>> '{instance,module,version}', ''),
		coalesce(p.release, ''), p.finished_at,
		(SELECT count(*) FROM live l WHERE (l.tenant, l.environment, l.deployment) = (s.tenant, s.environment, s.deployment)
			AND l.instance ->> 'digest' = p.spec #>> '{instance,digest}'),
		s.dirty,
		(SELECT count(*) FROM holds h WHERE (h.tenant, h.environment, h.deployment) = (s.tenant, s.environment, s.deployment)),
		(SELECT count(*) FROM findings f WHERE (f.tenant, f.environment, f.deployment) = (s.tenant, s.environment, s.deployment) AND f.closed_at IS NULL),
		NOT EXISTS (SELECT FROM records k WHERE (k.tenant, k.environment, k.deployment) = (s.tenant, s.environment, s.deployment) AND k.recorded < k.version),
		n.id, coalesce(n.version, ''), coalesce(n.status, ''), coalesce(n.phase, ''), coalesce(n.wave, 0) + 1, coalesce(n.waves, 0), n.waiting_for
	FROM slots s
	LEFT JOIN promotions p ON (p.tenant, p.id) = (s.tenant, s.live)
	LEFT JOIN LATERAL (SELECT min(f.created_at) AS at FROM promotions f
		WHERE (f.tenant, f.environment, f.deployment) = (s.tenant, s.environment, s.deployment)) first ON true
	LEFT JOIN LATERAL (SELECT q.id, q.spec #>> '{instance,module,version}' AS version, q.status, q.phase, q.wave,
			(SELECT max(coalesce((u ->> 'wave')::int, 0)) + 1 FROM jsonb_array_elements(q.units) u) AS waves, q.waiting_for
		FROM promotions q WHERE (q.tenant, q.environment, q.deployment) = (s.tenant, s.environment, s.deployment) AND q.finished_at IS NULL
		ORDER BY q.status IN ('running', 'rolling_back') DESC, q.generation DESC, q.id LIMIT 1) n ON true
	WHERE s.tenant = $1 ORDER BY s.deployment, first.at, s.environment`

func scanBoard(row pgx.CollectableRow) (r BoardRow, err error) {
	var id *string
	var n BoardNext
	err = row.Scan(&r.Deployment, &r.Environment, &r.Module, &r.Version, &r.Release, &r.Since, &r.Units, &r.Dirty, &r.Holds, &r.Findings, &r.GitRecorded,
		&id, &n.Version, &n.Status, &n.Phase, &n.Wave, &n.Waves, &r.Waiting)
	if id != nil {
		n.Promotion = *id
		r.Next = &n
	}
	return r, err
}

// A ReleaseView is a release with its promotions as somebody who follows it sees it.
type ReleaseView struct {
	ID         string                 `json:"id"`
	Deployment string                 `json:"deployment"`
	State      promotion.ReleaseState `json:"state"`
	Commit     string                 `json:"commit"`
	Promotions []PromotionRow         `json:"promotions"` // in the order in which they began
}

// Release returns a release by its id, or the newest of a deployment by its name.
// [ErrNotFound] when there is neither.
func (s *Store) Release(ctx context.Context, tenant, name string) (v ReleaseView, err error) {
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `SELECT id, deployment, state, commit FROM releases WHERE tenant = $1 AND (id = $2 OR deployment = $2)
			ORDER BY (id = $2) DESC, generation DESC LIMIT 1`, tenant, name).Scan(&v.ID, &v.Deployment, &v.State, &v.Commit)
		if err != nil {
			return missing(err)
		}
		rows, err := tx.Query(ctx, selectPromotionRow+" WHERE (tenant, release) = ($1, $2) ORDER BY created_at, id", tenant, v.ID)
		if err != nil {
			return err
		}
		v.Promotions, err = pgx.CollectRows(rows, pgx.RowToStructByPos[PromotionRow])
		return err
	})
	if err != nil {
		return v, fmt.Errorf("release %s: %w", name, err)
	}
	return v, nil
}
