package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
)

// A Check is what was told on a pull request of people. Number 0 is the branch itself.
type Check struct {
	Number  int64
	Head    string // commit that was looked at
	Against string // commit of the branch that it was merged onto for that
	Told    bool   // there is a comment of ours
	Merge   string // commit that it was merged as; empty: it is open
	// RetryAt: it could not be looked at, and is not tried again before; nil: it was.
	RetryAt *time.Time
}

// A CheckStep is what one look at the pull requests of a repository is done on.
type CheckStep struct {
	Repository RepositoryState
	Known      []Check
	Status     *CommitStatus // of the commit that was synced last; nil: none yet
}

// KeepChecks makes the pull requests of a repository due for ever. It is for those that have a forge.
func (s *Store) KeepChecks(ctx context.Context, tenant, repository string) error {
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, addDue, tenant, CheckDue, repository)
		return err
	})
	if err != nil {
		return fmt.Errorf("keep checks of %s: %w", repository, err)
	}
	return nil
}

// LoadChecks returns what was told on the pull requests of a claimed repository.
func (s *Store) LoadChecks(ctx context.Context, c Claim) (st CheckStep, err error) {
	if st.Repository, err = s.LoadRepository(ctx, c.Tenant, c.ID); err != nil {
		return st, err
	}
	err = s.within(ctx, c.Tenant, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue("SELECT number, head, against, told, merge, retry_at FROM pull_checks WHERE (tenant, repository) = ($1, $2) ORDER BY number", c.Tenant, c.ID).Query(func(rows pgx.Rows) (err error) {
			st.Known, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Check])
			return err
		})
		b.Queue("SELECT commit, context, state = 'success', description, detail, at FROM statuses WHERE (tenant, repository, commit, context) = ($1, $2, $3, $4)",
			c.Tenant, c.ID, st.Repository.Synced, ValidateContext).Query(func(rows pgx.Rows) error {
			return maybe(rows, func() error {
				st.Status = &CommitStatus{}
				return rows.Scan(&st.Status.Commit, &st.Status.Context, &st.Status.OK, &st.Status.Description, &st.Status.Detail, &st.Status.At)
			})
		})
		return send(ctx, tx, b)
	})
	if err != nil {
		return st, fmt.Errorf("load checks of %s: %w", c.ID, err)
	}
	return st, nil
}

// SaveChecks stores what is told on the pull requests of a repository now: all that is known of them.
func (s *Store) SaveChecks(ctx context.Context, c Claim, st CheckStep, now []Check, statuses []CommitStatus, wake time.Time) error {
	err := s.within(ctx, c.Tenant, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue("DELETE FROM pull_checks WHERE (tenant, repository) = ($1, $2)", c.Tenant, c.ID)
		for _, k := range now {
			b.Queue("INSERT INTO pull_checks (tenant, repository, number, head, against, told, merge, retry_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
				c.Tenant, c.ID, k.Number, k.Head, k.Against, k.Told, k.Merge, k.RetryAt)
		}
		for _, status := range statuses {
			queueStatus(b, st.Repository, status)
		}
		c.rest(b, wake)
		return send(ctx, tx, b)
	})
	if err != nil {
		return fmt.Errorf("save checks of %s: %w", c.ID, err)
	}
	return nil
}

// KeptSlots returns the slots, as environment/deployment, whose promotion pull request somebody keeps or is about to
// open: those that have one, and those with a promotion that has not ended.
func (s *Store) KeptSlots(ctx context.Context, tenant, repository string) (slots []string, err error) {
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT environment || '/' || deployment FROM pulls WHERE (tenant, repository) = ($1, $2) AND (promotion <> '' OR number <> 0)
			UNION SELECT p.environment || '/' || p.deployment FROM promotions p JOIN releases r ON (r.tenant, r.id) = (p.tenant, p.release)
			WHERE (r.tenant, r.repository) = ($1, $2) AND p.finished_at IS NULL`, tenant, repository)
		if err != nil {
			return err
		}
		slots, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("kept slots of %s: %w", repository, err)
	}
	return slots, nil
}

// A Journey is how far a release has come.
type Journey struct {
	Release    string
	Deployment string
	State      promotion.ReleaseState
	Snapshot   intent.Snapshot
	Stages     []StageAt // that have begun, by name
}

// A StageAt is the newest attempt of a release in a stage.
type StageAt struct {
	Stage  string
	Status promotion.Status
	Reason string
	Ended  *time.Time // nil: it has not
}

// Journeys returns the releases that commits made, by deployment.
func (s *Store) Journeys(ctx context.Context, tenant, repository string, commits []string) (out []Journey, err error) {
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue("SELECT id, deployment, state, snapshot FROM releases WHERE (tenant, repository) = ($1, $2) AND commit = ANY ($3) ORDER BY deployment, generation", tenant, repository, commits).Query(func(rows pgx.Rows) error {
			var j Journey
			_, err := pgx.ForEachRow(rows, []any{&j.Release, &j.Deployment, &j.State, &j.Snapshot}, func() error {
				out = append(out, j)
				j = Journey{}
				return nil
			})
			return err
		})
		b.Queue(`SELECT DISTINCT ON (p.release, p.stage) p.release, p.stage, p.status, p.reason, p.finished_at FROM releases r
			JOIN promotions p ON (p.tenant, p.release) = (r.tenant, r.id) AND p.kind <> 'restore'
			WHERE (r.tenant, r.repository) = ($1, $2) AND r.commit = ANY ($3) ORDER BY p.release, p.stage, p.attempt DESC`, tenant, repository, commits).Query(func(rows pgx.Rows) error {
			var release string
			var at StageAt
			_, err := pgx.ForEachRow(rows, []any{&release, &at.Stage, &at.Status, &at.Reason, &at.Ended}, func() error {
				for i := range out {
					if out[i].Release == release {
						out[i].Stages = append(out[i].Stages, at)
					}
				}
				at.Ended = nil
				return nil
			})
			return err
		})
		return send(ctx, tx, b)
	})
	if err != nil {
		return nil, fmt.Errorf("releases of %d commits: %w", len(commits), err)
	}
	return out, nil
}

// LastRuns returns how long the newest success of each deployment took in each stage, from its start to its end,
// without what it waited for before: by deployment and stage.
func (s *Store) LastRuns(ctx context.Context, tenant string, deployments []string) (map[string]map[string]time.Duration, error) {
	out := map[string]map[string]time.Duration{}
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT p.deployment, p.stage, extract(epoch FROM p.finished_at - b.at)::float8 FROM (
				SELECT DISTINCT ON (deployment, stage) tenant, id, deployment, stage, finished_at FROM promotions
				WHERE tenant = $1 AND deployment = ANY ($2) AND status = 'succeeded' AND kind = 'promote' ORDER BY deployment, stage, finished_at DESC
			) p CROSS JOIN LATERAL (SELECT min(t.at) AS at FROM transitions t WHERE (t.tenant, t.promotion) = (p.tenant, p.id) AND t.outcome ->> 'status' = 'running') b
			WHERE b.at IS NOT NULL`, tenant, deployments)
		if err != nil {
			return err
		}
		var deployment, stage string
		var seconds float64
		_, err = pgx.ForEachRow(rows, []any{&deployment, &stage, &seconds}, func() error {
			if out[deployment] == nil {
				out[deployment] = map[string]time.Duration{}
			}
			out[deployment][stage] = time.Duration(seconds * float64(time.Second))
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("last runs: %w", err)
	}
	return out, nil
}
