package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/audit"
)

// A ForgePull is a pull request of the built-in forge as it is stored. Where its
// branches are, and so whether it is merged, the repository tells.
type ForgePull struct {
	Number    int64
	HeadRef   string // branch
	Base      string // branch
	Title     string
	Body      string
	Labels    []string
	State     approval.PullState
	Author    approval.Account
	SeenHead  string      // where the branch was seen last
	Merged    *ForgeMerge // the merge that was made; nil: it is not known to be merged
	Begun     bool        // a merge was begun, and is not known to be made
	UpdatedAt time.Time
}

// A ForgeMerge is a merge that was begun: if the base holds Commit, it was made.
type ForgeMerge struct {
	Commit string // that the base becomes
	Base   string // commit before
	Head   string
	By     approval.Account
}

// A ForgeReview is a review with what only people read.
type ForgeReview struct {
	approval.Review
	Body        string
	DismissedBy int64 // account; 0: nobody
}

// ForgeFacts are all that is stored of a pull request, as of one moment.
type ForgeFacts struct {
	ForgePull
	Merges  []ForgeMerge // that were begun
	Reviews []ForgeReview
	Moves   []ForgeMove // of its branch, oldest first
	Now     time.Time
}

const selectForgePull = `SELECT p.number, p.head_ref, p.base, p.title, p.body, p.labels, p.state, p.seen_head, p.updated_at, a.id, a.login, a.bot,
		p.state <> 'merged' AND EXISTS (SELECT FROM forge_merges x WHERE (x.tenant, x.repository, x.number) = (p.tenant, p.repository, p.number)),
		coalesce(m.commit, ''), coalesce(m.base, ''), coalesce(m.head, ''), coalesce(b.id, 0), coalesce(b.login, ''), coalesce(b.bot, false)
	FROM forge_pulls p JOIN forge_accounts a ON (a.tenant, a.id) = (p.tenant, p.author)
	LEFT JOIN forge_merges m ON (m.tenant, m.repository, m.number, m.commit) = (p.tenant, p.repository, p.number, p.merge_commit)
	LEFT JOIN forge_accounts b ON (b.tenant, b.id) = (m.tenant, m.account)`

func scanForgePull(row pgx.Row) (p ForgePull, err error) {
	var m ForgeMerge
	err = row.Scan(&p.Number, &p.HeadRef, &p.Base, &p.Title, &p.Body, &p.Labels, &p.State, &p.SeenHead, &p.UpdatedAt, &p.Author.ID, &p.Author.Login, &p.Author.Bot,
		&p.Begun, &m.Commit, &m.Base, &m.Head, &m.By.ID, &m.By.Login, &m.By.Bot)
	if m.Commit != "" {
		p.Merged = &m
	}
	p.UpdatedAt = p.UpdatedAt.UTC()
	return p, err
}

// LoadForgePull returns a pull request and all that was said of it. [ErrNotFound].
func (s *Store) LoadForgePull(ctx context.Context, tenant, repository string, number int64) (f ForgeFacts, err error) {
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		at := []any{tenant, repository, number}
		b := &pgx.Batch{}
		b.Queue("SELECT now()").QueryRow(func(row pgx.Row) error { return row.Scan(&f.Now) })
		b.Queue(selectForgePull+" WHERE (p.tenant, p.repository, p.number) = ($1, $2, $3)", at...).QueryRow(func(row pgx.Row) (err error) {
			f.ForgePull, err = scanForgePull(row)
			return missing(err)
		})
		b.Queue(`SELECT m.commit, m.base, m.head, a.id, a.login, a.bot FROM forge_merges m JOIN forge_accounts a ON (a.tenant, a.id) = (m.tenant, m.account)
			WHERE (m.tenant, m.repository, m.number) = ($1, $2, $3) ORDER BY m.at`, at...).Query(func(rows pgx.Rows) error {
			var m ForgeMerge
			_, err := pgx.ForEachRow(rows, []any{&m.Commit, &m.Base, &m.Head, &m.By.ID, &m.By.Login, &m.By.Bot}, func() error { f.Merges = append(f.Merges, m); return nil })
			return err
		})
		b.Queue("SELECT r.id, r.verdict, r.commit, r.body, r.at, r.dismissed_at IS NOT NULL, r.dismissed_by, "+forgeAccount+", "+forgeRank+` >= 3
			FROM forge_reviews r JOIN forge_accounts a ON (a.tenant, a.id) = (r.tenant, r.account)
			WHERE (r.tenant, r.repository, r.number) = ($1, $2, $3) ORDER BY r.id`, at...).Query(func(rows pgx.Rows) error {
			var r ForgeReview
			_, err := pgx.ForEachRow(rows, []any{&r.ID, &r.Verdict, &r.Commit, &r.Body, &r.At, &r.Dismissed, &r.DismissedBy, &r.By.ID, &r.By.Login, &r.By.Bot, &r.Official}, func() error {
				r.At = r.At.UTC()
				f.Reviews = append(f.Reviews, r)
				return nil
			})
			return err
		})
		b.Queue(selectMove+` WHERE (m.tenant, m.repository) = ($1, $2) AND m.state <> 'refused'
			AND m.ref = (SELECT 'refs/heads/' || head_ref FROM forge_pulls WHERE (tenant, repository, number) = ($1, $2, $3)) ORDER BY m.id`, at...).Query(func(rows pgx.Rows) (err error) {
			f.Moves, err = scanMoves(rows)
			return err
		})
		return send(ctx, tx, b)
	})
	if err != nil {
		return f, fmt.Errorf("load %s: %w", pullSubject(repository, number), err)
	}
	return f, nil
}

