package platform_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/platform"
	"hotswap.dev/hotswap/pkg/secret"
)

// FuzzFunctionPath: the path of a call is cut into a name and a rest, and what the function
// sees is the rest as it came.
func FuzzFunctionPath(f *testing.F) {
	for _, path := range []string{"/function/own", "/function/own/a%2Fb/../c", "/function//x", "/function/own//evil.example/x", "/%66unction/own", "/function/own/%00?x", "/function/own/a;b?c=%zz", "*"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := url.ParseRequestURI(text)
		if err != nil {
			return
		}
		escaped := u.EscapedPath()
		name, rest, err := platform.SplitFunctionPath(escaped, "/function/")
		if err != nil {
			return
		}
		require.NotContains(t, name, "/")
		require.Equal(t, escaped, "/function/"+name+rest)
		path, raw := platform.Unescaped(rest)
		out := url.URL{Scheme: "http", Host: "127.0.0.1:1", Path: path, RawPath: raw}
		if rest == "" {
			rest = "/"
		}
		require.Equal(t, rest, out.EscapedPath())
		again, err := url.Parse(out.String())
		require.NoError(t, err)
		require.Equal(t, "127.0.0.1:1", again.Host, "no path leads to another host")
	})
}

// FuzzDeployment: a deployment is refused, or in its bounds and the same after it was kept.
func FuzzDeployment(f *testing.F) {
	for _, body := range []string{
		`{"service":"f","image":"f:1","envVars":{"max_inflight":"3","write_timeout":"2s"},"labels":{"com.openfaas.scale.max":"2"},"annotations":{"hotswap.dev/public":"true"},"secrets":["a-b"],"limits":{"memory":"64Mi"}}`,
		`{"service":"f.openfaas-fn","namespace":"openfaas-fn","image":"a/b.c:latest"}`, `{"service":"../x","image":"..","secrets":["../x"]}`, `{"envVars":null,"labels":null}`, `[]`,
	} {
		f.Add([]byte(body))
	}
	functions, err := platform.OpenFunctions(platform.FunctionsOptions{Dir: filepath.Join(f.TempDir(), "functions"), Now: func() time.Time { return time.Unix(1e9, 0) }})
	require.NoError(f, err)
	f.Cleanup(functions.Close)
	label := regexp.MustCompile(`^[a-z0-9-]{1,63}$`)
	f.Fuzz(func(t *testing.T, body []byte) {
		var d types.FunctionDeployment
		if json.Unmarshal(body, &d) != nil {
			return
		}
		if file, err := platform.CheckImage(d.Image); err == nil {
			require.Equal(t, file, filepath.Base(file))
			require.True(t, strings.HasPrefix(file, "tag-"))
		}
		name, most, idle, write, err := functions.CheckDeployment(d)
		if err != nil {
			require.ErrorIs(t, err, platform.ErrInvalid)
			require.Less(t, len(err.Error()), 1000, "an error does not repeat all that was sent")
			return
		}
		require.Regexp(t, label, name)
		require.True(t, most >= 1 && most <= 16 && idle > 0 && write > 0)
		kept, err := json.Marshal(d)
		require.NoError(t, err)
		var again types.FunctionDeployment
		require.NoError(t, json.Unmarshal(kept, &again))
		name2, most2, idle2, write2, err := functions.CheckDeployment(again)
		require.NoError(t, err)
		require.Equal(t, []any{name, most, idle, write}, []any{name2, most2, idle2, write2})
	})
}

// FuzzAsynchronousRequest: whatever is sent below /async-function is kept such that it can be
// made again, or refused; nobody without the password has anything kept.
func FuzzAsynchronousRequest(f *testing.F) {
	password := basic(faasPassword)[1]
	for _, request := range []string{
		"POST /async-function/own/a%2Fb?x=1 HTTP/1.1\r\nHost: h\r\nAuthorization: " + password + "\r\nX-Call-Id: a-1\r\nX-Callback-Url: https://example.com/x\r\nContent-Length: 2\r\n\r\nok",
		"POST /async-function/own HTTP/1.1\r\nHost: h\r\nHotSwap-Hint: look\r\n\r\n", "GET /async-function/own HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST /async-function/own//%00 HTTP/1.1\r\nHost: h\r\nAuthorization: " + password + "\r\nConnection: x-y, z\r\nX-Y: 1\r\n\r\n",
	} {
		f.Add(request)
	}
	functions, err := platform.OpenFunctions(platform.FunctionsOptions{Dir: filepath.Join(f.TempDir(), "functions"), Own: []platform.OwnFunction{
		{Deployment: types.FunctionDeployment{Service: "own", Image: "own"}, Command: []string{"/nonexistent"}},
	}})
	require.NoError(f, err)
	f.Cleanup(functions.Close)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil || !strings.HasPrefix(r.URL.Path, "/async-function/") {
			return
		}
		calls := &fakeCalls{}
		hinted := 0
		h := platform.Gateway(platform.GatewayOptions{
			Functions: functions, Calls: calls, Wake: func() {}, Callback: platform.Callbacks{}.Check,
			Hint: nil, Signed: func(*http.Request) error { hinted++; return http.ErrNotSupported },
			Access: platform.Access{User: "admin", Password: secret.New([]byte(faasPassword))},
		})
		knows := strings.Contains(text, password)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Less(t, w.Code, 500)
		require.Equal(t, w.Code == http.StatusAccepted, len(calls.taken) == 1)
		if len(calls.taken) == 0 {
			return
		}
		require.True(t, knows || strings.Contains(strings.ToLower(text), "basic"))
		c := calls.taken[0]
		require.Equal(t, "own", c.Function)
		require.NotContains(t, c.Request.Header, "Authorization")
		kept, err := json.Marshal(c.Request)
		require.NoError(t, err)
		require.NotContains(t, string(kept), `\u0000`, "PostgreSQL keeps none in JSON")
		made, err := http.NewRequest(c.Request.Method, "http://own"+c.Request.Path, nil)
		require.NoError(t, err)
		require.Equal(t, c.Request.Path, made.URL.EscapedPath())
		require.Equal(t, "own", made.URL.Host)
	})
}
