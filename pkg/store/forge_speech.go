package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/approval"
)

// AddForgeReview keeps a review of a commit and returns its number. Nobody changes it any more.
func (s *Store) AddForgeReview(ctx context.Context, tenant, repository string, number int64, r ForgeReview) (id int64, err error) {
	err = s.onPull(ctx, tenant, repository, number, r.By, func(tx pgx.Tx) (forgeRow, error) {
		err := tx.QueryRow(ctx, `INSERT INTO forge_reviews (tenant, repository, number, account, verdict, commit, body) VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id`,
			tenant, repository, number, r.By.ID, r.Verdict, r.Commit, r.Body).Scan(&id)
		if err == nil {
			_, err = tx.Exec(ctx, "UPDATE forge_pulls SET seen_head = $4 WHERE (tenant, repository, number) = ($1, $2, $3)", tenant, repository, number, r.Commit)
		}
		return forgeRow{
			action: "pull.reviewed", key: fmt.Sprint(id), reason: string(r.Verdict) + " " + r.Commit,
			attributes: map[string]string{"review": fmt.Sprint(id), "verdict": string(r.Verdict), "commit": r.Commit},
		}, err
	})
	return id, err
}

// DismissForgeReview takes a review away for a reason. [ErrNotFound]; [ErrConflict] when
// somebody did already.
func (s *Store) DismissForgeReview(ctx context.Context, tenant, repository string, number, review int64, reason string, by approval.Account) error {
	return s.onPull(ctx, tenant, repository, number, by, func(tx pgx.Tx) (forgeRow, error) {
		var gone bool
		err := tx.QueryRow(ctx, "SELECT dismissed_at IS NOT NULL FROM forge_reviews WHERE (tenant, repository, number, id) = ($1, $2, $3, $4)", tenant, repository, number, review).Scan(&gone)
		if err == nil && gone {
			err = ErrConflict
		}
		if err != nil {
			return forgeRow{}, missing(err)
		}
		_, err = tx.Exec(ctx, "UPDATE forge_reviews SET dismissed_by = $3, dismissed_at = now() WHERE (tenant, id) = ($1, $2)", tenant, review, by.ID)
		return forgeRow{action: "review.dismissed", key: fmt.Sprint(review), reason: reason, attributes: map[string]string{"review": fmt.Sprint(review)}}, err
	})
}

// A ForgeComment is what somebody said on a pull request.
type ForgeComment struct {
	ID   int64            `json:"id"`
	By   approval.Account `json:"by"`
	Body string           `json:"body"`
	At   time.Time        `json:"at"`
}

// MaxForgeComments is how many comments of one pull request are read.
const MaxForgeComments = 5000

