package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/platform"
)

func TestTheKeyOfCallsIsRotatedWithoutARestart(t *testing.T) {
	dir, err := platform.OpenDataDir(t.TempDir() + "/data")
	require.NoError(t, err)
	s := &server{dir: dir}
	call := func() *http.Request {
		var made *http.Request
		h := signed(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { made = r }), s.callKeys)
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", nil))
		return made
	}
	before := call()
	require.NoError(t, verifyCall(before, s.callKeys))
	old, err := os.ReadFile(dir.Path("secrets", "function-call"))
	require.NoError(t, err)
	require.NoError(t, dir.WriteFile("secrets/function-call.previous", old))
	require.NoError(t, dir.WriteFile("secrets/function-call", []byte(hex.EncodeToString(bytes.Repeat([]byte("n"), ed25519.SeedSize)))))
	require.NoError(t, verifyCall(before, s.callKeys), "while it is rotated the former key holds")
	after := call()
	require.NotEqual(t, before.Header.Get("HotSwap-Key"), after.Header.Get("HotSwap-Key"))
	require.NoError(t, verifyCall(after, s.callKeys))
	require.NoError(t, os.Remove(dir.Path("secrets", "function-call.previous")))
	require.Error(t, verifyCall(before, s.callKeys))
	require.NoError(t, verifyCall(call(), s.callKeys))
}

func TestWhatAFunctionOfAUserWritesPassesForNoLineOfOurs(t *testing.T) {
	var out, log bytes.Buffer
	former := slog.Default()
	defer slog.SetDefault(former)
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	logLine(&out, "advance", `{"msg":"ours"}`)
	logLine(&out, "theirs", "\x1b[31m level=ERROR msg=\"audit is gone\"")
	require.Equal(t, "{\"msg\":\"ours\"}\n", out.String())
	require.NotContains(t, log.String(), "\x1b")
	require.Equal(t, 1, strings.Count(log.String(), "\n"))
	require.Contains(t, log.String(), "name=theirs")
}

func TestFunctionsGetNothingOfOurEnvironmentThatTheyDoNotNeed(t *testing.T) {
	got := inherited([]string{"PATH=/bin", "https_proxy=http://p", "AWS_SECRET_ACCESS_KEY=x", "PGPASSWORD=x", "HOTSWAP_DATA=x", "LD_PRELOAD=x", "PATHX=1", "TZ="})
	require.Equal(t, []string{"PATH=/bin", "https_proxy=http://p", "TZ="}, got)
}
