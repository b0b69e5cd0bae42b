package function

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdaurl"
)

// maxLambdaAnswer bounds a buffered answer, as it is sent: JSON.
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const maxLambdaAnswer = 6 << 20

// request reads a request of payload format 2.0.
func (l lambdaHost) request(ctx context.Context, event json.RawMessage) (*http.Request, error) {
	var q events.LambdaFunctionURLRequest
	if err := json.Unmarshal(event, &q); err != nil {
		return nil, fmt.Errorf("%w: this one is not of payload format 2.0", errEvent)
	}
	return l.opened(ctx, q)
}

// opened returns the request as net/http's server would. Lambda keeps cookies apart from
// the other headers, and a path begins with what the route of the gateway has before the
// function's. API Gateway has decoded the path, Function URLs have not.
func (l lambdaHost) opened(ctx context.Context, q events.LambdaFunctionURLRequest) (*http.Request, error) {
	if q.RequestContext.HTTP.Method == "" {
		return nil, fmt.Errorf("%w: this one names no requestContext.http.method", errEvent)
	}
	if q.IsBase64Encoded {
		body, err := base64.StdEncoding.DecodeString(q.Body)
		if err != nil {
			return nil, fmt.Errorf("%w: the body of this one is not base64", errEvent)
		}
		q.Body = string(body)
	}
	r, err := http.NewRequestWithContext(ctx, q.RequestContext.HTTP.Method, "/", strings.NewReader(q.Body))
	if err != nil {
		return nil, fmt.Errorf("%w: this one has an odd requestContext.http.method", errEvent)
	}
	for name, value := range q.Headers {
		r.Header.Add(name, value)
	}
	if len(q.Cookies) > 0 {
		r.Header.Set("Cookie", strings.Join(q.Cookies, "; "))
	}
	r.Header.Del("Host")
	r.Host = q.RequestContext.DomainName
	r.URL = &url.URL{Path: l.behind(q.RawPath), RawQuery: q.RawQueryString}
	if path, err := url.PathUnescape(r.URL.Path); err == nil {
		r.URL.RawPath, r.URL.Path = r.URL.Path, path
	}
	r.RequestURI = r.URL.RequestURI()
	if q.RequestContext.HTTP.SourceIP != "" {
		r.RemoteAddr = net.JoinHostPort(q.RequestContext.HTTP.SourceIP, "0")
	}
	return r, nil
}

// behind returns a path without the route that leads to the function.
func (l lambdaHost) behind(path string) string {
	if rest, ok := strings.CutPrefix(path, "/function/"+l.options.Name); ok && (rest == "" || rest[0] == '/') {
		path = rest
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return path
}

// serve has the handler write its answer. A panic ends the call and not the process, as
// with net/http's server; then the answer is not complete.
func (l lambdaHost) serve(w *typed, r *http.Request) (complete bool) {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			slog.ErrorContext(r.Context(), "function panicked", "function", l.options.Name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	l.handler.ServeHTTP(w, r)
	w.send(nil)
	return true
}

// whole returns the whole answer to a request.
func (l lambdaHost) whole(r *http.Request) *kept {
	k := &kept{header: http.Header{}}
	if !l.serve(&typed{to: k, header: http.Header{}}, r) {
		return problem(http.StatusInternalServerError, "internal error")
	}
	if k.over {
		return tooLarge()
	}
	return k
}

// stream returns the answer to a request while it is being written. One that ends before
// it is complete ends with an error: whoever reads it must not take it for whole.
func (l lambdaHost) stream(r *http.Request) (any, error) {
	var broken atomic.Bool
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		t := &typed{to: w, header: http.Header{}}
		switch {
		case l.serve(t, r):
		case t.sent:
			broken.Store(true)
		default:
			problem(http.StatusInternalServerError, "internal error").copyTo(w)
		}
	})
	q := &events.LambdaFunctionURLRequest{} // the protocol alone is lambdaurl's; the request is ours
	q.RequestContext.DomainName = "lambda.invalid"
	answer, err := lambdaurl.Wrap(h)(r.Context(), q)
	if err != nil {
		return nil, err
	}
	answer.Body = unbroken{Reader: answer.Body, broken: &broken}
	return answer, nil
}

