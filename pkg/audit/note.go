package audit

import (
	"crypto/ed25519"
	"fmt"

	"golang.org/x/mod/sumdb/note"
)

// A noteSigner signs notes with a writer's key: the library makes and reads its
// own key files only, and the installation has one audit key, not two.
type noteSigner struct {
	hash uint32
	key  ed25519.PrivateKey
}

func newNoteSigner(w *Writer) (noteSigner, error) {
	v, err := noteVerifier(w.Public())
	if err != nil {
		return noteSigner{}, err
	}
	return noteSigner{hash: v.KeyHash(), key: w.key}, nil
}

func (s noteSigner) Name() string                    { return noteName }
func (s noteSigner) KeyHash() uint32                 { return s.hash }
func (s noteSigner) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.key, msg), nil }

func noteVerifier(pub ed25519.PublicKey) (note.Verifier, error) {
	text, err := note.NewEd25519VerifierKey(noteName, pub)
	if err != nil {
		return nil, fmt.Errorf("checkpoint key: %w", err)
	}
	v, err := note.NewVerifier(text)
	if err != nil {
		return nil, fmt.Errorf("checkpoint key: %w", err)
	}
	return v, nil
}
