package function_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/function"
)

func callKey(letter string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(letter, ed25519.SeedSize)))
}

func public(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

// A looked is a guarded function, and how often it looked.
type looked struct {
	http.Handler
	looks int
	seen  map[string]bool
	since time.Time
	err   error
}

func guarded(keys ...ed25519.PrivateKey) *looked {
	l := &looked{seen: map[string]bool{}}
	g := function.Looks{Keys: map[string]ed25519.PublicKey{}, Once: l.once}
	for _, k := range keys {
		g.Keys[function.CallKeyID(public(k))] = public(k)
	}
	l.Handler = g.Guard(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			l.looks++
		}
	}))
	return l
}

func (l *looked) once(_ context.Context, key, request string, since time.Time) (bool, error) {
	l.since = since
	if l.err != nil {
		return false, l.err
	}
	first := !l.seen[key+request]
	l.seen[key+request] = true
	return first, nil
}

// signedCall is a call that another function signs now.
func signedCall(t *testing.T, key ed25519.PrivateKey) *http.Request {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", http.NoBody)
	require.NoError(t, function.Sign(r, key, time.Now()))
	return r
}

func (l *looked) answer(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	l.ServeHTTP(w, r)
	return w
}

func TestACallOfAnotherFunctionIsTakenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		current, previous, foreign := callKey("c"), callKey("p"), callKey("f")
		l := guarded(current, previous)
		r := signedCall(t, current)
		require.Equal(t, 200, l.answer(r).Code)
		require.Equal(t, 401, l.answer(r).Code, "a copy of it is refused")
		require.Equal(t, 1, l.looks)
		require.Equal(t, time.Now().Add(-2*auth.RequestWindow), l.since, "so long a call must be remembered")
		require.Equal(t, 200, l.answer(signedCall(t, current)).Code)
		require.Equal(t, 200, l.answer(signedCall(t, previous)).Code, "while keys are rotated")
		require.Equal(t, 401, l.answer(signedCall(t, foreign)).Code)
		require.Equal(t, 3, l.looks)

		for name, spoil := range map[string]func(r *http.Request){
			"another path was signed":  func(r *http.Request) { r.URL.Path = "/other"; resign(t, r, current); r.URL.Path = "/" },
			"another query was signed": func(r *http.Request) { r.URL.RawQuery = "x=1" },
			"another method":           func(r *http.Request) { r.Method = http.MethodPut; resign(t, r, current); r.Method = http.MethodPost },
			"half a signature":         func(r *http.Request) { r.Header.Del(auth.HeaderTime) },
			"two signatures":           func(r *http.Request) { r.Header.Add(auth.HeaderSignature, r.Header.Get(auth.HeaderSignature)) },
			"a key that is none":       func(r *http.Request) { r.Header.Set(auth.HeaderKey, "other") },
		} {
			r := signedCall(t, current)
			spoil(r)
			w := l.answer(r)
			require.Equal(t, 401, w.Code, name)
			require.NotContains(t, w.Body.String(), "signature", name)
		}
		for _, away := range []time.Duration{auth.RequestWindow + time.Second, -auth.RequestWindow - time.Second} {
			r := httptest.NewRequest(http.MethodPost, "/", http.NoBody)
			require.NoError(t, function.Sign(r, current, time.Now().Add(away)))
			require.Equal(t, 401, l.answer(r).Code, "signed %s from now", away)
		}
		require.Equal(t, 3, l.looks)
	})
}

func resign(t *testing.T, r *http.Request, key ed25519.PrivateKey) {
	t.Helper()
	require.NoError(t, function.Sign(r, key, time.Now()))
}

