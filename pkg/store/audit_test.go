package store_test

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/audit"
)

// record writes n rows as of a time; zero: the database's own.
func (b *base) record(name string, n int, as time.Time) {
	b.t.Helper()
	require.NoError(b.t, b.store.Record(b.t.Context(), tenant, func(now time.Time) []audit.Row {
		if !as.IsZero() {
			now = as
		}
		return rows(tenant, name, n)(now)
	}))
}

func (b *base) sequence() int {
	b.t.Helper()
	n, err := b.store.Sequence(b.t.Context(), tenant)
	require.NoError(b.t, err)
	return n
}

func (b *base) verify() audit.Report {
	b.t.Helper()
	v := audit.NewVerifier(tenant, b.keys)
	require.NoError(b.t, b.store.VerifyAudit(b.t.Context(), tenant, v))
	return v.Report()
}

func TestSequencersBesideWritersLeaveNoGapAndNothingTwice(t *testing.T) {
	b := newBase(t, 8)
	var writers, sequencers sync.WaitGroup
	done := make(chan struct{})
	for i := range 4 {
		writers.Go(func() {
			for j := range 60 {
				require.NoError(t, b.store.Record(t.Context(), tenant, rows(tenant, fmt.Sprintf("w%d/%d", i, j), 3)))
			}
		})
		sequencers.Go(func() {
			for {
				_, err := b.store.Sequence(t.Context(), tenant)
				require.NoError(t, err)
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	writers.Wait()
	close(done)
	sequencers.Wait()
	b.sequence()
	require.Equal(t, "720 0 719 720", ask[string](b, "SELECT concat_ws(' ', count(*), min(position), max(position), count(DISTINCT id)) FROM audit_leaves"))
	rep := b.verify()
	require.Equal(t, audit.Verified, rep.Verdict, "%+v", rep)
	require.EqualValues(t, 720, rep.Rows)
}

func TestARowThatCommitsLateGetsItsLeaf(t *testing.T) {
	b := newBase(t, 2)
	s, err := writer().Sign(rows(tenant, "late", 1)(time.Now().Add(-time.Hour))[0])
	require.NoError(t, err)
	tx, err := b.admin.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "INSERT INTO audit (month, tenant, id, header, writer, signature) VALUES (date_trunc('month', now() AT TIME ZONE 'UTC' - interval '1 hour'), $1, 'late/0', $2, $3, $4)",
		tenant, string(s.Header), s.Writer, s.Signature)
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "INSERT INTO audit_pending (tenant, month, id) SELECT tenant, month, id FROM audit WHERE id = 'late/0'")
	require.NoError(t, err)
	b.record("early", 3, time.Time{})
	require.Equal(t, 3, b.sequence())
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, 1, b.sequence())
	require.Equal(t, audit.Verified, b.verify().Verdict)
}

func TestVerificationFindsWhatASuperuserChanged(t *testing.T) {
	forge := func(id string, key byte, age time.Duration) audit.Signed {
		w := audit.NewWriter(ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(key)), ed25519.SeedSize))))
		r := rows(tenant, id, 1)(time.Now().Add(-age))[0]
		s, err := w.Sign(r)
		require.NoError(t, err)
		if key != 'k' {
			s.Writer = writer().ID() // it claims to be ours
		}
		return s
	}
	put := func(b *base, s audit.Signed, id string) {
		b.sql("INSERT INTO audit (month, tenant, id, header, writer, signature) SELECT month, tenant, $1, $2, $3, $4 FROM audit LIMIT 1", id, string(s.Header), s.Writer, s.Signature)
	}
	cases := map[string]struct {
		tamper func(b *base)
		found  string
	}{
		"nothing":              {func(*base) {}, ""},
		"a header was updated": {func(b *base) { b.sql("UPDATE audit SET header = replace(header, 'wants', 'wanted') WHERE id = 't/3'") }, "it was edited"},
		"a writer was updated": {func(b *base) { b.sql("UPDATE audit SET writer = 'x' WHERE id = 't/3'") }, "it was edited"},
		"a row was deleted":    {func(b *base) { b.sql("DELETE FROM audit WHERE id = 't/3'") }, "the row was removed"},
		"a leaf was deleted":   {func(b *base) { b.sql("DELETE FROM audit_leaves WHERE position = 3") }, "a leaf is missing"},
		"row and leaf were deleted, and the rest moved up": {func(b *base) {
			b.sql("DELETE FROM audit WHERE id = 't/3'")
			b.sql("DELETE FROM audit_leaves WHERE id = 't/3'")
			b.sql("UPDATE audit_leaves SET position = position - 1 WHERE position > 3")
		}, "checkpoint was signed over 10 leaves, the log has 9"},
		"the tail was deleted, rows and leaves": {func(b *base) {
			b.sql("DELETE FROM audit WHERE id > 't/6'")
			b.sql("DELETE FROM audit_leaves WHERE position > 6")
		}, "checkpoint was signed over 10 leaves, the log has 7"},
		"everything was deleted but the head": {func(b *base) {
			b.sql("DELETE FROM audit")
			b.sql("DELETE FROM audit_leaves")
		}, "checkpoint was signed over 10 leaves, the log has 0"},
		"the head was deleted": {func(b *base) { b.sql("DELETE FROM audit_heads") }, "10 leaves and no checkpoint"},
		"two rows were swapped": {func(b *base) {
			b.sql("UPDATE audit SET id = CASE id WHEN 't/3' THEN 'tmp' ELSE 't/3' END WHERE id IN ('t/3', 't/4')")
			b.sql("UPDATE audit SET id = 't/4' WHERE id = 'tmp'")
		}, "it was edited"},
		"two leaves were swapped with their hashes": {func(b *base) {
			b.sql("UPDATE audit_leaves SET position = -1 WHERE position = 3")
			b.sql("UPDATE audit_leaves SET position = 3 WHERE position = 4")
			b.sql("UPDATE audit_leaves SET position = 4 WHERE position = -1")
		}, "the checkpoint signed"},
		"a transition has no row": {func(b *base) {
			b.sql("INSERT INTO transitions VALUES ($1, 'p', 0, now(), '{}', '{}')", tenant)
		}, "transition of p to version 1 has no audit row"},
		"a row was forged, and the sequencer gave it a leaf": {func(b *base) {
			put(b, forge("forged", 'x', 0), "forged/0")
			b.sequence()
		}, "row signature does not match"},
		"a row was forged, with a right-looking leaf at the end": {func(b *base) {
			s := forge("forged", 'x', 0)
			leaf := s.Leaf()
			put(b, s, "forged/0")
			b.sql("INSERT INTO audit_leaves (tenant, log, position, month, id, hash) SELECT tenant, log, 10, month, 'forged/0', $1 FROM audit_leaves LIMIT 1", leaf[:])
		}, "row signature does not match"},
		"a row waits for its leaf for a moment": {func(b *base) { put(b, forge("new", 'k', 0), "new/0") }, ""},
		"a row has had no leaf for long":        {func(b *base) { put(b, forge("new", 'k', 2*audit.SequencingWindow), "new/0") }, "has had no leaf for"},
		"a forged row waits for its leaf":       {func(b *base) { put(b, forge("new", 'x', 0), "new/0") }, "row signature does not match"},
		"the checkpoint is an older one": {func(b *base) {
			old := ask[string](b, "SELECT checkpoint FROM audit_heads")
			b.record("more", 1, time.Time{})
			b.sequence()
			b.sql("UPDATE audit_heads SET checkpoint = $1", old)
		}, "checkpoint was signed over 10 leaves, the log has 11"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			b := newBase(t, 1)
			b.record("t", 10, time.Time{})
			require.Equal(t, 10, b.sequence())
			c.tamper(b)
			rep := b.verify()
			if c.found == "" {
				require.Equal(t, audit.Verified, rep.Verdict, "%+v", rep)
				return
			}
			require.Equal(t, audit.Tampered, rep.Verdict)
			require.Contains(t, fmt.Sprint(rep.Findings), c.found)
		})
	}
}

