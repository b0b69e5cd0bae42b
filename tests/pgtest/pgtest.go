// Package pgtest gives each test a real PostgreSQL database of its own: a clone of a template that was migrated once,
// on one cluster per test process, which starts with the first test that asks and ends with the process.
//
//	func TestMain(m *testing.M) { pgtest.Main(m, store.Migrate) }
//
//	func TestX(t *testing.T) {
//		db := pgtest.New(t)
//		pool, err := pgxpool.New(ctx, db.DSN("hotswap_app"))
//
// The cluster has no durability (fsync off, memory file system) and asks for no passwords. Measure neither with it.
package pgtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/platform"
)

// template is the database that tests clone.
const template = "hotswap_template"

// Migrate brings the database of a superuser's DSN to the newest schema, and leaves no connection open.
type Migrate func(ctx context.Context, adminDSN string) error

// process is the one cluster of a test process. Go's testing package offers no other way from TestMain to a test.
var process suite

type suite struct {
	migrate Migrate
	start   sync.Once
	err     error
	cluster *platform.Cluster
	dir     string
	lock    *os.File
	number  atomic.Int64
}

// Main runs the tests and ends the cluster. The test binary's exit code is theirs, as always when TestMain returns.
func Main(m *testing.M, migrate Migrate) {
	process.migrate = migrate
	defer process.stop()
	m.Run()
}

// DB is a test's own database.
type DB struct {
	// Name is unique in the process.
	Name    string
	cluster *platform.Cluster
}

// New creates a database for the test, which is dropped with all its connections when the test ends.
func New(t testing.TB) *DB {
	t.Helper()
	s := &process
	s.start.Do(func() { s.err = s.begin() })
	if s.err != nil {
		t.Fatalf("pgtest: %v", s.err)
	}
	db := &DB{Name: "test_" + strconv.FormatInt(s.number.Add(1), 10), cluster: s.cluster}
	if err := s.admin("CREATE DATABASE " + db.Name + " TEMPLATE " + template + " STRATEGY file_copy"); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := s.admin("DROP DATABASE " + db.Name + " WITH (FORCE)"); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return db
}

// AdminDSN connects as the superuser, past row-level security.
func (db *DB) AdminDSN() string { return db.DSN("postgres") }

// DSN connects as a role that the migration created.
func (db *DB) DSN(role string) string { return db.cluster.Connection(role, db.Name).DSN() }

// Socket is the path of the server's unix socket, for a proxy.
func (db *DB) Socket() string {
	c := db.cluster.Connection("postgres", db.Name)
	return filepath.Join(c.Host, fmt.Sprintf(".s.PGSQL.%d", c.Port))
}

func (s *suite) begin() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.folder(); err != nil {
		return err
	}
	cluster, err := platform.StartCluster(ctx, platform.ClusterOptions{
		Dir: filepath.Join(s.dir, "pg"), Fast: true, Trust: true,
		Settings: map[string]string{
			"max_connections": "200", "shared_buffers": "32MB", "autovacuum": "off",
			"max_wal_size": "256MB", "min_wal_size": "32MB", "log_min_messages": "warning",
		},
	})
	if err != nil {
		return err
	}
	s.cluster = cluster
	if err := s.admin("CREATE DATABASE " + template); err != nil {
		return err
	}
	if s.migrate == nil {
		return nil
	}
	if err := s.migrate(ctx, cluster.Connection("postgres", template).DSN()); err != nil {
		return fmt.Errorf("migrate the template: %w", err)
	}
	return nil
}

// admin runs one statement outside every test's database.
func (s *suite) admin(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.cluster.Connection("postgres", "postgres").DSN())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// folder makes this process's folder in memory, and removes those whose process was killed: their lock is free.
func (s *suite) folder() error {
	base := "/dev/shm"
	if info, err := os.Stat(base); err != nil || !info.IsDir() {
		base = os.TempDir()
	}
	base = filepath.Join(base, fmt.Sprintf("hotswap-pgtest-%d", os.Geteuid()))
	if err := os.MkdirAll(base, 0o700); err != nil {
		return err
	}
	sweep, err := flock(filepath.Join(base, "sweep.lock"), 0) // held while folders without a lock may exist
	if err != nil {
		return err
	}
	defer sweep.Close()
	old, _ := filepath.Glob(filepath.Join(base, "run-*"))
	for _, dir := range old {
		if lock, err := flock(filepath.Join(dir, "lock"), syscall.LOCK_NB); err == nil {
			_ = os.RemoveAll(dir)
			_ = lock.Close()
		}
	}
	if s.dir, err = os.MkdirTemp(base, "run-"); err != nil {
		return err
	}
	s.lock, err = flock(filepath.Join(s.dir, "lock"), syscall.LOCK_NB)
	return err
}

func flock(name string, how int) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|how); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return f, nil
}

func (s *suite) stop() {
	if s.cluster != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.cluster.Stop(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest:", err)
		}
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
		_ = s.lock.Close()
	}
}
