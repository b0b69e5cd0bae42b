package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// OnceCall reports whether a function's signed call is seen for the first time. Calls
// from before since are forgotten on the way. It returns after the row is written, not
// after it is on disk: who copies a call within the second in which the database's
// machine dies may do so once.
func (s *Store) OnceCall(ctx context.Context, key, request string, since time.Time) (first bool, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{BeginQuery: "BEGIN; SET LOCAL synchronous_commit = off"}, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "INSERT INTO function_calls (key, request) VALUES ($1, $2) ON CONFLICT DO NOTHING", key, request)
		if err != nil {
			return err
		}
		first = tag.RowsAffected() == 1
		_, err = tx.Exec(ctx, `DELETE FROM function_calls WHERE (key, request) IN (
			SELECT key, request FROM function_calls WHERE at < $1 ORDER BY at LIMIT 20 FOR UPDATE SKIP LOCKED)`, since)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("call of a function: %w", err)
	}
	return first, nil
}

// An AsyncState is how far an asynchronous call is.
type AsyncState string

// The states of an asynchronous call.
const (
	AsyncWaiting  AsyncState = "waiting"  // to be made
	AsyncAnswered AsyncState = "answered" // the function has answered, the callback is to be told
	AsyncDone     AsyncState = "done"
	AsyncDead     AsyncState = "dead" // given up after its attempts; kept until somebody looks
)

// An AsyncRequest is what is asked of the function.
type AsyncRequest struct {
	Method string      `json:"method"`
	Path   string      `json:"path"` // below the function, escaped as it came
	Query  string      `json:"query,omitempty"`
	Header http.Header `json:"headers"`
}

// An AsyncAnswer is what the function answered.
type AsyncAnswer struct {
	Status  int         `json:"status"`
	Header  http.Header `json:"headers"`
	Seconds float64     `json:"seconds"`
}

// An AsyncCall is an asynchronous call of a function of the embedded platform.
type AsyncCall struct {
	ID       string // X-Call-Id
	Function string
	Request  AsyncRequest
	Body     []byte
	Callback string // URL; empty: nobody is told

	State      AsyncState
	Attempts   int // in this state
	Why        string
	Answer     AsyncAnswer // from [AsyncAnswered] on
	AnswerBody []byte
	Accepted   time.Time
	Fence      int64
}

// digest is of all that is asked for.
func (c AsyncCall) digest() []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q %q\n", c.Function, c.Request.Method, c.Request.Path, c.Request.Query, c.Callback)
	sum := sha256.Sum256(c.Body)
	fmt.Fprintf(h, "%s", hex.EncodeToString(sum[:]))
	return h.Sum(nil)
}

