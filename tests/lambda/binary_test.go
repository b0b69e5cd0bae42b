package lambda

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/functions"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/secret"
	"hotswap.dev/hotswap/tests/pgtest"
)

// An installation is what functions on Lambda share: a database and secrets.
type installation struct {
	t     *testing.T
	db    *pgtest.DB
	keep  *keeper
	hints chan *http.Request
	url   string // where hints go
}

func install(t *testing.T) installation {
	t.Helper()
	i := installation{t: t, db: pgtest.New(t), hints: make(chan *http.Request, 100)}
	i.keep = newKeeper(t, map[string]string{
		functions.SecretDatabase: i.db.DSN("hotswap_app"), functions.SecretAudit: strings.Repeat("a1", 32), functions.SecretCalls: strings.Repeat("b2", 32),
		functions.SecretTokens: strings.Repeat("c3", 32), functions.SecretWebhook: "hook-secret-one", functions.SecretGitea: "gitea-token-one",
	})
	gateway := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { i.hints <- r.Clone(t.Context()) }))
	t.Cleanup(gateway.Close)
	i.url = gateway.URL
	return i
}

// start starts a function of the installation, with the environment that the template gives it.
func (i installation) start(function string, more ...string) *lambda {
	i.t.Helper()
	spec, ok := functions.Find(function)
	require.True(i.t, ok)
	env := map[string]string{
		"HOTSWAP_TENANT": "default", "HOTSWAP_URL": i.url, "HOTSWAP_HINT_URL": i.url + "/function/{function}", "HOTSWAP_SECRET_PREFIX": "hotswap/",
		"HOTSWAP_GITEA_URL": "http://127.0.0.1:9", "HOTSWAP_GITEA_REPOSITORY": "acme/deploy", "HOTSWAP_GITEA_BOTS": "", "HOTSWAP_METRIC_SOURCES": "", "HOTSWAP_RECONCILE": "1m", "HOTSWAP_VERBOSE": "true",
		"exec_timeout": spec.Timeouts.Exec.String(), "read_timeout": spec.Timeouts.Read.String(), "write_timeout": spec.Timeouts.Write.String(),
		"PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": i.keep.port,
	}
	for n := 0; n < len(more); n += 2 {
		env[more[n]] = more[n+1]
	}
	return start(i.t, function, env)
}

func (i installation) count(query string) (n int) {
	i.t.Helper()
	conn, err := pgx.Connect(i.t.Context(), i.db.AdminDSN())
	require.NoError(i.t, err)
	defer conn.Close(i.t.Context())
	require.NoError(i.t, conn.QueryRow(i.t.Context(), query).Scan(&n))
	return n
}

// delivery is a webhook as Gitea signs it.
func delivery(t *testing.T, body, key string) request {
	t.Helper()
	q := request{method: http.MethodPost, path: "/function/forge-webhook/default/deploy", header: http.Header{}, body: body}
	require.NoError(t, forge.SignDelivery(q.header, "push", []byte(body), secret.New([]byte(key))))
	return q
}

const push = `{"ref":"refs/heads/main","commits":[{"message":"Grüße <&> \" \u0001"}]}`

func TestTheProgramIsAFunctionOfLambdaForEveryTrigger(t *testing.T) {
	i := install(t)
	l := i.start("forge-webhook")

	health := l.ask(request{method: http.MethodGet, path: "/_/health"})
	t.Logf("cold start to first answer: %s; the answer: %s", time.Since(l.started), health.took)
	require.Less(t, time.Since(l.started), patience)
	require.Equal(t, answer{Status: http.StatusOK, Headers: map[string]string{"Content-Type": "text/plain; charset=utf-8"}, Body: "ok\n", took: health.took}, health)
	require.Zero(t, i.keep.times(functions.SecretDatabase), "health asks for nothing")

	require.Equal(t, http.StatusOK, l.ask(request{method: http.MethodGet, path: "/function/forge-webhook/_/ready"}).Status)

	q := delivery(t, push, "hook-secret-one")
	require.Equal(t, http.StatusAccepted, l.ask(q).Status)
	q = delivery(t, push, "hook-secret-one")
	q.body, q.base64 = base64.StdEncoding.EncodeToString([]byte(q.body)), true
	q.cookies = []string{"a=1", "b=2"}
	q.header["X-Forwarded-For"] = []string{"198.51.100.1", "198.51.100.2"}
	require.Equal(t, http.StatusAccepted, l.ask(q).Status, "a body in base64 is the same body")
	require.Equal(t, http.StatusUnauthorized, l.ask(delivery(t, push, "another secret")).Status)
	require.Equal(t, 2, i.count("SELECT count(*) FROM inbox"))

	for name, status := range map[string]int{
		"apigw-v2-request-no-authorizer.json":  http.StatusNotFound,         // GET /
		"apigw-v2-request-jwt-authorizer.json": http.StatusMethodNotAllowed, // GET /my/path
		"lambda-urls-request.json":             http.StatusUnauthorized,     // POST /my/path
	} {
		o := l.invoke(sample(t, name))
		require.False(t, o.failed, "%s: %s", name, o.body)
		require.Contains(t, o.body, fmt.Sprintf(`{"statusCode":%d,`, status), name)
	}

	o := l.invoke(`{"x":1,"password":"hunter2"}`)
	require.True(t, o.failed)
	for _, taken := range []string{"Function URLs", "API Gateway (payload format 2.0)", "SQS", "EventBridge schedules"} {
		require.Contains(t, o.body, taken)
	}
	require.NotContains(t, o.body+l.log.String(), "hunter2")
	require.True(t, l.invoke(`no JSON`).failed)
	require.Equal(t, http.StatusOK, l.ask(request{method: http.MethodGet, path: "/_/health"}).Status, "the process lives")
	require.Zero(t, i.keep.wrong, "each call of the extension has the token")
	t.Logf("peak memory: %d MiB", l.peak())
	require.Less(t, l.peak(), program(t)["forge-webhook"].Memory-48, "the extension for secrets needs memory too")
}

