package function_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/function"
)

// asked is a request of payload format 2.0.
func asked(method, path string, change ...func(q *events.LambdaFunctionURLRequest)) json.RawMessage {
	q := events.LambdaFunctionURLRequest{Version: "2.0", RawPath: path}
	q.RequestContext.HTTP.Method = method
	q.RequestContext.HTTP.SourceIP = "203.0.113.7"
	q.RequestContext.DomainName = "hooks.example"
	for _, c := range change {
		c(&q)
	}
	b, err := json.Marshal(q)
	if err != nil {
		panic(err)
	}
	return b
}

// onLambda has h answer an event in the buffered way.
func onLambda(t *testing.T, h http.HandlerFunc, event json.RawMessage) *events.LambdaFunctionURLResponse {
	t.Helper()
	got, err := function.LambdaHandler(h, function.LambdaOptions{Name: "f"})(t.Context(), event)
	require.NoError(t, err)
	answer, ok := got.(*events.LambdaFunctionURLResponse)
	require.True(t, ok, "%T", got)
	return answer
}

func TestARequestOfLambdaIsTheOneThatAServerWouldHaveRead(t *testing.T) {
	var r *http.Request
	var body []byte
	event := asked(http.MethodPost, "/function/f/acme/a%2Fb", func(q *events.LambdaFunctionURLRequest) {
		q.RawQueryString = "x=1&x=2"
		q.Headers = map[string]string{"host": "hooks.example", "x-many": "a,b", "content-type": "application/octet-stream"}
		q.Cookies = []string{"a=1", "b=2"}
		q.Body, q.IsBase64Encoded = base64.StdEncoding.EncodeToString([]byte{0, 1, 255}), true
	})
	onLambda(t, func(_ http.ResponseWriter, q *http.Request) {
		r = q
		body, _ = io.ReadAll(q.Body)
	}, event)
	require.Equal(t, "/acme/a/b", r.URL.Path, "without the route of the gateway")
	require.Equal(t, "/acme/a%2Fb", r.URL.EscapedPath())
	require.Equal(t, "/acme/a%2Fb?x=1&x=2", r.RequestURI)
	require.Equal(t, []string{"1", "2"}, r.URL.Query()["x"])
	require.Equal(t, "hooks.example", r.Host)
	require.Empty(t, r.Header.Values("Host"))
	require.Equal(t, "203.0.113.7:0", r.RemoteAddr)
	require.Equal(t, []byte{0, 1, 255}, body)
	require.EqualValues(t, 3, r.ContentLength)
	require.Equal(t, "a,b", r.Header.Get("X-Many"), "Lambda joins the values of one header")
	c, err := r.Cookie("b")
	require.NoError(t, err)
	require.Equal(t, "2", c.Value)
}

func TestThePathBehindTheRouteIsTheFunctions(t *testing.T) {
	for raw, want := range map[string]string{
		"/function/f": "/", "/function/f/": "/", "/function/f/a/b": "/a/b", "/a": "/a", "": "/", "/function/fx/a": "/function/fx/a",
		"/100%": "/100%", "/a?b#c": "/a?b#c", "/a b": "/a b", // API Gateway has decoded these
	} {
		var path, query string
		onLambda(t, func(_ http.ResponseWriter, r *http.Request) { path, query = r.URL.Path, r.URL.RawQuery }, asked(http.MethodGet, raw))
		require.Equal(t, want, path, "of %q", raw)
		require.Empty(t, query, "of %q", raw)
	}
}

func TestAnAnswerOnLambdaIsTheOneThatAServerWouldHaveSent(t *testing.T) {
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		want events.LambdaFunctionURLResponse
	}{
		"text without a type is called text, not JSON": {
			func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") },
			events.LambdaFunctionURLResponse{StatusCode: 200, Headers: map[string]string{"Content-Type": "text/plain; charset=utf-8"}, Body: "ok\n"},
		},
		"bytes are encoded": {
			func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/gzip")
				_, _ = w.Write([]byte{0xff, 0})
			},
			events.LambdaFunctionURLResponse{StatusCode: 200, Headers: map[string]string{"Content-Type": "application/gzip"}, Body: "/wA=", IsBase64Encoded: true},
		},
		"cookies are apart, other values are joined": {
			func(w http.ResponseWriter, _ *http.Request) {
				http.SetCookie(w, &http.Cookie{Name: "a", Value: "1"})
				http.SetCookie(w, &http.Cookie{Name: "b", Value: "2"})
				w.Header().Add("Vary", "Accept")
				w.Header().Add("Vary", "Cookie")
				w.WriteHeader(http.StatusNoContent)
			},
			events.LambdaFunctionURLResponse{StatusCode: 204, Headers: map[string]string{"Vary": "Accept,Cookie"}, Cookies: []string{"a=1", "b=2"}},
		},
		"a handler that says nothing succeeds": {
			func(http.ResponseWriter, *http.Request) {},
			events.LambdaFunctionURLResponse{StatusCode: 200, Headers: map[string]string{}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, *onLambda(t, c.h, asked(http.MethodGet, "/")))
		})
	}
}

