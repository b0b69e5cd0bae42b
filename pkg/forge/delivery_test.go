package forge_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/secret"
)

func key(s string) secret.Secret { return secret.New([]byte(s)) }

func keys() forge.Keys { return forge.Keys{Current: key("webhook-secret")} }

func sign(body []byte, with string) string {
	m := hmac.New(sha256.New, []byte(with))
	m.Write(body)
	return "sha256=" + hex.EncodeToString(m.Sum(nil))
}

// captured is a raw delivery of a real Gitea.
func captured(t *testing.T, name string) *http.Request {
	t.Helper()
	head, err := os.ReadFile(filepath.Join("testdata", "gitea", name+".headers.txt"))
	require.NoError(t, err)
	body, err := os.ReadFile(filepath.Join("testdata", "gitea", name+".body.json"))
	require.NoError(t, err)
	r := httptest.NewRequest(http.MethodPost, "/webhook", bytes.NewReader(body))
	for _, line := range strings.Split(string(head), "\n")[1:] {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			r.Header.Set(name, value)
		}
	}
	return r
}

// github is one of GitHub's examples, signed as GitHub signs.
func github(t *testing.T, name, event string) *http.Request {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", "github", name))
	require.NoError(t, err)
	return request(body, map[string]string{
		"X-GitHub-Event": event, "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
		"Content-Type": "application/json", "X-Hub-Signature-256": sign(body, "webhook-secret"),
	})
}

func request(body []byte, headers map[string]string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/webhook", bytes.NewReader(body))
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	return r
}

func TestARealGiteasDeliveryIsReadByEitherOfItsSignatures(t *testing.T) {
	r := captured(t, "18-push-push")
	d, err := forge.ReadDelivery(r, keys())
	require.NoError(t, err)
	require.Equal(t, forge.Gitea, d.Source)
	require.Equal(t, r.Header.Get("X-Gitea-Delivery"), d.ID)
	require.Equal(t, "push", d.Event)
	require.False(t, d.Truncated)
	for name, value := range d.Headers {
		require.NotContains(t, name, "Signature")
		require.NotContains(t, value, "sha256=")
	}
	p, err := forge.ParsePush(d)
	require.NoError(t, err)
	require.Equal(t, forge.Push{
		RepositoryID: "1", Repository: "acme/intents", Ref: "refs/heads/main",
		Before: "ab093c1c5edc800beae4e9b52989f8ad487702d2", After: "560e7c8283b9f754b8da4d069e9bddafd9dbf559",
	}, p)
	require.Equal(t, "main", p.Branch())

	r = captured(t, "02-push-push")
	r.Header.Del("X-Hub-Signature-256")
	d, err = forge.ReadDelivery(r, keys())
	require.NoError(t, err)
	p, err = forge.ParsePush(d)
	require.NoError(t, err)
	require.Empty(t, p.Before, "the branch is new")
	require.Equal(t, "deploy/payments-1.2.3", p.Branch())
}

func TestGitHubsPushesAreRead(t *testing.T) {
	d, err := forge.ReadDelivery(github(t, "push-with-new-branch.payload.json", "push"), keys())
	require.NoError(t, err)
	require.Equal(t, forge.GitHub, d.Source)
	p, err := forge.ParsePush(d)
	require.NoError(t, err)
	require.Equal(t, forge.Push{RepositoryID: "186853002", Repository: "Codertocat/Hello-World", Ref: "refs/heads/master", After: "6113728f27ae82c7b1a177c8d03f9e96e0adf246"}, p)

	d, err = forge.ReadDelivery(github(t, "push-payload.json", "push"), keys())
	require.NoError(t, err)
	p, err = forge.ParsePush(d)
	require.NoError(t, err)
	require.Empty(t, p.After, "it was deleted")
	require.Empty(t, p.Branch(), "a tag is no branch")
}

func TestOtherEventsAreAuthenticAndNoPushes(t *testing.T) {
	d, err := forge.ReadDelivery(github(t, "ping-payload.json", "ping"), keys())
	require.NoError(t, err)
	_, err = forge.ParsePush(d)
	require.ErrorIs(t, err, forge.ErrNotPush)
	d, err = forge.ReadDelivery(captured(t, "19-delete-delete"), keys())
	require.NoError(t, err)
	_, err = forge.ParsePush(d)
	require.ErrorIs(t, err, forge.ErrNotPush)
}

