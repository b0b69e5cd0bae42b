package wire_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/platform"
	"hotswap.dev/hotswap/tests/crash/wire"
	"hotswap.dev/hotswap/tests/pgtest"
)

func TestMain(m *testing.M) {
	pgtest.Main(m, func(ctx context.Context, adminDSN string) error {
		conn, err := pgx.Connect(ctx, adminDSN)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "CREATE TABLE t (n int)")
		return err
	})
}

// setting is a database, a proxy before it, and a way past the proxy.
type setting struct {
	t      *testing.T
	ctx    context.Context
	proxy  *wire.Proxy
	dsn    string // through the proxy
	direct *pgx.Conn
}

func newSetting(t *testing.T) *setting {
	t.Helper()
	db := pgtest.New(t)
	p, err := wire.New(db.Socket())
	require.NoError(t, err)
	t.Cleanup(p.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	s := &setting{t: t, ctx: ctx, proxy: p, dsn: fmt.Sprintf("host=%s port=5432 user=postgres dbname=%s", p.Host(), db.Name)}
	s.direct, err = pgx.Connect(ctx, db.AdminDSN())
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.direct.Close(context.Background()) })
	return s
}

func (s *setting) connect() *pgx.Conn {
	s.t.Helper()
	conn, err := pgx.Connect(s.ctx, s.dsn)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// rows counts past the proxy.
func (s *setting) rows() (n int) {
	s.t.Helper()
	require.NoError(s.t, s.direct.QueryRow(s.ctx, "SELECT count(*) FROM t").Scan(&n))
	return n
}

// eventually polls past the proxy: an abandoned transaction ends when the server notices.
func (s *setting) eventually(rows int) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.rows() == rows }, 10*time.Second, 2*time.Millisecond)
}

func (s *setting) labels(after int) (out []string) {
	for _, trip := range s.proxy.Trips(after) {
		out = append(out, trip.Label)
	}
	return out
}

func TestEverythingPassesCountedAndNamed(t *testing.T) {
	s := newSetting(t)
	conn := s.connect()
	require.Zero(t, s.proxy.Count(), "connecting is not counted")

	tx, err := conn.Begin(s.ctx)
	require.NoError(t, err)
	_, err = tx.Exec(s.ctx, "INSERT INTO t VALUES ($1)", 1)
	require.NoError(t, err)
	_, err = tx.Exec(s.ctx, "INSERT INTO t VALUES ($1)", 2)
	require.NoError(t, err)
	require.NoError(t, tx.Commit(s.ctx))
	require.Equal(t, []string{
		"begin", "prepare INSERT INTO t VALUES ($1)", "INSERT INTO t VALUES ($1)", "INSERT INTO t VALUES ($1)", "commit",
	}, s.labels(0))
	require.Equal(t, 2, s.rows())

	batch := &pgx.Batch{}
	batch.Queue("SELECT 1")
	batch.Queue("SELECT 2")
	require.NoError(t, conn.SendBatch(s.ctx, batch).Close())
	var size int
	require.NoError(t, conn.QueryRow(s.ctx, "SELECT length(repeat('x', 5000000))").Scan(&size))
	var large string
	require.NoError(t, conn.QueryRow(s.ctx, "SELECT repeat('x', 5000000)").Scan(&large))
	require.Len(t, large, size)
	_, err = conn.Exec(s.ctx, "SELECT 1/0")
	require.ErrorContains(t, err, "division by zero")
	require.Equal(t, s.proxy.Count(), len(s.proxy.Trips(0)))
}

func TestPipelinesAreServedInOrderAlsoWhenTheClientReadsLate(t *testing.T) {
	s := newSetting(t)
	pipeline := s.connect().PgConn().StartPipeline(s.ctx)
	const n = 200
	for i := range n {
		pipeline.SendQueryParams(fmt.Sprintf("SELECT %d, repeat('y', 20000)", i), nil, nil, nil, nil)
		require.NoError(t, pipeline.Sync())
	}
	seen := 0
	for seen < n {
		results, err := pipeline.GetResults()
		require.NoError(t, err)
		if reader, ok := results.(interface {
			NextRow() bool
			Values() [][]byte
		}); ok {
			require.True(t, reader.NextRow())
			require.Equal(t, fmt.Sprint(seen), string(reader.Values()[0]))
			for reader.NextRow() {
			}
			seen++
		}
	}
	require.NoError(t, pipeline.Close())
	require.GreaterOrEqual(t, s.proxy.Count(), n)
}

func TestAFlushIsAnsweredBeforeTheSyncThatEndsTheRoundTrip(t *testing.T) {
	s := newSetting(t)
	conn := s.connect()
	s.proxy.Arm(1, wire.HoldAfter)
	pipeline := conn.PgConn().StartPipeline(s.ctx)
	pipeline.SendQueryParams("SELECT 7", nil, nil, nil, nil)
	pipeline.SendFlushRequest()
	require.NoError(t, pipeline.Flush())
	_, err := pipeline.GetResults()
	require.NoError(t, err)
	require.Equal(t, []string{"SELECT 7"}, s.labels(0))
	require.NoError(t, pipeline.Sync())
	<-s.proxy.Held()
	s.proxy.Release()
	require.NoError(t, pipeline.Close())
	require.Equal(t, 1, s.proxy.Count())
}

