package simulation_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/pkg/target"
	"hotswap.dev/hotswap/tests/counted"
	"hotswap.dev/hotswap/tests/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m, store.Migrate) }

// A twin is a real PostgreSQL in which pkg/store and pkg/engine do what the world's own
// database does, at the world's time. What both hold is compared after each thing that
// is done. A nil twin does nothing.
type twin struct {
	t      *testing.T
	w      *world
	store  *store.Store
	engine *engine.Engine
	admin  *pgx.Conn
	synced map[string]int // versions of each tenant's repository
	done   int            // things that were done and compared
}

// clockScript gives the database the world's clock: whoever asks for now() finds this
// one before PostgreSQL's own.
const clockScript = `CREATE SCHEMA sim;
	CREATE TABLE sim.clock (at timestamptz NOT NULL);
	INSERT INTO sim.clock VALUES ('2026-01-01');
	CREATE FUNCTION sim.now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT at FROM sim.clock';
	GRANT USAGE ON SCHEMA sim TO PUBLIC;
	GRANT SELECT ON sim.clock TO PUBLIC;
	ALTER TABLE nodes ALTER COLUMN joined_at SET DEFAULT sim.now();
	ALTER TABLE promotions ALTER COLUMN created_at SET DEFAULT sim.now();`

// newTwin is an empty database beside a world that is empty too.
func newTwin(t *testing.T, w *world) *twin {
	db := pgtest.New(t)
	x := &twin{t: t, w: w, synced: map[string]int{}}
	var err error
	x.admin, err = pgx.Connect(t.Context(), db.AdminDSN())
	require.NoError(t, err)
	t.Cleanup(func() { _ = x.admin.Close(context.Background()) })
	x.sql(clockScript)
	x.sql("ALTER ROLE hotswap_app IN DATABASE " + db.Name + " SET search_path = sim, pg_catalog, public")
	writer := audit.NewWriter(ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", 32))))
	x.store, err = store.Open(t.Context(), store.Options{DSN: db.DSN("hotswap_app"), MaxConns: 2}, writer)
	require.NoError(t, err)
	t.Cleanup(x.store.Close)
	none := func(string, string) (*gitrepo.Repository, error) { return nil, gitrepo.ErrNoRepository }
	x.engine = engine.New(x.store, none, engine.Options{})
	return x
}

func (x *twin) sql(statement string, args ...any) {
	_, err := x.admin.Exec(x.t.Context(), statement, args...)
	require.NoError(x.t, err, statement)
}

// at sets the clock to the world's.
func (x *twin) at() context.Context {
	x.sql("UPDATE sim.clock SET at = $1", x.w.now)
	return x.t.Context()
}

// sync brings releases and environments of a tenant's repository.
func (x *twin) sync(tenant string, releases []store.NewRelease, environments []intent.Environment) {
	ctx := x.at()
	if x.synced[tenant] == 0 {
		require.NoError(x.t, x.store.AddRepository(ctx, tenant, "deploy", "main"))
	}
	x.sql("UPDATE due SET fence = fence + 1 WHERE (tenant, kind, id) = ($1, 'repository', 'deploy')", tenant)
	c := store.Claim{Tenant: tenant, Kind: store.Repository, ID: "deploy"}
	require.NoError(x.t, x.admin.QueryRow(ctx, "SELECT fence, pokes FROM due WHERE (tenant, kind, id) = ($1, 'repository', 'deploy')", tenant).Scan(&c.Fence, &c.Pokes))
	r, err := x.store.LoadRepository(ctx, tenant, "deploy")
	require.NoError(x.t, err)
	x.synced[tenant]++
	require.NoError(x.t, x.store.CommitSync(ctx, c, r, store.Sync{To: fmt.Sprint(x.synced[tenant]), Releases: releases, Environments: environments, Wake: x.w.now}))
}

func (x *twin) release(r *releaseRow) {
	if x == nil {
		return
	}
	x.sync(r.snapshot.Tenant, []store.NewRelease{{
		ID: r.id, Deployment: r.deployment, Generation: r.generation, Commit: r.id, Blob: r.id, Snapshot: *r.snapshot, Digest: "digest of " + r.id,
	}}, nil)
	x.compare("push " + r.id)
}

func (x *twin) environment(tenant string, e intent.Environment) {
	if x == nil {
		return
	}
	x.sync(tenant, nil, []intent.Environment{e})
	x.done++ // who is poked is compared with what follows: the world pokes after this
}

func (x *twin) join(n *node) {
	if x == nil {
		return
	}
	ctx := x.at()
	token, err := x.store.CreateJoinToken(ctx, n.tenant, n.labels, time.Hour, ann)
	require.NoError(x.t, err)
	key := sha256.Sum256(fmt.Append(nil, n.tenant, n.id, n.joined))
	_, err = x.store.Join(ctx, target.Join{Token: token, Name: n.id}, ed25519.PublicKey(key[:]))
	require.NoError(x.t, err)
	x.compare("join " + n.id)
}

func (x *twin) remove(n *node) {
	if x == nil {
		return
	}
	require.NoError(x.t, x.store.RemoveNode(x.at(), n.tenant, n.id, ann, "gone"))
	x.compare("remove " + n.id)
}

func (x *twin) report(k key, r target.Report) {
	if x == nil {
		return
	}
	require.NoError(x.t, x.store.SaveReport(x.at(), k.tenant, k.id, r))
	x.compare("report of " + k.id)
}

func (c claim) real() store.Claim {
	return store.Claim{Tenant: c.tenant, Kind: store.Kind(c.kind), ID: c.id, Fence: c.fence, Pokes: c.pokes, Attempts: c.attempts}
}

// claim leases the same row. Which of the rows that are due is taken first is the
// world's to choose.
func (x *twin) claim(c claim) {
	if x == nil {
		return
	}
	ctx := x.at()
	got := c
	err := x.admin.QueryRow(ctx, `UPDATE due SET lease_until = $4, fence = fence + 1 WHERE (tenant, kind, id) = ($1, $2, $3)
		AND wake_at <= $5 AND coalesce(lease_until, '-infinity') <= $5 RETURNING fence, pokes, attempts`,
		c.tenant, c.kind, c.id, x.w.now.Add(lease), x.w.now).Scan(&got.fence, &got.pokes, &got.attempts)
	if err != nil || got != c {
		x.differs("claim of %s %s: the world has %+v, PostgreSQL %+v (%v)", c.kind, c.id, c, got, err)
	}
}

// step does what a claim asks for. Want is how that ended in the world.
func (x *twin) step(c claim, want error) {
	if x == nil {
		return
	}
	x.ended(x.engine.Step(x.at(), c.real()), want, "step of %s %s", c.kind, c.id)
}

// failed gives a claim back as the world does: when it is tried again is left to chance.
func (x *twin) failed(c claim, r dueRow) {
	if x == nil {
		return
	}
	require.NoError(x.t, x.store.Fail(x.at(), c.real(), errConflict))
	x.sql("UPDATE due SET wake_at = $4 WHERE (tenant, kind, id) = ($1, $2, $3)", c.tenant, c.kind, c.id, r.wake)
}

func (x *twin) act(k key, what promotion.EventKind, reason string, want error) {
	if x == nil {
		return
	}
	_, err := x.engine.Act(x.at(), k.tenant, k.id, what, ann, reason)
	x.ended(err, want, "%s of %s", what, k.id)
}

func (x *twin) rollBack(at slotKey, environments []string, release string, want error) {
	if x == nil {
		return
	}
	_, err := x.engine.Rollback(x.at(), engine.Rollback{Tenant: at.tenant, Deployment: at.deployment, Environments: environments, Release: release, By: ann, Reason: "back", Kind: "rollback"})
	x.ended(err, want, "rollback of %s in %v", at.deployment, environments)
}

func (x *twin) retry(k key, stage string, want error) {
	if x == nil {
		return
	}
	_, err := x.engine.Retry(x.at(), k.tenant, k.id, stage, ann, "again")
	x.ended(err, want, "retry of %s/%s", k.id, stage)
}

func (x *twin) hold(at holdKey, set bool, want error) {
	if x == nil {
		return
	}
	change, h := x.store.LiftHold, store.HoldRow{Environment: at.environment, Deployment: at.deployment, Artifact: at.artifact, Reason: "ann does not trust it", By: ann.Name}
	if set {
		change = x.store.SetHold
	}
	x.ended(change(x.at(), at.tenant, h, ann), want, "hold %t of %v", set, at)
}

func (x *twin) clean(at slotKey, want error) {
	if x == nil {
		return
	}
	x.ended(x.store.CleanSlot(x.at(), at.tenant, at.environment, at.deployment, ann, "as it is"), want, "cleaning %v", at)
}

func (x *twin) check(k key, name string, passed bool, want error) {
	if x == nil {
		return
	}
	x.ended(x.store.SetCheck(x.at(), k.tenant, k.id, promotion.CheckFact{Name: name, Passed: passed}, ann), want, "check %s of %s", name, k.id)
}

// ended compares how something ended, and what both hold then.
func (x *twin) ended(got, want error, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	for real, simulated := range map[error]error{store.ErrLost: errLost, store.ErrConflict: errConflict, store.ErrNotFound: errNotFound} {
		if errors.Is(got, real) {
			got = simulated
		}
	}
	for _, e := range []error{nil, errLost, errConflict, errNotFound, promotion.ErrFinal, promotion.ErrNotNow, promotion.ErrNoFormer} {
		if errors.Is(got, e) && errors.Is(want, e) {
			x.compare(what)
			return
		}
	}
	x.differs("%s: the world says %v, PostgreSQL %v", what, want, got)
}

func (x *twin) differs(format string, args ...any) {
	x.w.violates("PostgreSQL agrees", format, args...)
}

// compare looks at everything that both hold.
func (x *twin) compare(after string) {
	x.done++
	if x.w.found != nil {
		return
	}
	have := x.rows()
	want := x.w.rowsOfAll()
	for id, line := range want {
		if have[id] != line {
			x.differs("after %s, %s:\n  world      %s\n  PostgreSQL %s", after, id, line, have[id])
			return
		}
	}
	for id, line := range have {
		if _, ok := want[id]; !ok {
			x.differs("after %s, PostgreSQL alone has %s: %s", after, id, line)
			return
		}
	}
}

// queries read what is compared, as (what, JSON).
var queries = []string{
	`SELECT 'promotion ' || tenant || ' ' || id, jsonb_build_object('status', status, 'phase', phase, 'wave', wave, 'version', version, 'token', token, 'plan', plan,
		'units', units, 'ending', ending, 'reason', reason, 'since', since, 'progress', progress, 'waiting', waiting_for, 'finished', finished_at) FROM promotions`,
	`SELECT 'slot ' || tenant || ' ' || environment || '/' || deployment, jsonb_build_object('holder', coalesce(holder, ''), 'token', token, 'started', started, 'dirty', dirty, 'live', live) FROM slots`,
	`SELECT 'release ' || tenant || ' ' || id, jsonb_build_object('state', state, 'version', version) FROM releases`,
	`SELECT 'due ' || tenant || ' ' || kind || ' ' || id, jsonb_build_object('wake', wake_at, 'lease', lease_until, 'fence', fence, 'pokes', pokes, 'attempts', attempts) FROM due WHERE kind IN ('promotion', 'release', 'slot')`,
	`SELECT 'order ' || tenant || ' ' || node || ' ' || environment || '/' || deployment, jsonb_build_object('position', jsonb_build_array(epoch, token, generation), 'active', active ->> 'digest',
		'standby', standby ->> 'digest', 'smoke', smoke ->> 'path', 'keep', keep_for, 'at', at) FROM wanted`,
	`SELECT 'live ' || tenant || ' ' || node || ' ' || environment || '/' || deployment, jsonb_build_object('instance', coalesce(instance ->> 'digest', '')) FROM live`,
	`SELECT 'hold ' || tenant || ' ' || environment || '/' || deployment || ' ' || artifact, jsonb_build_object('reason', reason) FROM holds`,
	`SELECT 'finding ' || tenant || ' ' || environment || '/' || deployment || ' ' || node || ' ' || kind, jsonb_build_object('since', since, 'detail', detail) FROM findings WHERE closed_at IS NULL`,
	`SELECT 'rows of ' || tenant || ' ' || promotion, jsonb_build_object('n', count(*)) FROM audit WHERE promotion IS NOT NULL GROUP BY tenant, promotion`,
}

func (x *twin) rows() map[string]string {
	out := map[string]string{}
	rows, err := x.admin.Query(x.t.Context(), strings.Join(queries, " UNION ALL "))
	require.NoError(x.t, err)
	var id string
	var doc any
	_, err = pgx.ForEachRow(rows, []any{&id, &doc}, func() error {
		out[id] = normal(doc)
		return nil
	})
	require.NoError(x.t, err)
	return out
}

// rowsOfAll are the same of the world's own database.
func (w *world) rowsOfAll() map[string]string {
	out := map[string]string{}
	put := func(doc map[string]any, format string, args ...any) { out[fmt.Sprintf(format, args...)] = normal(doc) }
	for k, p := range w.db.promotions.rows {
		units := p.Units
		if units == nil {
			units = []promotion.Unit{}
		}
		put(map[string]any{
			"status": p.Status, "phase": p.Phase, "wave": p.Wave, "version": p.Version, "token": p.Token, "plan": p.Plan, "units": units, "ending": p.Ending,
			"reason": p.Reason, "since": p.Since, "progress": p.Progress, "waiting": p.waiting, "finished": orNil(p.finished),
		}, "promotion %s %s", k.tenant, k.id)
	}
	for k, s := range w.db.slots.rows {
		put(map[string]any{"holder": s.Holder, "token": s.Token, "started": s.Started, "dirty": s.Dirty, "live": s.Live}, "slot %s %s/%s", k.tenant, k.environment, k.deployment)
	}
	for k, r := range w.db.releases.rows {
		put(map[string]any{"state": r.state, "version": r.version}, "release %s %s", k.tenant, k.id)
	}
	for k, r := range w.db.due.rows {
		put(map[string]any{"wake": r.wake, "lease": orNil(r.lease), "fence": r.fence, "pokes": r.pokes, "attempts": r.attempts}, "due %s %s %s", k.tenant, k.kind, k.id)
	}
	for k, o := range w.db.wanted {
		doc := map[string]any{
			"position": []int64{o.order.Position.Epoch, o.order.Position.Token, o.order.Position.Generation}, "keep": o.order.KeepFor, "at": o.at,
			"active": digestOf(o.order.Active), "standby": digestOf(o.order.Standby), "smoke": nil,
		}
		if o.order.Smoke != nil {
			doc["smoke"] = o.order.Smoke.Path
		}
		put(doc, "order %s %s %s/%s", k.tenant, k.node, k.environment, k.deployment)
	}
	for k, i := range w.db.live {
		digest := ""
		if i != nil {
			digest = i.Digest
		}
		put(map[string]any{"instance": digest}, "live %s %s %s/%s", k.tenant, k.node, k.environment, k.deployment)
	}
	for k, reason := range w.db.holds {
		put(map[string]any{"reason": reason}, "hold %s %s/%s %s", k.tenant, k.environment, k.deployment, k.artifact)
	}
	for k, open := range w.db.findings {
		for _, f := range open {
			put(map[string]any{"since": f.Since, "detail": f.Detail}, "finding %s %s/%s %s %s", k.tenant, k.environment, k.deployment, f.Node, f.Kind)
		}
	}
	for k, n := range w.db.told {
		put(map[string]any{"n": n}, "rows of %s %s", k.tenant, k.id)
	}
	return out
}

func orNil(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

func digestOf(i *target.Instance) any {
	if i == nil {
		return nil
	}
	return i.Digest
}

// normal is a document as JSON, with its times in UTC and in microseconds, as both
// databases can keep them.
func normal(doc any) string {
	b, err := json.Marshal(doc)
	if err != nil {
		return err.Error()
	}
	var plain any
	if err := json.Unmarshal(b, &plain); err != nil {
		return err.Error()
	}
	b, _ = json.Marshal(timed(plain))
	return string(b)
}

func timed(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			v[k] = timed(x)
		}
	case []any:
		if len(v) == 0 { // an empty list is none
			return nil
		}
		for i, x := range v {
			v[i] = timed(x)
		}
	case string:
		if len(v) >= 20 && v[4] == '-' {
			if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
				return t.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano)
			}
		}
	}
	return v
}

