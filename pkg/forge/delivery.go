// Package forge speaks with Git forges: [Forge] is what we ask of one, and its adapters are folders beside this file.
//
// It also receives their webhooks (GitHub's, Gitea's and the embedded forge's): it proves that a delivery is authentic
// before it looks at what it says. A webhook only wakes: what it claims is read again from the forge.
package forge

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"

	"hotswap.dev/hotswap/pkg/secret"
)

const (
	// MaxBody is the largest body that is kept, in bytes.
	MaxBody = 5 << 20
	// maxStream is the largest body that is read at all, to see whether it is authentic: GitHub's own limit.
	maxStream = 25 << 20
)

// Errors of [ReadDelivery] that a caller decides on.
var (
	// ErrNoKey: there is nothing to prove a delivery with; nothing may be accepted (500, and do not start).
	ErrNoKey = errors.New("no webhook secret is set")
	// ErrNotAuthentic: no signature, or a wrong one (401).
	ErrNotAuthentic = errors.New("the delivery is not authentic")
	// ErrTooLarge: too large even to be read to its end (413).
	ErrTooLarge = errors.New("the delivery is too large")
)

// Keys are the secrets that sign deliveries. Previous is the empty secret unless a rotation is under way.
type Keys struct {
	Current, Previous secret.Secret
}

// Source is the kind of forge that a delivery came from.
type Source string

// The sources. The embedded forge sends what Gitea sends.
const (
	GitHub  Source = "github"
	Gitea   Source = "gitea"
	Unknown Source = "unknown"
)

// Delivery is one authentic webhook. Its body is proven; forges do not sign headers, so ID and Event are claims.
type Delivery struct {
	Source    Source
	ID        string            // the forge's id of it; "digest-…" when it gave none
	Event     string            // for example "push"
	Headers   map[string]string // those worth keeping, each cut to 200 bytes; never a signature
	Body      []byte            // nil when Truncated
	Digest    string            // "sha256:" and 64 hexadecimal digits, of the whole body
	Truncated bool              // the body was authentic but larger than MaxBody
}

// keptHeaders are those that help somebody who looks into a delivery later.
func keptHeaders() []string {
	return []string{
		"Content-Type", "User-Agent", "X-GitHub-Event", "X-GitHub-Delivery", "X-GitHub-Hook-ID",
		"X-Gitea-Event", "X-Gitea-Event-Type", "X-Gitea-Delivery",
	}
}

var (
	plainID    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`) })
	plainEvent = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z_]{1,60}$`) })
)

// ReadDelivery reads the request's body and proves it by its HMAC-SHA-256 (X-Hub-Signature-256, or Gitea's own
// header) over the raw bytes, in constant time, before anything of it is parsed. An authentic delivery is never
// refused for what it says.
func ReadDelivery(r *http.Request, keys Keys) (Delivery, error) {
	if keys.Current.IsZero() {
		return Delivery{}, fmt.Errorf("read delivery: %w", ErrNoKey)
	}
	claimed, err := signature(r.Header)
	if err != nil {
		return Delivery{}, fmt.Errorf("read delivery: %w", err)
	}
	body, sums, err := readBody(r, keys)
	if err != nil {
		return Delivery{}, fmt.Errorf("read delivery: %w", err)
	}
	if !sums.prove(claimed) {
		return Delivery{}, fmt.Errorf("read delivery: %w: wrong signature", ErrNotAuthentic)
	}
	return describe(r.Header, body, hex.EncodeToString(sums.digest.Sum(nil))), nil
}

// signature finds what the sender claims. Two values of one header are an attempt to confuse somebody.
func signature(h http.Header) ([]byte, error) {
	name, prefix := "X-Hub-Signature-256", "sha256="
	if len(h.Values(name)) == 0 {
		name, prefix = "X-Gitea-Signature", ""
	}
	values := h.Values(name)
	if len(values) != 1 {
		return nil, fmt.Errorf("%w: %d signatures", ErrNotAuthentic, len(values))
	}
	digits, ok := strings.CutPrefix(values[0], prefix)
	claimed, err := hex.DecodeString(digits)
	if !ok || err != nil || len(claimed) != sha256.Size {
		return nil, fmt.Errorf("%w: the signature is not an HMAC-SHA-256", ErrNotAuthentic)
	}
	return claimed, nil
}

// sums are computed while the body streams by.
type sums struct {
	digest hash.Hash
	macs   []hash.Hash // one for each key
}

func (s sums) prove(claimed []byte) bool {
	proven := false
	for _, m := range s.macs {
		proven = hmac.Equal(m.Sum(nil), claimed) || proven // every key is always compared
	}
	return proven
}

// readBody returns the body, or nil when it is larger than MaxBody.
func readBody(r *http.Request, keys Keys) ([]byte, sums, error) {
	s := sums{digest: sha256.New(), macs: []hash.Hash{hmac.New(sha256.New, keys.Current.Reveal())}}
	if !keys.Previous.IsZero() {
		s.macs = append(s.macs, hmac.New(sha256.New, keys.Previous.Reveal()))
	}
	if r.ContentLength > maxStream {
		return nil, s, ErrTooLarge
	}
	if r.Body == nil {
		return []byte{}, s, nil
	}
	into := []io.Writer{s.digest}
	for _, m := range s.macs {
		into = append(into, m)
	}
	stream := io.TeeReader(io.LimitReader(r.Body, maxStream+1), io.MultiWriter(into...))
	body, err := io.ReadAll(io.LimitReader(stream, MaxBody+1))
	if err != nil {
		return nil, s, fmt.Errorf("body: %w", err)
	}
	if len(body) <= MaxBody {
		return body, s, nil
	}
	rest, err := io.Copy(io.Discard, stream)
	if err != nil {
		return nil, s, fmt.Errorf("body: %w", err)
	}
	if int64(len(body))+rest > maxStream {
		return nil, s, ErrTooLarge
	}
	return nil, s, nil
}

func describe(h http.Header, body []byte, digest string) Delivery {
	d := Delivery{Source: Unknown, Headers: map[string]string{}, Body: body, Digest: "sha256:" + digest, Truncated: body == nil}
	prefix := "X-GitHub-"
	switch {
	case h.Get("X-Gitea-Event") != "": // Gitea sends GitHub's headers too
		d.Source, prefix = Gitea, "X-Gitea-"
	case h.Get("X-GitHub-Event") != "":
		d.Source = GitHub
	}
	if d.ID = h.Get(prefix + "Delivery"); !plainID().MatchString(d.ID) {
		d.ID = "digest-" + digest
	}
	if d.Event = h.Get(prefix + "Event"); !plainEvent().MatchString(d.Event) {
		d.Event = "unknown"
	}
	for _, name := range keptHeaders() {
		if value := h.Get(name); value != "" {
			d.Headers[name] = cut(value)
		}
	}
	return d
}

// cut makes a header fit to be kept: valid text of at most 200 bytes.
func cut(s string) string {
	if len(s) > 200 {
		s = s[:200]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, ""), "\x00", "")
}

// SignDelivery sets the headers that the embedded forge sends with a body: Gitea's, with a new random id, and
// X-Hub-Signature-256.
func SignDelivery(h http.Header, event string, body []byte, key secret.Secret) error {
	if key.IsZero() {
		return fmt.Errorf("sign delivery: %w", ErrNoKey)
	}
	m := hmac.New(sha256.New, key.Reveal())
	m.Write(body)
	h.Set("Content-Type", "application/json")
	h.Set("X-Gitea-Event", event)
	h.Set("X-Gitea-Delivery", rand.Text())
	h.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(m.Sum(nil)))
	return nil
}