func TestWhatIsNotSignedWithAKeyOfOursIsNotAuthentic(t *testing.T) {
	body := []byte(`{}`)
	for name, change := range map[string]func(r *http.Request){
		"no signature":              func(r *http.Request) { r.Header.Del("X-Hub-Signature-256") },
		"another key":               func(r *http.Request) { r.Header.Set("X-Hub-Signature-256", sign(body, "other")) },
		"an empty key":              func(r *http.Request) { r.Header.Set("X-Hub-Signature-256", sign(body, "")) },
		"another body":              func(r *http.Request) { r.Header.Set("X-Hub-Signature-256", sign([]byte(`{ }`), "webhook-secret")) },
		"two signatures, one right": func(r *http.Request) { r.Header.Add("X-Hub-Signature-256", sign(body, "webhook-secret")) },
		"SHA-1":                     func(r *http.Request) { r.Header.Set("X-Hub-Signature-256", "sha1=00") },
		"a cut signature":           func(r *http.Request) { r.Header.Set("X-Hub-Signature-256", sign(body, "webhook-secret")[:20]) },
		"no prefix":                 func(r *http.Request) { r.Header.Set("X-Hub-Signature-256", sign(body, "webhook-secret")[7:]) },
		"a wrong one, right Gitea's": func(r *http.Request) {
			r.Header.Set("X-Hub-Signature-256", sign(body, "x"))
			r.Header.Set("X-Gitea-Signature", sign(body, "webhook-secret")[7:])
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(body, map[string]string{"X-Hub-Signature-256": sign(body, "webhook-secret")})
			_, err := forge.ReadDelivery(r.Clone(t.Context()), keys())
			require.NoError(t, err)
			r = request(body, map[string]string{"X-Hub-Signature-256": sign(body, "webhook-secret")})
			change(r)
			_, err = forge.ReadDelivery(r, keys())
			require.ErrorIs(t, err, forge.ErrNotAuthentic)
		})
	}
	_, err := forge.ReadDelivery(request(body, map[string]string{"X-Hub-Signature-256": sign(body, "")}), forge.Keys{})
	require.ErrorIs(t, err, forge.ErrNoKey)
}

func TestThePreviousKeyHoldsDuringARotationOnly(t *testing.T) {
	body := []byte(`{}`)
	for _, with := range []string{"new", "old"} {
		r := request(body, map[string]string{"X-Hub-Signature-256": sign(body, with)})
		_, err := forge.ReadDelivery(r, forge.Keys{Current: key("new"), Previous: key("old")})
		require.NoError(t, err, with)
	}
	r := request(body, map[string]string{"X-Hub-Signature-256": sign(body, "old")})
	_, err := forge.ReadDelivery(r, forge.Keys{Current: key("new")})
	require.ErrorIs(t, err, forge.ErrNotAuthentic)
}

func TestALargeAuthenticBodyLeavesHeadersAndDigest(t *testing.T) {
	for _, size := range []int{forge.MaxBody, forge.MaxBody + 1, 20 << 20} {
		body := bytes.Repeat([]byte("x"), size)
		d, err := forge.ReadDelivery(request(body, map[string]string{"X-GitHub-Event": "push", "X-Hub-Signature-256": sign(body, "webhook-secret")}), keys())
		require.NoError(t, err)
		sum := sha256.Sum256(body)
		require.Equal(t, "sha256:"+hex.EncodeToString(sum[:]), d.Digest)
		require.Equal(t, size > forge.MaxBody, d.Truncated)
		require.Equal(t, size > forge.MaxBody, d.Body == nil)
		_, err = forge.ParsePush(d)
		require.ErrorIs(t, err, forge.ErrMalformed)
	}
	body := bytes.Repeat([]byte("x"), 25<<20+1)
	for _, length := range []int64{int64(len(body)), -1} {
		r := request(body, map[string]string{"X-Hub-Signature-256": sign(body, "webhook-secret")})
		r.ContentLength = length
		_, err := forge.ReadDelivery(r, keys())
		require.ErrorIs(t, err, forge.ErrTooLarge)
	}
}

