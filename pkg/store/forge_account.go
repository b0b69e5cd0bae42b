package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/audit"
)

// ErrName reports a login, a mail address or a team that cannot be one.
var ErrName = errors.New("bad name")

var (
	loginForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9](-?[A-Za-z0-9]){0,38}$`) })
	teamForm  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9](-?[a-z0-9]){0,62}$`) })
	emailForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[!-;=?A-~]{1,100}@[A-Za-z0-9.-]{1,100}$`) }) // no angle brackets
)

// A NewAccount is an account of the built-in forge that is to be.
type NewAccount struct {
	Login string
	Email string // that their commits name; empty: none
	Bot   bool
}

func (n NewAccount) check() error {
	if !loginForm().MatchString(n.Login) {
		return fmt.Errorf("%w: login %.60q: letters, digits and single hyphens, at most 39", ErrName, n.Login)
	}
	if n.Email != "" && !emailForm().MatchString(n.Email) {
		return fmt.Errorf("%w: mail address %.60q", ErrName, n.Email)
	}
	return nil
}

// AddAccount adds an account that may do nothing yet. [ErrConflict] when somebody has
// the login or the mail address.
func (s *Store) AddAccount(ctx context.Context, tenant string, n NewAccount, by audit.Actor) (a approval.Account, err error) {
	if err := n.check(); err != nil {
		return a, err
	}
	err = s.forgeChange(ctx, tenant, by, func(tx pgx.Tx) (forgeRow, error) {
		row := tx.QueryRow(ctx, "INSERT INTO forge_accounts AS a (tenant, login, email, bot) VALUES ($1, $2, $3, $4) RETURNING "+forgeAccount, tenant, n.Login, n.Email, n.Bot)
		return forgeRow{action: "account.added", subject: "account " + n.Login, reason: "an account of the built-in forge"}, row.Scan(&a.ID, &a.Login, &a.Bot)
	})
	if err != nil {
		return a, fmt.Errorf("add account %s: %w", n.Login, err)
	}
	return a, nil
}

// EnsureAccount returns the account of that login, and adds it when there is none.
func (s *Store) EnsureAccount(ctx context.Context, tenant string, n NewAccount, by audit.Actor) (approval.Account, error) {
	a, err := s.AddAccount(ctx, tenant, n, by)
	if errors.Is(err, ErrConflict) {
		return s.Account(ctx, tenant, n.Login)
	}
	return a, err
}

// Account returns the account that has a login now, in upper or lower case. [ErrNotFound]: nobody.
func (s *Store) Account(ctx context.Context, tenant, login string) (a approval.Account, err error) {
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		a, err = accountOf(ctx, tx, tenant, login)
		return err
	})
	return a, err
}

func accountOf(ctx context.Context, tx pgx.Tx, tenant, login string) (a approval.Account, err error) {
	row := tx.QueryRow(ctx, "SELECT "+forgeAccount+" FROM forge_accounts a WHERE tenant = $1 AND lower(login) = lower($2) AND removed_at IS NULL", tenant, login)
	if err := missing(row.Scan(&a.ID, &a.Login, &a.Bot)); err != nil {
		return a, fmt.Errorf("account %.60s: %w", login, err)
	}
	return a, nil
}

// onAccount changes the account of a login.
func (s *Store) onAccount(ctx context.Context, tenant, login string, by audit.Actor, change func(tx pgx.Tx, a approval.Account) (forgeRow, error)) error {
	err := s.forgeChange(ctx, tenant, by, func(tx pgx.Tx) (forgeRow, error) {
		a, err := accountOf(ctx, tx, tenant, login)
		if err != nil {
			return forgeRow{}, err
		}
		row, err := change(tx, a)
		row.subject = "account " + a.Login
		row.key += fmt.Sprint(a.ID)
		return row, err
	})
	if err != nil {
		return fmt.Errorf("account %.60s: %w", login, err)
	}
	return nil
}

// RenameAccount gives an account another login. Its number, and all that hangs on it, stays.
func (s *Store) RenameAccount(ctx context.Context, tenant, login, to string, by audit.Actor) error {
	if err := (NewAccount{Login: to}).check(); err != nil {
		return err
	}
	return s.onAccount(ctx, tenant, login, by, func(tx pgx.Tx, a approval.Account) (forgeRow, error) {
		_, err := tx.Exec(ctx, "UPDATE forge_accounts SET login = $3 WHERE (tenant, id) = ($1, $2)", tenant, a.ID, to)
		return forgeRow{action: "account.renamed", reason: "it is called " + to + " now", attributes: map[string]string{"to": to}}, err
	})
}

// SetAccountEmail says which mail address an account's commits name.
func (s *Store) SetAccountEmail(ctx context.Context, tenant, login, email string, by audit.Actor) error {
	if err := (NewAccount{Login: "x", Email: email}).check(); err != nil {
		return err
	}
	return s.onAccount(ctx, tenant, login, by, func(tx pgx.Tx, a approval.Account) (forgeRow, error) {
		_, err := tx.Exec(ctx, "UPDATE forge_accounts SET email = $3 WHERE (tenant, id) = ($1, $2)", tenant, a.ID, email)
		return forgeRow{action: "account.changed", reason: "its commits name another mail address"}, err
	})
}

// RemoveAccount ends an account: its tokens prove nothing and it may do nothing. What
// it said stays, and its number is nobody else's.
func (s *Store) RemoveAccount(ctx context.Context, tenant, login, reason string, by audit.Actor) error {
	return s.onAccount(ctx, tenant, login, by, func(tx pgx.Tx, a approval.Account) (forgeRow, error) {
		b := &pgx.Batch{}
		b.Queue("UPDATE forge_accounts SET removed_at = now() WHERE (tenant, id) = ($1, $2)", tenant, a.ID)
		b.Queue("UPDATE forge_tokens SET revoked_at = now() WHERE (tenant, account) = ($1, $2) AND revoked_at IS NULL", tenant, a.ID)
		b.Queue("UPDATE forge_members SET member = false WHERE (tenant, account) = ($1, $2)", tenant, a.ID)
		return forgeRow{action: "account.removed", reason: reason}, send(ctx, tx, b)
	})
}

// PermitAccount says what an account may do in a repository from now on.
func (s *Store) PermitAccount(ctx context.Context, tenant, repository, login string, p approval.Permission, by audit.Actor) error {
	return s.onAccount(ctx, tenant, login, by, func(tx pgx.Tx, a approval.Account) (forgeRow, error) {
		err := permit(ctx, tx, tenant, repository, a.ID, "", p)
		return forgeRow{action: "account.permitted", key: repository + "/", reason: fmt.Sprintf("it may: %s, in %s", p, repository), attributes: map[string]string{"repository": repository, "permission": string(p)}}, err
	})
}

// PermitTeam says what each member of a team may do in a repository from now on.
func (s *Store) PermitTeam(ctx context.Context, tenant, repository, team string, p approval.Permission, by audit.Actor) error {
	err := s.forgeChange(ctx, tenant, by, func(tx pgx.Tx) (forgeRow, error) {
		if !teamForm().MatchString(team) {
			return forgeRow{}, fmt.Errorf("%w: team %.60q", ErrName, team)
		}
		return forgeRow{
			action: "team.permitted", key: repository, subject: "team " + team, reason: fmt.Sprintf("it may: %s, in %s", p, repository),
			attributes: map[string]string{"repository": repository, "permission": string(p)},
		}, permit(ctx, tx, tenant, repository, 0, team, p)
	})
	if err != nil {
		return fmt.Errorf("team %.60s: %w", team, err)
	}
	return nil
}

func permit(ctx context.Context, tx pgx.Tx, tenant, repository string, account int64, team string, p approval.Permission) error {
	switch p {
	case approval.None, approval.Read, approval.Write, approval.Admin:
	default:
		return fmt.Errorf("%w: permission %.20q is not none, read, write or admin", ErrName, p)
	}
	_, err := tx.Exec(ctx, `INSERT INTO forge_grants (tenant, repository, account, team, permission) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (tenant, repository, account, team) DO UPDATE SET permission = excluded.permission`, tenant, repository, account, team, p)
	return err
}

// SetMember takes an account into a team, or out of it.
func (s *Store) SetMember(ctx context.Context, tenant, team, login string, member bool, by audit.Actor) error {
	if !teamForm().MatchString(team) {
		return fmt.Errorf("%w: team %.60q", ErrName, team)
	}
	return s.onAccount(ctx, tenant, login, by, func(tx pgx.Tx, a approval.Account) (forgeRow, error) {
		_, err := tx.Exec(ctx, `INSERT INTO forge_members (tenant, team, account, member) VALUES ($1, $2, $3, $4)
			ON CONFLICT (tenant, team, account) DO UPDATE SET member = excluded.member`, tenant, team, a.ID, member)
		action, reason := "team.joined", "it belongs to team "+team
		if !member {
			action, reason = "team.left", "it does not belong to team "+team+" any more"
		}
		return forgeRow{action: action, key: team + "/", reason: reason, attributes: map[string]string{"team": team}}, err
	})
}

// forgeToken is what every token of an account begins with, so that scanners of leaks know it.
const forgeToken = "hotswap_"

// CreateAccountToken makes a token that proves an account for a time. Only its hash is
// kept: it is shown this once.
func (s *Store) CreateAccountToken(ctx context.Context, tenant, login string, life time.Duration, by audit.Actor) (string, error) {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails, see crypto/rand
	token := forgeToken + base64.RawURLEncoding.EncodeToString(secret)
	hash := sha256.Sum256([]byte(token))
	err := s.onAccount(ctx, tenant, login, by, func(tx pgx.Tx, a approval.Account) (forgeRow, error) {
		_, err := tx.Exec(ctx, "INSERT INTO forge_tokens (tenant, hash, account, expires_at) VALUES ($1, $2, $3, now() + $4)", tenant, hash[:], a.ID, life)
		return forgeRow{action: "account-token.created", key: fmt.Sprintf("%x/", hash[:8]), reason: "it proves the account for " + life.String()}, err
	})
	return token, err
}

// RevokeAccountTokens ends all tokens of an account and says how many there were.
func (s *Store) RevokeAccountTokens(ctx context.Context, tenant, login string, by audit.Actor) (n int64, err error) {
	err = s.onAccount(ctx, tenant, login, by, func(tx pgx.Tx, a approval.Account) (forgeRow, error) {
		tag, err := tx.Exec(ctx, "UPDATE forge_tokens SET revoked_at = now() WHERE (tenant, account) = ($1, $2) AND revoked_at IS NULL AND expires_at > now()", tenant, a.ID)
		n = tag.RowsAffected()
		return forgeRow{action: "account-token.revoked", reason: fmt.Sprintf("%d tokens of it prove nothing any more", n)}, err
	})
	return n, err
}

// AccountByToken returns whom a token proves now. [ErrToken]: nobody.
func (s *Store) AccountByToken(ctx context.Context, tenant, token string) (a approval.Account, err error) {
	if !strings.HasPrefix(token, forgeToken) || len(token) > 100 {
		return a, fmt.Errorf("account token: %w", ErrToken)
	}
	hash := sha256.Sum256([]byte(token))
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		row := tx.QueryRow(ctx, "SELECT "+forgeAccount+` FROM forge_tokens t JOIN forge_accounts a ON (a.tenant, a.id) = (t.tenant, t.account)
			WHERE (t.tenant, t.hash) = ($1, $2) AND t.revoked_at IS NULL AND t.expires_at > now() AND a.removed_at IS NULL`, tenant, hash[:])
		return row.Scan(&a.ID, &a.Login, &a.Bot)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrToken
	}
	if err != nil {
		return approval.Account{}, fmt.Errorf("account token: %w", err)
	}
	return a, nil
}

// An AccountRow is an account as lists show it.
type AccountRow struct {
	approval.Account
	Email      string              `json:"email,omitempty"`
	Permission approval.Permission `json:"permission"` // in the repository that was asked about
	Teams      []string            `json:"teams"`
	Tokens     int                 `json:"tokens"` // that prove it now
	CreatedAt  time.Time           `json:"createdAt"`
}

// Accounts returns all accounts with what they may do in a repository, by login.
func (s *Store) Accounts(ctx context.Context, tenant, repository string) (out []AccountRow, err error) {
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT "+forgeAccount+", a.email, "+forgePermission+`,
				coalesce((SELECT array_agg(m.team ORDER BY m.team) FROM forge_members m WHERE m.tenant = a.tenant AND m.account = a.id AND m.member), '{}'),
				(SELECT count(*)::int FROM forge_tokens t WHERE t.tenant = a.tenant AND t.account = a.id AND t.revoked_at IS NULL AND t.expires_at > now()), a.created_at
			FROM forge_accounts a WHERE a.tenant = $1 AND a.removed_at IS NULL ORDER BY lower(a.login)`, tenant, repository)
		if err != nil {
			return err
		}
		var r AccountRow
		_, err = pgx.ForEachRow(rows, []any{&r.ID, &r.Login, &r.Bot, &r.Email, &r.Permission, &r.Teams, &r.Tokens, &r.CreatedAt}, func() error {
			out = append(out, r)
			r.Teams = nil
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return out, nil
}

// AccountPermission returns what an account may do in a repository now.
func (s *Store) AccountPermission(ctx context.Context, tenant, repository string, id int64) (approval.Permission, error) {
	m, err := s.Members(ctx, tenant, repository, []int64{id}, nil, nil)
	return m.Permissions[id], err
}

// Members answers what accounts may do in a repository now, who has a login, and who is
// in a team. A number that nobody has may do nothing; a login and a team that there is
// not are missing.
func (s *Store) Members(ctx context.Context, tenant, repository string, ids []int64, logins, teams []string) (approval.Members, error) {
	m := approval.Members{Permissions: map[int64]approval.Permission{}, Teams: map[string][]int64{}, Accounts: map[string]approval.Account{}}
	lower := make([]string, 0, len(logins))
	for _, l := range logins {
		lower = append(lower, strings.ToLower(l))
	}
	for _, id := range ids {
		m.Permissions[id] = approval.None
	}
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT "+forgeAccount+", "+forgePermission+`, a.removed_at IS NULL AND lower(a.login) = ANY ($4)
			FROM forge_accounts a WHERE a.tenant = $1 AND (a.id = ANY ($3) OR a.removed_at IS NULL AND lower(a.login) = ANY ($4))`, tenant, repository, ids, lower)
		if err != nil {
			return err
		}
		var a approval.Account
		var p approval.Permission
		var named bool
		_, err = pgx.ForEachRow(rows, []any{&a.ID, &a.Login, &a.Bot, &p, &named}, func() error {
			m.Permissions[a.ID] = p
			if named {
				m.Accounts[strings.ToLower(a.Login)] = a
			}
			return nil
		})
		if err != nil {
			return err
		}
		return teamMembers(ctx, tx, tenant, teams, m.Teams)
	})
	if err != nil {
		return approval.Members{}, fmt.Errorf("members: %w", err)
	}
	return m, nil
}

func teamMembers(ctx context.Context, tx pgx.Tx, tenant string, teams []string, into map[string][]int64) error {
	if len(teams) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, `SELECT team, coalesce(array_agg(account ORDER BY account) FILTER (WHERE member), '{}') FROM (
			SELECT team, account, member FROM forge_members WHERE tenant = $1
			UNION ALL SELECT team, 0, false FROM forge_grants WHERE tenant = $1 AND team <> '') x
		WHERE team = ANY ($2) GROUP BY team`, tenant, teams)
	if err != nil {
		return err
	}
	var team string
	var ids []int64
	_, err = pgx.ForEachRow(rows, []any{&team, &ids}, func() error {
		into[team] = ids
		ids = nil
		return nil
	})
	return err
}

// AccountsByEmail finds who commits name, by mail address in lower case. Whoever was
// removed is found too, unless somebody else has the address now.
func (s *Store) AccountsByEmail(ctx context.Context, tenant string, emails []string) (map[string]approval.Account, error) {
	lower := make([]string, 0, len(emails))
	for _, e := range emails {
		lower = append(lower, strings.ToLower(e))
	}
	out := map[string]approval.Account{}
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT DISTINCT ON (lower(a.email)) lower(a.email), "+forgeAccount+` FROM forge_accounts a
			WHERE a.tenant = $1 AND a.email <> '' AND lower(a.email) = ANY ($2) ORDER BY lower(a.email), a.removed_at DESC NULLS FIRST`, tenant, lower)
		if err != nil {
			return err
		}
		var email string
		var a approval.Account
		_, err = pgx.ForEachRow(rows, []any{&email, &a.ID, &a.Login, &a.Bot}, func() error { out[email] = a; return nil })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("accounts by mail address: %w", err)
	}
	return out, nil
}