func TestOnlyTheMessagesOfAQueueThatFailedComeAgain(t *testing.T) {
	i := install(t)
	l := i.start("forge-webhook")
	good, bad := delivery(t, push, "hook-secret-one"), delivery(t, push, "another secret")
	buffered := delivery(t, `{"ref":"refs/heads/other"}`, "hook-secret-one") // as API Gateway's integration with SQS writes it
	attributes := map[string]any{"Path": map[string]any{"dataType": "String", "stringValue": buffered.path}}
	for name := range buffered.header {
		attributes[name] = map[string]any{"dataType": "String", "stringValue": buffered.header.Get(name)}
	}
	batch, err := json.Marshal(map[string]any{"Records": []any{
		map[string]any{"messageId": "good", "eventSource": "aws:sqs", "body": good.event()},
		map[string]any{"messageId": "bad", "eventSource": "aws:sqs", "body": bad.event()},
		map[string]any{"messageId": "no JSON", "eventSource": "aws:sqs", "body": "<xml/>"},
		map[string]any{"messageId": "buffered", "eventSource": "aws:sqs", "body": buffered.body, "messageAttributes": attributes},
	}})
	require.NoError(t, err)
	o := l.invoke(string(batch))
	require.False(t, o.failed, o.body)
	require.JSONEq(t, `{"batchItemFailures":[{"itemIdentifier":"bad"},{"itemIdentifier":"no JSON"}]}`, o.body)
	require.Equal(t, 2, i.count("SELECT count(*) FROM inbox"))
}

func TestAScheduleAndAHintMeanLookAndNothingElse(t *testing.T) {
	i := install(t)
	l := i.start("validate")
	o := l.invoke(`{"version":"0","id":"53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa","detail-type":"Scheduled Event","source":"aws.events","account":"123456789012","time":"2026-10-08T16:53:06Z","region":"eu-west-1","resources":["arn:aws:events:eu-west-1:123456789012:rule/hotswap-validate"],"detail":{}}`)
	require.False(t, o.failed, o.body)
	require.Equal(t, "null", strings.TrimSpace(o.body))

	look := request{method: http.MethodPost, path: "/function/validate"}
	a := l.ask(look)
	require.Equal(t, http.StatusOK, a.Status)
	require.JSONEq(t, `{"steps":0}`, a.Body)
	withBody := look
	withBody.body = "do something"
	require.Equal(t, http.StatusRequestEntityTooLarge, l.ask(withBody).Status)
	for range 10 { // one in a second, and a few at once
		a = l.ask(look)
	}
	require.Equal(t, http.StatusTooManyRequests, a.Status, "unsigned looks are few")

	// A delivery has the webhook's function hint this one; the hint is signed, and passes.
	webhook := i.start("forge-webhook")
	require.Equal(t, http.StatusAccepted, webhook.ask(delivery(t, push, "hook-secret-one")).Status)
	select {
	case r := <-i.hints:
		require.Equal(t, "POST /function/validate/", r.Method+" "+r.URL.Path)
		hint := request{method: r.Method, path: r.URL.Path, header: maps.Clone(r.Header)}
		other := install(t) // with nothing that is due
		signed := other.start("validate")
		require.Equal(t, http.StatusOK, signed.ask(hint).Status)
		require.Equal(t, http.StatusUnauthorized, signed.ask(hint).Status, "once")
	case <-time.After(patience):
		require.FailNow(t, "no hint came")
	}
}