func TestOddHeadersOfAnAuthenticDeliveryAreNoReasonToRefuseIt(t *testing.T) {
	body := []byte(`{}`)
	d, err := forge.ReadDelivery(request(body, map[string]string{
		"X-GitHub-Event": "'; DROP TABLE", "X-GitHub-Delivery": strings.Repeat("x", 5000), "X-Hub-Signature-256": sign(body, "webhook-secret"),
	}), keys())
	require.NoError(t, err)
	require.Equal(t, "unknown", d.Event)
	require.True(t, strings.HasPrefix(d.ID, "digest-"))
	require.Len(t, d.Headers["X-GitHub-Delivery"], 200)
}

func TestWhatTheEmbeddedForgeSendsIsReadAsAPush(t *testing.T) {
	want := forge.Push{RepositoryID: "7", Repository: "acme/deploy", Ref: "refs/heads/main", After: strings.Repeat("a", 40)}
	body, err := forge.NewPushBody(7, want)
	require.NoError(t, err)
	r := request(body, nil)
	require.NoError(t, forge.SignDelivery(r.Header, "push", body, key("webhook-secret")))
	d, err := forge.ReadDelivery(r, keys())
	require.NoError(t, err)
	require.NotContains(t, d.ID, "digest")
	got, err := forge.ParsePush(d)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.ErrorIs(t, forge.SignDelivery(r.Header, "push", body, secret.Secret{}), forge.ErrNoKey)
}

func TestAMalformedPushIsNamed(t *testing.T) {
	sha := strings.Repeat("a", 40)
	for name, body := range map[string]string{
		"not JSON":       `{`,
		"a short commit": `{"ref":"refs/heads/x","before":"` + sha + `","after":"abc","repository":{"id":1,"full_name":"a/b"}}`,
		"no reference":   `{"ref":"--upload-pack=x","before":"` + sha + `","after":"` + sha + `","repository":{"id":1,"full_name":"a/b"}}`,
		"a line break":   `{"ref":"refs/heads/x\n","before":"` + sha + `","after":"` + sha + `","repository":{"id":1,"full_name":"a/b"}}`,
		"no id":          `{"ref":"refs/heads/x","before":"` + sha + `","after":"` + sha + `","repository":{"full_name":"a/b"}}`,
		"no name":        `{"ref":"refs/heads/x","before":"` + sha + `","after":"` + sha + `","repository":{"id":1}}`,
	} {
		_, err := forge.ParsePush(forge.Delivery{Event: "push", Body: []byte(body)})
		require.ErrorIs(t, err, forge.ErrMalformed, name)
	}
	_, err := forge.ParsePush(forge.Delivery{Event: "push", Body: []byte("payload=x"), Headers: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}})
	require.ErrorContains(t, err, "application/json")
}

func FuzzParsePush(f *testing.F) {
	for _, name := range []string{"testdata/github/push-payload.json", "testdata/gitea/18-push-push.body.json"} {
		body, err := os.ReadFile(name)
		require.NoError(f, err)
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := forge.ParsePush(forge.Delivery{Event: "push", Body: body})
		if err != nil {
			require.ErrorIs(t, err, forge.ErrMalformed)
			return
		}
		require.True(t, strings.HasPrefix(p.Ref, "refs/"))
		require.NotContains(t, p.Ref+p.Repository, "\n")
		require.Contains(t, []int{0, 40}, len(p.After))
	})
}

func FuzzReadDelivery(f *testing.F) {
	f.Add("sha256=00", "push", []byte("{}"))
	f.Add(sign([]byte("{}"), "webhook-secret"), "push", []byte("{}"))
	f.Fuzz(func(t *testing.T, signature, event string, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		r.Header["X-Hub-Signature-256"], r.Header["X-Github-Event"] = []string{signature}, []string{event}
		_, err := forge.ReadDelivery(r, keys())
		require.Equal(t, strings.EqualFold(signature, sign(body, "webhook-secret")) && strings.HasPrefix(signature, "sha256="), err == nil)
	})
}