func TestAPanicIsAnAnswerAndNotTheEndOfTheProcess(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"at once": func(http.ResponseWriter, *http.Request) { panic("secret detail") },
		"after a part": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "half of")
			panic("secret detail")
		},
		"an aborted answer": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusCreated)
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := onLambda(t, h, asked(http.MethodGet, "/"))
			require.Equal(t, http.StatusInternalServerError, got.StatusCode)
			require.Equal(t, "internal error\n", got.Body, "no part of an answer, and no details")
		})
	}
}

func TestAnAnswerOverSixMebibytesIsRefusedAsItIsSent(t *testing.T) {
	send := func(n int, b byte, contentType string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			block := []byte(strings.Repeat(string(rune(b)), 64<<10))
			for n > 0 {
				if _, err := w.Write(block[:min(n, len(block))]); err != nil {
					return
				}
				n -= len(block)
			}
		}
	}
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		want int
	}{
		"text below it":                  {send(6<<20-1000, 'a', "text/plain"), http.StatusOK},
		"text above it":                  {send(6<<20+1, 'a', "text/plain"), http.StatusBadGateway},
		"text that JSON makes larger":    {send(4<<20, '"', "text/plain"), http.StatusBadGateway},
		"bytes that base64 makes larger": {send(5<<20, 'a', "image/png"), http.StatusBadGateway},
		"bytes below it":                 {send(4<<20, 'a', "image/png"), http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			got := onLambda(t, c.h, asked(http.MethodGet, "/"))
			require.Equal(t, c.want, got.StatusCode)
			sent, err := json.Marshal(got)
			require.NoError(t, err)
			require.LessOrEqual(t, len(sent), 6<<20)
		})
	}
}

func TestACallEndsBeforeLambdaEndsTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			http.Error(w, "late", http.StatusServiceUnavailable)
		})
		got, err := function.LambdaHandler(h, function.LambdaOptions{Name: "f"})(ctx, asked(http.MethodGet, "/"))
		require.NoError(t, err)
		require.Equal(t, 9500*time.Millisecond, time.Since(start))
		answer, ok := got.(*events.LambdaFunctionURLResponse)
		require.True(t, ok)
		require.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
	})
}

// streamed returns what Lambda reads of a streamed answer: the prelude, and the body.
func streamed(t *testing.T, h http.HandlerFunc) (map[string]any, string, error) {
	t.Helper()
	got, err := function.LambdaHandler(h, function.LambdaOptions{Name: "f", Stream: true})(t.Context(), asked(http.MethodGet, "/"))
	require.NoError(t, err)
	stream, ok := got.(io.ReadCloser)
	require.True(t, ok, "%T", got)
	defer stream.Close()
	typed, ok := got.(interface{ ContentType() string })
	require.True(t, ok)
	require.Equal(t, "application/vnd.awslambda.http-integration-response", typed.ContentType())
	all, err := io.ReadAll(stream)
	prelude, body, ok := strings.Cut(string(all), "\x00\x00\x00\x00\x00\x00\x00\x00")
	require.True(t, ok, "%q", all)
	var out map[string]any
	require.NoError(t, json.Unmarshal([]byte(prelude), &out))
	return out, body, err
}

