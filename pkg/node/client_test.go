package node

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/target"
)

// answering returns a client of a server that answers all with status and text.
func answering(t *testing.T, status int, text string) *client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(server.Close)
	key, err := openKey(t.TempDir())
	require.NoError(t, err)
	return newClient(server.URL, key)
}

func TestAnAnswerIsBelievedOnlyIfItIsOne(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		text   string
		says   string
	}{
		"orders":               {200, `{"orders":[{"place":{"environment":"a","deployment":"b"}}]}`, ""},
		"no orders":            {200, `{"orders":[]}`, ""},
		"nothing":              {204, ``, ""},
		"no JSON":              {200, `<html>`, "invalid character"},
		"a list":               {200, `[]`, "cannot unmarshal"},
		"more than fits":       {200, `"` + strings.Repeat("a", maxAnswer) + `"`, "larger than"},
		"a redirect":           {302, ``, "302"},
		"a refusal with words": {503, "database\nis away", "server answers 503 Service Unavailable database is away"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := answering(t, c.status, c.text).wanted(t.Context(), "node", nil, time.Second)
			if c.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestARefusalIsFinalOnlyIfAskingAgainCannotHelp(t *testing.T) {
	for status, final := range map[int]bool{400: true, 401: true, 403: true, 404: true, 409: true, 408: false, 425: false, 429: false, 500: false, 503: false, 302: false} {
		require.Equal(t, final, (&refusal{status: status}).final(), status)
	}
}

func TestANodeWhoseTokenIsRefusedSaysSoAndEnds(t *testing.T) {
	s := newStory(t)
	require.NoError(t, os.WriteFile(s.o.TokenFile, []byte("stolen-token"), 0o600))
	err := s.run().wait(t)
	require.ErrorIs(t, err, ErrJoin)
	require.ErrorContains(t, err, "403")
	require.NotContains(t, err.Error(), "stolen-token")

	s.o.TokenFile = filepath.Join(t.TempDir(), "missing")
	err = s.run().wait(t)
	require.ErrorIs(t, err, ErrJoin)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestANodeJoinsOnceWithAKeyOfItsOwnAndWaitsForAServerThatIsAway(t *testing.T) {
	s := newStory(t)
	var away atomic.Int32
	var joins atomic.Pointer[target.Join]
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Add(1) <= 2 {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		body, _ := io.ReadAll(r.Body)
		if strings.HasSuffix(r.URL.Path, pathJoin) {
			var j target.Join
			_ = json.Unmarshal(body, &j)
			joins.Store(&j)
		}
		out, _ := http.NewRequestWithContext(r.Context(), r.Method, s.server.URL+r.URL.Path, strings.NewReader(string(body)))
		out.Header = r.Header
		resp, err := http.DefaultClient.Do(out)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))
	t.Cleanup(front.Close)
	s.o.Server = front.URL
	s.start()
	s.order(s.instance("1.5.0"), nil)
	s.stop()
	s.start()
	s.order(s.instance("1.4.2"), nil)
	require.Equal(t, 1, s.server.Joins())
	require.Equal(t, map[string]string{"site": "fra"}, joins.Load().Labels)
	info, err := os.Stat(filepath.Join(s.o.State, keyFile))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	info, err = os.Stat(s.o.State)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	require.Empty(t, s.server.Refused())
}
