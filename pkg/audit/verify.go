package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"hotswap.dev/hotswap/pkg/canonical"
)

// A Verdict is what a verification came to. Its values are exit codes.
type Verdict int

// The verdicts.
const (
	Verified  Verdict = 0 // everything that was claimed could be recomputed
	Tampered  Verdict = 1 // something does not agree with something that was signed
	Undecided Verdict = 2 // nothing to verify, no key, or the evidence could not be read
)

func (v Verdict) String() string {
	switch v {
	case Verified:
		return "verified"
	case Tampered:
		return "tampered"
	default:
		return "undecided"
	}
}

// A Leaf is one leaf of a log with its row, as the database holds them.
type Leaf struct {
	Log      string
	Position int64 // from 0
	Hash     tlog.Hash
	Row      *Signed // nil: the row is gone
}

// A Finding is one thing that does not agree.
type Finding struct {
	Log  string `json:"log,omitempty"`
	What string `json:"what"`
}

// A Report is the result of a verification.
type Report struct {
	Verdict     Verdict   `json:"-"`
	Result      string    `json:"result"`
	Rows        int64     `json:"rows"`    // rows whose signature, leaf and place were verified
	Pending     int64     `json:"pending"` // rows with a valid signature that wait for their leaf, see SequencingWindow
	Logs        int       `json:"logs"`
	Transitions int64     `json:"transitions"` // transitions that were matched with their rows
	Findings    []Finding `json:"findings,omitempty"`
	Dropped     int       `json:"findingsNotShown,omitempty"`
}

// maxFindings bounds a report: after so many, the next adds nothing but memory.
const maxFindings = 100

// SequencingWindow is how long a row may be without its leaf. Rows get theirs
// within a second of their commit; within the window their removal would not be
// found by the tree, only by the transition that they witness.
const SequencingWindow = time.Minute

// A Verifier recomputes one tenant's logs from their leaves. Feed it every leaf
// in order of (log, position), then every checkpoint, then ask [Verifier.Report].
// It needs memory for one tree edge per log and one entry per witnessed transition.
type Verifier struct {
	keys      Keys
	tenant    string
	trees     map[string]Tree
	next      map[string]int64 // position that must follow
	signed    map[string]bool  // logs that have a checkpoint
	witnessed map[witness]bool
	report    Report
}

// A witness names a transition: a promotion and its version after it.
type witness struct {
	promotion string
	version   int64
}

// NewVerifier returns a verifier of a tenant's logs that trusts keys.
func NewVerifier(tenant string, keys Keys) *Verifier {
	return &Verifier{keys: keys, tenant: tenant, trees: map[string]Tree{}, next: map[string]int64{}, signed: map[string]bool{}, witnessed: map[witness]bool{}}
}

// Find adds a finding: the trail is not what was signed.
func (v *Verifier) Find(log, format string, args ...any) {
	v.report.Verdict = Tampered
	if len(v.report.Findings) == maxFindings {
		v.report.Dropped++
		return
	}
	v.report.Findings = append(v.report.Findings, Finding{Log: log, What: fmt.Sprintf(format, args...)})
}

// Leaf checks one leaf: its row, the row's signature, its hash and its place.
func (v *Verifier) Leaf(l Leaf) {
	if want := v.next[l.Log]; l.Position != want {
		v.Find(l.Log, "leaf %d stands where leaf %d belongs: a leaf is missing", l.Position, want)
	}
	v.next[l.Log] = l.Position + 1 // each gap is one finding
	v.trees[l.Log] = v.trees[l.Log].Append(l.Hash)
	if l.Row == nil {
		v.Find(l.Log, "leaf %d has no row: the row was removed", l.Position)
		return
	}
	if l.Row.Leaf() != l.Hash {
		v.Find(l.Log, "row at leaf %d is not the row that was sequenced: it was edited", l.Position)
		return
	}
	if err := v.keys.Check(*l.Row); err != nil {
		v.Find(l.Log, "row at leaf %d: %v", l.Position, err)
		return
	}
	if r, ok := v.row(l.Log, fmt.Sprintf("leaf %d", l.Position), *l.Row); ok {
		v.witness(r)
		v.report.Rows++
	}
}

// Loose checks a row that has no leaf yet. Age is the time since it was written.
func (v *Verifier) Loose(row Signed, age time.Duration) {
	if err := v.keys.Check(row); err != nil {
		v.Find("", "row without leaf: %v", err)
		return
	}
	r, ok := v.row("", "row without leaf", row)
	if !ok {
		return
	}
	v.witness(r)
	v.report.Pending++
	if age > SequencingWindow {
		v.Find("", "row %s has had no leaf for %s", r.ID, age.Round(time.Second))
	}
}

// witness remembers the transition that a row witnesses.
func (v *Verifier) witness(r Row) {
	if r.Promotion != "" {
		v.witnessed[witness{r.Promotion, r.Version}] = true
	}
}

// row reads a header and checks what it says about itself. Log is empty for a
// row that has no place yet.
func (v *Verifier) row(log, where string, s Signed) (r Row, ok bool) {
	dec := json.NewDecoder(bytes.NewReader(s.Header))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		v.Find(log, "%s: row cannot be read: %v", where, err)
		return r, false
	}
	if again, err := canonical.JSON(r); err != nil || !bytes.Equal(again, s.Header) {
		v.Find(log, "%s: row is not canonical", where)
		return r, false
	}
	if r.Tenant != v.tenant || log != "" && LogName(r.Tenant, r.Month()) != log {
		v.Find(log, "%s: row %s of %s stands in the wrong log", where, r.ID, LogName(r.Tenant, r.Month()))
		return r, false
	}
	return r, true
}

// Checkpoint checks the newest signed checkpoint of a log against its leaves.
func (v *Verifier) Checkpoint(log, signed string) {
	c, err := v.keys.OpenCheckpoint(signed)
	if err != nil {
		v.Find(log, "%v", err)
		return
	}
	t := v.trees[log]
	v.signed[log] = true
	switch {
	case c.Log != log:
		v.Find(log, "checkpoint is of %s", c.Log)
	case c.Size != t.Size:
		v.Find(log, "checkpoint was signed over %d leaves, the log has %d", c.Size, t.Size)
	case c.Root != t.Root():
		v.Find(log, "root over %d leaves is %s, the checkpoint signed %s", t.Size, t.Root(), c.Root)
	}
}

// Transition checks that the transition which led to version has its row.
func (v *Verifier) Transition(promotion string, version int64) {
	w := witness{promotion, version}
	if !v.witnessed[w] {
		v.Find("", "transition of %s to version %d has no audit row", promotion, version)
		return
	}
	delete(v.witnessed, w)
	v.report.Transitions++
}

// Report ends the verification, after all leaves, checkpoints and transitions.
// It is never Verified when there was nothing to verify.
func (v *Verifier) Report() Report {
	for w := range v.witnessed {
		v.Find("", "audit row says %s came to version %d, and there is no such transition", w.promotion, w.version)
	}
	for log, t := range v.trees {
		if !v.signed[log] {
			v.Find(log, "%d leaves and no checkpoint", t.Size)
		}
	}
	r := v.report
	r.Logs = len(v.trees)
	if r.Verdict == Verified && (r.Rows == 0 || len(v.keys) == 0) {
		r.Verdict = Undecided
	}
	r.Result = r.Verdict.String()
	return r
}

// Month returns the month part of a log's name.
func Month(log string) string { return log[strings.LastIndexByte(log, '/')+1:] }
