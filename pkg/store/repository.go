package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
)

// A RepositoryState is how far a repository has been read.
type RepositoryState struct {
	Tenant, Name, Branch string
	Synced               string // commit; empty: nothing yet
	Version              int64
	Now                  time.Time
}

// AddRepository registers a repository and its branch. It is idempotent; a
// branch that differs is [ErrConflict].
func (s *Store) AddRepository(ctx context.Context, tenant, name, branch string) error {
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue("INSERT INTO repositories (tenant, name, branch) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", tenant, name, branch)
		b.Queue(addDue, tenant, Repository, name)
		b.Queue("SELECT branch FROM repositories WHERE (tenant, name) = ($1, $2)", tenant, name).QueryRow(func(row pgx.Row) error {
			var have string
			if err := row.Scan(&have); err != nil {
				return err
			}
			if have != branch {
				return fmt.Errorf("branch is %s: %w", have, ErrConflict)
			}
			return nil
		})
		return send(ctx, tx, b)
	})
	if err != nil {
		return fmt.Errorf("add repository %s: %w", name, err)
	}
	return nil
}

// BindRepository says which repository of the forge it is, by the number that the forge never gives to another. A
// number that differs from the one that was bound first is [ErrConflict]; another name is taken over.
func (s *Store) BindRepository(ctx context.Context, tenant, name, forgeID, forgeName string) error {
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "UPDATE repositories SET forge_id = $3, forge_name = $4 WHERE (tenant, name) = ($1, $2) AND forge_id IN ('', $3)", tenant, name, forgeID, forgeName)
		if err == nil && tag.RowsAffected() != 1 {
			err = fmt.Errorf("%s has number %s there now, and had another: %w", forgeName, forgeID, ErrConflict)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("bind repository %s: %w", name, err)
	}
	return nil
}

// ForgeID returns the number that a repository was bound by; empty: it was not.
func (s *Store) ForgeID(ctx context.Context, tenant, name string) (id string, err error) {
	err = s.within(ctx, tenant, func(tx pgx.Tx) error {
		return missing(tx.QueryRow(ctx, "SELECT forge_id FROM repositories WHERE (tenant, name) = ($1, $2)", tenant, name).Scan(&id))
	})
	if err != nil {
		return "", fmt.Errorf("forge of repository %s: %w", name, err)
	}
	return id, nil
}

// addDue makes a new row (tenant, kind, id) due now.
const addDue = "INSERT INTO due (tenant, kind, id, wake_at) VALUES ($1, $2, $3, now()) ON CONFLICT DO NOTHING"

// LoadRepository returns how far a repository has been read.
func (s *Store) LoadRepository(ctx context.Context, tenant, name string) (RepositoryState, error) {
	r := RepositoryState{Tenant: tenant, Name: name}
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		row := tx.QueryRow(ctx, "SELECT branch, synced, version, now() FROM repositories WHERE (tenant, name) = ($1, $2)", tenant, name)
		return missing(row.Scan(&r.Branch, &r.Synced, &r.Version, &r.Now))
	})
	if err != nil {
		return r, fmt.Errorf("load repository %s: %w", name, err)
	}
	return r, nil
}

// A Newest is the newest release of a deployment and where it came from.
type Newest struct {
	Generation int64
	Repository string
	Blob       string // of the intent
	Snapshot   *intent.Snapshot
}

