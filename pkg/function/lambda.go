package function

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdaurl"
)

// LambdaOptions say how a function is reached on AWS Lambda.
type LambdaOptions struct {
	Name string // of the function; a path that begins with /function/NAME is the path behind it
	// Stream answers with the response-streaming protocol of Function URLs; else an answer
	// is sent when it is whole, as API Gateway and buffered Function URLs want it.
	Stream bool
	Stop   func() // called when Lambda is about to end the process; it has 300 ms
}

// Bounds of Lambda. https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const (
	maxLambdaAnswer = 6 << 20                // of a buffered answer, encoded
	lambdaMargin    = 500 * time.Millisecond // of Lambda's deadline, left to answer in
)

// StartLambda serves h to AWS Lambda; it returns never. One process is called by Function
// URLs, API Gateway (payload 2.0), SQS and EventBridge schedules alike: what an event is,
// it says itself.
func StartLambda(h http.Handler, o LambdaOptions) {
	options := []lambda.Option{}
	if o.Stop != nil {
		options = append(options, lambda.WithEnableSIGTERM(o.Stop))
	}
	lambda.StartWithOptions(LambdaHandler(h, o), options...)
}

// LambdaHandler returns the handler of events that [StartLambda] serves.
func LambdaHandler(h http.Handler, o LambdaOptions) func(ctx context.Context, event json.RawMessage) (any, error) {
	l := lambdaHost{options: o, handler: survived(h)}
	return l.handle
}

type lambdaHost struct {
	options LambdaOptions
	handler http.Handler
}

// A probe is what tells the events apart.
type probe struct {
	Version    string            `json:"version"`
	DetailType string            `json:"detail-type"`
	Source     string            `json:"source"`
	Records    []json.RawMessage `json:"Records"`
	Request    struct {
		HTTP *json.RawMessage `json:"http"`
	} `json:"requestContext"`
}

// errEvent: whoever configured the trigger must hear of it, so Lambda is told of an error.
var errEvent = errors.New("this function takes events of Function URLs, API Gateway (payload format 2.0), SQS and EventBridge schedules")

func (l lambdaHost) handle(ctx context.Context, event json.RawMessage) (any, error) {
	if d, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		// A streamed answer is still being written when this returns: its context ends
		// with the deadline alone.
		ctx, cancel = context.WithDeadline(ctx, d.Add(-lambdaMargin))
		if !l.options.Stream {
			defer cancel()
		} else {
			context.AfterFunc(ctx, cancel)
		}
	}
	var p probe
	if err := json.Unmarshal(event, &p); err != nil {
		return nil, fmt.Errorf("%w: this one is not JSON", errEvent)
	}
	switch {
	case p.Request.HTTP != nil && p.Version == "2.0":
		return l.http(ctx, event)
	case len(p.Records) > 0:
		return l.queue(ctx, event)
	case p.DetailType == "Scheduled Event" && (p.Source == "aws.events" || p.Source == "aws.scheduler"):
		return nil, l.look(ctx)
	default:
		return nil, errEvent
	}
}

// http serves one request and returns its answer, whole or as a stream.
func (l lambdaHost) http(ctx context.Context, event json.RawMessage) (any, error) {
	q, err := l.request(event)
	if err != nil {
		return nil, err
	}
	answer, err := lambdaurl.Wrap(l.handler)(ctx, q)
	if err != nil || l.options.Stream {
		return answer, err
	}
	return whole(answer)
}

// request reads a request of payload format 2.0. Lambda keeps cookies apart from the other
// headers, and a path begins with what the route of the gateway has before the function's.
func (l lambdaHost) request(event json.RawMessage) (*events.LambdaFunctionURLRequest, error) {
	q := &events.LambdaFunctionURLRequest{}
	if err := json.Unmarshal(event, q); err != nil {
		return nil, fmt.Errorf("%w: this one is not of payload format 2.0", errEvent)
	}
	if q.IsBase64Encoded {
		if _, err := base64.StdEncoding.DecodeString(q.Body); err != nil {
			return nil, fmt.Errorf("%w: the body of this one is not base64", errEvent)
		}
	}
	if len(q.Cookies) > 0 {
		if q.Headers == nil {
			q.Headers = map[string]string{}
		}
		q.Headers["cookie"] = strings.Join(q.Cookies, "; ")
	}
	if rest, ok := strings.CutPrefix(q.RawPath, "/function/"+l.options.Name); ok && (rest == "" || rest[0] == '/') {
		q.RawPath = rest
	}
	if !strings.HasPrefix(q.RawPath, "/") {
		q.RawPath = "/" + q.RawPath
	}
	if q.RequestContext.DomainName == "" {
		q.RequestContext.DomainName = "lambda.invalid"
	}
	return q, nil
}

