// Package audit defines the audit trail: rows, the tree that fixes their order,
// the checkpoints that sign it, and the verification of all three.
//
// A row is written, signed by its writer, in the transaction of the change that
// it describes, so a change without a row or a row without a change cannot
// exist. A sequencer later gives each row its place in an RFC 6962 Merkle tree
// of its tenant and month. The package is pure: no clock, no database.
package audit

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"hotswap.dev/hotswap/pkg/canonical"
)

// rowDomain separates a row's signature from everything else the key signs.
const rowDomain = "hotswap.dev/audit-row/v1\x00"

// Errors of a row that does not verify.
var (
	ErrSignature     = errors.New("row signature does not match")
	ErrUnknownWriter = errors.New("row was signed by an unknown writer")
)

// An ActorKind says what acted.
type ActorKind string

// The kinds of actors.
const (
	Person ActorKind = "person" // a human account
	Node   ActorKind = "node"   // a node agent, by its key
	System ActorKind = "system" // HotSwap itself, because a rule says so
)

// An Actor is who did what a row tells. Name is a login, a node's id, or the
// function that acted.
type Actor struct {
	Kind ActorKind `json:"kind"`
	Name string    `json:"name"`
}

// A Row is one line of the audit trail. It holds no personal data but the
// actor's name.
type Row struct {
	ID         string            `json:"id"` // unique per tenant, derived from what happened
	Tenant     string            `json:"tenant"`
	At         time.Time         `json:"at"` // database clock, UTC, microseconds
	Actor      Actor             `json:"actor"`
	Action     string            `json:"action"`  // noun.pastverb: "promotion.started"
	Subject    string            `json:"subject"` // what it was done to: "promotion shop-4/qa/promote-1"
	Reason     string            `json:"reason"`  // one sentence a person can read
	Promotion  string            `json:"promotion,omitempty"`
	Version    int64             `json:"version,omitempty"` // of the promotion after the transition; ≥ 1 with Promotion
	Attributes map[string]string `json:"attributes,omitempty"`
}

// Month returns the log that the row belongs to within its tenant, "2026-01".
func (r Row) Month() string { return r.At.UTC().Format("2006-01") }

// A Signed row is a row as it is stored. Header is the canonical JSON of the
// row, byte for byte as it was signed.
type Signed struct {
	Header    []byte
	Writer    string // id of the key
	Signature []byte
}

// Leaf returns the hash of the row's leaf: RFC 6962 §2.1 over header, writer
// and signature, separated by newlines (none of them contains one).
func (s Signed) Leaf() tlog.Hash {
	return tlog.RecordHash(fmt.Appendf(nil, "%s\n%s\n%s\n", s.Header, s.Writer, base64.StdEncoding.EncodeToString(s.Signature)))
}

// A Writer signs rows and checkpoints.
type Writer struct {
	id  string
	key ed25519.PrivateKey
}

// NewWriter returns a writer that signs with key. Its id is derived from the
// public key, so that it names the key and not a place.
func NewWriter(key ed25519.PrivateKey) *Writer {
	return &Writer{id: KeyID(key.Public().(ed25519.PublicKey)), key: key}
}

// ID returns the id of the writer's key.
func (w *Writer) ID() string { return w.id }

// Public returns the key that the writer's signatures verify with.
func (w *Writer) Public() ed25519.PublicKey { return w.key.Public().(ed25519.PublicKey) }

// KeyID returns the id of a public key: 16 hex digits of its SHA-256.
func KeyID(pub ed25519.PublicKey) string {
	sum := sha256.Sum256(pub)
	return hex.EncodeToString(sum[:8])
}

// Sign returns r as it is to be stored. It refuses a row without actor, action,
// subject or reason: a row that explains nothing is not a row.
func (w *Writer) Sign(r Row) (Signed, error) {
	if r.ID == "" || r.Tenant == "" || r.Actor.Name == "" || r.Action == "" || r.Subject == "" || r.Reason == "" || r.At.IsZero() {
		return Signed{}, fmt.Errorf("sign audit row %q: incomplete: %+v", r.ID, r)
	}
	r.At = r.At.UTC().Truncate(time.Microsecond)
	header, err := canonical.JSON(r)
	if err != nil {
		return Signed{}, fmt.Errorf("sign audit row %q: %w", r.ID, err)
	}
	return Signed{Header: header, Writer: w.id, Signature: ed25519.Sign(w.key, append([]byte(rowDomain), header...))}, nil
}

// Keys are the public keys of the writers that are trusted, by key id.
type Keys map[string]ed25519.PublicKey

// Check reports whether s carries a valid signature of a trusted writer:
// [ErrUnknownWriter], [ErrSignature] or nil.
func (k Keys) Check(s Signed) error {
	pub, ok := k[s.Writer]
	if !ok {
		return fmt.Errorf("%w: %s", ErrUnknownWriter, s.Writer)
	}
	if !ed25519.Verify(pub, append([]byte(rowDomain), s.Header...), s.Signature) {
		return ErrSignature
	}
	return nil
}

// ParseKeys reads trusted keys from text: one base64 Ed25519 public key a line,
// empty lines and lines that start with # are skipped.
func ParseKeys(text string) (Keys, error) {
	keys := Keys{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		pub, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(pub) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("audit keys: line %d is not the base64 of an Ed25519 public key", i+1)
		}
		keys[KeyID(pub)] = pub
	}
	return keys, nil
}