// AcceptCall keeps a call that is to be made. The same call again, by its id, is no error
// and is not made again; another one with its id is [ErrConflict].
func (s *Store) AcceptCall(ctx context.Context, c AsyncCall) error {
	tag, err := s.pool.Exec(ctx, `INSERT INTO async_calls (id, function, request, body, digest, callback)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`, c.ID, c.Function, c.Request, nonNil(c.Body), c.digest(), c.Callback)
	if err != nil {
		return fmt.Errorf("accept a call: %w", err)
	}
	if tag.RowsAffected() == 1 {
		return nil
	}
	var digest []byte
	if err := s.pool.QueryRow(ctx, "SELECT digest FROM async_calls WHERE id = $1", c.ID).Scan(&digest); err != nil {
		return fmt.Errorf("accept a call: %w", err)
	}
	if !slices.Equal(digest, c.digest()) {
		return fmt.Errorf("call %s: %w", c.ID, ErrConflict)
	}
	return nil
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// callColumns are those of [readCall].
const callColumns = "id, function, request, body, callback, state, attempts, why, answer, answer_body, accepted_at, fence"

func readCall(row pgx.CollectableRow) (c AsyncCall, err error) {
	var answer *AsyncAnswer
	err = row.Scan(&c.ID, &c.Function, &c.Request, &c.Body, &c.Callback, &c.State, &c.Attempts, &c.Why, &answer, &c.AnswerBody, &c.Accepted, &c.Fence)
	if answer != nil {
		c.Answer = *answer
	}
	return c, err
}

// ClaimCall leases the call that has been due longest. Without one it returns false. What
// is not finished when the lease ends is claimed again.
func (s *Store) ClaimCall(ctx context.Context, lease time.Duration) (AsyncCall, bool, error) {
	rows, err := s.pool.Query(ctx, `UPDATE async_calls SET lease_until = now() + $1, fence = fence + 1 WHERE id = (
			SELECT id FROM async_calls WHERE state IN ('waiting', 'answered') AND wake_at <= now() AND (lease_until IS NULL OR lease_until <= now())
			ORDER BY wake_at LIMIT 1 FOR UPDATE SKIP LOCKED)
		RETURNING `+callColumns, lease)
	if err != nil {
		return AsyncCall{}, false, fmt.Errorf("claim a call: %w", err)
	}
	c, err := pgx.CollectExactlyOneRow(rows, readCall)
	if errors.Is(err, pgx.ErrNoRows) {
		return AsyncCall{}, false, nil
	}
	if err != nil {
		return AsyncCall{}, false, fmt.Errorf("claim a call: %w", err)
	}
	return c, true, nil
}

// AnswerCall keeps what the function answered. The call is done, or its callback is due.
// [ErrLost] when somebody else has the call now.
func (s *Store) AnswerCall(ctx context.Context, c AsyncCall) error {
	return s.endCall(ctx, c, `UPDATE async_calls SET answer = $3, answer_body = CASE WHEN callback = '' THEN NULL ELSE $4::bytea END,
		state = CASE WHEN callback = '' THEN 'done' ELSE 'answered' END, ended_at = CASE WHEN callback = '' THEN now() END,
		body = '', lease_until = NULL, attempts = 0, wake_at = now(), why = '' WHERE (id, fence) = ($1, $2)`, c.Answer, nonNil(c.AnswerBody))
}

// ToldCall ends a call whose callback has taken the answer.
func (s *Store) ToldCall(ctx context.Context, c AsyncCall) error {
	return s.endCall(ctx, c, `UPDATE async_calls SET state = 'done', answer_body = NULL, lease_until = NULL, ended_at = now() WHERE (id, fence) = ($1, $2)`)
}

// FailCall gives a call back after a failure: it is due again after the wait, or dead
// after its last attempt.
func (s *Store) FailCall(ctx context.Context, c AsyncCall, why string, wait time.Duration, last bool) error {
	return s.endCall(ctx, c, `UPDATE async_calls SET attempts = attempts + 1, why = $3, lease_until = NULL, wake_at = now() + $4,
		state = CASE WHEN $5 THEN 'dead' ELSE state END, ended_at = CASE WHEN $5 THEN now() END WHERE (id, fence) = ($1, $2)`,
		strings.ToValidUTF8(strings.ReplaceAll(why[:min(len(why), maxWhy)], "\x00", ""), "?"), wait, last)
}

func (s *Store) endCall(ctx context.Context, c AsyncCall, query string, args ...any) error {
	tag, err := s.pool.Exec(ctx, query, append([]any{c.ID, c.Fence}, args...)...)
	if err := one(tag, err, ErrLost); err != nil {
		return fmt.Errorf("call %s: %w", c.ID, err)
	}
	return nil
}

// NextCall says in how long a call is due; false when none is open.
func (s *Store) NextCall(ctx context.Context) (time.Duration, bool, error) {
	var in *float64
	err := s.pool.QueryRow(ctx, `SELECT extract(epoch FROM min(greatest(wake_at, lease_until)) - clock_timestamp())::float8
		FROM async_calls WHERE state IN ('waiting', 'answered')`).Scan(&in)
	if err != nil {
		return 0, false, fmt.Errorf("next call: %w", err)
	}
	if in == nil {
		return 0, false, nil
	}
	return max(0, time.Duration(*in*float64(time.Second))), true, nil
}

// Calls lists asynchronous calls that are open or dead, or those with an id, the oldest
// first, without their bodies.
func (s *Store) Calls(ctx context.Context, id string) ([]AsyncCall, error) {
	rows, err := s.pool.Query(ctx, `SELECT id, function, request, ''::bytea, callback, state, attempts, why, answer, NULL::bytea, accepted_at, fence
		FROM async_calls WHERE CASE WHEN $1 = '' THEN state <> 'done' ELSE id = $1 END ORDER BY accepted_at LIMIT 1000`, id)
	if err != nil {
		return nil, fmt.Errorf("list calls: %w", err)
	}
	return pgx.CollectRows(rows, readCall)
}

// RetryCall makes a dead call due again, as if it had just come to the state that it
// died in. [ErrNotFound] when there is no dead call of that id.
func (s *Store) RetryCall(ctx context.Context, id string) error {
	tag, err := s.pool.Exec(ctx, `UPDATE async_calls SET state = CASE WHEN answer IS NULL THEN 'waiting' ELSE 'answered' END,
		attempts = 0, wake_at = now(), ended_at = NULL WHERE id = $1 AND state = 'dead'`, id)
	return one(tag, err, ErrNotFound)
}

// ForgetCalls deletes calls that were done, or dead, before these times ago, at most
// forgetCalls of each; more says that there may be others.
func (s *Store) ForgetCalls(ctx context.Context, done, dead time.Duration) (more bool, err error) {
	tag, err := s.pool.Exec(ctx, `DELETE FROM async_calls WHERE id IN (
		(SELECT id FROM async_calls WHERE state = 'done' AND ended_at < now() - $1::interval ORDER BY ended_at LIMIT $3)
		UNION ALL
		(SELECT id FROM async_calls WHERE state = 'dead' AND ended_at < now() - $2::interval ORDER BY ended_at LIMIT $3))`, done, dead, forgetCalls)
	if err != nil {
		return false, fmt.Errorf("forget calls: %w", err)
	}
	return tag.RowsAffected() >= forgetCalls, nil
}

const forgetCalls = 1000