func TestTheAPIAnswersAndStreams(t *testing.T) {
	i := install(t)
	l := i.start("api")
	a := l.ask(request{method: http.MethodGet, path: "/function/api/openapi.json"})
	require.Equal(t, http.StatusOK, a.Status, a.Body)
	require.False(t, a.Base64)
	whole := a.Body
	var document map[string]any
	require.NoError(t, json.Unmarshal([]byte(whole), &document))

	l = i.start("api", "HOTSWAP_LAMBDA_STREAM", "true")
	o := l.invoke(request{method: http.MethodGet, path: "/openapi.json"}.event())
	require.False(t, o.failed, o.body)
	require.Equal(t, "application/vnd.awslambda.http-integration-response", o.header.Get("Content-Type"))
	require.Empty(t, o.header.Get("Lambda-Runtime-Function-Error-Type"))
	prelude, body, ok := strings.Cut(o.body, "\x00\x00\x00\x00\x00\x00\x00\x00")
	require.True(t, ok)
	require.Contains(t, prelude, `"statusCode":200`)
	require.Equal(t, whole, body)
}

func TestSecretsOnLambdaAreReadAgainOnceTheyHaveChanged(t *testing.T) {
	i := install(t)
	l := i.start("forge-webhook")
	require.Equal(t, http.StatusAccepted, l.ask(delivery(t, push, "hook-secret-one")).Status)
	i.keep.set(functions.SecretWebhook, "hook-secret-two")
	require.Eventually(t, func() bool {
		return l.ask(delivery(t, push, "hook-secret-two")).Status == http.StatusAccepted
	}, patience, 100*time.Millisecond)
	require.Equal(t, http.StatusUnauthorized, l.ask(delivery(t, push, "hook-secret-one")).Status)
	require.Contains(t, l.log.String(), "secrets have changed")
	require.Greater(t, i.keep.times(functions.SecretWebhook), 1)
	require.Equal(t, 1, i.keep.times(functions.SecretWebhookPrevious), "each question about what is not there is paid for")
	require.NotContains(t, l.log.String(), "hook-secret")
}

func TestAFunctionWithoutItsSecretsSaysWhichAndNoValue(t *testing.T) {
	i := install(t)
	delete(i.keep.values, functions.SecretWebhook)
	l := i.start("forge-webhook")
	a := l.ask(delivery(t, push, "hook-secret-one"))
	require.Equal(t, http.StatusServiceUnavailable, a.Status)
	require.NotEmpty(t, a.Headers["Retry-After"])
	require.NotContains(t, a.Body, "hotswap-webhook", "details are for the log")
	require.Contains(t, l.log.String(), "hotswap/hotswap-webhook is not in Secrets Manager")
	for name, value := range i.keep.values {
		require.NotContains(t, l.log.String(), value, "the value of %s", name)
	}
	require.NotContains(t, l.log.String(), sessionToken)
}

func TestAnExtensionThatDoesNotAnswerIsWaitedForShortly(t *testing.T) {
	i := install(t)
	i.keep.slow = make(chan struct{})
	l := i.start("forge-webhook")
	a := l.ask(delivery(t, push, "hook-secret-one"))
	require.Equal(t, http.StatusServiceUnavailable, a.Status)
	require.Less(t, a.took, 10*time.Second)

	o := l.invoke(delivery(t, push, "hook-secret-one").event(), 1500*time.Millisecond)
	require.Contains(t, o.body, `"statusCode":503`)
	require.Less(t, o.took, 1500*time.Millisecond, "the call's time ends before Lambda's")

	i.keep.mu.Lock()
	close(i.keep.slow)
	i.keep.slow = nil
	i.keep.mu.Unlock()
	require.Equal(t, http.StatusAccepted, l.ask(delivery(t, push, "hook-secret-one")).Status, "what failed is not kept")

	free := httptest.NewServer(http.NotFoundHandler())
	port := free.URL[strings.LastIndex(free.URL, ":")+1:]
	free.Close()
	down := i.start("forge-webhook", "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", port)
	a = down.ask(delivery(t, push, "hook-secret-one"))
	require.Equal(t, http.StatusServiceUnavailable, a.Status)
	require.Contains(t, down.log.String(), "the extension for secrets does not answer")
}

// A wrong handler ends the process at once, so that a deployment of it fails.
func TestAHandlerThatIsNoFunctionEndsTheProcess(t *testing.T) {
	l := start(t, "bootstrap", nil)
	select {
	case <-l.ended:
	case <-time.After(patience):
		require.FailNow(t, "it runs")
	}
	require.Contains(t, l.log.String(), `there is no function "bootstrap"`)
}
