package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func answer(o options, started time.Time, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	handler(o, started).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func TestTheSampleTellsItsVersionAndItsHealth(t *testing.T) {
	now := time.Now()
	w := answer(options{}, now, "/")
	require.Equal(t, http.StatusOK, w.Code)
	require.JSONEq(t, `{"module":"checkout","version":"dev","total":24561}`, w.Body.String())
	require.Equal(t, "dev", w.Header().Get("HotSwap-Version"))
	require.Equal(t, http.StatusOK, answer(options{}, now, "/healthz").Code)
	require.Equal(t, http.StatusNotFound, answer(options{}, now, "/other").Code)
	require.Equal(t, http.StatusServiceUnavailable, answer(options{neverHealthy: true}, now, "/healthz").Code)
	require.Equal(t, http.StatusServiceUnavailable, answer(options{readyAfter: time.Hour}, now, "/healthz").Code)
	require.Equal(t, http.StatusOK, answer(options{readyAfter: time.Minute}, now.Add(-time.Hour), "/healthz").Code)
}
