package function

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

// LambdaOptions say how a function is reached on AWS Lambda.
type LambdaOptions struct {
	Name string // of the function; a path that begins with /function/NAME is the path behind it
	// Stream answers with the response-streaming protocol of Function URLs; else an answer
	// is sent when it is whole, as API Gateway and buffered Function URLs want it.
	Stream bool
	Stop   func() // called when Lambda is about to end the process; it has 300 ms
}

// lambdaMargin is left of Lambda's deadline, to answer in.
const lambdaMargin = 500 * time.Millisecond

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
	return lambdaHost{options: o, handler: h}.handle
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
		return nil, fmt.Errorf("%w: this one is not one of them", errEvent) // its text may be a secret of somebody
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
	r, err := l.request(ctx, event)
	if err != nil {
		return nil, err
	}
	if l.options.Stream {
		return l.stream(r)
	}
	return l.whole(r).encoded(), nil
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
	w := l.whole(r)
	if w.status < http.StatusOK || w.status >= http.StatusMultipleChoices {
		return fmt.Errorf("answered %d: %.200s", w.status, strings.TrimSpace(w.body.String()))
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
	for _, m := range batch.Records { // before the first is served: an error shows all of them again
		if m.EventSource != "aws:sqs" || m.MessageId == "" {
			return nil, fmt.Errorf("%w: the records of this one are not SQS messages", errEvent)
		}
	}
	out := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
	for _, m := range batch.Records {
		if err := l.message(ctx, m); err != nil {
			slog.WarnContext(ctx, "message failed; the queue shows it again", "function", l.options.Name, "message", m.MessageId, "err", err)
			out.BatchItemFailures = append(out.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: m.MessageId})
		}
	}
	return out, nil
}

// attributePath is the attribute of a message that API Gateway wrote: its body is the
// request's, and the other attributes are the request's headers.
const attributePath = "Path"

// message serves one message: a POST that API Gateway put into the queue, a request of
// payload format 2.0, or nothing, which means "look now".
func (l lambdaHost) message(ctx context.Context, m events.SQSMessage) error {
	if ctx.Err() != nil {
		return context.Cause(ctx) // no time is left: the queue shows it again
	}
	if _, ok := m.MessageAttributes[attributePath]; ok {
		q := events.LambdaFunctionURLRequest{Body: m.Body, Headers: map[string]string{}}
		q.RequestContext.HTTP.Method = http.MethodPost
		for name, a := range m.MessageAttributes {
			if a.StringValue == nil {
				return fmt.Errorf("attribute %s of the message is no text", name)
			}
			q.Headers[name] = *a.StringValue
		}
		q.RawPath = q.Headers[attributePath]
		delete(q.Headers, attributePath)
		r, err := l.opened(ctx, q)
		if err != nil {
			return err
		}
		return l.call(r)
	}
	if body := strings.TrimSpace(m.Body); body == "" || body == "{}" {
		return l.look(ctx)
	}
	r, err := l.request(ctx, json.RawMessage(m.Body))
	if err != nil {
		return err
	}
	return l.call(r)
}
