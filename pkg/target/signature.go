package target

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"hotswap.dev/hotswap/pkg/canonical"
)

// Why a module's signature is refused.
var (
	ErrUnsigned  = errors.New("module is not signed")
	ErrSignature = errors.New("module signature is not from a trusted key")
	ErrKeyFormat = errors.New("not an Ed25519 key in PEM")
)

const (
	signaturePrefix = "ed25519:"
	signatureDomain = "hotswap.dev/module-signature/v1"
	privateBlock    = "PRIVATE KEY" // PKCS #8, RFC 5958; what openssl genpkey writes
	publicBlock     = "PUBLIC KEY"  // PKIX, RFC 5280; what openssl pkey -pubout writes
)

// SignModule returns "ed25519:" and the base64 of the signature of m's name,
// version and digest, the only fields that it looks at.
func SignModule(m Module, key ed25519.PrivateKey) (string, error) {
	statement, err := moduleStatement(m)
	if err != nil {
		return "", fmt.Errorf("sign module: %w", err)
	}
	return signaturePrefix + base64.StdEncoding.EncodeToString(ed25519.Sign(key, statement)), nil
}

// VerifyModule returns nil if m.Signature is a signature of m's name, version
// and digest by one of the trusted keys; [ErrUnsigned] if there is none, and
// [ErrSignature] otherwise. It says nothing about any bytes: compare their digest.
func VerifyModule(m Module, trusted []ed25519.PublicKey) error {
	if m.Signature == "" {
		return ErrUnsigned
	}
	encoded, ok := strings.CutPrefix(m.Signature, signaturePrefix)
	if !ok {
		return fmt.Errorf("%w: it does not begin with %q", ErrSignature, signaturePrefix)
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(signature) != ed25519.SignatureSize || strings.ContainsAny(encoded, "\r\n") {
		return fmt.Errorf("%w: it is not the base64 of %d bytes", ErrSignature, ed25519.SignatureSize)
	}
	statement, err := moduleStatement(m)
	if err != nil {
		return fmt.Errorf("verify module: %w", err)
	}
	for _, key := range trusted {
		if len(key) == ed25519.PublicKeySize && ed25519.Verify(key, statement, signature) {
			return nil
		}
	}
	return ErrSignature
}

// moduleStatement is domain || 0x00 || RFC 8785 JSON of (digest, name, version).
func moduleStatement(m Module) ([]byte, error) {
	body, err := canonical.JSON(struct {
		Name    string `json:"name"`
		Version string `json:"version"`
		Digest  string `json:"digest"`
	}{m.Name, m.Version, m.Digest})
	if err != nil {
		return nil, err
	}
	return append([]byte(signatureDomain+"\x00"), body...), nil
}

// MarshalPrivateKey returns the PEM of key. Keep it in a file of mode 0600.
func MarshalPrivateKey(key ed25519.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("marshal private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: der}), nil
}

// MarshalPublicKey returns the PEM of key. A file of trusted keys is any number
// of these, one after the other; text around them is ignored.
func MarshalPublicKey(key ed25519.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("marshal public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: publicBlock, Bytes: der}), nil
}

// ParsePrivateKey reads what [MarshalPrivateKey] wrote, or returns [ErrKeyFormat].
// The error never holds any of the text.
func ParsePrivateKey(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != privateBlock {
		return nil, fmt.Errorf("%w: want a %q block", ErrKeyFormat, privateBlock)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, ErrKeyFormat
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: it is a %T", ErrKeyFormat, parsed)
	}
	return key, nil
}

// ParsePublicKeys reads one or more blocks of [MarshalPublicKey], or returns
// [ErrKeyFormat], also if there is none: an empty list trusts nobody, and is
// nearly always a mistake.
func ParsePublicKeys(text []byte) ([]ed25519.PublicKey, error) {
	var keys []ed25519.PublicKey
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil || block.Type != publicBlock {
			return nil, fmt.Errorf("%w: block %d is not a %q", ErrKeyFormat, len(keys)+1, publicBlock)
		}
		key, ok := parsed.(ed25519.PublicKey)
		if !ok {
			return nil, fmt.Errorf("%w: block %d is a %T", ErrKeyFormat, len(keys)+1, parsed)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: want a %q block", ErrKeyFormat, publicBlock)
	}
	return keys, nil
}
