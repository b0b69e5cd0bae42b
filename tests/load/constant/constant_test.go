package constant

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEveryKindOfFailureIsCountedAndVersionsAreTold(t *testing.T) {
	var asked, kept atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !r.Close {
			kept.Add(1)
		}
		w.Header().Set(VersionHeader, "1.5.0")
		switch n := asked.Add(1); {
		case n == 10:
			w.WriteHeader(http.StatusBadGateway)
		case n == 20: // breaks off
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write([]byte("x"))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case n == 100:
			cancel()
		}
	}))
	defer server.Close()
	progress := filepath.Join(t.TempDir(), "progress")
	r, err := Run(ctx, Options{URLs: []string{server.URL}, Workers: 4, Progress: progress})
	require.NoError(t, err)
	require.GreaterOrEqual(t, r.Requests, int64(100))
	require.Equal(t, asked.Load(), r.Requests)
	require.Equal(t, int64(2), r.Failed)
	require.NotEmpty(t, r.FirstError)
	require.Equal(t, map[string]int64{"1.5.0": r.Requests - 2}, r.Versions)
	require.Positive(t, kept.Load())
	require.Less(t, kept.Load(), asked.Load(), "some connections are kept, some are not")

	text, err := os.ReadFile(progress)
	require.NoError(t, err)
	var last Result
	require.NoError(t, json.Unmarshal(text, &last))
	require.Equal(t, r, last)
}

// Go's client quietly asks again when a connection that it kept is closed under a
// request. A program without that kindness would have seen a failure.
func TestAConnectionThatIsClosedUnderARequestIsAFailureAlsoIfTheClientAsksAgain(t *testing.T) {
	var asked atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		switch asked.Add(1) {
		case 3:
			panic(http.ErrAbortHandler) // before a byte of the answer
		case 10:
			cancel()
		}
	}))
	defer server.Close()
	r, err := Run(ctx, Options{URLs: []string{server.URL}, Workers: 1})
	require.NoError(t, err)
	require.Equal(t, int64(1), r.Failed)
	require.Contains(t, r.FirstError, "closed under the request")
}

func TestTheRateIsKept(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	r, err := Run(ctx, Options{URLs: []string{server.URL}, Workers: 4, Rate: 100})
	require.NoError(t, err)
	require.Zero(t, r.Failed, r.FirstError)
	require.LessOrEqual(t, r.Requests, int64(55))
	require.GreaterOrEqual(t, r.Requests, int64(10))
}

func TestLoadNeedsAURL(t *testing.T) {
	_, err := Run(t.Context(), Options{})
	require.ErrorIs(t, err, ErrOptions)
}
