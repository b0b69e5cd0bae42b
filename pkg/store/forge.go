package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/audit"
)

// forgeRow is what the audit trail says of one change on the built-in forge.
type forgeRow struct {
	action, subject, reason string
	key                     string // tells apart what happens to one subject at one time
	attributes              map[string]string
}

// forgeChange makes one change and its audit row in one transaction. A change that
// names no action changed nothing. What is there already is [ErrConflict].
func (s *Store) forgeChange(ctx context.Context, tenant string, by audit.Actor, change func(tx pgx.Tx) (forgeRow, error)) error {
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		row, err := change(tx)
		if err != nil || row.action == "" {
			return err
		}
		return s.forgeAudit(ctx, tx, tenant, by, row)
	})
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "23505" {
		return ErrConflict
	}
	return err
}

func (s *Store) forgeAudit(ctx context.Context, tx pgx.Tx, tenant string, by audit.Actor, rows ...forgeRow) error {
	at, err := now(ctx, tx)
	if err != nil {
		return err
	}
	b := &pgx.Batch{}
	for i, r := range rows {
		err := s.queueRows(b, []audit.Row{{
			ID: strings.Join([]string{"forge", r.action, r.subject, r.key, by.Name, fmt.Sprint(at.UnixMicro()), fmt.Sprint(i)}, "/"), Tenant: tenant, At: at, Actor: by,
			Action: r.action, Subject: r.subject, Reason: r.reason, Attributes: r.attributes,
		}})
		if err != nil {
			return err
		}
	}
	return send(ctx, tx, b)
}

// forgeActor is an account as the audit trail names it: a bot is a machine.
func forgeActor(a approval.Account) audit.Actor {
	if a.Bot {
		return audit.Actor{Kind: audit.System, Name: a.Login}
	}
	return audit.Actor{Kind: audit.Person, Name: a.Login}
}

// pullSubject is how the audit trail names a pull request.
func pullSubject(repository string, number int64) string {
	return fmt.Sprintf("pull request %s#%d", repository, number)
}

// forgeAccount are the columns of an account a.
const forgeAccount = "a.id, a.login, a.bot"

// forgeRank is what account a may do in repository $2 now, as a place in forgeRanks.
const forgeRank = `CASE WHEN a.removed_at IS NOT NULL THEN 1 ELSE coalesce((SELECT max(array_position(ARRAY['none', 'read', 'write', 'admin'], g.permission))
	FROM forge_grants g WHERE g.tenant = a.tenant AND g.repository = $2 AND (g.account = a.id
		OR g.team IN (SELECT m.team FROM forge_members m WHERE m.tenant = a.tenant AND m.account = a.id AND m.member))), 1) END`

// forgePermission is it as a word.
const forgePermission = "(ARRAY['none', 'read', 'write', 'admin'])[" + forgeRank + "]"
