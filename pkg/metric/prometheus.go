package metric

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/analysis"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promql"
)

// Limits of a reading.
const (
	maxAnswer = 1 << 20         // bytes of one answer, unpacked
	maxPoints = 10_000          // of one series; Prometheus refuses more than 11 000
	maxRead   = 5 * time.Second // for all queries of a reading
	settle    = 2 * time.Second // what is younger may not have been stored yet
)

// A Prometheus is a server that answers PromQL. It is safe for concurrent use, and
// keeps nothing but connections.
type Prometheus struct {
	name   string
	query  string // URL of query_range
	client *http.Client
}

// New returns the server that analyses call name and that listens at baseURL, which
// the installation gives: http or https, with or without a path, and without a
// password.
func New(name, baseURL string) (*Prometheus, error) {
	u, err := url.Parse(baseURL)
	switch {
	case err != nil: // it may hold a password: it is not repeated
		return nil, fmt.Errorf("%w: %s: it cannot be parsed", ErrURL, name)
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, fmt.Errorf("%w: %s: it begins with http:// or https:// and names a host", ErrURL, name)
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return nil, fmt.Errorf("%w: %s: it has neither a user nor a query", ErrURL, name)
	}
	return &Prometheus{name: name, query: u.JoinPath("api/v1/query_range").String(), client: newClient()}, nil
}

// newClient returns a client that waits for nothing without end and follows nobody.
func newClient() *http.Client {
	return &http.Client{
		Timeout:       maxRead,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: maxRead}).DialContext,
			TLSHandshakeTimeout:    maxRead,
			ResponseHeaderTimeout:  maxRead,
			IdleConnTimeout:        time.Minute,
			MaxConnsPerHost:        8,
			MaxIdleConnsPerHost:    2,
			MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2:      true,
		},
	}
}

// Read returns the counters of a metric for both arms, from since to now, a step
// apart. The step grows where there would be too many points. An arm without units
// is not asked about and has no points; a point is where both counters have one.
//
// It takes at most half of the time that ctx has left: a server that does not answer
// must not keep its caller from going on without.
func (p *Prometheus) Read(ctx context.Context, m intent.Metric, v Vars, since, now time.Time, step time.Duration) (analysis.MetricSeries, error) {
	ctx, cancel := context.WithTimeout(ctx, patience(ctx))
	defer cancel()
	r := reading{Prometheus: p, metric: m, vars: v, window: newWindow(since, now, step)}
	changed, err := r.arm(ctx, v.Changed)
	if err != nil {
		return analysis.MetricSeries{}, fmt.Errorf("metric %s from %s: %w", m.Name, p.name, err)
	}
	others, err := r.arm(ctx, v.Others)
	if err != nil {
		return analysis.MetricSeries{}, fmt.Errorf("metric %s from %s: %w", m.Name, p.name, err)
	}
	out := analysis.MetricSeries{Name: m.Name, Changed: changed, Others: others}
	if r.window.end.Before(r.window.start) { // nothing to hold against it yet
		return out, nil
	}
	r.window = newWindow(since.Add(-past), since.Add(settle), time.Minute)
	if out.ChangedPast, err = r.arm(ctx, v.Changed); err == nil {
		out.OthersPast, err = r.arm(ctx, v.Others)
	}
	if err != nil {
		return analysis.MetricSeries{}, fmt.Errorf("the past of metric %s from %s: %w", m.Name, p.name, err)
	}
	return out, nil
}

// past is how long before the change the same units are looked at.
const past = time.Hour

// patience is how long a reading may take.
func patience(ctx context.Context) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return min(maxRead, time.Until(end)/2)
	}
	return maxRead
}

// A window is the times that are asked about: from start, a step apart, to end.
type window struct {
	start, end time.Time
	step       time.Duration
}

// newWindow leaves out what is not settled. The step is at least a second, and
// doubles until there are few enough points: a grid that seldom changes.
func newWindow(since, now time.Time, step time.Duration) window {
	w := window{start: since.Truncate(time.Millisecond), end: now.Add(-settle).Truncate(time.Millisecond), step: max(step, time.Second)}
	for w.end.Sub(w.start)/w.step >= maxPoints {
		w.step *= 2
	}
	return w
}

// A reading is what one call of Read asks.
type reading struct {
	*Prometheus
	metric intent.Metric
	vars   Vars
	window window
}

// arm reads both counters of one arm.
func (r reading) arm(ctx context.Context, units []string) ([]analysis.Point, error) {
	if len(units) == 0 || r.window.end.Before(r.window.start) {
		return nil, nil
	}
	requests, err := r.counter(ctx, r.metric.Prometheus.Requests, units)
	if err != nil {
		return nil, fmt.Errorf("requests: %w", err)
	}
	failures, err := r.counter(ctx, r.metric.Prometheus.Failures, units)
	if err != nil {
		return nil, fmt.Errorf("failures: %w", err)
	}
	return join(requests, failures), nil
}

// join returns the points at which both counters were read.
func join(requests, failures []value) (points []analysis.Point) {
	for len(requests) > 0 && len(failures) > 0 {
		switch a, b := requests[0], failures[0]; a.at.Compare(b.at) {
		case -1:
			requests = requests[1:]
		case 1:
			failures = failures[1:]
		default:
			points = append(points, analysis.Point{At: a.at, Requests: a.n, Failures: b.n})
			requests, failures = requests[1:], failures[1:]
		}
	}
	return points
}

// counter reads one counter of one arm.
func (r reading) counter(ctx context.Context, query string, units []string) ([]value, error) {
	query, err := promql.Expand(query, units, r.vars.Vars)
	if err != nil {
		return nil, err
	}
	body, err := r.ask(ctx, url.Values{
		"query": {query},
		"start": {seconds(r.window.start)}, "end": {seconds(r.window.end)},
		"step":    {strconv.FormatFloat(r.window.step.Seconds(), 'f', -1, 64)},
		"timeout": {maxRead.String()},
	})
	if err != nil {
		return nil, err
	}
	values, err := decode(body)
	if n := len(values); n > 0 && (values[0].at.Before(r.window.start) || values[n-1].at.After(r.window.end)) {
		return nil, fmt.Errorf("%w: times that were not asked about", ErrAnswer)
	}
	return values, err
}

// seconds writes a time as the API reads it: seconds, to the millisecond.
func seconds(t time.Time) string {
	return fmt.Sprintf("%d.%03d", t.Unix(), t.Nanosecond()/int(time.Millisecond))
}

// ask posts a form, which may be longer than an address, and returns the body of
// the answer.
func (p *Prometheus) ask(ctx context.Context, form url.Values) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.query, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("%w: more than %d bytes; is it one series?", ErrAnswer, maxAnswer)
	case resp.StatusCode == http.StatusBadRequest, resp.StatusCode == http.StatusUnprocessableEntity:
		return nil, fmt.Errorf("%w: the server says: %s", ErrQuery, short(complaint(body)))
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%w: status %d", ErrAnswer, resp.StatusCode)
	}
	return body, nil
}
