package node

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/target"
)

func digestOfBytes(b []byte) string {
	h := sha256.New()
	h.Write(b)
	return digestOf(h)
}

const artifactText = "the bytes of an artifact"

// fetchTest fetches into a file and returns what is there afterwards.
func fetchTest(t *testing.T, files string, limits Limits, m target.Module) (string, error) {
	t.Helper()
	to, err := os.Create(filepath.Join(t.TempDir(), "artifact"))
	require.NoError(t, err)
	defer to.Close()
	err = newFetcher(files, limits.withDefaults()).fetch(t.Context(), m, to)
	got, readErr := os.ReadFile(to.Name())
	require.NoError(t, readErr)
	return string(got), err
}

func requireReason(t *testing.T, err error, want target.Reason, says string) {
	t.Helper()
	var f *failure
	require.ErrorAs(t, err, &f)
	require.Equal(t, want, f.Reason, f.Detail)
	require.Contains(t, f.Detail, says)
}

func TestFetchingByFileStaysBelowItsFolder(t *testing.T) {
	top := t.TempDir()
	files := filepath.Join(top, "files")
	require.NoError(t, os.MkdirAll(filepath.Join(files, "sub"), 0o755))
	write := func(path string) { require.NoError(t, os.WriteFile(path, []byte(artifactText), 0o644)) }
	write(filepath.Join(files, "sub", "a"))
	write(filepath.Join(top, "secret"))
	require.NoError(t, os.Symlink(filepath.Join(top, "secret"), filepath.Join(files, "out")))
	require.NoError(t, os.Symlink("sub/a", filepath.Join(files, "in")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(files, "pipe"), 0o644))
	m := target.Module{Digest: digestOfBytes([]byte(artifactText))}
	for name, c := range map[string]struct{ folder, url, says string }{
		"a file below":             {files, "file://" + files + "/sub/a", ""},
		"the host localhost":       {files, "file://localhost" + files + "/sub/a", ""},
		"a link that stays below":  {files, "file://" + files + "/in", ""},
		"no folder is allowed":     {"", "file://" + files + "/sub/a", "does not fetch by file"},
		"a file beside":            {files, "file://" + top + "/secret", "not below the folder"},
		"dots that lead out":       {files, "file://" + files + "/../secret", "not below the folder"},
		"escaped dots":             {files, "file://" + files + "/%2e%2e/secret", "not below the folder"},
		"a link that leads out":    {files, "file://" + files + "/out", "cannot be opened"},
		"a file that is not there": {files, "file://" + files + "/sub/b", "does not exist"},
		"a folder":                 {files, "file://" + files + "/sub", "not a file"},
		"the folder itself":        {files, "file://" + files, "not a file"},
		"a named pipe":             {files, "file://" + files + "/pipe", "not a file"},
		"another host":             {files, "file://evil" + files + "/sub/a", "not on this node"},
		"a relative URL":           {files, "file:sub/a", "not below the folder"},
		"another scheme":           {files, "ftp://localhost/a", "not by \"ftp\""},
		"no URL":                   {files, "://", "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			m := m
			m.Artifact = c.url
			got, err := fetchTest(t, c.folder, Limits{}, m)
			if c.says != "" {
				requireReason(t, err, target.ArtifactMissing, c.says)
				require.Empty(t, got)
				return
			}
			require.NoError(t, err)
			require.Equal(t, artifactText, got)
		})
	}
}

func TestFetchingByHTTPBelievesNothing(t *testing.T) {
	var asked atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("/good", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, artifactText) })
	mux.HandleFunc("/other", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "something else, as long") })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/good", http.StatusFound) })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "x", http.StatusBadGateway) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/shaky", func(w http.ResponseWriter, _ *http.Request) {
		switch asked.Add(1) {
		case 1:
			http.Error(w, "not yet", http.StatusServiceUnavailable)
		case 2: // more is announced than comes
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, artifactText+" and a rest that is not part of it")
			panic(http.ErrAbortHandler)
		default:
			fmt.Fprint(w, artifactText)
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	size := int64(len(artifactText))
	for name, c := range map[string]struct {
		path   string
		size   int64
		limits Limits
		reason target.Reason
		says   string
	}{
		"as it should be":               {path: "/good"},
		"as it should be, and its size": {path: "/good", size: size},
		"a store that comes back":       {path: "/shaky"},
		"not there":                     {path: "/gone", reason: target.ArtifactMissing, says: "404"},
		"a redirect":                    {path: "/moved", reason: target.ArtifactMissing, says: "redirects"},
		"a store that stays broken":     {path: "/broken", limits: Limits{Tries: 1}, reason: target.ArtifactMissing, says: "after 1 tries"},
		"other bytes":                   {path: "/other", reason: target.DigestMismatch, says: "the release wants sha256:"},
		"shorter than declared":         {path: "/good", size: size + 1, reason: target.DigestMismatch, says: "the release wants 25"},
		"longer than declared":          {path: "/good", size: size - 1, reason: target.ArtifactTooLarge, says: "were declared"},
		"longer than the node allows":   {path: "/good", limits: Limits{Artifact: 10}, reason: target.ArtifactTooLarge, says: "10 bytes that this node allows"},
		"without an end":                {path: "/endless", limits: Limits{Artifact: 1 << 20}, reason: target.ArtifactTooLarge, says: "this node allows"},
	} {
		t.Run(name, func(t *testing.T) {
			m := target.Module{Artifact: server.URL + c.path, Digest: digestOfBytes([]byte(artifactText)), Size: c.size}
			got, err := fetchTest(t, "", c.limits, m)
			if c.reason != "" {
				requireReason(t, err, c.reason, c.says)
				return
			}
			require.NoError(t, err)
			require.Equal(t, artifactText, got)
		})
	}
}

func TestAURLThatGivesAccessIsNeverShown(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	m := target.Module{Artifact: strings.Replace(server.URL, "://", "://user:topsecret@", 1) + "/a?signature=topsecret", Digest: digestFor("0")}
	_, err := fetchTest(t, "", Limits{Tries: 1}, m)
	requireReason(t, err, target.ArtifactMissing, "/a answers 404")
	require.NotContains(t, err.Error(), "topsecret")
	server.Close()
	_, err = fetchTest(t, "", Limits{Tries: 1}, m)
	requireReason(t, err, target.ArtifactMissing, "refused")
	require.NotContains(t, err.Error(), "topsecret")
}

func TestADownloadEndsAtItsDeadlineAndWithItsInstance(t *testing.T) {
	begun := make(chan struct{}, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		begun <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	m := target.Module{Artifact: server.URL, Digest: digestFor("0")}
	_, err := fetchTest(t, "", Limits{Fetch: 50 * time.Millisecond}, m)
	requireReason(t, err, target.ArtifactMissing, "store cannot be reached")

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		<-begun
		cancel()
	}()
	to, err := os.Create(filepath.Join(t.TempDir(), "artifact"))
	require.NoError(t, err)
	defer to.Close()
	require.Error(t, newFetcher("", Limits{}.withDefaults()).fetch(ctx, m, to))
	require.Error(t, ctx.Err())
}
