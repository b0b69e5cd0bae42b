package audit

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 123456000, time.UTC)

func testWriter(seed byte) *Writer {
	return NewWriter(ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), ed25519.SeedSize))))
}

func row(n int) Row {
	return Row{
		ID: fmt.Sprintf("shop-1/qa/promote-1/%d", n), Tenant: "shop", At: noon, Actor: Actor{System, "advance"},
		Action: "promotion.started", Subject: "promotion shop-1/qa/promote-1", Reason: "the slot is free",
		Promotion: "shop-1/qa/promote-1", Version: int64(n),
	}
}

// A trail is what a database would hold: leaves, a checkpoint and transitions.
type trail struct {
	keys       Keys
	leaves     []Leaf
	checkpoint string
	versions   []int64
}

func newTrail(t *testing.T, rows int) *trail {
	t.Helper()
	w := testWriter('a')
	tr := &trail{keys: Keys{w.ID(): w.Public()}}
	var tree Tree
	for i := range rows {
		s, err := w.Sign(row(i + 1))
		require.NoError(t, err)
		tr.leaves = append(tr.leaves, Leaf{Log: "shop/2026-01", Position: int64(i), Hash: s.Leaf(), Row: &s})
		tr.versions = append(tr.versions, int64(i+1))
		tree = tree.Append(s.Leaf())
	}
	var err error
	tr.checkpoint, err = w.SignCheckpoint(Checkpoint{Log: "shop/2026-01", Size: tree.Size, Root: tree.Root()})
	require.NoError(t, err)
	return tr
}

func (tr *trail) verify() Report {
	v := NewVerifier("shop", tr.keys)
	for _, l := range tr.leaves {
		v.Leaf(l)
	}
	if tr.checkpoint != "" {
		v.Checkpoint("shop/2026-01", tr.checkpoint)
	}
	for _, n := range tr.versions {
		v.Transition("shop-1/qa/promote-1", n)
	}
	return v.Report()
}

func TestVerify(t *testing.T) {
	resign := func(tr *trail, i int, w *Writer, edit func(*Row)) {
		r := row(i + 1)
		edit(&r)
		s, err := w.Sign(r)
		if err != nil {
			panic(err)
		}
		tr.leaves[i].Row = &s
	}
	tests := map[string]struct {
		edit func(tr *trail)
		want Verdict
		says string
	}{
		"an untouched trail verifies": {func(*trail) {}, Verified, ""},
		"an edited header is found": {func(tr *trail) {
			tr.leaves[3].Row.Header = []byte(strings.Replace(string(tr.leaves[3].Row.Header), "free", "mine", 1))
		}, Tampered, "it was edited"},
		"a row signed again by the same writer is found by its leaf": {func(tr *trail) {
			resign(tr, 3, testWriter('a'), func(r *Row) { r.Reason = "another reason" })
		}, Tampered, "it was edited"},
		"a row and leaf forged with another key are found": {func(tr *trail) {
			resign(tr, 3, testWriter('b'), func(*Row) {})
			tr.leaves[3].Hash = tr.leaves[3].Row.Leaf()
		}, Tampered, "unknown writer"},
		"a removed row is found":           {func(tr *trail) { tr.leaves[2].Row = nil }, Tampered, "row was removed"},
		"a leaf missing inside is found":   {func(tr *trail) { tr.leaves = append(tr.leaves[:2], tr.leaves[3:]...) }, Tampered, "a leaf is missing"},
		"a log cut at its end is found":    {func(tr *trail) { tr.leaves = tr.leaves[:4] }, Tampered, "has 4"},
		"two rows that changed places":     {func(tr *trail) { tr.leaves[1].Row, tr.leaves[2].Row = tr.leaves[2].Row, tr.leaves[1].Row }, Tampered, "it was edited"},
		"a log without checkpoint":         {func(tr *trail) { tr.checkpoint = "" }, Tampered, "no checkpoint"},
		"a checkpoint of somebody else":    {func(tr *trail) { tr.checkpoint = newForeignCheckpoint() }, Tampered, "checkpoint does not verify"},
		"a transition without row":         {func(tr *trail) { tr.versions = append(tr.versions, 9) }, Tampered, "has no audit row"},
		"a row without transition":         {func(tr *trail) { tr.versions = tr.versions[1:] }, Tampered, "no such transition"},
		"an empty trail is not a verified": {func(tr *trail) { *tr = trail{keys: tr.keys} }, Undecided, ""},
		"a row in another tenant's log":    {func(tr *trail) { tr.leaves[0].Log = "other/2026-01" }, Tampered, "wrong log"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tr := newTrail(t, 5)
			tt.edit(tr)
			got := tr.verify()
			require.Equal(t, tt.want, got.Verdict, "%+v", got)
			if tt.says == "" {
				require.Empty(t, got.Findings)
				return
			}
			require.Contains(t, fmt.Sprint(got.Findings), tt.says)
		})
	}
}

