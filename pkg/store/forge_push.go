package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/approval"
)

// A ForgeMove is that somebody moves a reference of a repository.
type ForgeMove struct {
	ID      int64
	Ref     string   // refs/heads/…
	Before  string   // empty: it was not there
	After   string   // empty: it is deleted
	Commits []string // that came with it; unknown unless Done
	Done    bool     // false: it was begun, and whether it was done the repository tells
	By      approval.Account
}

const selectMove = `SELECT m.id, m.ref, m.before, m.after, m.commits, m.state = 'done', a.id, a.login, a.bot
	FROM forge_pushes m JOIN forge_accounts a ON (a.tenant, a.id) = (m.tenant, m.account)`

func scanMoves(rows pgx.Rows) (out []ForgeMove, err error) {
	var m ForgeMove
	_, err = pgx.ForEachRow(rows, []any{&m.ID, &m.Ref, &m.Before, &m.After, &m.Commits, &m.Done, &m.By.ID, &m.By.Login, &m.By.Bot}, func() error {
		out = append(out, m)
		m.Commits = nil
		return nil
	})
	return out, err
}

// BeginForgePush keeps who is about to move which references, before they move, and
// returns the moves with their numbers.
func (s *Store) BeginForgePush(ctx context.Context, tenant, repository string, moves []ForgeMove) ([]ForgeMove, error) {
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		for i, m := range moves {
			err := tx.QueryRow(ctx, `INSERT INTO forge_pushes (tenant, repository, ref, before, after, account, state) VALUES ($1, $2, $3, $4, $5, $6, 'begun') RETURNING id`,
				tenant, repository, m.Ref, m.Before, m.After, m.By.ID).Scan(&moves[i].ID)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("begin push: %w", err)
	}
	return moves, nil
}

// EndForgePush keeps which moves were done, with their commits; the others were refused.
// An open pull request whose branch is gone is closed.
func (s *Store) EndForgePush(ctx context.Context, tenant, repository string, moves []ForgeMove) error {
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		for _, m := range moves {
			if err := s.endMove(ctx, tx, tenant, repository, m); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("end push: %w", err)
	}
	return nil
}

func (s *Store) endMove(ctx context.Context, tx pgx.Tx, tenant, repository string, m ForgeMove) error {
	state := "refused"
	if m.Done {
		state = "done"
	}
	tag, err := tx.Exec(ctx, "UPDATE forge_pushes SET state = $3, commits = $4 WHERE (tenant, id) = ($1, $2) AND state = 'begun'", tenant, m.ID, state, orNone(m.Commits))
	if err != nil || tag.RowsAffected() == 0 || !m.Done {
		return err
	}
	rows := []forgeRow{{
		action: "branch.pushed", subject: "branch " + repository + ":" + strings.TrimPrefix(m.Ref, "refs/heads/"), key: fmt.Sprint(m.ID),
		reason: fmt.Sprintf("from %.12s to %.12s", m.Before, m.After), attributes: map[string]string{"before": m.Before, "after": m.After},
	}}
	changed, err := tx.Query(ctx, `UPDATE forge_pulls SET updated_at = now(), seen_head = coalesce(nullif($4, ''), seen_head),
			state = CASE WHEN $4 = '' THEN 'closed' ELSE state END
		WHERE (tenant, repository) = ($1, $2) AND 'refs/heads/' || head_ref = $3 AND state = 'open' RETURNING number`, tenant, repository, m.Ref, m.After)
	if err != nil {
		return err
	}
	numbers, err := pgx.CollectRows(changed, pgx.RowTo[int64])
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if m.After == "" {
			rows = append(rows, forgeRow{action: "pull.closed", subject: pullSubject(repository, n), reason: "its branch was deleted"})
		}
	}
	return s.forgeAudit(ctx, tx, tenant, forgeActor(m.By), rows...)
}

// ForgeMovesOf returns the moves that brought a commit, oldest first.
func (s *Store) ForgeMovesOf(ctx context.Context, tenant, repository, commit string) (out []ForgeMove, err error) {
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, selectMove+" WHERE (m.tenant, m.repository) = ($1, $2) AND m.state = 'done' AND m.commits @> to_jsonb($3::text) ORDER BY m.id", tenant, repository, commit)
		if err != nil {
			return err
		}
		out, err = scanMoves(rows)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("pushes of %.12s: %w", commit, err)
	}
	return out, nil
}