func TestWhatIsCutBeforeNeverHappened(t *testing.T) {
	s := newSetting(t)
	conn := s.connect()
	s.proxy.Arm(1, wire.CutBefore)
	_, err := conn.Exec(s.ctx, "INSERT INTO t VALUES (1)", pgx.QueryExecModeSimpleProtocol)
	require.Error(t, err)
	require.True(t, s.proxy.Fired())
	require.True(t, conn.IsClosed())
	s.eventually(0)
	_, err = s.connect().Exec(s.ctx, "INSERT INTO t VALUES (1)")
	require.NoError(t, err, "once only")
	require.Equal(t, 1, s.rows())
}

func TestWhatIsCutAfterHappenedAndTheClientDoesNotKnow(t *testing.T) {
	s := newSetting(t)
	tx, err := s.connect().Begin(s.ctx)
	require.NoError(t, err)
	_, err = tx.Exec(s.ctx, "INSERT INTO t VALUES (1)")
	require.NoError(t, err)
	s.proxy.Arm(1, wire.CutAfter)
	require.Error(t, tx.Commit(s.ctx))
	require.Equal(t, 1, s.rows(), "when the client hears of it, the server has acted")
	trips := s.proxy.Trips(0)
	require.Equal(t, "commit", trips[len(trips)-1].Label)
}

func TestAHeldRoundTripHappensWhenItIsReleased(t *testing.T) {
	s := newSetting(t)
	conn := s.connect()
	s.proxy.Arm(1, wire.Hold)
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(s.ctx, "INSERT INTO t VALUES (1)", pgx.QueryExecModeSimpleProtocol)
		done <- err
	}()
	<-s.proxy.Held()
	require.Zero(t, s.rows())
	_, err := s.connect().Exec(s.ctx, "INSERT INTO t VALUES (2)")
	require.NoError(t, err, "another connection goes on")
	require.Equal(t, 1, s.rows())
	s.proxy.Release()
	require.NoError(t, <-done)
	require.Equal(t, 2, s.rows())
}

func TestAHeldRoundTripOfAClientThatHasGoneIsAZombieThatStillActs(t *testing.T) {
	s := newSetting(t)
	conn := s.connect()
	s.proxy.Arm(1, wire.Hold)
	ctx, cancel := context.WithCancel(s.ctx)
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(ctx, "INSERT INTO t VALUES (1)", pgx.QueryExecModeSimpleProtocol)
		done <- err
	}()
	<-s.proxy.Held()
	cancel()
	require.Error(t, <-done)
	require.Zero(t, s.rows())
	s.proxy.Release()
	s.eventually(1)
}

func TestAHeldAnswerComesAfterTheServerActed(t *testing.T) {
	s := newSetting(t)
	conn := s.connect()
	s.proxy.Arm(1, wire.HoldAfter)
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(s.ctx, "INSERT INTO t VALUES (1)", pgx.QueryExecModeSimpleProtocol)
		done <- err
	}()
	<-s.proxy.Held()
	require.Equal(t, 1, s.rows())
	select {
	case err := <-done:
		t.Fatalf("the client was answered: %v", err)
	default:
	}
	s.proxy.Release()
	require.NoError(t, <-done)
	_, err := conn.Exec(s.ctx, "INSERT INTO t VALUES (2)")
	require.NoError(t, err, "the connection goes on")
}

func TestEveryRoundTripOfATransactionCanBeBrokenInTurn(t *testing.T) {
	for _, mode := range []wire.Mode{wire.CutBefore, wire.CutAfter} {
		t.Run(mode.String(), func(t *testing.T) {
			s := newSetting(t)
			fired, whole := 0, 0
			for n := 1; ; n++ {
				before := s.rows()
				conn := s.connect()
				s.proxy.Arm(n, mode)
				err := pgx.BeginFunc(s.ctx, conn, func(tx pgx.Tx) error {
					for i := range 2 {
						if _, err := tx.Exec(s.ctx, "INSERT INTO t VALUES ($1)", i); err != nil {
							return err
						}
					}
					return nil
				})
				if !s.proxy.Fired() {
					require.NoError(t, err)
					require.Equal(t, before+2, s.rows())
					break
				}
				fired++
				require.Error(t, err)
				added := s.rows() - before
				require.Contains(t, []int{0, 2}, added, "all or nothing, cut at %v", s.proxy.Trips(s.proxy.Count()-1))
				whole += added / 2
			}
			require.Equal(t, 5, fired, "begin, prepare, insert, insert, commit")
			require.Equal(t, map[wire.Mode]int{wire.CutBefore: 0, wire.CutAfter: 1}[mode], whole)
		})
	}
}