func TestAStreamedAnswerIsReadWhileItIsWritten(t *testing.T) {
	next := make(chan struct{})
	h := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Add("Set-Cookie", "a=1")
		if err := http.NewResponseController(w).Flush(); err != nil {
			panic(err)
		}
		_, _ = io.WriteString(w, "one ")
		<-next
		_, _ = io.WriteString(w, "two")
	}
	got, err := function.LambdaHandler(http.HandlerFunc(h), function.LambdaOptions{Name: "f", Stream: true})(t.Context(), asked(http.MethodGet, "/"))
	require.NoError(t, err)
	stream, ok := got.(io.Reader)
	require.True(t, ok)
	var read strings.Builder
	for b := make([]byte, 512); !strings.HasSuffix(read.String(), "one "); {
		n, err := stream.Read(b)
		require.NoError(t, err)
		read.Write(b[:n])
	}
	close(next)
	rest, err := io.ReadAll(stream)
	require.NoError(t, err)
	require.Equal(t, "two", string(rest))
	require.Contains(t, read.String(), `{"statusCode":200,"headers":{"Content-Type":"text/event-stream"},"cookies":["a=1"]}`)
}

func TestAStreamThatBreaksIsNotTakenForWhole(t *testing.T) {
	prelude, body, err := streamed(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half of")
		panic("handler")
	})
	require.EqualValues(t, 200, prelude["statusCode"])
	require.Equal(t, "half of", body)
	require.ErrorContains(t, err, "before it is complete")

	prelude, body, err = streamed(t, func(http.ResponseWriter, *http.Request) { panic("handler") })
	require.NoError(t, err)
	require.EqualValues(t, 500, prelude["statusCode"])
	require.Equal(t, "internal error\n", body)
}

func TestTheMessagesOfAQueueThatFailedAreNamedAndNoOthers(t *testing.T) {
	var took []string
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		took = append(took, fmt.Sprintf("%s %s %s %s", r.Method, r.URL.Path, r.Header.Get("X-Gitea-Event"), body))
		switch r.URL.Path {
		case "/bad":
			http.Error(w, "no", http.StatusUnauthorized)
		case "/panic":
			panic("handler")
		}
	})
	text := func(s string) events.SQSMessageAttribute {
		return events.SQSMessageAttribute{DataType: "String", StringValue: &s}
	}
	batch := events.SQSEvent{}
	for i, m := range []events.SQSMessage{
		{Body: string(asked(http.MethodPost, "/function/f/good"))},
		{Body: string(asked(http.MethodPost, "/bad"))},
		{Body: "no JSON"},
		{Body: ""},
		{Body: string(asked(http.MethodPost, "/panic"))},
		{Body: `{"x":1}`},
		{Body: "{}"},
		{Body: `{"ref":"refs/heads/main"}`, MessageAttributes: map[string]events.SQSMessageAttribute{"Path": text("/function/f/acme/deploy"), "X-Gitea-Event": text("push")}},
		{Body: `{}`, MessageAttributes: map[string]events.SQSMessageAttribute{"Path": text("/a"), "X-Gitea-Event": {DataType: "Binary"}}},
	} {
		m.MessageId, m.EventSource = fmt.Sprint(i), "aws:sqs"
		batch.Records = append(batch.Records, m)
	}
	event, err := json.Marshal(batch)
	require.NoError(t, err)
	got, err := function.LambdaHandler(h, function.LambdaOptions{Name: "f"})(t.Context(), event)
	require.NoError(t, err)
	answer, err := json.Marshal(got)
	require.NoError(t, err)
	require.JSONEq(t, `{"batchItemFailures":[{"itemIdentifier":"1"},{"itemIdentifier":"2"},{"itemIdentifier":"4"},{"itemIdentifier":"5"},{"itemIdentifier":"8"}]}`, string(answer))
	require.Equal(t, []string{"POST /good  ", "POST /bad  ", "POST /  ", "POST /panic  ", "POST /  ", `POST /acme/deploy push {"ref":"refs/heads/main"}`}, took)
}

func TestMessagesForWhichNoTimeIsLeftAreShownAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { calls++; <-r.Context().Done() })
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		event := json.RawMessage(`{"Records":[{"messageId":"a","eventSource":"aws:sqs"},{"messageId":"b","eventSource":"aws:sqs"}]}`)
		got, err := function.LambdaHandler(h, function.LambdaOptions{Name: "f"})(ctx, event)
		require.NoError(t, err)
		require.Equal(t, events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{{ItemIdentifier: "b"}}}, got)
		require.Equal(t, 1, calls)
	})
}