// ForgeComments returns the comments of a pull request, oldest first, the newest
// [MaxForgeComments] + 1 at most.
func (s *Store) ForgeComments(ctx context.Context, tenant, repository string, number int64) (out []ForgeComment, err error) {
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT * FROM (SELECT c.id, "+forgeAccount+`, c.body, c.at FROM forge_comments c JOIN forge_accounts a ON (a.tenant, a.id) = (c.tenant, c.account)
			WHERE (c.tenant, c.repository, c.number) = ($1, $2, $3) ORDER BY c.id DESC LIMIT $4) AS x (comment) ORDER BY comment`, tenant, repository, number, MaxForgeComments+1)
		if err != nil {
			return err
		}
		var c ForgeComment
		_, err = pgx.ForEachRow(rows, []any{&c.ID, &c.By.ID, &c.By.Login, &c.By.Bot, &c.Body, &c.At}, func() error {
			c.At = c.At.UTC()
			out = append(out, c)
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("comments of %s: %w", pullSubject(repository, number), err)
	}
	return out, nil
}

// AddForgeComment adds a comment.
func (s *Store) AddForgeComment(ctx context.Context, tenant, repository string, number int64, body string, by approval.Account) error {
	return s.onPull(ctx, tenant, repository, number, by, func(tx pgx.Tx) (forgeRow, error) {
		var id int64
		err := tx.QueryRow(ctx, "INSERT INTO forge_comments (tenant, repository, number, account, body) VALUES ($1, $2, $3, $4, $5) RETURNING id", tenant, repository, number, by.ID, body).Scan(&id)
		return forgeRow{action: "pull.commented", key: fmt.Sprint(id), reason: fmt.Sprintf("comment %d", id)}, err
	})
}

// EditForgeComment replaces the text of somebody's own comment.
func (s *Store) EditForgeComment(ctx context.Context, tenant, repository string, number, comment int64, body string, by approval.Account) error {
	return s.onPull(ctx, tenant, repository, number, by, func(tx pgx.Tx) (forgeRow, error) {
		tag, err := tx.Exec(ctx, "UPDATE forge_comments SET body = $5, edited_at = now() WHERE (tenant, repository, number, id) = ($1, $2, $3, $4) AND account = $6",
			tenant, repository, number, comment, body, by.ID)
		return forgeRow{action: "comment.edited", key: fmt.Sprint(comment), reason: fmt.Sprintf("comment %d", comment)}, one(tag, err, ErrNotFound)
	})
}

// A ForgeStatus is one line under a commit.
type ForgeStatus struct {
	Context     string    `json:"context"`
	State       string    `json:"state"` // pending, success, failure or error
	Description string    `json:"description"`
	URL         string    `json:"url,omitempty"`
	At          time.Time `json:"at"`
}

// AddForgeStatus adds a status to a commit, unless the last of its context says the same.
func (s *Store) AddForgeStatus(ctx context.Context, tenant, repository, commit string, st ForgeStatus) error {
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO forge_statuses (tenant, repository, commit, context, state, description, url) SELECT $1, $2, $3, $4::text, $5::text, $6::text, $7::text
			WHERE (SELECT (state, description, url) FROM forge_statuses WHERE (tenant, repository, commit, context) = ($1, $2, $3, $4) ORDER BY id DESC LIMIT 1)
				IS DISTINCT FROM ($5::text, $6::text, $7::text)`, tenant, repository, commit, st.Context, st.State, st.Description, st.URL)
		return err
	})
	if err != nil {
		return fmt.Errorf("status of %.12s: %w", commit, err)
	}
	return nil
}

// ForgeStatuses returns all statuses of a commit that were ever set, oldest first.
func (s *Store) ForgeStatuses(ctx context.Context, tenant, repository, commit string) (out []ForgeStatus, err error) {
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT context, state, description, url, at FROM forge_statuses WHERE (tenant, repository, commit) = ($1, $2, $3) ORDER BY id LIMIT 1000`, tenant, repository, commit)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[ForgeStatus])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("statuses of %.12s: %w", commit, err)
	}
	return out, nil
}

// A ForgeRequest is that somebody was asked for a review.
type ForgeRequest struct {
	Head    string
	Account int64  // 0: a team was asked
	Team    string // empty: an account was
	At      time.Time
}

// ForgeRequests returns who was asked for a review of a pull request, oldest first.
func (s *Store) ForgeRequests(ctx context.Context, tenant, repository string, number int64) (out []ForgeRequest, err error) {
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT head, account, team, at FROM forge_requests WHERE (tenant, repository, number) = ($1, $2, $3) ORDER BY id", tenant, repository, number)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[ForgeRequest])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("requests of %s: %w", pullSubject(repository, number), err)
	}
	return out, nil
}

// AddForgeRequest keeps that an account or a team was asked.
func (s *Store) AddForgeRequest(ctx context.Context, tenant, repository string, number int64, r ForgeRequest, by approval.Account) error {
	return s.onPull(ctx, tenant, repository, number, by, func(tx pgx.Tx) (forgeRow, error) {
		_, err := tx.Exec(ctx, "INSERT INTO forge_requests (tenant, repository, number, head, account, team) VALUES ($1, $2, $3, $4, $5, $6)", tenant, repository, number, r.Head, r.Account, r.Team)
		who := fmt.Sprintf("account %d", r.Account)
		if r.Team != "" {
			who = "team " + r.Team
		}
		return forgeRow{action: "review.requested", key: who, reason: "of " + who, attributes: map[string]string{"head": r.Head}}, err
	})
}