// whole reads a streamed answer to its end.
func whole(s *events.LambdaFunctionURLStreamingResponse) (*events.LambdaFunctionURLResponse, error) {
	if c, ok := s.Body.(io.Closer); ok {
		defer c.Close()
	}
	body, err := io.ReadAll(io.LimitReader(s.Body, maxLambdaAnswer+1))
	if err != nil {
		return nil, err
	}
	out := &events.LambdaFunctionURLResponse{StatusCode: s.StatusCode, Headers: s.Headers, Cookies: s.Cookies}
	if textual(s.Headers["Content-Type"]) && utf8.Valid(body) {
		out.Body = string(body)
	} else {
		out.Body, out.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), true
	}
	if len(out.Body) > maxLambdaAnswer {
		return &events.LambdaFunctionURLResponse{
			StatusCode: http.StatusBadGateway, Headers: map[string]string{"Content-Type": "text/plain; charset=utf-8"},
			Body: "the answer is larger than the 6 MiB that Lambda sends in one piece\n",
		}, nil
	}
	return out, nil
}

// textual reports whether content of the type is text, which is not encoded.
func textual(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return contentType == ""
	}
	return strings.HasPrefix(t, "text/") || t == "application/json" || strings.HasSuffix(t, "+json") || t == "application/yaml" || t == "application/x-ndjson"
}

// look is the call of a schedule.
func (l lambdaHost) look(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "/", http.NoBody)
	if err != nil {
		return err
	}
	return l.call(r)
}

// call serves a request whose answer nobody waits for. An answer that is not a success is
// an error, so that the trigger tries again and keeps what does not pass.
func (l lambdaHost) call(r *http.Request) error {
	w := &kept{header: http.Header{}, status: http.StatusOK}
	l.handler.ServeHTTP(w, r)
	if w.status < http.StatusOK || w.status >= http.StatusMultipleChoices {
		return fmt.Errorf("answered %d: %s", w.status, strings.TrimSpace(w.body.String()))
	}
	return nil
}

// queue serves the calls of a batch one after the other. Those that failed are named, so
// that the queue shows them again and no others, and moves what never passes to its
// dead letters.
func (l lambdaHost) queue(ctx context.Context, event json.RawMessage) (any, error) {
	var batch events.SQSEvent
	if err := json.Unmarshal(event, &batch); err != nil {
		return nil, fmt.Errorf("%w: the records of this one are not SQS messages", errEvent)
	}
	out := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
	for _, m := range batch.Records {
		if m.EventSource != "aws:sqs" || m.MessageId == "" {
			return nil, fmt.Errorf("%w: the records of this one are not SQS messages", errEvent)
		}
		if err := l.message(ctx, m); err != nil {
			slog.WarnContext(ctx, "message failed; the queue shows it again", "function", l.options.Name, "message", m.MessageId, "err", err)
			out.BatchItemFailures = append(out.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: m.MessageId})
		}
	}
	return out, nil
}

// message serves one message: a request of payload format 2.0, as API Gateway and Function
// URLs write it, or nothing, which means "look now".
func (l lambdaHost) message(ctx context.Context, m events.SQSMessage) error {
	if ctx.Err() != nil {
		return context.Cause(ctx) // no time is left: the queue shows it again
	}
	if body := strings.TrimSpace(m.Body); body == "" || body == "{}" {
		return l.look(ctx)
	}
	q, err := l.request(json.RawMessage(m.Body))
	if err != nil {
		return err
	}
	if q.RequestContext.HTTP.Method == "" {
		return fmt.Errorf("%w: the message names no requestContext.http.method", errEvent)
	}
	answer, err := lambdaurl.Wrap(l.handler)(ctx, q)
	if err != nil {
		return err
	}
	got, err := whole(answer)
	if err != nil {
		return err
	}
	if got.StatusCode < http.StatusOK || got.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("answered %d: %.200s", got.StatusCode, got.Body)
	}
	return nil
}

// survived answers 500 for a handler that panics, as net/http's server ends the call and
// not the process.
func survived(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				slog.ErrorContext(r.Context(), "function panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				http.Error(w, "internal error", http.StatusInternalServerError)
			}
		}()
		h.ServeHTTP(w, r)
	})
}

// kept is an answer that is kept, but not more of it than fits a log.
type kept struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (k *kept) Header() http.Header { return k.header }

func (k *kept) Write(b []byte) (int, error) {
	if left := 200 - k.body.Len(); left > 0 {
		k.body.Write(b[:min(left, len(b))])
	}
	return len(b), nil
}

func (k *kept) WriteHeader(code int) { k.status = code }
