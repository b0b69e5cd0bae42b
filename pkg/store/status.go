package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/target"
)

// encode is v as JSON text.
func encode(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// A PromotionRow is a promotion as lists show it.
type PromotionRow struct {
	ID          string             `json:"id"`
	Deployment  string             `json:"deployment"`
	Environment string             `json:"environment"`
	Module      string             `json:"module"`
	Version     string             `json:"version"`
	Status      promotion.Status   `json:"status"`
	Phase       promotion.Phase    `json:"phase,omitempty"`
	Reason      string             `json:"reason"`
	Since       time.Time          `json:"since"`
	Waiting     *promotion.Waiting `json:"waitingFor,omitempty"`
}

const selectPromotionRow = `SELECT id, deployment, environment, coalesce(spec #>> '{instance,module,name}', ''), coalesce(spec #>> '{instance,module,version}', ''),
	status, phase, reason, since, waiting_for FROM promotions`

// Promotions returns the tenant's newest promotions, newest first, at most limit.
func (s *Store) Promotions(ctx context.Context, tenant string, limit int) ([]PromotionRow, error) {
	var out []PromotionRow
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, selectPromotionRow+" WHERE tenant = $1 ORDER BY created_at DESC, id DESC LIMIT $2", tenant, limit)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[PromotionRow])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list promotions: %w", err)
	}
	return out, nil
}

// Promotion returns one promotion as lists show it; [ErrNotFound] when there is none.
func (s *Store) Promotion(ctx context.Context, tenant, id string) (p PromotionRow, err error) {
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, selectPromotionRow+" WHERE (tenant, id) = ($1, $2)", tenant, id)
		if err != nil {
			return err
		}
		p, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[PromotionRow])
		return missing(err)
	})
	if err != nil {
		return p, fmt.Errorf("promotion %s: %w", id, err)
	}
	return p, nil
}

// Statuses returns what was said about commits of a repository, newest first.
func (s *Store) Statuses(ctx context.Context, tenant, repository string, limit int) ([]CommitStatus, error) {
	var out []CommitStatus
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT commit, context, state = 'success', description, detail, at FROM statuses
			WHERE (tenant, repository) = ($1, $2) ORDER BY at DESC LIMIT $3`, tenant, repository, limit)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[CommitStatus])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list statuses: %w", err)
	}
	return out, nil
}

// A RepositoryRow is a repository as lists show it.
type RepositoryRow struct {
	Name     string             `json:"name"`
	Branch   string             `json:"branch"`
	Synced   string             `json:"synced"` // commit; empty: nothing yet
	SyncedAt *time.Time         `json:"syncedAt"`
	Waiting  *promotion.Waiting `json:"waitingFor,omitempty"` // nil: it could be read
}

// Repositories returns the tenant's repositories by name, and why one cannot be
// read.
func (s *Store) Repositories(ctx context.Context, tenant string) ([]RepositoryRow, error) {
	var out []RepositoryRow
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT name, branch, synced, synced_at, waiting FROM repositories WHERE tenant = $1 ORDER BY name", tenant)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[RepositoryRow])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list repositories: %w", err)
	}
	return out, nil
}

// A NodeRow is a node as lists show it.
type NodeRow struct {
	Name     string               `json:"name"`
	Labels   map[string]string    `json:"labels"`
	LastSeen *time.Time           `json:"lastSeen"`
	Agent    string               `json:"agent"`
	Places   []target.PlaceReport `json:"places"`
}

// Nodes returns the tenant's nodes with what they reported last.
func (s *Store) Nodes(ctx context.Context, tenant string) ([]NodeRow, error) {
	var out []NodeRow
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT n.name, n.labels, n.last_seen, n.agent,
				coalesce((SELECT jsonb_agg(r.report ORDER BY r.environment, r.deployment) FROM reports r WHERE (r.tenant, r.node) = (n.tenant, n.name)), '[]')
			FROM nodes n WHERE n.tenant = $1 AND n.left_at IS NULL ORDER BY n.name`, tenant)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[NodeRow])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	return out, nil
}

// A Replayed is a promotion as it is stored, with its transitions.
type Replayed struct {
	Stored      promotion.State
	Transitions []promotion.Transition
}

// EachPromotion calls fn with every promotion of the tenant and its
// transitions, from one snapshot of the database.
func (s *Store) EachPromotion(ctx context.Context, tenant string, fn func(Replayed) error) error {
	err := s.snapshot(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, selectPromotion+" WHERE p.tenant = $1 ORDER BY p.id", tenant)
		if err != nil {
			return err
		}
		all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p promotion.State, err error) {
			return p, scanPromotion(row, &p)
		})
		if err != nil {
			return err
		}
		for _, p := range all {
			ts, err := loadTransitions(ctx, tx, tenant, p.ID)
			if err != nil {
				return err
			}
			if err := fn(Replayed{Stored: p, Transitions: ts}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read transitions: %w", err)
	}
	return nil
}

