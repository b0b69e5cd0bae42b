package auth

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of a signed request.
const (
	HeaderKey       = "HotSwap-Key"       // id of the signing key
	HeaderRequest   = "HotSwap-Request"   // id of the request, unique for the key
	HeaderTime      = "HotSwap-Time"      // Unix seconds, the signer's clock
	HeaderSignature = "HotSwap-Signature" // base64 of the Ed25519 signature
)

// RequestWindow is how far the signer's clock may be from the verifier's. A
// verifier that must not act twice remembers request ids for twice this long.
const RequestWindow = 5 * time.Minute

// Why a signed request is refused. All of them mean 401 to the caller.
var (
	ErrRequestUnsigned  = errors.New("request is not signed")
	ErrRequestMalformed = errors.New("request signature headers are malformed")
	ErrRequestTime      = errors.New("request time is outside the window")
	ErrRequestKey       = errors.New("request key is unknown")
	ErrRequestSignature = errors.New("request signature is wrong")
)

// requestDomain keeps a request's signature from being passed off as any other.
const requestDomain = "hotswap.dev/request/v1"

// A RequestSignature is what the headers of a signed request say. Nothing in it
// is proven until [VerifyRequest] has returned nil.
type RequestSignature struct {
	Key       string    // 1 to 128 of A-Z a-z 0-9 . _ -
	Request   string    // the same alphabet
	Time      time.Time // whole seconds, UTC
	Signature []byte    // ed25519.SignatureSize bytes
}

// SignRequest sets the four headers of r. The signature covers the key id, the
// request id, the time in seconds, the method, the escaped path with its query
// and SHA-256 of body, which must be the bytes that are sent.
//
// The path is the one below the service's base URL: a client whose base URL has
// a prefix signs before it adds the prefix, and a host that mounts a service
// under a prefix strips it (http.StripPrefix) before [VerifyRequest].
func SignRequest(r *http.Request, body []byte, keyID string, key ed25519.PrivateKey, id string, now time.Time) error {
	s := RequestSignature{Key: keyID, Request: id, Time: now.Truncate(time.Second).UTC()}
	if !plainID(keyID) || !plainID(id) {
		return fmt.Errorf("sign request: %w: key or request id", ErrRequestMalformed)
	}
	r.Header.Set(HeaderKey, keyID)
	r.Header.Set(HeaderRequest, id)
	r.Header.Set(HeaderTime, strconv.FormatInt(s.Time.Unix(), 10))
	r.Header.Set(HeaderSignature, base64.StdEncoding.EncodeToString(ed25519.Sign(key, s.statement(r, body))))
	return nil
}

// VerifyRequest returns nil if r with body was signed, within [RequestWindow]
// of now, by the key that lookup returns for the key id. It returns the sentinel
// errors of this file, and lookup's own error where lookup cannot tell (which is
// not a refusal: answer 503). An unknown key is lookup's [ErrRequestKey] or nil key.
func VerifyRequest(r *http.Request, body []byte, lookup func(keyID string) (ed25519.PublicKey, error), now time.Time) error {
	s, err := ParseRequest(r.Header)
	if err != nil {
		return err
	}
	if d := now.Sub(s.Time); d > RequestWindow || d < -RequestWindow {
		return fmt.Errorf("%w: %s away", ErrRequestTime, d.Round(time.Second))
	}
	key, err := lookup(s.Key)
	if err != nil {
		return fmt.Errorf("look up request key: %w", err)
	}
	if len(key) != ed25519.PublicKeySize {
		return ErrRequestKey
	}
	if !ed25519.Verify(key, s.statement(r, body), s.Signature) {
		return ErrRequestSignature
	}
	return nil
}

// ParseRequest reads the headers of a signed request. It returns
// [ErrRequestUnsigned] if there are none and [ErrRequestMalformed] if one is
// missing, repeated or not of its form.
func ParseRequest(h http.Header) (RequestSignature, error) {
	var got [4]string
	names := [4]string{HeaderKey, HeaderRequest, HeaderTime, HeaderSignature}
	missing := 0
	for i, name := range names {
		switch v := h.Values(name); len(v) {
		case 0:
			missing++
		case 1:
			got[i] = v[0]
		default:
			return RequestSignature{}, fmt.Errorf("%w: %s is there more than once", ErrRequestMalformed, name)
		}
	}
	if missing == len(names) {
		return RequestSignature{}, ErrRequestUnsigned
	}
	seconds, timeErr := strconv.ParseInt(got[2], 10, 64)
	signature, signatureErr := base64.StdEncoding.Strict().DecodeString(got[3])
	switch {
	case !plainID(got[0]):
		return RequestSignature{}, fmt.Errorf("%w: %s", ErrRequestMalformed, HeaderKey)
	case !plainID(got[1]):
		return RequestSignature{}, fmt.Errorf("%w: %s", ErrRequestMalformed, HeaderRequest)
	case timeErr != nil, strconv.FormatInt(seconds, 10) != got[2], seconds < 0, seconds > 1<<40:
		return RequestSignature{}, fmt.Errorf("%w: %s", ErrRequestMalformed, HeaderTime)
	case signatureErr != nil, len(signature) != ed25519.SignatureSize, strings.ContainsAny(got[3], "\r\n"):
		return RequestSignature{}, fmt.Errorf("%w: %s", ErrRequestMalformed, HeaderSignature)
	}
	return RequestSignature{Key: got[0], Request: got[1], Time: time.Unix(seconds, 0).UTC(), Signature: signature}, nil
}

// statement returns the signed bytes: one field a line. No field can hold a
// line feed, so two different requests never have the same statement.
func (s RequestSignature) statement(r *http.Request, body []byte) []byte {
	sum := sha256.Sum256(body)
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	return []byte(strings.Join([]string{
		requestDomain, s.Key, s.Request, strconv.FormatInt(s.Time.Unix(), 10),
		method, r.URL.RequestURI(), hex.EncodeToString(sum[:]),
	}, "\n"))
}

func plainID(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-", rune(c)) {
			return false
		}
	}
	return true
}
