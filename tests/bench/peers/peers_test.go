// Package peers measures libraries that keep work durable in PostgreSQL, on the same
// kind of step as tests/bench does: one row moves on, with a row of what happened and an
// audit row, in one transaction.
//
// It is a module of its own, so that nobody who uses HotSwap downloads what it is
// measured against.
package peers

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"hotswap.dev/hotswap/pkg/platform"
)

// rows is how many things there are to move.
const rows = 2000

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// A base is a durable PostgreSQL with the tables of the step.
type base struct {
	pool *pgxpool.Pool
	dsn  string
}

func newBase(b *testing.B) *base {
	b.Helper()
	dir, err := os.MkdirTemp("", "hotswap-peers-")
	must(b, err)
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	cluster, err := platform.StartCluster(b.Context(), platform.ClusterOptions{Dir: filepath.Join(dir, "postgres"), Settings: map[string]string{"max_connections": "300"}})
	must(b, err)
	b.Cleanup(func() { _ = cluster.Stop(context.Background()) })
	base := &base{dsn: cluster.Connection("postgres", "postgres").DSN()}
	config, err := pgxpool.ParseConfig(base.dsn)
	must(b, err)
	config.MaxConns = 32
	base.pool, err = pgxpool.NewWithConfig(b.Context(), config)
	must(b, err)
	b.Cleanup(base.pool.Close)
	_, err = base.pool.Exec(b.Context(), `
		CREATE TABLE things (id int PRIMARY KEY, version int NOT NULL DEFAULT 0, state text NOT NULL DEFAULT 'queued');
		CREATE TABLE transitions (id int, version int, event jsonb, PRIMARY KEY (id, version));
		CREATE TABLE audit (id int, version int, row text, PRIMARY KEY (id, version));
		INSERT INTO things (id) SELECT generate_series(0, 1999)`)
	must(b, err)
	return base
}

// step moves one row on, in one transaction of one round trip beside begin and commit.
func (x *base) step(ctx context.Context, id int) error {
	return pgx.BeginFunc(ctx, x.pool, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue("UPDATE things SET version = version + 1, state = 'running' WHERE id = $1", id)
		batch.Queue("INSERT INTO transitions SELECT id, version, '{\"kind\": \"looked\"}' FROM things WHERE id = $1", id)
		batch.Queue("INSERT INTO audit SELECT id, version, 'promotion.started' FROM things WHERE id = $1", id)
		return tx.SendBatch(ctx, batch).Close()
	})
}

// A moveArgs is a job of River: one step of one row.
type moveArgs struct {
	ID int `json:"id"`
}

// Kind implements [river.JobArgs].
func (moveArgs) Kind() string { return "move" }

type mover struct {
	river.WorkerDefaults[moveArgs]
	base *base
	done *atomic.Int64
	all  chan struct{}
	want int64
}

// Work implements [river.Worker].
func (m *mover) Work(ctx context.Context, job *river.Job[moveArgs]) error {
	if err := m.base.step(ctx, job.Args.ID); err != nil {
		return err
	}
	if m.done.Add(1) == m.want {
		close(m.all)
	}
	return nil
}

// BenchmarkRiver works off jobs that are there already: their insertion is not counted.
// Completions are batched, which is River's own default and its fastest.
func BenchmarkRiver(b *testing.B) {
	x := newBase(b)
	driver := riverpgxv5.New(x.pool)
	migrator, err := rivermigrate.New(driver, nil)
	must(b, err)
	_, err = migrator.Migrate(b.Context(), rivermigrate.DirectionUp, nil)
	must(b, err)
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	steps, took := 0, time.Duration(0)
	for b.Loop() {
		m := &mover{base: x, done: &atomic.Int64{}, all: make(chan struct{}), want: rows}
		workers := river.NewWorkers()
		river.AddWorker(workers, m)
		client, err := river.NewClient(driver, &river.Config{
			Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 128, FetchCooldown: time.Millisecond, FetchPollInterval: 50 * time.Millisecond}},
			Workers: workers, Logger: quiet,
		})
		must(b, err)
		var jobs []river.InsertManyParams
		for id := range rows {
			jobs = append(jobs, river.InsertManyParams{Args: moveArgs{ID: id}})
		}
		_, err = client.InsertMany(b.Context(), jobs)
		must(b, err)
		began := time.Now()
		must(b, client.Start(b.Context()))
		select {
		case <-m.all:
		case <-time.After(5 * time.Minute):
			b.Fatal("River did not end")
		}
		took += time.Since(began)
		steps += rows
		must(b, client.Stop(b.Context()))
	}
	b.ReportMetric(float64(steps)/took.Seconds(), "steps/s")
}

// BenchmarkDBOS runs workflows of two steps, 64 at a time.
func BenchmarkDBOS(b *testing.B) {
	x := newBase(b)
	config, err := pgxpool.ParseConfig(x.dsn)
	must(b, err)
	config.MaxConns = 64
	pool, err := pgxpool.NewWithConfig(b.Context(), config)
	must(b, err)
	b.Cleanup(pool.Close)
	ctx, err := dbos.NewContext(context.Background(), dbos.Config{
		SystemDBPool: pool, AppName: "hotswap-bench", Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	must(b, err)
	workflow := func(ctx dbos.Context, id int) (int, error) {
		move := func(ctx context.Context) (int, error) { return id, x.step(ctx, id) }
		if _, err := dbos.RunAsStep(ctx, move); err != nil {
			return 0, err
		}
		return dbos.RunAsStep(ctx, move)
	}
	dbos.RegisterWorkflow(ctx, workflow)
	must(b, dbos.Launch(ctx))
	b.Cleanup(func() { _ = dbos.Shutdown(ctx, 10*time.Second) })
	steps, took := 0, time.Duration(0)
	for b.Loop() {
		began := time.Now()
		next := make(chan int, rows)
		for id := range rows {
			next <- id
		}
		close(next)
		var group sync.WaitGroup
		for range 64 {
			group.Go(func() {
				for id := range next {
					h, err := dbos.RunWorkflow(ctx, workflow, id)
					if err == nil {
						_, err = h.GetResult()
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		group.Wait()
		took += time.Since(began)
		steps += 2 * rows
	}
	b.ReportMetric(float64(steps)/took.Seconds(), "steps/s")
}