func TestAMonthsEndBeginsANewLog(t *testing.T) {
	b := newBase(t, 1)
	midnight := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	b.record("before", 2, midnight.Add(-time.Microsecond))
	b.record("after", 3, midnight)
	require.Equal(t, 5, b.sequence())
	require.Equal(t, []string{"acme/2026-02 2", "acme/2026-03 3"}, list(b, "SELECT log || ' ' || size FROM audit_heads ORDER BY 1"))
	rep := b.verify()
	require.Equal(t, audit.Verified, rep.Verdict, "%+v", rep)
	require.Equal(t, 2, rep.Logs)
}

func TestRowsWithoutALeafAreFoundAcrossTenants(t *testing.T) {
	b := newBase(t, 1)
	for _, name := range []string{"acme", "globex"} {
		require.NoError(t, b.store.Record(t.Context(), name, rows(name, "x", 1)))
	}
	waiting, err := b.store.Unsequenced(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"acme", "globex"}, waiting)
	b.sequence()
	waiting, err = b.store.Unsequenced(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"globex"}, waiting)
}

func TestRowsGoIntoThePartitionOfTheirMonth(t *testing.T) {
	b := newBase(t, 4)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { require.NoError(t, b.store.KeepPartitions(t.Context())) })
	}
	wg.Wait()
	require.Len(t, list(b, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit'::regclass"), 3, "this month, the next, and the rest")
	b.record("now", 2, time.Time{})
	b.record("long ago", 1, time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC))
	require.Equal(t, []string{"audit_" + time.Now().UTC().Format("2006_01") + " 2", "audit_default 1"},
		list(b, "SELECT tableoid::regclass || ' ' || count(*) FROM audit GROUP BY tableoid ORDER BY 1"))
	require.Zero(t, ask[int](b, "SELECT count(*)::int FROM pg_class c WHERE relispartition AND has_table_privilege('hotswap_app', c.oid, 'SELECT, INSERT, UPDATE, DELETE')"))
}
