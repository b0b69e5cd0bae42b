package auth_test

import (
	"crypto/ed25519"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/auth"
)

var signedAt = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func signedRequest(t *testing.T) (*http.Request, []byte, ed25519.PublicKey) {
	t.Helper()
	key := ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", ed25519.SeedSize)))
	body := []byte(`{"known":[]}`)
	r := httptest.NewRequest(http.MethodPost, "/v1/nodes/self/wanted?x=1", nil)
	require.NoError(t, auth.SignRequest(r, body, "node-1", key, "r-1", signedAt))
	return r, body, key.Public().(ed25519.PublicKey)
}

func TestASignedRequestIsAcceptedOnlyAsItWasSigned(t *testing.T) {
	otherKey := ed25519.NewKeyFromSeed([]byte(strings.Repeat("o", ed25519.SeedSize))).Public().(ed25519.PublicKey)
	unreachable := errors.New("database is away")
	cases := map[string]struct {
		change func(r *http.Request)
		body   string
		key    ed25519.PublicKey
		lookup error
		now    time.Time
		want   error
	}{
		"unchanged":                          {},
		"five minutes later":                 {now: signedAt.Add(auth.RequestWindow)},
		"five minutes earlier":               {now: signedAt.Add(-auth.RequestWindow)},
		"more than five minutes later":       {now: signedAt.Add(auth.RequestWindow + time.Second), want: auth.ErrRequestTime},
		"from more than five minutes ahead":  {now: signedAt.Add(-auth.RequestWindow - time.Second), want: auth.ErrRequestTime},
		"another body":                       {body: `{"known":[1]}`, want: auth.ErrRequestSignature},
		"another method":                     {change: func(r *http.Request) { r.Method = http.MethodPut }, want: auth.ErrRequestSignature},
		"another path":                       {change: func(r *http.Request) { r.URL.Path = "/v1/nodes/self/report" }, want: auth.ErrRequestSignature},
		"another query":                      {change: func(r *http.Request) { r.URL.RawQuery = "x=2" }, want: auth.ErrRequestSignature},
		"another request id":                 {change: func(r *http.Request) { r.Header.Set(auth.HeaderRequest, "r-2") }, want: auth.ErrRequestSignature},
		"another key id":                     {change: func(r *http.Request) { r.Header.Set(auth.HeaderKey, "node-2") }, want: auth.ErrRequestSignature},
		"a time moved within the window":     {change: func(r *http.Request) { r.Header.Set(auth.HeaderTime, "1772600768") }, want: auth.ErrRequestSignature},
		"the key of somebody else":           {key: otherKey, want: auth.ErrRequestSignature},
		"a key nobody knows":                 {key: ed25519.PublicKey{}, want: auth.ErrRequestKey},
		"keys that cannot be looked up":      {lookup: unreachable, want: unreachable},
		"no headers at all":                  {change: func(r *http.Request) { r.Header = http.Header{} }, want: auth.ErrRequestUnsigned},
		"no signature":                       {change: func(r *http.Request) { r.Header.Del(auth.HeaderSignature) }, want: auth.ErrRequestMalformed},
		"a short signature":                  {change: func(r *http.Request) { r.Header.Set(auth.HeaderSignature, "AAAA") }, want: auth.ErrRequestMalformed},
		"two keys":                           {change: func(r *http.Request) { r.Header.Add(auth.HeaderKey, "node-2") }, want: auth.ErrRequestMalformed},
		"a line feed in the key id":          {change: func(r *http.Request) { r.Header.Set(auth.HeaderKey, "node-1\nx") }, want: auth.ErrRequestMalformed},
		"a time that is not a number":        {change: func(r *http.Request) { r.Header.Set(auth.HeaderTime, "now") }, want: auth.ErrRequestMalformed},
		"a time written in a second fashion": {change: func(r *http.Request) { r.Header.Set(auth.HeaderTime, "+1772600767") }, want: auth.ErrRequestMalformed},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r, body, key := signedRequest(t)
			if c.change != nil {
				c.change(r)
			}
			if c.body != "" {
				body = []byte(c.body)
			}
			if c.key != nil {
				key = c.key
			}
			if c.now.IsZero() {
				c.now = signedAt
			}
			err := auth.VerifyRequest(r, body, func(string) (ed25519.PublicKey, error) { return key, c.lookup }, c.now)
			require.ErrorIs(t, err, c.want)
		})
	}
}

func TestAnIDThatCouldForgeALineIsNotSigned(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	for _, id := range []string{"", "a\nb", "a b", strings.Repeat("a", 129)} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		require.ErrorIs(t, auth.SignRequest(r, nil, "k", key, id, signedAt), auth.ErrRequestMalformed)
		require.ErrorIs(t, auth.SignRequest(r, nil, id, key, "i", signedAt), auth.ErrRequestMalformed)
		require.Empty(t, r.Header)
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add("node-1", "r-1", "1772600767", strings.Repeat("A", 86)+"==")
	f.Add("", "", "-1", "=")
	f.Fuzz(func(t *testing.T, key, id, at, signature string) {
		h := http.Header{}
		h.Set(auth.HeaderKey, key)
		h.Set(auth.HeaderRequest, id)
		h.Set(auth.HeaderTime, at)
		h.Set(auth.HeaderSignature, signature)
		s, err := auth.ParseRequest(h)
		if err != nil {
			require.ErrorIs(t, err, auth.ErrRequestMalformed)
			return
		}
		require.Equal(t, key, s.Key)
		require.Equal(t, id, s.Request)
		require.Len(t, s.Signature, ed25519.SignatureSize)
		require.NotContains(t, s.Key+s.Request, "\n")
	})
}

func signingKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", ed25519.SeedSize)))
}