func TestAScheduleLooksAndHearsOfWhatFails(t *testing.T) {
	for name, c := range map[string]struct {
		event  string
		status int
		err    string
	}{
		"a rule of EventBridge":      {`{"version":"0","detail-type":"Scheduled Event","source":"aws.events","detail":{}}`, http.StatusOK, ""},
		"a schedule of EventBridge":  {`{"version":"0","detail-type":"Scheduled Event","source":"aws.scheduler","detail":"{}"}`, http.StatusOK, ""},
		"a function that cannot now": {`{"version":"0","detail-type":"Scheduled Event","source":"aws.events"}`, http.StatusServiceUnavailable, "answered 503: try again"},
	} {
		t.Run(name, func(t *testing.T) {
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				require.Equal(t, "POST /", r.Method+" "+r.URL.Path)
				if c.status != http.StatusOK {
					http.Error(w, "try again", c.status)
				}
			})
			_, err := function.LambdaHandler(h, function.LambdaOptions{Name: "f"})(t.Context(), json.RawMessage(c.event))
			if c.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.err)
			}
		})
	}
}

func TestAnEventThatIsNotTakenSaysWhatIs(t *testing.T) {
	for name, event := range map[string]string{
		"another service's":        `{"Records":[{"eventSource":"aws:s3","messageId":"1"}]}`,
		"one of several records":   `{"Records":[{"eventSource":"aws:sqs","messageId":"1"},{"eventSource":"aws:s3"}]}`,
		"API Gateway's format 1.0": `{"version":"1.0","httpMethod":"GET","path":"/","requestContext":{"httpMethod":"GET"}}`,
		"another event of a bus":   `{"detail-type":"EC2 Instance State-change Notification","source":"aws.ec2"}`,
		"a schedule of somebody":   `{"detail-type":"Scheduled Event","source":"somebody"}`,
		"no object":                `["password"]`,
		"nothing":                  `null`,
		"a body that is no base64": `{"version":"2.0","isBase64Encoded":true,"body":"-","requestContext":{"http":{"method":"GET"}}}`,
		"no method":                `{"version":"2.0","requestContext":{"http":{}}}`,
		"an odd method":            `{"version":"2.0","requestContext":{"http":{"method":"G E T"}}}`,
		"other types":              `{"version":"2.0","headers":7,"requestContext":{"http":{"method":"GET"}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the function was called") })
			_, err := function.LambdaHandler(h, function.LambdaOptions{Name: "f"})(t.Context(), json.RawMessage(event))
			for _, taken := range []string{"Function URLs", "API Gateway (payload format 2.0)", "SQS", "EventBridge schedules"} {
				require.ErrorContains(t, err, taken)
			}
			require.NotContains(t, err.Error(), "password")
		})
	}
}

// An event that is none of those that we take is never answered as if it had been served,
// and none panics.
func FuzzLambdaEvent(f *testing.F) {
	for _, seed := range []string{
		string(asked(http.MethodPost, "/function/f/a%2Fb")), `{"Records":[{"messageId":"a","eventSource":"aws:sqs","body":"{}"}]}`,
		`{"detail-type":"Scheduled Event","source":"aws.events"}`, `{"x":1}`, `[]`, ``, `{"version":"2.0","requestContext":{"http":{"method":"GET"}},"isBase64Encoded":true,"body":"AA=="}`,
		`{"Records":[{"messageId":"a","eventSource":"aws:sqs","body":"x","messageAttributes":{"Path":{"stringValue":"/%zz"}}}]}`,
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, event []byte, stream bool) {
		calls := 0
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls++
			_, _ = io.Copy(w, r.Body)
			_, _ = io.WriteString(w, r.URL.EscapedPath()+r.RequestURI+r.Host)
		})
		got, err := function.LambdaHandler(h, function.LambdaOptions{Name: "f", Stream: stream})(t.Context(), event)
		var e events.LambdaFunctionURLRequest
		var q events.SQSEvent
		var s events.EventBridgeEvent
		request := json.Unmarshal(event, &e) == nil && e.RequestContext.HTTP.Method != ""
		queue := json.Unmarshal(event, &q) == nil && len(q.Records) > 0
		if err != nil {
			require.Zero(t, calls, "served, and answered as if not: %s", event)
			return
		}
		if !request && !queue {
			_ = json.Unmarshal(event, &s) // its detail may be of any type
			require.Equal(t, "Scheduled Event", s.DetailType, "%s", event)
			require.Equal(t, 1, calls)
		}
		if stream, ok := got.(io.ReadCloser); ok {
			_, err := io.ReadAll(stream)
			require.NoError(t, err)
			require.NoError(t, stream.Close())
		}
		if batch, ok := got.(events.SQSEventResponse); ok {
			require.Equal(t, len(q.Records), calls+len(batch.BatchItemFailures), "a message is served or named")
		}
	})
}
