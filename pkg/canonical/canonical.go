// Package canonical turns values into the one sequence of bytes that stands for
// them, and those bytes into digests.
//
// The bytes are RFC 8785 (JSON Canonicalization Scheme). A digest is taken over
// a domain prefix and those bytes, so that the digest of one kind of thing can
// never be passed off as the digest of another.
package canonical

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/gowebpki/jcs"
)

// JSON returns the RFC 8785 bytes of v, which is encoded with encoding/json
// first. Every number is a double there: integers beyond 2^53 are rounded, so
// identifiers and nanoseconds since 1970 belong into strings.
func JSON(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	out, err := jcs.Transform(raw)
	if err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	return out, nil
}

// Digest returns "sha256:" and the lower-case hex of
// SHA-256(domain || 0x00 || JSON(v)). Domains read "hotswap.dev/release/v1".
func Digest(domain string, v any) (string, error) {
	b, err := JSON(v)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	h.Write([]byte(domain))
	h.Write([]byte{0})
	h.Write(b)
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}
