package forgewebhook_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	forgewebhook "hotswap.dev/hotswap/functions/forge-webhook"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/secret"
	"hotswap.dev/hotswap/pkg/store"
)

// A door is the function with what it touches, in the order of what happened.
type door struct {
	http.Handler
	happened []string
	kept     []store.Delivery
	err      error
	keys     forge.Keys
}

func newDoor() *door {
	d := &door{keys: forge.Keys{Current: secret.New([]byte("new")), Previous: secret.New([]byte("old"))}}
	hooks := func(tenant, repository string) (forge.Keys, bool) {
		return d.keys, tenant == "acme" && repository == "deploy"
	}
	d.Handler = forgewebhook.New(hooks, d, func(ctx context.Context, function string) {
		_, bounded := ctx.Deadline()
		d.happened = append(d.happened, map[bool]string{true: "hint ", false: "unbounded hint "}[bounded]+function)
	})
	return d
}

func (d *door) Accept(_ context.Context, x store.Delivery) error {
	d.happened = append(d.happened, "row")
	if d.err == nil {
		d.kept = append(d.kept, x)
	}
	return d.err
}

// An answer records when the status is written.
type answer struct {
	*httptest.ResponseRecorder
	d *door
}

func (a answer) WriteHeader(code int) {
	a.d.happened = append(a.d.happened, "answer")
	a.ResponseRecorder.WriteHeader(code)
}

func (d *door) post(path, body, key string, header ...string) *httptest.ResponseRecorder {
	return d.send(path, strings.NewReader(body), []byte(body), key, header...)
}

func (d *door) send(path string, r io.Reader, signed []byte, key string, header ...string) *httptest.ResponseRecorder {
	q := httptest.NewRequest(http.MethodPost, "/", r)
	q.URL.Path = path
	q.Header.Set("X-Gitea-Event", "push")
	q.Header.Set("X-Gitea-Delivery", "d-1")
	if key != "" {
		m := hmac.New(sha256.New, []byte(key))
		m.Write(signed)
		q.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(m.Sum(nil)))
	}
	for i := 0; i < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(answer{w, d}, q)
	return w
}

func TestAnAuthenticDeliveryIsARowThenAHintThenAnAnswer(t *testing.T) {
	for name, key := range map[string]string{"the current secret": "new", "the former one, during a rotation": "old"} {
		t.Run(name, func(t *testing.T) {
			d := newDoor()
			require.Equal(t, http.StatusAccepted, d.post("/acme/deploy", "{", key).Code, "whatever it says")
			require.Equal(t, []string{"row", "hint validate", "answer"}, d.happened)
			sum := sha256.Sum256([]byte("{"))
			require.Equal(t, store.Delivery{
				Tenant: "acme", Source: "gitea", ID: "d-1", Repository: "deploy", Event: "push",
				Headers: map[string]string{"X-Gitea-Event": "push", "X-Gitea-Delivery": "d-1"}, Body: []byte("{"), Digest: sum[:],
			}, d.kept[0])
		})
	}
}

func TestWhatIsNotAuthenticLeavesNothingBehindAndLearnsNothing(t *testing.T) {
	d := newDoor()
	want := d.post("/acme/deploy", "{}", "wrong")
	require.Equal(t, http.StatusUnauthorized, want.Code)
	d.happened = nil
	for name, try := range map[string]struct{ path, key string }{
		"no signature":           {"/acme/deploy", ""},
		"an unknown hook":        {"/acme/other", "new"},
		"a hook of another":      {"/globex/deploy", "new"},
		"an unknown hook, wrong": {"/globex/deploy", "wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			got := d.post(try.path, "not even JSON \xff", try.key)
			require.Equal(t, want.Code, got.Code)
			require.Equal(t, want.Body.String(), got.Body.String())
			require.Equal(t, want.Header(), got.Header())
		})
	}
	for _, h := range d.happened {
		require.Equal(t, "answer", h)
	}
	require.Empty(t, d.kept)
	d.keys.Previous = secret.Secret{}
	require.Equal(t, http.StatusUnauthorized, d.post("/acme/deploy", "{}", "old").Code, "the rotation is over")
	require.Equal(t, http.StatusUnauthorized, d.post("/acme/deploy", "{}", " ").Code)
}

func TestADeliveryThatIsNotKeptIsAskedForAgain(t *testing.T) {
	d := newDoor()
	d.err = errors.New("disk full at /var/lib/secret-path")
	w := d.post("/acme/deploy", "{}", "new")
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "5", w.Header().Get("Retry-After"))
	require.NotContains(t, w.Body.String(), "secret-path")
	require.Equal(t, []string{"row", "answer"}, d.happened, "and nobody is told to look")
}

func TestASenderWhoseIdWasUsedBeforeIsNotToldOff(t *testing.T) {
	d := newDoor()
	d.err = store.ErrConflict
	require.Equal(t, http.StatusAccepted, d.post("/acme/deploy", "{}", "new").Code)
}

func TestABodyTooLargeToKeepIsAcceptedByItsDigest(t *testing.T) {
	d := newDoor()
	body := bytes.Repeat([]byte("x"), forge.MaxBody+1)
	require.Equal(t, http.StatusAccepted, d.send("/acme/deploy", bytes.NewReader(body), body, "new").Code)
	require.Nil(t, d.kept[0].Body)
	sum := sha256.Sum256(body)
	require.Equal(t, sum[:], d.kept[0].Digest)
	require.Equal(t, http.StatusRequestEntityTooLarge, d.send("/acme/deploy", io.LimitReader(endless{}, 1<<30), nil, "new").Code)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestABodyThatIsCutIsAskedForAgain(t *testing.T) {
	d := newDoor()
	body := io.MultiReader(strings.NewReader("{"), broken{})
	require.Equal(t, http.StatusServiceUnavailable, d.send("/acme/deploy", body, []byte("{"), "new").Code)
	require.Empty(t, d.kept)
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// FuzzHook sends anything to the door: it never panics, and only what is signed
// for this hook is kept, under names that the database can keep.
func FuzzHook(f *testing.F) {
	f.Add("/acme/deploy", "X-Gitea-Delivery", "d-1", []byte(`{"ref":"refs/heads/main"}`), true)
	f.Add("/acme/deploy", "X-GitHub-Event", "pu\x00sh", []byte("\xff"), true)
	f.Add("//..%00/deploy", "X-Hub-Signature-256", "sha256=", []byte{}, false)
	f.Fuzz(func(t *testing.T, path, name, value string, body []byte, sign bool) {
		if strings.ContainsAny(name, "\r\n: ") || name == "" {
			t.Skip("not a header")
		}
		d := newDoor()
		key := ""
		if sign {
			key = "new"
		}
		w := d.send(path, bytes.NewReader(body), body, key, name, value)
		require.NotEqual(t, http.StatusOK, w.Code)
		for _, x := range d.kept {
			require.Equal(t, http.StatusAccepted, w.Code)
			require.Equal(t, "/acme/deploy", path)
			require.Equal(t, body, append([]byte{}, x.Body...))
			require.Regexp(t, `^[A-Za-z0-9_-]{1,100}$`, x.ID)
			require.Regexp(t, `^[a-z_]{1,60}$`, x.Event)
			for _, v := range x.Headers {
				require.NotContains(t, v, "\x00")
			}
		}
	})
}