func TestABodyIsRefusedWhoeverSignedIt(t *testing.T) {
	l := guarded(callKey("c"))
	require.Equal(t, 413, l.answer(httptest.NewRequest(http.MethodPost, "/", strings.NewReader("x"))).Code)
	r := signedCall(t, callKey("c"))
	r.Body = io.NopCloser(strings.NewReader("x"))
	require.Equal(t, 413, l.answer(r).Code)
	r.Body = io.NopCloser(cut{})
	require.Equal(t, 413, l.answer(r).Code)
	require.Zero(t, l.looks)
}

func TestAnEmptyCallThatNobodySignedIsTakenButNotMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := guarded(callKey("c"))
		cron := func() *httptest.ResponseRecorder {
			return l.answer(httptest.NewRequest(http.MethodPost, "/", http.NoBody))
		}
		for range 5 {
			require.Equal(t, 200, cron().Code)
		}
		w := cron()
		require.Equal(t, 429, w.Code)
		require.Equal(t, "1", w.Header().Get("Retry-After"))
		require.Equal(t, 200, l.answer(signedCall(t, callKey("c"))).Code, "those that are signed are not counted with them")
		time.Sleep(time.Second)
		require.Equal(t, 200, cron().Code)
		require.Equal(t, 429, cron().Code)
	})
}

func TestWhetherACallCameBeforeThatCannotBeToldIsTriedLater(t *testing.T) {
	l := guarded(callKey("c"))
	l.err = errors.New("password of the database is wrong")
	w := l.answer(signedCall(t, callKey("c")))
	require.Equal(t, 503, w.Code)
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	require.NotContains(t, w.Body.String(), "database")
	require.Zero(t, l.looks)
}

func TestOtherPathsAreTheFunctionsOwnToGuard(t *testing.T) {
	l := guarded(callKey("c"))
	for _, c := range []string{"GET /", "PUT /", "POST /v1/x", "POST //", "POST /."} {
		method, path, _ := strings.Cut(c, " ")
		r := httptest.NewRequest(method, "http://f/", strings.NewReader("body"))
		r.URL.Path = path
		require.Equal(t, 200, l.answer(r).Code, c)
	}
}

func TestAHintIsASignedEmptyCallThatTheOtherFunctionTakes(t *testing.T) {
	l := guarded(callKey("c"))
	var got []*http.Request
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r)
		http.StripPrefix("/async-function/advance", l).ServeHTTP(w, r)
	}))
	defer s.Close()
	for _, base := range []string{"/async-function/{function}", "/async-function/{function}/"} {
		c := function.Caller{URL: s.URL + base, Key: callKey("c"), Client: s.Client(), Now: time.Now}
		c.Hint(t.Context(), "advance")
	}
	require.Len(t, got, 2)
	for _, r := range got {
		require.Equal(t, "POST /async-function/advance/ 0 look", fmt.Sprint(r.Method, " ", r.URL.Path, " ", r.ContentLength, " ", r.Header.Get(function.HeaderHint)))
		require.Equal(t, strings.TrimPrefix(s.URL, "http://"), r.Host)
	}
	require.NotEqual(t, got[0].Header.Get(auth.HeaderRequest), got[1].Header.Get(auth.HeaderRequest), "each has an id of its own")
	require.Equal(t, 2, l.looks)
}

func TestAHintThatIsLostDisturbsNobodyAndTakesNoLongerThanItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, client := range map[string]*http.Client{
			"nobody answers":    {Transport: roundTrip(func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() })},
			"it is refused":     {Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("refused") })},
			"it is not taken":   {Transport: roundTrip(func(*http.Request) (*http.Response, error) { return httptest.NewRecorder().Result(), nil })},
			"the URL is no URL": http.DefaultClient,
		} {
			url := "http://f/{function}"
			if client == http.DefaultClient {
				url = "http://\x00{function}"
			}
			c := function.Caller{URL: url, Key: callKey("c"), Client: client, Now: time.Now}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			start := time.Now()
			c.Hint(ctx, "advance")
			require.LessOrEqual(t, time.Since(start), 50*time.Millisecond, name)
			cancel()
		}
	})
}

type roundTrip func(r *http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