func TestRoundTripsAreCountedOverAllConnections(t *testing.T) {
	s := newSetting(t)
	config, err := pgxpool.ParseConfig(s.dsn)
	require.NoError(t, err)
	config.MaxConns = 8
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	pool, err := pgxpool.NewWithConfig(s.ctx, config)
	require.NoError(t, err)
	defer pool.Close()
	start := s.proxy.Count()
	s.proxy.Arm(301, wire.CutBefore)
	var wait sync.WaitGroup
	for range 10 {
		wait.Go(func() {
			for range 30 {
				if _, err := pool.Exec(s.ctx, "INSERT INTO t VALUES (1)"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	require.Equal(t, 300, s.rows())
	inserts := 0
	for _, label := range s.labels(start) {
		if strings.HasPrefix(label, "INSERT") {
			inserts++
		}
	}
	require.Equal(t, 300, inserts)
}

func TestPasswordsAndCancelRequestsPass(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "wire-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cluster, err := platform.StartCluster(ctx, platform.ClusterOptions{Dir: filepath.Join(dir, "pg"), Fast: true})
	require.NoError(t, err)
	t.Cleanup(func() { _ = cluster.Stop(context.Background()) })
	c := cluster.Connection("postgres", "postgres")
	p, err := wire.New(filepath.Join(c.Host, ".s.PGSQL.5432"))
	require.NoError(t, err)
	t.Cleanup(p.Close)
	c.Host = p.Host()
	conn, err := pgx.Connect(ctx, c.DSN())
	require.NoError(t, err)
	defer conn.Close(context.Background())

	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(ctx, "SELECT pg_sleep(60)", pgx.QueryExecModeSimpleProtocol)
		done <- err
	}()
	for { // a request that comes before the query runs cancels nothing
		require.NoError(t, conn.PgConn().CancelRequest(ctx))
		select {
		case err := <-done:
			require.ErrorContains(t, err, "canceling statement")
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestRequestsForEncryptionAreAnsweredWithNo(t *testing.T) {
	s := newSetting(t)
	conn, err := net.Dial("unix", filepath.Join(s.proxy.Host(), ".s.PGSQL.5432"))
	require.NoError(t, err)
	defer conn.Close()
	for _, code := range []uint32{80877103, 80877104} {
		require.NoError(t, binary.Write(conn, binary.BigEndian, []uint32{8, code}))
		answer := make([]byte, 1)
		_, err := io.ReadFull(conn, answer)
		require.NoError(t, err)
		require.Equal(t, "N", string(answer))
	}
}

func TestCloseEndsEverythingAlsoWhatIsHeld(t *testing.T) {
	s := newSetting(t)
	conn := s.connect()
	s.connect()
	s.proxy.Arm(1, wire.Hold)
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(s.ctx, "SELECT 1")
		done <- err
	}()
	<-s.proxy.Held()
	s.proxy.Close()
	require.Error(t, <-done)
	require.NoDirExists(t, s.proxy.Host())
	s.proxy.Close()
}

func TestAServerThatDiesIsPassedOn(t *testing.T) {
	s := newSetting(t)
	conn := s.connect()
	var pid int
	require.NoError(t, conn.QueryRow(s.ctx, "SELECT pg_backend_pid()").Scan(&pid))
	_, err := s.direct.Exec(s.ctx, "SELECT pg_terminate_backend($1)", pid)
	require.NoError(t, err)
	_, err = conn.Exec(s.ctx, "SELECT 1")
	require.Error(t, err)
}

func TestNotificationsPassBetweenRoundTrips(t *testing.T) {
	s := newSetting(t)
	conn := s.connect()
	_, err := conn.Exec(s.ctx, "LISTEN news")
	require.NoError(t, err)
	_, err = s.direct.Exec(s.ctx, "NOTIFY news, 'hello'")
	require.NoError(t, err)
	n, err := conn.WaitForNotification(s.ctx)
	require.NoError(t, err)
	require.Equal(t, "hello", n.Payload)
}

func FuzzAnyBytesOfAClient(f *testing.F) {
	startup := []byte("\x00\x00\x00\x17\x00\x03\x00\x00user\x00postgres\x00\x00")
	f.Add(startup)
	f.Add([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		dir := t.TempDir()
		server, err := net.Listen("unix", filepath.Join(dir, "s"))
		require.NoError(t, err)
		defer server.Close()
		go func() { // a server that is ready at once and answers everything
			for {
				c, err := server.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					buffer := make([]byte, 4096)
					for {
						if _, err := c.Read(buffer); err != nil {
							return
						}
						_, _ = io.Copy(c, bytes.NewReader([]byte("Z\x00\x00\x00\x05I")))
					}
				}()
			}
		}()
		p, err := wire.New(filepath.Join(dir, "s"))
		require.NoError(t, err)
		defer p.Close()
		conn, err := net.Dial("unix", filepath.Join(p.Host(), ".s.PGSQL.5432"))
		require.NoError(t, err)
		_, _ = conn.Write(sent)
		_ = conn.Close()
	})
}