// transitions compares every transition, with all that it was decided on.
func (x *twin) transitions() {
	for _, s := range x.w.shapes {
		err := x.store.EachPromotion(x.t.Context(), s.name, func(r store.Replayed) error {
			want := x.w.db.transitions[key{s.name, r.Stored.ID}]
			if len(want) != len(r.Transitions) {
				x.differs("%s has %d transitions, in PostgreSQL %d", r.Stored.ID, len(want), len(r.Transitions))
				return nil
			}
			for i := range want {
				if a, b := normal(want[i]), normal(r.Transitions[i]); a != b {
					x.differs("transition %d of %s:\n  world      %s\n  PostgreSQL %s", i, r.Stored.ID, a, b)
					return nil
				}
			}
			return nil
		})
		require.NoError(x.t, err)
	}
}

// counts finds where PostgreSQL did not count what its transitions tell.
func (x *twin) counts() {
	query, err := counted.Differences()
	require.NoError(x.t, err)
	rows, err := x.admin.Query(x.t.Context(), query)
	require.NoError(x.t, err)
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(x.t, err)
	if len(found) > 0 {
		x.differs("%s", strings.Join(found, "\n"))
	}
}

// withTwin is the world of a seed with PostgreSQL beside it.
func withTwin(t *testing.T, seed uint64, m mutant) *world {
	w := newWorldBeside(seed, m, func(w *world) { w.twin = newTwin(t, w) })
	return w
}

