package auth_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/auth"
)

func keyOf(c string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(c, ed25519.SeedSize)))
}

func publicOf(c string) ed25519.PublicKey { return keyOf(c).Public().(ed25519.PublicKey) }

func tokensAt(now time.Time, key string, previous ed25519.PublicKey) *auth.Tokens {
	return auth.NewTokens(keyOf(key), previous, func() time.Time { return now })
}

var annAsDeployer = auth.Principal{Actor: audit.Actor{Kind: audit.Person, Name: "ann"}, Tenant: "acme", Role: auth.Deployer}

func TestATokenProvesWhomItWasMadeForUntilItEnds(t *testing.T) {
	text, err := tokensAt(signedAt, "a", nil).Issue(annAsDeployer, 10*time.Minute)
	require.NoError(t, err)
	for _, c := range []struct {
		name   string
		tokens *auth.Tokens
		ok     bool
	}{
		{"at once", tokensAt(signedAt, "a", nil), true},
		{"shortly before its end", tokensAt(signedAt.Add(10*time.Minute-time.Second), "a", nil), true},
		{"at its end", tokensAt(signedAt.Add(10*time.Minute), "a", nil), false},
		{"before it was made", tokensAt(signedAt.Add(-time.Minute), "a", nil), false},
		{"while keys are rotated", tokensAt(signedAt, "b", publicOf("a")), true},
		{"after keys were rotated", tokensAt(signedAt, "b", publicOf("c")), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := c.tokens.Verify(text)
			if !c.ok {
				require.ErrorIs(t, err, auth.ErrToken)
				require.Zero(t, p)
				return
			}
			require.NoError(t, err)
			require.Equal(t, annAsDeployer, p)
		})
	}
}

func TestATokenIsShortAndOfSomebody(t *testing.T) {
	tokens := tokensAt(signedAt, "a", nil)
	for _, c := range []struct {
		p    auth.Principal
		life time.Duration
	}{
		{annAsDeployer, 0},
		{annAsDeployer, auth.TokenLife + time.Second},
		{auth.Principal{Tenant: "acme", Role: auth.Admin}, time.Minute},
		{auth.Principal{Actor: annAsDeployer.Actor, Role: auth.Admin}, time.Minute},
		{auth.Principal{Actor: annAsDeployer.Actor, Tenant: "acme", Role: auth.Node}, time.Minute},
		{auth.Principal{Actor: annAsDeployer.Actor, Tenant: "acme"}, time.Minute},
	} {
		_, err := tokens.Issue(c.p, c.life)
		require.Error(t, err, "%+v for %s", c.p, c.life)
	}
}

// TestForgedTokensProveNothing flips each property of a token that is proven.
func TestForgedTokensProveNothing(t *testing.T) {
	tokens := tokensAt(signedAt, "a", nil)
	good, err := tokens.Issue(annAsDeployer, time.Minute)
	require.NoError(t, err)
	header := func() map[string]any { return part(t, good, 0) }
	body := func() map[string]any { return part(t, good, 1) }
	sign := func(method jwt.SigningMethod, key any, h, c map[string]any) string {
		token := jwt.NewWithClaims(method, jwt.MapClaims(c))
		for k, v := range h {
			token.Header[k] = v
		}
		token.Header["alg"] = method.Alg()
		text, err := token.SignedString(key)
		require.NoError(t, err)
		return text
	}
	control := sign(jwt.SigningMethodEdDSA, keyOf("a"), header(), body())
	p, err := tokens.Verify(control)
	require.NoError(t, err, "the control passes")
	require.Equal(t, annAsDeployer, p)

	claim := func(key string, value any) string {
		c := body()
		if c[key] = value; value == nil {
			delete(c, key)
		}
		return sign(jwt.SigningMethodEdDSA, keyOf("a"), header(), c)
	}
	kid := func(value any) string {
		h := header()
		h["kid"] = value
		return sign(jwt.SigningMethodEdDSA, keyOf("a"), h, body())
	}
	for name, text := range map[string]string{
		"signed with the public key as an HMAC secret": sign(jwt.SigningMethodHS256, []byte(publicOf("a")), header(), body()),
		"not signed": sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, header(), body()),
		"signed by another key under our key's id": sign(jwt.SigningMethodEdDSA, keyOf("b"), header(), body()),
		"of a key that nobody knows":               kid("0000000000000000"),
		"of a key whose id is no text":             kid(7),
		"without an end":                           claim("exp", nil),
		"with an end far away":                     claim("exp", signedAt.Add(24*time.Hour).Unix()),
		"made in the future":                       claim("iat", signedAt.Add(time.Hour).Unix()),
		"that does not say when it was made":       claim("iat", nil),
		"of another issuer":                        claim("iss", "elsewhere"),
		"without an issuer":                        claim("iss", nil),
		"for another audience":                     claim("aud", "another-api"),
		"without an audience":                      claim("aud", nil),
		"of nobody":                                claim("sub", ""),
		"of no tenant":                             claim("tenant", nil),
		"of the system itself":                     claim("kind", "system"),
		"with a byte of its signature changed":     changed(good),
		"spelled with other padding bits":          padded(good),
		"with a part missing":                      good[:strings.LastIndexByte(good, '.')],
		"that is empty":                            "",
		"that is huge":                             good + strings.Repeat("A", 5000),
	} {
		t.Run(name, func(t *testing.T) {
			p, err := tokens.Verify(text)
			require.ErrorIs(t, err, auth.ErrToken)
			require.Zero(t, p)
		})
	}
}

// changed is the token with another letter in the middle of its signature: there every bit of a letter counts.
func changed(token string) string {
	i := len(token) - 20
	letter := byte('A')
	if token[i] == letter {
		letter = 'B'
	}
	return token[:i] + string(letter) + token[i+1:]
}

// padded is the token with the lowest bit of its last letter turned: a signature of 64 bytes ends in four bits that
// mean nothing, and whoever reads them leniently takes sixteen spellings for one token.
func padded(token string) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := len(token) - 1
	return token[:last] + string(letters[strings.IndexByte(letters, token[last])^1])
}

func part(t *testing.T, token string, i int) map[string]any {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[i])
	require.NoError(t, err)
	var out map[string]any
	require.NoError(t, json.Unmarshal(raw, &out))
	for _, key := range []string{"iat", "exp", "nbf"} {
		if f, ok := out[key].(float64); ok {
			out[key] = int64(f)
		}
	}
	return out
}

func TestABearerTokenStandsInOneHeader(t *testing.T) {
	tokens := tokensAt(signedAt, "a", nil)
	good, err := tokens.Issue(annAsDeployer, time.Minute)
	require.NoError(t, err)
	for _, c := range []struct {
		headers []string
		ok      bool
	}{
		{[]string{"Bearer " + good}, true},
		{[]string{"bearer " + good}, true},
		{nil, false},
		{[]string{good}, false},
		{[]string{"Basic " + good}, false},
		{[]string{"Bearer " + good, "Bearer " + good}, false},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		for _, h := range c.headers {
			r.Header.Add("Authorization", h)
		}
		_, err := tokens.Bearer(r)
		require.Equal(t, c.ok, err == nil, c.headers)
	}
}

func FuzzTokens(f *testing.F) {
	tokens := tokensAt(signedAt, "a", nil)
	good, _ := tokens.Issue(annAsDeployer, time.Minute)
	f.Add(good)
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := tokens.Verify(text)
		if err == nil && p != annAsDeployer {
			t.Fatalf("%q proves %+v", text, p)
		}
	})
}