// MaxForgePulls is how many pull requests are listed at most.
const MaxForgePulls = 5000

// ForgePulls returns pull requests by number, the newest [MaxForgePulls] + 1 at most.
// An empty head or base is any, and the zero time is any time.
func (s *Store) ForgePulls(ctx context.Context, tenant, repository, head, base string, since time.Time) (out []ForgePull, err error) {
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT * FROM ("+selectForgePull+` WHERE (p.tenant, p.repository) = ($1, $2) AND $3 IN ('', p.head_ref) AND $4 IN ('', p.base) AND p.updated_at >= $5
			ORDER BY p.number DESC LIMIT $6) x ORDER BY 1`, tenant, repository, head, base, since, MaxForgePulls+1)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (ForgePull, error) { return scanForgePull(row) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list pull requests: %w", err)
	}
	return out, nil
}

// ForgePullMergedAs returns the number of the pull request whose merge made a commit; 0: none.
func (s *Store) ForgePullMergedAs(ctx context.Context, tenant, repository, commit string) (number int64, err error) {
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT coalesce(min(number), 0) FROM forge_merges WHERE (tenant, repository, commit) = ($1, $2, $3)", tenant, repository, commit).Scan(&number)
	})
	if err != nil {
		return 0, fmt.Errorf("merge %.12s: %w", commit, err)
	}
	return number, nil
}

// A NewForgePull is a pull request that is to be.
type NewForgePull struct {
	HeadRef, Base, Title, Body string
	Labels                     []string
	Head                       string // where its branch is
}

// OpenForgePull opens a pull request and returns its number. [ErrConflict] when one of
// these branches is open.
func (s *Store) OpenForgePull(ctx context.Context, tenant, repository string, n NewForgePull, by approval.Account) (number int64, err error) {
	err = s.forgeChange(ctx, tenant, forgeActor(by), func(tx pgx.Tx) (forgeRow, error) {
		err := tx.QueryRow(ctx, `INSERT INTO forge_repositories AS r (tenant, name, pulls) VALUES ($1, $2, 1)
			ON CONFLICT (tenant, name) DO UPDATE SET pulls = r.pulls + 1 RETURNING pulls`, tenant, repository).Scan(&number)
		if err != nil {
			return forgeRow{}, err
		}
		_, err = tx.Exec(ctx, `INSERT INTO forge_pulls (tenant, repository, number, head_ref, base, title, body, labels, state, author, seen_head)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'open', $9, $10)`, tenant, repository, number, n.HeadRef, n.Base, n.Title, n.Body, orNone(n.Labels), by.ID, n.Head)
		return forgeRow{
			action: "pull.opened", subject: pullSubject(repository, number), reason: "of " + n.HeadRef + " onto " + n.Base,
			attributes: map[string]string{"head": n.Head},
		}, err
	})
	if err != nil {
		return 0, fmt.Errorf("open pull request of %s: %w", n.HeadRef, err)
	}
	return number, nil
}

func orNone(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// onPull changes a pull request. An empty what changed nothing.
func (s *Store) onPull(ctx context.Context, tenant, repository string, number int64, by approval.Account, change func(tx pgx.Tx) (forgeRow, error)) error {
	err := s.forgeChange(ctx, tenant, forgeActor(by), func(tx pgx.Tx) (forgeRow, error) {
		row := forgeRow{}
		err := missing(tx.QueryRow(ctx, "SELECT FROM forge_pulls WHERE (tenant, repository, number) = ($1, $2, $3) FOR UPDATE", tenant, repository, number).Scan())
		if err == nil {
			row, err = change(tx)
		}
		if err == nil && row.action != "" {
			_, err = tx.Exec(ctx, "UPDATE forge_pulls SET updated_at = now() WHERE (tenant, repository, number) = ($1, $2, $3)", tenant, repository, number)
		}
		row.subject = pullSubject(repository, number)
		return row, err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", pullSubject(repository, number), err)
	}
	return nil
}

// A ForgeEdit is what a pull request is to say.
type ForgeEdit struct {
	Title, Body, Base string
	Labels            []string
}

// EditForgePull writes what a pull request says, if it says something else.
func (s *Store) EditForgePull(ctx context.Context, tenant, repository string, number int64, e ForgeEdit, by approval.Account) error {
	return s.onPull(ctx, tenant, repository, number, by, func(tx pgx.Tx) (forgeRow, error) {
		tag, err := tx.Exec(ctx, `UPDATE forge_pulls SET title = $4, body = $5, base = $6, labels = $7 WHERE (tenant, repository, number) = ($1, $2, $3)
			AND (title, body, base, labels) IS DISTINCT FROM ($4::text, $5::text, $6::text, $7::jsonb)`, tenant, repository, number, e.Title, e.Body, e.Base, orNone(e.Labels))
		if err != nil || tag.RowsAffected() == 0 {
			return forgeRow{}, err
		}
		return forgeRow{action: "pull.edited", reason: "its title, text, labels or base are others; the base is " + e.Base}, nil
	})
}

// SetForgePullState closes an open pull request, or opens a closed one again. Head is
// where its branch is. [ErrConflict] when it is in another state.
func (s *Store) SetForgePullState(ctx context.Context, tenant, repository string, number int64, from, to approval.PullState, head string, by approval.Account) error {
	return s.onPull(ctx, tenant, repository, number, by, func(tx pgx.Tx) (forgeRow, error) {
		tag, err := tx.Exec(ctx, `UPDATE forge_pulls SET state = $5, seen_head = $6 WHERE (tenant, repository, number) = ($1, $2, $3) AND state = $4`,
			tenant, repository, number, from, to, head)
		action, reason := "pull.closed", "without a merge"
		if to == approval.Open {
			action, reason = "pull.reopened", "it was closed"
		}
		return forgeRow{action: action, reason: reason, attributes: map[string]string{"head": head}}, one(tag, err, ErrConflict)
	})
}

// BeginForgeMerge says which commit is about to become the base. [ErrConflict] when the
// pull request is not open.
func (s *Store) BeginForgeMerge(ctx context.Context, tenant, repository string, number int64, m ForgeMerge) error {
	return s.onPull(ctx, tenant, repository, number, m.By, func(tx pgx.Tx) (forgeRow, error) {
		var state approval.PullState
		err := tx.QueryRow(ctx, "SELECT state FROM forge_pulls WHERE (tenant, repository, number) = ($1, $2, $3)", tenant, repository, number).Scan(&state)
		if err == nil && state != approval.Open {
			err = ErrConflict
		}
		if err != nil {
			return forgeRow{}, err
		}
		_, err = tx.Exec(ctx, "INSERT INTO forge_merges (tenant, repository, number, commit, base, head, account) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
			tenant, repository, number, m.Commit, m.Base, m.Head, m.By.ID)
		return forgeRow{action: "pull.merge-begun", key: m.Commit, reason: "as " + m.Commit, attributes: map[string]string{"commit": m.Commit, "base": m.Base, "head": m.Head}}, err
	})
}

// EndForgeMerge says that the base holds the commit of a merge that was begun.
func (s *Store) EndForgeMerge(ctx context.Context, tenant, repository string, number int64, m ForgeMerge) error {
	return s.onPull(ctx, tenant, repository, number, m.By, func(tx pgx.Tx) (forgeRow, error) {
		tag, err := tx.Exec(ctx, `UPDATE forge_pulls SET state = 'merged', merge_commit = $4, seen_head = $5
			WHERE (tenant, repository, number) = ($1, $2, $3) AND state <> 'merged'`, tenant, repository, number, m.Commit, m.Head)
		if err != nil || tag.RowsAffected() == 0 {
			return forgeRow{}, err
		}
		return forgeRow{action: "pull.merged", reason: "as " + m.Commit, attributes: map[string]string{"commit": m.Commit, "head": m.Head}}, nil
	})
}

// A ForgeBranch is what protects a branch.
type ForgeBranch struct {
	Branch    string
	Protected bool // nobody pushes to it
	Approvals int  // that a merge needs
}

// ProtectBranch says what protects a branch from now on.
func (s *Store) ProtectBranch(ctx context.Context, tenant, repository string, p ForgeBranch, by audit.Actor) error {
	err := s.forgeChange(ctx, tenant, by, func(tx pgx.Tx) (forgeRow, error) {
		_, err := tx.Exec(ctx, `INSERT INTO forge_branches (tenant, repository, branch, protected, approvals) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (tenant, repository, branch) DO UPDATE SET protected = excluded.protected, approvals = excluded.approvals`, tenant, repository, p.Branch, p.Protected, p.Approvals)
		action, reason := "branch.protected", fmt.Sprintf("nobody pushes; a merge needs %d approvals", p.Approvals)
		if !p.Protected {
			action, reason = "branch.unprotected", "who may write pushes"
		}
		return forgeRow{action: action, subject: "branch " + repository + ":" + p.Branch, reason: reason}, err
	})
	if err != nil {
		return fmt.Errorf("protect %s: %w", p.Branch, err)
	}
	return nil
}

// BranchProtection returns what protects a branch; nothing does unless somebody said so.
func (s *Store) BranchProtection(ctx context.Context, tenant, repository, branch string) (ForgeBranch, error) {
	p := ForgeBranch{Branch: branch}
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT protected, approvals FROM forge_branches WHERE (tenant, repository, branch) = ($1, $2, $3)", tenant, repository, branch)
		if err != nil {
			return err
		}
		_, err = pgx.ForEachRow(rows, []any{&p.Protected, &p.Approvals}, func() error { return nil })
		return err
	})
	if err != nil {
		return p, fmt.Errorf("protection of %s: %w", branch, err)
	}
	return p, nil
}