// An unbroken stream ends with io.EOF only if it is complete.
type unbroken struct {
	io.Reader
	broken *atomic.Bool
}

func (u unbroken) Read(b []byte) (int, error) {
	n, err := u.Reader.Read(b)
	if errors.Is(err, io.EOF) && u.broken.Load() {
		err = errors.New("the answer ends before it is complete")
	}
	return n, err
}

// Close tells who writes that nobody reads.
func (u unbroken) Close() error {
	if c, ok := u.Reader.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// A typed answer says what content it is: where the handler does not, its first bytes do,
// as with net/http's server. Lambda would call it JSON.
type typed struct {
	to     http.ResponseWriter
	header http.Header // the handler's own: it may go on to change it
	status int
	sent   bool
}

func (t *typed) Header() http.Header { return t.header }

func (t *typed) WriteHeader(code int) {
	if t.status == 0 && code >= http.StatusOK {
		t.status = code
	}
}

func (t *typed) Write(b []byte) (int, error) {
	t.send(b)
	return t.to.Write(b)
}

// Flush sends what there is to send: the status and the header.
func (t *typed) Flush() { t.send(nil) }

func (t *typed) send(first []byte) {
	if t.sent {
		return
	}
	t.sent = true
	if len(first) > 0 && t.header.Get("Content-Type") == "" && t.header.Get("Content-Encoding") == "" {
		t.header.Set("Content-Type", http.DetectContentType(first))
	}
	for name, values := range t.header {
		t.to.Header()[name] = append([]string{}, values...)
	}
	t.to.WriteHeader(cmp.Or(t.status, http.StatusOK))
}

// A kept answer is one that is sent as a whole, or not at all.
type kept struct {
	header http.Header
	status int
	body   bytes.Buffer
	over   bool // there was more than fits
}

var errTooLarge = errors.New("the answer is larger than Lambda sends in one piece")

func (k *kept) Header() http.Header { return k.header }

func (k *kept) WriteHeader(code int) { k.status = code }

func (k *kept) Write(b []byte) (int, error) {
	if k.over || k.body.Len()+len(b) > maxLambdaAnswer {
		k.over = true
		return 0, errTooLarge
	}
	return k.body.Write(b)
}

// copyTo writes the answer.
func (k *kept) copyTo(w http.ResponseWriter) {
	for name, values := range k.header {
		w.Header()[name] = values
	}
	w.WriteHeader(k.status)
	_, _ = w.Write(k.body.Bytes())
}

// problem is an answer of this host's own.
func problem(status int, text string) *kept {
	k := &kept{header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, status: status}
	k.body.WriteString(text + "\n")
	return k
}

func tooLarge() *kept {
	return problem(http.StatusBadGateway, "the answer is larger than the 6 MiB that Lambda sends in one piece")
}

// encoded returns the answer in payload format 2.0.
func (k *kept) encoded() *events.LambdaFunctionURLResponse {
	out := &events.LambdaFunctionURLResponse{StatusCode: k.status, Headers: map[string]string{}, Cookies: k.header.Values("Set-Cookie")}
	for name, values := range k.header {
		if name != "Set-Cookie" {
			out.Headers[name] = strings.Join(values, ",")
		}
	}
	if textual(k.header.Get("Content-Type")) && utf8.Valid(k.body.Bytes()) {
		out.Body = k.body.String()
	} else {
		out.Body, out.IsBase64Encoded = base64.StdEncoding.EncodeToString(k.body.Bytes()), true
	}
	if len(out.Body) > maxLambdaAnswer/6 && size(out) > maxLambdaAnswer { // JSON makes six bytes of one, at most
		return tooLarge().encoded()
	}
	return out
}

// size is how many bytes an answer takes.
func size(out *events.LambdaFunctionURLResponse) int {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // as aws-lambda-go does
	if err := e.Encode(out); err != nil {
		return maxLambdaAnswer + 1
	}
	return b.Len()
}

// textual reports whether content of the type is text, which is not encoded.
func textual(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return contentType == ""
	}
	return strings.HasPrefix(t, "text/") || t == "application/json" || strings.HasSuffix(t, "+json") || t == "application/yaml" || t == "application/x-ndjson"
}
