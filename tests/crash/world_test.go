package crash_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/functions"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
)

// A world is one database with what lives around it: the forge that delivers,
// the nodes that ask, and the passing of time.
type world struct {
	push     *delivery
	agents   []*agent
	releases int // that there are when all is done
	bare     string
	after    func(ctx context.Context, k *worker) error // not yet done; nil: nothing is left
	client   *http.Client
	calls    *calls

	mu    sync.Mutex // of admin: a zombie may look while the test does
	admin *pgx.Conn
}

func newWorld(ctx context.Context, adminDSN string, d *delivery) (*world, error) {
	admin, err := pgx.Connect(ctx, adminDSN)
	if err != nil {
		return nil, err
	}
	w := &world{push: d, admin: admin, releases: 2, bare: begin.bare, calls: newCalls()}
	w.client = &http.Client{Transport: w.calls}
	return w, nil
}

func (w *world) close(ctx context.Context) { _ = w.admin.Close(ctx) }

// A worker is what one process has: its store, its engine, its server. Two of
// them share nothing but the database.
type worker struct {
	store  *store.Store
	engine *engine.Engine
	server *httptest.Server
	ctx    context.Context // of everything that the worker does
	die    context.CancelFunc
	left   atomic.Bool // nobody calls the worker any more
}

// worker starts a worker whose store connects by dsn.
func (w *world) worker(ctx context.Context, name, dsn string) (*worker, error) {
	ctx, die := context.WithCancel(ctx)
	st, err := store.Open(ctx, store.Options{DSN: dsn + " application_name=" + name, MaxConns: 2}, writer())
	if err != nil {
		die()
		return nil, err
	}
	k := &worker{store: st, ctx: ctx, die: die}
	open := func(string, string) (*gitrepo.Repository, error) { return gitrepo.Open(w.bare) }
	k.engine = engine.New(st, open, engine.Options{Lease: time.Hour, Reconcile: time.Hour, Concurrency: 1})
	all := functions.All(functions.Deps{
		Store: st, Engine: k.engine, Authorizer: auth.NewAuthorizer(st),
		Hooks: func(string, string) (forge.Keys, bool) { return hookKeys(), true },
		Hint:  func(context.Context, string) {}, // every hint is lost
	})
	mux := http.NewServeMux()
	mux.Handle("/hook/", http.StripPrefix("/hook", all["forge-webhook"]))
	mux.Handle("/", all["nodes"])
	k.server = httptest.NewUnstartedServer(mux)
	k.server.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	k.server.Start()
	return k, nil
}

func (k *worker) close() {
	k.die()
	k.server.CloseClientConnections()
	k.server.Close()
	k.store.Close()
}

// maxRounds bounds how often everybody gets a turn before it counts as stuck.
const maxRounds = 40

// errStuck reports that a release did not end although time passed.
var errStuck = errors.New("the release does not end")

// drive gives forge, worker and nodes their turns until the release has ended,
// or until the worker is dead or was left. Stuck, if not nil, is called after
// each round that changed nothing.
func (w *world) drive(ctx context.Context, k *worker, stuck func(ctx context.Context) error) error {
	before := ""
	for range maxRounds {
		if err := w.round(ctx, k); err != nil || k.left.Load() {
			return err
		}
		now, err := w.progress(ctx)
		if err != nil || now.ended && w.after == nil {
			return err
		}
		if now.ended {
			w.act(ctx, k)
		}
		if stuck != nil && now.text == before {
			if err := stuck(ctx); err != nil {
				return err
			}
		}
		before = now.text
	}
	return fmt.Errorf("%w: %s", errStuck, before)
}

// act lets the person do what is left to be done. An answer that was lost makes the
// person ask again.
func (w *world) act(ctx context.Context, k *worker) {
	err := w.after(ctx, k)
	if err == nil || errors.Is(err, store.ErrConflict) || errors.Is(err, promotion.ErrNoFormer) {
		w.after = nil
	}
}

// round gives everybody one turn. What fails is tried again in the next round;
// only the end of ctx ends it early.
func (w *world) round(ctx context.Context, k *worker) error {
	turns := []func() error{
		func() error { return w.push.send(ctx, w.client, k.server.URL+"/hook") },
		func() error { _, err := k.engine.Validate(ctx); return err },
		func() error { _, err := k.engine.Advance(ctx); return err },
		func() error { return k.engine.Backstop(ctx) },
	}
	for _, g := range w.agents {
		turns = append(turns,
			func() error { return g.ask(ctx, w.client, k.server.URL, w.newest(ctx, g)) },
			func() error { return g.report(ctx, w.client, k.server.URL) })
	}
	for _, turn := range turns {
		_ = turn()
		if ctx.Err() != nil || k.left.Load() {
			return ctx.Err()
		}
	}
	return nil
}

// newest is the generation of the newest order for a node.
func (w *world) newest(ctx context.Context, g *agent) (generation int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.admin.QueryRow(ctx, "SELECT generation FROM wanted WHERE node = $1", g.name).Scan(&generation) // else none
	return generation
}

// A progress says how far the release is.
type progress struct {
	ended bool   // nothing is open but the branch, which is looked at for ever
	text  string // changes with every step
}

func (w *world) progress(ctx context.Context) (p progress, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var open, releases, behind int
	row := w.admin.QueryRow(ctx, `SELECT (SELECT count(*) FROM due WHERE kind NOT IN ('repository', 'slot', 'record')),
		(SELECT count(*) FROM releases),
		(SELECT count(*) FROM wanted w LEFT JOIN reports r USING (tenant, node, environment, deployment)
			WHERE (r.report #>> '{position,generation}')::bigint IS DISTINCT FROM w.generation),
		format('%s transitions, %s reports, %s deliveries, %s releases, %s open rows',
			(SELECT count(*) FROM transitions), (SELECT sum((report #>> '{position,generation}')::bigint) FROM reports), (SELECT count(*) FROM inbox WHERE state <> 'pending'),
			(SELECT count(*) FROM releases WHERE state <> 'open'), (SELECT count(*) FROM due))`)
	if err := row.Scan(&open, &releases, &behind, &p.text); err != nil {
		return p, fmt.Errorf("look at progress: %w", err)
	}
	p.ended = w.push.accepted() && open == 0 && releases >= w.releases && behind == 0
	return p, nil
}

// pass lets time pass: every lease ends, every timer is due, every node reports.
func (w *world) pass(ctx context.Context) error {
	for _, g := range w.agents {
		g.speak()
	}
	return w.exec(ctx, `UPDATE due SET lease_until = NULL, wake_at = now() FROM
		(SELECT tenant, kind, id FROM due FOR UPDATE SKIP LOCKED) free
		WHERE (due.tenant, due.kind, due.id) = (free.tenant, free.kind, free.id)`)
}

// reap ends the sessions of a worker that hold row locks in a transaction that
// stands still, as idle_in_transaction_session_timeout does after its seconds.
func (w *world) reap(ctx context.Context, worker string) error {
	return w.exec(ctx, `SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = $1 AND state = 'idle in transaction' AND backend_xid IS NOT NULL`, worker)
}

func (w *world) exec(ctx context.Context, sql string, args ...any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.admin.Exec(ctx, sql, args...)
	return err
}