// NewestReleases returns the newest release of each of the deployments that has one.
func (s *Store) NewestReleases(ctx context.Context, tenant string, deployments []string) (map[string]Newest, error) {
	out := map[string]Newest{}
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT DISTINCT ON (deployment) deployment, generation, repository, blob, snapshot FROM releases
			WHERE tenant = $1 AND deployment = ANY ($2) ORDER BY deployment, generation DESC`, tenant, deployments)
		if err != nil {
			return err
		}
		var name string
		var n Newest
		_, err = pgx.ForEachRow(rows, []any{&name, &n.Generation, &n.Repository, &n.Blob, &n.Snapshot}, func() error {
			out[name] = n
			n.Snapshot = nil
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("newest releases: %w", err)
	}
	return out, nil
}

// A NewRelease is a release that a sync found.
type NewRelease struct {
	ID         string
	Deployment string
	Generation int64
	Commit     string
	Blob       string // of the intent: equal ids are equal files
	Snapshot   intent.Snapshot
	Digest     string
}

// ValidateContext is the name of the status that says whether a commit's intents are valid.
const ValidateContext = "hotswap/validate"

// LintContext is the name of the status that says whether a fork's own intents are valid. It opens nothing.
const LintContext = "hotswap/lint"

// A CommitStatus is what HotSwap says about a commit.
type CommitStatus struct {
	Commit      string    `json:"commit"`
	Context     string    `json:"context"` // [ValidateContext]
	OK          bool      `json:"ok"`
	Description string    `json:"description"` // one line
	Detail      string    `json:"detail,omitempty"`
	At          time.Time `json:"at"`
}

// A Sync is what came of reading a repository from its synced commit to another.
type Sync struct {
	To           string // commit that is synced now
	Releases     []NewRelease
	Environments []intent.Environment // as of To
	Policies     []intent.Policy      // valid ones, as of To
	PolicyFiles  []string             // names that have a file as of To, valid or not; nil: To was not read
	Statuses     []CommitStatus
	Rows         []audit.Row
	Wake         time.Time // next look: at once when there is more to read
}

// CommitSync stores a sync: all of it, or nothing when the repository was
// synced by somebody else meanwhile ([ErrLost]).
func (s *Store) CommitSync(ctx context.Context, c Claim, r RepositoryState, y Sync) error {
	err := s.within(ctx, c.Tenant, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue("UPDATE repositories SET synced = $4, synced_at = now(), waiting = NULL, version = version + 1 WHERE (tenant, name) = ($1, $2) AND "+versionCondition,
			r.Tenant, r.Name, r.Version, y.To).Exec(changesOne)
		for _, e := range y.Environments {
			b.Queue(environmentQuery, r.Tenant, e.Metadata.Name, r.Name, e, e.Spec.Selector, y.To)
		}
		queuePolicies(b, r, y)
		for _, n := range y.Releases {
			queueRelease(b, r, n)
		}
		for _, st := range y.Statuses {
			queueStatus(b, r, st)
		}
		if err := s.queueRows(b, y.Rows); err != nil {
			return err
		}
		b.Queue(pokeOne, r.Tenant, CheckDue, r.Name) // pull requests come to be onto another commit
		c.rest(b, y.Wake)
		return send(ctx, tx, b)
	})
	if err != nil {
		return fmt.Errorf("sync repository %s: %w", r.Name, err)
	}
	return nil
}

// environmentQuery stores an environment as it is now, and wakes whoever waits
// there and whose units may be others now, when it is not as it was.
var environmentQuery = `WITH changed AS (
		INSERT INTO environments (tenant, name, repository, document, selector, commit) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (tenant, name) DO UPDATE SET document = excluded.document, selector = excluded.selector, commit = excluded.commit
		WHERE environments.repository = excluded.repository AND environments.document <> excluded.document
		RETURNING tenant, name
	), promotions_woken AS (
		` + pokeAll(Promotion, `SELECT p.id FROM promotions p JOIN changed c ON (c.tenant, c.name) = (p.tenant, p.environment)
		WHERE p.finished_at IS NULL AND p.status IN ('gating', 'queued')`) + `
	) ` + pokeAll(Slot, "SELECT s.environment || '/' || s.deployment FROM slots s JOIN changed c ON (c.tenant, c.name) = (s.tenant, s.environment)")

// policyQuery stores a policy as it is now, and policyGoneQuery that its file is gone; both
// wake whoever waits for its approval when it is not as it was: the plan is another one.
var (
	policyQuery = `WITH changed AS (
		INSERT INTO policies (tenant, repository, name, document, commit) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (tenant, repository, name) DO UPDATE SET document = excluded.document, commit = excluded.commit
		WHERE policies.document IS DISTINCT FROM excluded.document
		RETURNING tenant, repository, name` + wakeApprovals
	policyGoneQuery = `WITH changed AS (
		UPDATE policies SET document = NULL, commit = $4
		WHERE (tenant, repository) = ($1, $2) AND document IS NOT NULL AND name <> ALL ($3)
		RETURNING tenant, repository, name` + wakeApprovals
	wakeApprovals = ") " + pokeAll(Promotion, `SELECT p.id FROM changed c JOIN releases r ON (r.tenant, r.repository) = (c.tenant, c.repository) AND r.state = 'open'
		JOIN promotions p ON (p.tenant, p.release) = (r.tenant, r.id) AND p.finished_at IS NULL AND p.status IN ('gating', 'queued')
			AND p.spec #>> '{stage,gates,approval}' = c.name`)
)

func queuePolicies(b *pgx.Batch, r RepositoryState, y Sync) {
	for _, p := range y.Policies {
		b.Queue(policyQuery, r.Tenant, r.Name, p.Metadata.Name, p, y.To)
	}
	if y.PolicyFiles != nil {
		b.Queue(policyGoneQuery, r.Tenant, r.Name, y.PolicyFiles, y.To)
	}
}

func queueRelease(b *pgx.Batch, r RepositoryState, n NewRelease) {
	b.Queue(`INSERT INTO releases (tenant, id, deployment, generation, repository, commit, snapshot, digest, blob) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`+transitionConflict,
		r.Tenant, n.ID, n.Deployment, n.Generation, r.Name, n.Commit, n.Snapshot, n.Digest, n.Blob)
	b.Queue(addDue, r.Tenant, Release, n.ID)
}

func queueStatus(b *pgx.Batch, r RepositoryState, st CommitStatus) {
	state := "success"
	if !st.OK {
		state = "failure"
	}
	b.Queue(`INSERT INTO statuses (tenant, repository, commit, context, state, description, detail, at) VALUES ($1, $2, $3, $4, $5, $6, $7, now())
		ON CONFLICT (tenant, repository, commit, context) DO UPDATE SET state = excluded.state, description = excluded.description, detail = excluded.detail, at = excluded.at`,
		r.Tenant, r.Name, st.Commit, st.Context, state, st.Description, st.Detail)
}

// Rest gives a claim back unchanged: its row is due again at wake.
func (s *Store) Rest(ctx context.Context, c Claim, wake time.Time) error {
	err := s.within(ctx, c.Tenant, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		if c.Kind == Repository { // it could be read
			b.Queue("UPDATE repositories SET waiting = NULL WHERE (tenant, name) = ($1, $2) AND waiting IS NOT NULL", c.Tenant, c.ID)
		}
		c.rest(b, wake)
		return send(ctx, tx, b)
	})
	if err != nil {
		return fmt.Errorf("rest %s %s: %w", c.Kind, c.ID, err)
	}
	return nil
}

// A ReleaseStep is what one look at a release is decided on.
type ReleaseStep struct {
	ID         string
	Deployment string
	Generation int64
	Commit     string
	Snapshot   intent.Snapshot
	State      promotion.ReleaseState
	Stages     []promotion.StageStatus
	// Environments are the environments of the pipeline's stages as they are now.
	Environments map[string]intent.Environment
	// Policies are those that the stages' gates name, as they are now.
	Policies map[string]intent.Policy
	// Selected are the nodes of those environments whose stage is planned by unit.
	Selected map[string][]string
	Now      time.Time
	version  int64
}

// A ReleaseResult is what is to be stored about a release: promotions that
// begin, each as its first decision, and the release's state.
type ReleaseResult struct {
	Started []promotion.Decision
	State   promotion.ReleaseState
	Waiting *promotion.Waiting // nil exactly if State is final
	Rows    []audit.Row
	Wake    time.Time
}

// AdvanceRelease reads a claimed release, lets decide say what follows, and
// stores all of it or nothing.
func (s *Store) AdvanceRelease(ctx context.Context, c Claim, decide func(ReleaseStep) (ReleaseResult, error)) error {
	err := s.within(ctx, c.Tenant, func(tx pgx.Tx) error {
		st, err := loadRelease(ctx, tx, c)
		if err != nil {
			return err
		}
		if st.State != promotion.ReleaseOpen {
			return retire(ctx, tx, c)
		}
		res, err := decide(st)
		if err != nil {
			return err
		}
		return s.commitRelease(ctx, tx, c, st, res)
	})
	if err != nil {
		return fmt.Errorf("advance release %s: %w", c.ID, err)
	}
	return nil
}

func loadRelease(ctx context.Context, tx pgx.Tx, c Claim) (ReleaseStep, error) {
	st := ReleaseStep{ID: c.ID, Environments: map[string]intent.Environment{}, Policies: map[string]intent.Policy{}, Selected: map[string][]string{}}
	b := &pgx.Batch{}
	b.Queue("SELECT deployment, generation, commit, snapshot, state, version, now() FROM releases WHERE (tenant, id) = ($1, $2)", c.Tenant, c.ID).QueryRow(func(row pgx.Row) error {
		err := row.Scan(&st.Deployment, &st.Generation, &st.Commit, &st.Snapshot, &st.State, &st.version, &st.Now)
		st.Now = st.Now.UTC()
		return missing(err)
	})
	b.Queue(`SELECT DISTINCT ON (stage) stage, status, attempt, coalesce((progress ->> 'harmful')::boolean, false) FROM promotions
		WHERE (tenant, release) = ($1, $2) AND kind <> 'restore' ORDER BY stage, attempt DESC`, c.Tenant, c.ID).Query(func(rows pgx.Rows) (err error) {
		st.Stages, err = pgx.CollectRows(rows, pgx.RowToStructByPos[promotion.StageStatus])
		return err
	})
	b.Queue(`SELECT e.name, e.document FROM environments e, releases r WHERE (r.tenant, r.id) = ($1, $2) AND e.tenant = r.tenant
		AND e.name IN (SELECT jsonb_array_elements(r.snapshot #> '{pipeline,spec,stages}') ->> 'environment')`, c.Tenant, c.ID).Query(func(rows pgx.Rows) error {
		var name string
		var doc intent.Environment
		_, err := pgx.ForEachRow(rows, []any{&name, &doc}, func() error {
			st.Environments[name] = doc
			doc = intent.Environment{}
			return nil
		})
		return err
	})
	b.Queue(`SELECT y.name, y.document FROM releases r JOIN policies y ON (y.tenant, y.repository) = (r.tenant, r.repository) AND y.document IS NOT NULL
		WHERE (r.tenant, r.id) = ($1, $2) AND y.name IN (SELECT jsonb_array_elements(r.snapshot #> '{pipeline,spec,stages}') #>> '{gates,approval}')`, c.Tenant, c.ID).Query(func(rows pgx.Rows) error {
		var name string
		var doc intent.Policy
		_, err := pgx.ForEachRow(rows, []any{&name, &doc}, func() error {
			st.Policies[name] = doc
			doc = intent.Policy{}
			return nil
		})
		return err
	})
	b.Queue(`SELECT e.name, n.name FROM releases r
		CROSS JOIN LATERAL jsonb_array_elements(r.snapshot #> '{pipeline,spec,stages}') AS stage
		JOIN environments e ON (e.tenant, e.name) = (r.tenant, stage ->> 'environment')
		JOIN nodes n ON n.tenant = r.tenant AND n.left_at IS NULL AND n.labels @> e.selector
		WHERE (r.tenant, r.id) = ($1, $2) AND stage #>> '{strategy,units}' = 'exact' ORDER BY 1, 2`, c.Tenant, c.ID).Query(func(rows pgx.Rows) error {
		var env, node string
		_, err := pgx.ForEachRow(rows, []any{&env, &node}, func() error {
			st.Selected[env] = append(st.Selected[env], node)
			return nil
		})
		return err
	})
	return st, send(ctx, tx, b)
}

func (s *Store) commitRelease(ctx context.Context, tx pgx.Tx, c Claim, st ReleaseStep, res ReleaseResult) error {
	b := &pgx.Batch{}
	b.Queue("UPDATE releases SET state = $4, waiting_for = $5, version = version + 1 WHERE (tenant, id) = ($1, $2) AND "+versionCondition,
		c.Tenant, c.ID, st.version, res.State, orNull(res.Waiting)).Exec(changesOne)
	for _, d := range res.Started {
		if err := s.queuePromotion(b, d); err != nil {
			return err
		}
	}
	if err := s.queueRows(b, res.Rows); err != nil {
		return err
	}
	if res.State == promotion.ReleaseOpen {
		c.rest(b, res.Wake)
	} else {
		c.end(b)
	}
	return send(ctx, tx, b)
}

// queuePromotion stores a promotion's first decision. The release's version
// keeps a second worker from making it again.
func (s *Store) queuePromotion(b *pgx.Batch, d promotion.Decision) error {
	p := d.State
	b.Queue(`INSERT INTO promotions (tenant, id, release, stage, kind, attempt, deployment, environment, generation, spec,
			status, phase, wave, version, token, plan, units, ending, reason, since, waiting_for, progress)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)`+transitionConflict,
		p.Tenant, p.ID, p.Release, p.Spec.Stage.Name, p.Kind, p.Attempt, p.Deployment, p.Environment, p.Generation, p.Spec,
		p.Status, p.Phase, p.Wave, p.Version, p.Token, p.Plan, units(p.Units), p.Ending, p.Reason, p.Since, orNull(d.Waiting), p.Progress)
	b.Queue("INSERT INTO slots (tenant, environment, deployment) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", p.Tenant, p.Environment, p.Deployment)
	b.Queue(addDue, p.Tenant, Promotion, p.ID)
	b.Queue(addDue, p.Tenant, Slot, slotID(p.Place()))
	queueTransition(b, p.Tenant, *d.Transition)
	queueCounts(b, promotion.State{}, d)
	queuePullDue(b, p)
	return s.queueRows(b, d.Rows)
}
