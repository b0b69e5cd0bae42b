package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"hotswap.dev/hotswap/pkg/audit"
)

// TokenLife is the longest that a bearer token may live.
const TokenLife = 15 * time.Minute

// tokenAudience is what our bearer tokens are for, tokenIssuer who makes them.
const (
	tokenAudience = "hotswap-api"
	tokenIssuer   = "hotswap"
	maxToken      = 4096 // bytes
)

// ErrToken reports a bearer token that proves nothing. Its text says nothing about why,
// so that nobody learns from it.
var ErrToken = errors.New("no valid bearer token")

// Tokens makes and proves bearer tokens: JSON Web Tokens signed with Ed25519, whose keys
// come from here only, by their id, and never from what a token says of itself.
type Tokens struct {
	current  ed25519.PrivateKey
	previous ed25519.PublicKey // of a rotation that is under way; nil: none
	now      func() time.Time
}

// NewTokens returns tokens that are signed by current. Those that previous signed, which
// may be nil, are still proven.
func NewTokens(current ed25519.PrivateKey, previous ed25519.PublicKey, now func() time.Time) *Tokens {
	return &Tokens{current: current, previous: previous, now: now}
}

// claims are what a token says.
type claims struct {
	jwt.RegisteredClaims
	Tenant string          `json:"tenant"`
	Role   Role            `json:"role"`
	Kind   audit.ActorKind `json:"kind"`
}

// Issue returns a token that proves p for a time, at most [TokenLife].
func (t *Tokens) Issue(p Principal, life time.Duration) (string, error) {
	switch {
	case life <= 0 || life > TokenLife:
		return "", fmt.Errorf("a token lives for at most %s, not %s", TokenLife, life)
	case p.Actor.Name == "" || p.Tenant == "" || p.Role != Admin && p.Role != Deployer && p.Role != Viewer:
		return "", errors.New("a token is of a person in a tenant, as admin, deployer or viewer")
	}
	now := t.now()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: tokenIssuer, Audience: jwt.ClaimStrings{tokenAudience}, Subject: p.Actor.Name, ID: newID(),
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(life)),
		},
		Tenant: p.Tenant, Role: p.Role, Kind: p.Actor.Kind,
	})
	public, _ := t.current.Public().(ed25519.PublicKey)
	token.Header["kid"] = tokenKeyID(public)
	return token.SignedString(t.current)
}

// Verify returns whom a token proves, or [ErrToken].
func (t *Tokens) Verify(text string) (Principal, error) {
	if len(text) > maxToken {
		return Principal{}, ErrToken
	}
	var c claims
	_, err := jwt.ParseWithClaims(text, &c, t.key,
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
		jwt.WithStrictDecoding(), jwt.WithIssuer(tokenIssuer), jwt.WithAudience(tokenAudience), jwt.WithTimeFunc(t.now))
	p := Principal{Actor: audit.Actor{Kind: c.Kind, Name: c.Subject}, Tenant: c.Tenant, Role: c.Role}
	switch {
	case err != nil, p.Actor.Name == "", p.Tenant == "", c.Kind != audit.Person, c.IssuedAt == nil,
		c.ExpiresAt.Sub(c.IssuedAt.Time) > TokenLife:
		return Principal{}, ErrToken
	}
	return p, nil
}

// key finds the key that a token says it is signed by, among ours.
func (t *Tokens) key(token *jwt.Token) (any, error) {
	kid, _ := token.Header["kid"].(string)
	current, _ := t.current.Public().(ed25519.PublicKey)
	switch {
	case kid == tokenKeyID(current):
		return current, nil
	case t.previous != nil && kid == tokenKeyID(t.previous):
		return t.previous, nil
	default:
		return nil, ErrToken
	}
}

// tokenKeyID names a key: the first 8 bytes of its SHA-256, in hex.
func tokenKeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// Bearer returns whom the Authorization header of a request proves, or [ErrToken].
func (t *Tokens) Bearer(r *http.Request) (Principal, error) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return Principal{}, ErrToken
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return Principal{}, ErrToken
	}
	return t.Verify(strings.TrimSpace(token))
}

// principalKey is where a request's context has its principal.
type principalKey struct{}

// WithPrincipal returns a context of somebody who was authenticated.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalOf returns who was authenticated; the zero principal when nobody was.
func PrincipalOf(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}
