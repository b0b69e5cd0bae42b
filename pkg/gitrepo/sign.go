package gitrepo

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// signatureNamespace is what Git signs commits in.
const signatureNamespace = "git"

// SSHSigner returns a function that signs a commit with an Ed25519 key in the form
// that `git verify-commit` checks (OpenSSH's PROTOCOL.sshsig). The same payload has
// the same signature.
func SSHSigner(key ed25519.PrivateKey) (func(payload []byte) (string, error), error) {
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, fmt.Errorf("commit signer: %w", err)
	}
	return func(payload []byte) (string, error) {
		digest := sha512.Sum512(payload)
		signed := append([]byte("SSHSIG"), ssh.Marshal(struct{ Namespace, Reserved, Hash, Digest string }{signatureNamespace, "", "sha512", string(digest[:])})...)
		sig, err := signer.Sign(rand.Reader, signed)
		if err != nil {
			return "", fmt.Errorf("sign commit: %w", err)
		}
		blob := append([]byte("SSHSIG"), ssh.Marshal(struct {
			Version                                         uint32
			Key, Namespace, Reserved, HashAlgorithm, Signed string
		}{1, string(signer.PublicKey().Marshal()), signatureNamespace, "", "sha512", string(ssh.Marshal(sig))})...)
		return armor(blob), nil
	}, nil
}

// armor wraps a signature as PROTOCOL.sshsig says: 70 characters a line.
func armor(blob []byte) string {
	var b strings.Builder
	b.WriteString("-----BEGIN SSH SIGNATURE-----\n")
	for text := base64.StdEncoding.EncodeToString(blob); text != ""; {
		n := min(70, len(text))
		b.WriteString(text[:n] + "\n")
		text = text[n:]
	}
	b.WriteString("-----END SSH SIGNATURE-----\n")
	return b.String()
}

// AllowedSigners is the line of a gpg.ssh.allowedSignersFile for a key.
func AllowedSigners(email string, key ed25519.PublicKey) (string, error) {
	pub, err := ssh.NewPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("allowed signers: %w", err)
	}
	return email + ` namespaces="` + signatureNamespace + `" ` + string(ssh.MarshalAuthorizedKey(pub)), nil
}
