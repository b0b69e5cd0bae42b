package engine_test

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/store"
)

// exec runs statements as the superuser.
func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.db.AdminDSN())
	require.NoError(w.t, err)
	defer conn.Close(w.t.Context())
	_, err = conn.Exec(w.t.Context(), sql, args...)
	require.NoError(w.t, err, sql)
}

// ask reads one text as the superuser.
func (w *world) ask(sql string, args ...any) (text string) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.db.AdminDSN())
	require.NoError(w.t, err)
	defer conn.Close(w.t.Context())
	require.NoError(w.t, conn.QueryRow(w.t.Context(), sql, args...).Scan(&text), sql)
	return text
}

// deliver puts a delivery into the inbox; a nil body was too large to keep.
func (w *world) deliver(id, event string, body []byte) {
	w.t.Helper()
	sum := sha256.Sum256(body)
	require.NoError(w.t, w.store.Accept(w.t.Context(), store.Delivery{
		Tenant: tenant, Source: "gitea", ID: id, Repository: "deploy", Event: event, Headers: map[string]string{}, Body: body, Digest: sum[:],
	}))
}

func pushOf(t *testing.T, repository string) []byte {
	t.Helper()
	body, err := forge.NewPushBody(1, forge.Push{Repository: repository, Ref: "refs/heads/main", After: fmt.Sprintf("%040d", 1)})
	require.NoError(t, err)
	return body
}

// validate does what is due for validation.
func (w *world) validate() {
	w.t.Helper()
	_, err := w.engine.Validate(w.t.Context())
	require.NoError(w.t, err)
}

func TestWhatBecomesOfADelivery(t *testing.T) {
	for name, c := range map[string]struct {
		event string
		body  []byte
		state string
		note  string
		syncs bool
		row   bool
	}{
		"a push":                            {"push", pushOf(t, "acme/deploy"), "done", "push to refs/heads/main", true, false},
		"too large to keep":                 {"push", nil, "done", "too large to keep; the repository is looked at", true, false},
		"an event that means nothing here":  {"star", []byte("{}"), "done", "nothing to do for event star", false, false},
		"too large, and means nothing here": {"star", nil, "done", "nothing to do for event star", false, false},
		"a push to another repository":      {"push", pushOf(t, "acme/other"), "dead", "it is about repository acme/other (number 1) and came through the hook of deploy", false, true},
		"a push without form":               {"push", []byte(`{"ref":1}`), "dead", "malformed: ", false, true},
		"an empty push":                     {"push", []byte{}, "dead", "malformed: ", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.validate() // the repository rests
			w.first("1.0.0")
			w.deliver("d", c.event, c.body)
			w.validate()
			require.Equal(t, []string{c.state}, w.query("SELECT state FROM inbox"))
			require.Contains(t, w.query("SELECT note FROM inbox")[0], c.note)
			require.Empty(t, w.query("SELECT id FROM due WHERE kind = 'inbox'"), "it is not looked at again")
			require.Equal(t, c.syncs, w.synced() != "")
			require.Equal(t, c.row, len(w.rows("delivery.abandoned")) == 1)
		})
	}
}

func TestADeliveryThatAlwaysFailsIsGivenUpAfterTwentyTriesWhileTheOthersGoOn(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE tries (n int); GRANT INSERT ON tries TO hotswap_app;
		CREATE SEQUENCE tried; GRANT USAGE ON tried TO hotswap_app;
		CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('tried'); RAISE EXCEPTION 'poison'; END $$;
		CREATE TRIGGER poison BEFORE UPDATE ON inbox FOR EACH ROW WHEN (NEW.delivery = 'poison' AND NEW.state = 'done') EXECUTE FUNCTION poison()`)
	w.deliver("poison", "push", pushOf(t, "acme/deploy"))
	w.deliver("fine", "push", pushOf(t, "acme/deploy"))
	w.validate()
	require.Equal(t, []string{"done"}, w.query("SELECT state FROM inbox WHERE delivery = 'fine'"))
	for range 30 {
		w.exec("UPDATE due SET wake_at = now() WHERE kind = 'inbox'") // its backoff passes
		w.validate()
	}
	require.Equal(t, []string{"dead given up after 20 attempts"}, w.query("SELECT state || ' ' || note FROM inbox WHERE delivery = 'poison'"))
	require.Equal(t, []string{"20"}, w.query("SELECT last_value::text FROM tried"))
	require.Len(t, w.rows("delivery.abandoned"), 1)
	w.verify()
}

func TestAStepThatUsedUpItsTimeCountsAsAFailureAndBacksOff(t *testing.T) {
	w := newWorld(t)
	w.engine = engine.New(w.store, func(_, name string) (*gitrepo.Repository, error) { return w.open(name) }, engine.Options{Lease: time.Second})
	w.first("1.0.0")
	conn, err := pgx.Connect(t.Context(), w.db.AdminDSN())
	require.NoError(t, err)
	defer conn.Close(t.Context())
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE statuses IN ACCESS EXCLUSIVE MODE") // the sync cannot be stored in time
	require.NoError(t, err)
	w.validate()
	require.Equal(t, []string{"1 true"}, w.query("SELECT attempts || ' ' || (lease_until IS NULL) FROM due WHERE kind = 'repository'"))
	rows, err := w.store.Repositories(t.Context(), tenant)
	require.NoError(t, err)
	require.Contains(t, rows[0].Waiting.Evidence, "sync repository deploy")
	require.NoError(t, tx.Rollback(t.Context()))
	w.run()
	require.Equal(t, []string{"checkout-1 1.0.0"}, w.releases())
}

func TestTheBackstopGivesLeavesToRowsThatNobodySequenced(t *testing.T) {
	w := newWorld(t)
	w.first("1.0.0")
	w.run()
	w.exec("DELETE FROM audit_leaves")
	w.exec("DELETE FROM audit_heads")
	w.exec("INSERT INTO audit_pending (tenant, month, id) SELECT tenant, month, id FROM audit")
	require.NoError(t, w.engine.Backstop(t.Context()))
	w.verify()
	require.Len(t, w.query("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit'::regclass"), 3, "this month, the next, and the rest")
	require.Empty(t, w.query("SELECT id FROM audit_default"), "the first month is a partition from its first row on")
}

// The name of a repository can be given to another one; its number cannot.
func TestADeliveryIsOfTheRepositoryWithTheNumberThatWasBound(t *testing.T) {
	w := newWorld(t)
	push := func(id int64) []byte {
		body, err := forge.NewPushBody(id, forge.Push{Repository: "acme/deploy", Ref: "refs/heads/main", After: fmt.Sprintf("%040d", 1)})
		require.NoError(t, err)
		return body
	}
	require.NoError(t, w.store.BindRepository(t.Context(), tenant, "deploy", "7", "acme/deploy"))
	w.deliver("ours", "push", push(7))
	w.deliver("theirs", "push", push(8))
	w.validate()
	require.Equal(t, []string{"done", "dead"}, w.query("SELECT state FROM inbox ORDER BY delivery"))
	require.NoError(t, w.store.BindRepository(t.Context(), tenant, "deploy", "7", "acme/renamed"), "it has another name by now")
	require.ErrorIs(t, w.store.BindRepository(t.Context(), tenant, "deploy", "8", "acme/deploy"), store.ErrConflict)
	w.verify()
}
