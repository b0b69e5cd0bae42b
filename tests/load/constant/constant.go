// Package constant is a load generator: a constant number of workers that ask the
// same URLs again and again, half of them on connections that they keep, half on a
// new one for each request. It counts what failed, and which versions answered.
package constant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// VersionHeader of an answer says which version gave it.
const VersionHeader = "HotSwap-Version"

// Options say what to ask. URLs are asked in turn.
type Options struct {
	URLs     []string
	Workers  int           // default 8
	Rate     float64       // requests per second of all workers together; 0: as fast as they are answered
	Timeout  time.Duration // of one request, default 10 s
	Progress string        // file that holds the Result so far, replaced every second; empty: none
}

// A Result counts. A request fails if it has no answer, an answer that breaks
// off, or a status that is not 2xx; and also if its connection was closed under it
// and only Go's client hides that by asking again.
type Result struct {
	Requests   int64            `json:"requests"` // failed ones included
	Failed     int64            `json:"failed"`
	FirstError string           `json:"firstError,omitempty"`
	Versions   map[string]int64 `json:"versions"` // answers by version; "" for none

	// ByURL counts what each URL answered with, failures included, by version.
	ByURL map[string]map[string]int64 `json:"byURL,omitempty"`
}

// ErrOptions is wrapped by errors about [Options].
var ErrOptions = errors.New("load options")

// Run asks until ctx ends, lets the requests under way finish, and returns what
// was counted. The error is about the options or the progress file, never about a
// request.
func Run(ctx context.Context, o Options) (Result, error) {
	if len(o.URLs) == 0 {
		return Result{}, fmt.Errorf("%w: no URL", ErrOptions)
	}
	if o.Workers <= 0 {
		o.Workers = 8
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	c := &counter{result: Result{Versions: map[string]int64{}, ByURL: map[string]map[string]int64{}}}
	pace := newPace(o.Rate)
	var workers sync.WaitGroup
	for n := range o.Workers {
		workers.Go(func() { work(ctx, o, c, n, pace) })
	}
	err := watch(ctx, o.Progress, c)
	workers.Wait()
	result := c.snapshot()
	if o.Progress != "" && err == nil {
		err = writeProgress(o.Progress, result)
	}
	return result, err
}

// work is one worker. Its requests have a context of their own: the end of the
// load must not look like a failure.
func work(ctx context.Context, o Options, c *counter, n int, pace *pace) {
	client := &http.Client{
		Timeout:       o.Timeout,
		Transport:     &http.Transport{DisableKeepAlives: n%2 == 1, MaxIdleConnsPerHost: 1},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	for i := n; pace.wait(ctx); i++ {
		url := o.URLs[i%len(o.URLs)]
		version, err := ask(client, url)
		c.count(url, version, err)
	}
}

func ask(client *http.Client, url string) (version string, err error) {
	connections := 0 // in one goroutine, as long as nothing redirects
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connections++ }}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(context.Background(), trace), http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return "", fmt.Errorf("GET %s: answer breaks off: %w", url, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return resp.Header.Get(VersionHeader), fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	if connections > 1 {
		return "", fmt.Errorf("GET %s: a kept connection was closed under the request, which was asked again", url)
	}
	return resp.Header.Get(VersionHeader), nil
}

// watch writes the progress every second until ctx ends.
func watch(ctx context.Context, path string, c *counter) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if path != "" {
			if err := writeProgress(path, c.snapshot()); err != nil {
				<-ctx.Done()
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// writeProgress replaces the file whole, so that a reader never sees half a line.
func writeProgress(path string, r Result) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write progress: %w", err)
	}
	next := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".next")
	if err := os.WriteFile(next, append(line, '\n'), 0o600); err != nil {
		return fmt.Errorf("write progress: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("write progress: %w", err)
	}
	return nil
}

type counter struct {
	mu     sync.Mutex
	result Result
}

func (c *counter) count(url, version string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.Requests++
	if version != "" {
		if c.result.ByURL[url] == nil {
			c.result.ByURL[url] = map[string]int64{}
		}
		c.result.ByURL[url][version]++
	}
	if err == nil {
		c.result.Versions[version]++
		return
	}
	c.result.Failed++
	if c.result.FirstError == "" {
		c.result.FirstError = err.Error()
	}
}

func (c *counter) snapshot() Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.result
	r.Versions = maps.Clone(c.result.Versions)
	r.ByURL = make(map[string]map[string]int64, len(c.result.ByURL))
	for url, versions := range c.result.ByURL {
		r.ByURL[url] = maps.Clone(versions)
	}
	return r
}

// A pace gives every request its time of start, so that slow answers do not make
// the load smaller than it was asked to be while there are workers to carry it.
type pace struct {
	every time.Duration

	mu   sync.Mutex
	next time.Time
}

func newPace(rate float64) *pace {
	p := &pace{next: time.Now()}
	if rate > 0 {
		p.every = time.Duration(float64(time.Second) / rate)
	}
	return p
}

// wait returns true when the next request is due, false when ctx has ended.
func (p *pace) wait(ctx context.Context) bool {
	if p.every == 0 {
		return ctx.Err() == nil
	}
	p.mu.Lock()
	due := p.next
	p.next = p.next.Add(p.every)
	if late := time.Now().Add(-time.Second); p.next.Before(late) {
		p.next = late // what nobody could carry is not made up for
	}
	p.mu.Unlock()
	t := time.NewTimer(time.Until(due))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