func loadTransitions(ctx context.Context, tx pgx.Tx, tenant, id string) ([]promotion.Transition, error) {
	rows, err := tx.Query(ctx, `SELECT promotion, from_version, at, event, outcome FROM transitions
		WHERE (tenant, promotion) = ($1, $2) ORDER BY from_version`, tenant, id)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t promotion.Transition, err error) {
		err = row.Scan(&t.Promotion, &t.From, &t.At, &t.Event, &t.To)
		t.At = t.At.UTC()
		return t, err
	})
}

// An AuditRow is a row of the trail as lists show it.
type AuditRow struct {
	Header   json.RawMessage // canonical JSON of an audit.Row
	Writer   string
	Position *int64 // in its log; nil: not sequenced yet
}

// AuditRows returns the tenant's newest audit rows, newest first, at most limit.
// A non-empty promotion or action narrows the list.
func (s *Store) AuditRows(ctx context.Context, tenant, promotion, action string, limit int) ([]AuditRow, error) {
	var out []AuditRow
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT a.header::jsonb, a.writer, l.position FROM audit a
			LEFT JOIN audit_leaves l ON (l.tenant, l.month, l.id) = (a.tenant, a.month, a.id)
			WHERE a.tenant = $1 AND ($2 = '' OR a.promotion = $2) AND ($3 = '' OR a.action = $3)
			ORDER BY a.month DESC, l.position DESC NULLS FIRST, a.id DESC LIMIT $4`, tenant, promotion, action, limit)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[AuditRow])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list audit: %w", err)
	}
	return out, nil
}

// A ReleaseRow is a release as lists show it.
type ReleaseRow struct {
	ID    string
	State promotion.ReleaseState
}

// An OpenRelease is a release that has not ended.
type OpenRelease struct {
	ID      string             `json:"id"`
	Commit  string             `json:"commit"`
	Waiting *promotion.Waiting `json:"waitingFor"`
}

// OpenReleases returns the tenant's releases that have not ended, oldest first, at most limit.
func (s *Store) OpenReleases(ctx context.Context, tenant string, limit int) ([]OpenRelease, error) {
	var out []OpenRelease
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT id, commit, waiting_for FROM releases WHERE tenant = $1 AND state = 'open' ORDER BY created_at, id LIMIT $2", tenant, limit)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[OpenRelease])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list open releases: %w", err)
	}
	return out, nil
}

// ReleaseOf returns the release that a commit of a repository made; the first
// by name when it made several. [ErrNotFound] when it made none.
func (s *Store) ReleaseOf(ctx context.Context, tenant, repository, commit string) (r ReleaseRow, err error) {
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		return missing(tx.QueryRow(ctx, `SELECT id, state FROM releases WHERE (tenant, repository, commit) = ($1, $2, $3)
			ORDER BY deployment LIMIT 1`, tenant, repository, commit).Scan(&r.ID, &r.State))
	})
	if err != nil {
		return r, fmt.Errorf("release of commit %.12s: %w", commit, err)
	}
	return r, nil
}

// ServerVersion returns the version of the PostgreSQL that the DSN leads to.
func ServerVersion(ctx context.Context, dsn string) (string, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "", fmt.Errorf("server version: %w", err)
	}
	defer conn.Close(ctx)
	version, _, _ := strings.Cut(conn.PgConn().ParameterStatus("server_version"), " ")
	return version, nil
}

// A TransitionRow is one step of a promotion as a timeline shows it.
type TransitionRow struct {
	Promotion   string
	Environment string
	At          time.Time
	Status      promotion.Status
	Phase       promotion.Phase
	Reason      string
}

// Timeline returns the steps of a release's promotions, in order of time.
func (s *Store) Timeline(ctx context.Context, tenant, release string) ([]TransitionRow, error) {
	var out []TransitionRow
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT t.promotion, p.environment, t.at, t.outcome ->> 'status', coalesce(t.outcome ->> 'phase', ''), coalesce(t.outcome ->> 'reason', '')
			FROM promotions p JOIN transitions t ON (t.tenant, t.promotion) = (p.tenant, p.id)
			WHERE (p.tenant, p.release) = ($1, $2) ORDER BY t.at, t.promotion, t.from_version`, tenant, release)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[TransitionRow])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("timeline of %s: %w", release, err)
	}
	return out, nil
}
