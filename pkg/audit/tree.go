package audit

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A Tree is the right edge of an RFC 6962 Merkle tree: what is needed to append
// a leaf and to know the root, and nothing else. Its zero value is the empty tree.
//
// Edge holds the roots of the perfect subtrees that make up the tree, largest
// first: one for every bit set in Size.
type Tree struct {
	Size int64
	Edge []tlog.Hash
}

// Append adds a leaf. The receiver is not shared with the result.
func (t Tree) Append(leaf tlog.Hash) Tree {
	edge := append(slices.Clone(t.Edge), leaf)
	for n := t.Size; n&1 == 1; n >>= 1 { // two perfect trees of one size make the next
		last := len(edge) - 1
		edge[last-1] = tlog.NodeHash(edge[last-1], edge[last])
		edge = edge[:last]
	}
	return Tree{Size: t.Size + 1, Edge: edge}
}

// Root returns the tree's root hash. The root of the empty tree is the zero
// hash, as sumdb/tlog has it.
func (t Tree) Root() tlog.Hash {
	if len(t.Edge) == 0 {
		return tlog.Hash{}
	}
	root := t.Edge[len(t.Edge)-1]
	for i := len(t.Edge) - 2; i >= 0; i-- {
		root = tlog.NodeHash(t.Edge[i], root)
	}
	return root
}

// EdgeBytes returns Edge as bytes, 32 for each hash.
func (t Tree) EdgeBytes() []byte {
	var b []byte
	for _, h := range t.Edge {
		b = append(b, h[:]...)
	}
	return b
}

// TreeFrom is the inverse of [Tree.EdgeBytes]. It returns an error when edge
// cannot belong to a tree of that size.
func TreeFrom(size int64, edge []byte) (Tree, error) {
	bits := 0
	for n := size; n > 0; n >>= 1 {
		bits += int(n & 1)
	}
	if size < 0 || len(edge) != bits*tlog.HashSize {
		return Tree{}, fmt.Errorf("audit tree of size %d cannot have an edge of %d bytes", size, len(edge))
	}
	t := Tree{Size: size}
	for h := range slices.Chunk(edge, tlog.HashSize) {
		t.Edge = append(t.Edge, tlog.Hash(h))
	}
	return t, nil
}

// A Checkpoint says how far a log has come: after Size leaves its root is Root.
type Checkpoint struct {
	Log  string // "tenant/2026-01"
	Size int64
	Root tlog.Hash
}

// LogName returns the name of the log of a tenant and month.
func LogName(tenant, month string) string { return tenant + "/" + month }

// origin is the first line of a checkpoint, before the log's name.
const origin = "hotswap.dev/audit/"

// noteName is the key name in checkpoints' signature lines.
const noteName = "hotswap.dev/audit"

// ErrCheckpoint reports a checkpoint whose signature or form does not hold.
var ErrCheckpoint = errors.New("checkpoint does not verify")

// SignCheckpoint returns c as a signed note (golang.org/x/mod/sumdb/note):
// origin, size and base64 root on a line each.
func (w *Writer) SignCheckpoint(c Checkpoint) (string, error) {
	signer, err := newNoteSigner(w)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("%s%s\n%d\n%s\n", origin, c.Log, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		return "", fmt.Errorf("sign checkpoint of %s: %w", c.Log, err)
	}
	return string(signed), nil
}

// OpenCheckpoint verifies a signed checkpoint against the trusted keys.
func (k Keys) OpenCheckpoint(signed string) (Checkpoint, error) {
	var verifiers []note.Verifier
	for _, pub := range k {
		v, err := noteVerifier(pub)
		if err != nil {
			return Checkpoint{}, err
		}
		verifiers = append(verifiers, v)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(verifiers...))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	return parseCheckpoint(n.Text)
}

func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], origin) {
		return Checkpoint{}, fmt.Errorf("%w: not an audit checkpoint", ErrCheckpoint)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 {
		return Checkpoint{}, fmt.Errorf("%w: bad size %q", ErrCheckpoint, lines[1])
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return Checkpoint{}, fmt.Errorf("%w: bad root", ErrCheckpoint)
	}
	return Checkpoint{Log: strings.TrimPrefix(lines[0], origin), Size: size, Root: tlog.Hash(bytes.Clone(root))}, nil
}
