package function_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/function"
)

func ready(context.Context) error { return nil }

func call(h http.Handler, method, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(""))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestMoreCallsThanTheBoundAreAskedToComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := function.Host("f", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }), ready, function.Limits{Concurrency: 2})
		for range 2 {
			go call(h, http.MethodPost, "/")
		}
		synctest.Wait()
		w := call(h, http.MethodPost, "/")
		require.Equal(t, http.StatusTooManyRequests, w.Code)
		require.Equal(t, "1", w.Header().Get("Retry-After"))
		require.Equal(t, http.StatusOK, call(h, http.MethodGet, "/_/health").Code, "a busy function is alive")
		require.Equal(t, http.StatusOK, call(h, http.MethodGet, "/_/ready").Code)
		close(release)
		synctest.Wait()
		require.Equal(t, http.StatusOK, call(h, http.MethodPost, "/").Code)
	})
}

func TestAPanicGivesItsPlaceBack(t *testing.T) {
	first := true
	h := function.Host("f", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if first {
			first = false
			panic("handler")
		}
	}), ready, function.Limits{Concurrency: 1})
	require.Panics(t, func() { call(h, http.MethodPost, "/") })
	require.Equal(t, http.StatusOK, call(h, http.MethodPost, "/").Code)
}

func TestEveryCallHasADeadline(t *testing.T) {
	for name, c := range map[string]struct{ set, want time.Duration }{"its own": {3 * time.Second, 3 * time.Second}, "the default": {0, 50 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := function.Host("f", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					<-r.Context().Done()
					require.ErrorIs(t, r.Context().Err(), context.DeadlineExceeded)
				}), ready, function.Limits{Deadline: c.set})
				start := time.Now()
				call(h, http.MethodPost, "/")
				require.Equal(t, c.want, time.Since(start))
			})
		})
	}
}

func TestTheCallersIdIsEchoedWhenItIsPlainAndElseANewOneIsMade(t *testing.T) {
	h := function.Host("f", http.NotFoundHandler(), ready, function.Limits{})
	require.Equal(t, "abc-123", call(h, http.MethodPost, "/", "X-Call-Id", "abc-123").Header().Get("X-Call-Id"))
	for _, id := range []string{"", "a b", "a\nb", "<script>", strings.Repeat("a", 65), "ä"} {
		made := call(h, http.MethodPost, "/", "X-Call-Id", id).Header().Get("X-Call-Id")
		require.NotEqual(t, id, made)
		require.Len(t, made, 32)
	}
}

func TestReadySaysWhetherTheFunctionCouldDoItsWorkAndHealthOnlyThatItLives(t *testing.T) {
	h := function.Host("f", http.NotFoundHandler(), func(context.Context) error { return errors.New("password of the database is wrong") }, function.Limits{})
	require.Equal(t, http.StatusOK, call(h, http.MethodGet, "/_/health").Code)
	w := call(h, http.MethodGet, "/_/ready")
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.NotContains(t, w.Body.String(), "password", "details are for the log")
	synctest.Test(t, func(t *testing.T) {
		h := function.Host("f", http.NotFoundHandler(), func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, function.Limits{})
		start := time.Now()
		require.Equal(t, http.StatusServiceUnavailable, call(h, http.MethodGet, "/_/ready").Code)
		require.Equal(t, 2*time.Second, time.Since(start))
	})
}

// A cut connection ends in the middle of a body.
type cut struct{}

func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestABodyIsReadUpToItsLimit(t *testing.T) {
	for name, c := range map[string]struct {
		body io.Reader
		want error
	}{
		"none": {http.NoBody, nil}, "at the limit": {strings.NewReader("12345678"), nil},
		"over it": {strings.NewReader("123456789"), function.ErrTooLarge}, "cut": {cut{}, function.ErrBody},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := function.Body(httptest.NewRequest(http.MethodPost, "/", c.body), 8)
			require.ErrorIs(t, err, c.want)
		})
	}
}