func newForeignCheckpoint() string {
	s, err := testWriter('b').SignCheckpoint(Checkpoint{Log: "shop/2026-01", Size: 5})
	if err != nil {
		panic(err)
	}
	return s
}

func TestTreeAgreesWithTheLibrary(t *testing.T) {
	var tree Tree
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(idx []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range idx {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for n := range int64(130) {
		data := fmt.Appendf(nil, "leaf %d", n)
		hashes, err := tlog.StoredHashes(n, data, reader)
		require.NoError(t, err)
		stored = append(stored, hashes...)
		tree = tree.Append(tlog.RecordHash(data))
		want, err := tlog.TreeHash(n+1, reader)
		require.NoError(t, err)
		require.Equal(t, want, tree.Root(), "size %d", n+1)
		again, err := TreeFrom(tree.Size, tree.EdgeBytes())
		require.NoError(t, err)
		require.Equal(t, tree, again)
	}
}

func TestIncompleteRowIsNotSigned(t *testing.T) {
	r := row(1)
	r.Reason = ""
	_, err := testWriter('a').Sign(r)
	require.ErrorContains(t, err, "incomplete")
}

func TestKeysFile(t *testing.T) {
	w := testWriter('a')
	keys, err := ParseKeys("# the installation's key\n\n" + base64.StdEncoding.EncodeToString(w.Public()) + "\n")
	require.NoError(t, err)
	require.Equal(t, Keys{w.ID(): w.Public()}, keys)
	_, err = ParseKeys("AAAA\n")
	require.ErrorContains(t, err, "line 1")
}

func FuzzOpenCheckpoint(f *testing.F) {
	w := testWriter('a')
	good, err := w.SignCheckpoint(Checkpoint{Log: "shop/2026-01", Size: 3})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(origin + "x\n1\nAAAA\n")
	keys := Keys{w.ID(): w.Public()}
	f.Fuzz(func(t *testing.T, signed string) {
		c, err := keys.OpenCheckpoint(signed)
		if err == nil && (c.Size != 3 || c.Log != "shop/2026-01") {
			t.Fatalf("a forged checkpoint opened: %+v", c)
		}
		_, _ = parseCheckpoint(signed)
	})
}

func TestARowMayWaitForItsLeafForAMoment(t *testing.T) {
	verify := func(age time.Duration, row *Signed) Report {
		tr := newTrail(t, 5)
		v := NewVerifier("shop", tr.keys)
		for _, l := range tr.leaves {
			v.Leaf(l)
		}
		v.Checkpoint("shop/2026-01", tr.checkpoint)
		v.Loose(*row, age)
		for n := range int64(6) {
			v.Transition("shop-1/qa/promote-1", n+1)
		}
		return v.Report()
	}
	good, err := testWriter('a').Sign(row(6))
	require.NoError(t, err)
	got := verify(time.Second, &good)
	require.Equal(t, Verified, got.Verdict, "%+v", got)
	require.Equal(t, int64(1), got.Pending)
	require.Equal(t, int64(5), got.Rows)

	got = verify(2*SequencingWindow, &good)
	require.Equal(t, Tampered, got.Verdict)
	require.Contains(t, got.Findings[0].What, "has had no leaf for 2m0s")

	forged, err := testWriter('b').Sign(row(6))
	require.NoError(t, err)
	require.Equal(t, Tampered, verify(time.Second, &forged).Verdict)
}