// twinLength is how many moves a script has that is played beside PostgreSQL.
const twinLength = 600

// twinScript is the script of a seed without the moves that PostgreSQL is not given: a
// database that is put back to a backup is tests/crash's and pkg/store's.
func twinScript(seed uint64) []move {
	var out []move
	for _, m := range newScript(seed, twinLength) {
		if m.kind != saves && m.kind != restores {
			out = append(out, m)
		}
	}
	return out
}

// TestPostgreSQLAgrees plays scripts in both databases at once.
func TestPostgreSQLAgrees(t *testing.T) {
	worlds := 1
	if s := os.Getenv("SIM_POSTGRES"); s != "" {
		var err error
		worlds, err = strconv.Atoi(s)
		require.NoError(t, err)
	}
	ended, done := map[promotion.Status]int{}, 0
	for seed := uint64(1); seed <= uint64(worlds); seed++ {
		w := withTwin(t, seed, none)
		if w.found == nil {
			w.follow(twinScript(seed))
		}
		if w.found == nil {
			w.twin.transitions()
		}
		if w.found == nil {
			w.twin.counts()
		}
		done += w.twin.done
		for _, p := range w.db.promotions.rows {
			ended[p.Status]++
		}
		if w.found != nil {
			t.Fatalf("seed %d: %s", seed, w.found)
		}
	}
	t.Logf("%d worlds, %d things done and compared; promotions %v", worlds, done, ended)
	require.Greater(t, done, 400*worlds)
	require.Positive(t, ended[promotion.Succeeded])
	require.Greater(t, len(ended), 4, "too little happened to agree on: %v", ended)
}

// TestAWorldThatIsNotLikePostgreSQLIsFound: the comparison can fail.
func TestAWorldThatIsNotLikePostgreSQLIsFound(t *testing.T) {
	for _, m := range []mutant{newestOfAll, gatesOnce} {
		found := false
		for seed := uint64(1); seed <= 20 && !found; seed++ {
			w := withTwin(t, seed, m)
			w.follow(twinScript(seed))
			found = w.found != nil && w.found.invariant == "PostgreSQL agrees"
		}
		require.True(t, found, "in a world where %s nothing was found", m)
	}
}
