// Package secret holds the one type that a password, key or token has in memory: a value that every usual way of
// printing shows as "[redacted]". It is not encryption, and it does not wipe memory.
package secret

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
)

// redacted stands wherever a secret would have been printed.
const redacted = "[redacted]"

// Secret is a password, key or token. The zero value is the empty secret. It cannot be compared with == (use
// [Secret.Equal], which takes constant time) and cannot be read from JSON or YAML by accident.
type Secret struct {
	// value is a function because fmt prints the unexported fields of other structs by reflection, past every method
	// of ours: of a function there is only an address to see. It also keeps == from compiling.
	value func() []byte
}

// New takes a copy of value.
func New(value []byte) Secret {
	kept := append([]byte(nil), value...)
	return Secret{value: func() []byte { return kept }}
}

// Reveal returns a copy of the bytes. Every call is a place where the secret leaves the type: keep them few.
func (s Secret) Reveal() []byte {
	return append([]byte(nil), s.bytes()...)
}

// RevealString is [Secret.Reveal] as a string.
func (s Secret) RevealString() string {
	return string(s.bytes())
}

// IsZero reports whether there is nothing in it.
func (s Secret) IsZero() bool {
	return len(s.bytes()) == 0
}

func (s Secret) bytes() []byte {
	if s.value == nil {
		return nil
	}
	return s.value()
}

// Equal compares in a time that depends on the lengths only. Two empty secrets are not equal: an unset password must
// never match an empty one that was sent.
func (s Secret) Equal(other Secret) bool {
	if s.IsZero() {
		return false
	}
	return subtle.ConstantTimeCompare(s.bytes(), other.bytes()) == 1
}

// String implements [fmt.Stringer].
func (Secret) String() string { return redacted }

// GoString implements [fmt.GoStringer].
func (Secret) GoString() string { return redacted }

// Format implements [fmt.Formatter], so that %x, %d and the like cannot reach the bytes either.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalJSON implements [encoding/json.Marshaler].
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText implements [encoding.TextMarshaler], which YAML, XML and flags use.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements [slog.LogValuer].
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
