package node

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"hotswap.dev/hotswap/pkg/target"
)

const (
	firstCheck   = 5 * time.Millisecond   // after the start
	slowestCheck = 200 * time.Millisecond // while starting
)

func newHealthClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// watch checks p's health until it has ended, was never healthy in its time, or
// ctx has ended. It returns since when it was healthy (zero: never) and, if it
// must be ended because it was not, the last answer.
func (i *instance) watch(ctx context.Context, p *process, address string) (since time.Time, never string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the process or with watch
		select {
		case <-p.exited:
			cancel()
		case <-ctx.Done():
		}
	}()
	c := i.spec.Config
	deadline := time.Now().Add(c.StartWithin)
	for pause := firstCheck; ; {
		if sleep(ctx, pause) != nil {
			return since, ""
		}
		err := i.check(ctx, address)
		switch {
		case ctx.Err() != nil:
			return since, ""
		case err == nil:
			if since.IsZero() {
				since = time.Now()
				i.address.Store(&address)
			}
			i.set(target.Healthy, nil)
			i.smokeTest(ctx, address)
		case !since.IsZero():
			i.set(target.Unhealthy, nil)
		case time.Now().After(deadline):
			return since, fmt.Sprintf("not healthy within %s: %v", c.StartWithin, err)
		}
		pause = min(pause*3/2, c.Interval, slowestCheck)
		if !since.IsZero() {
			pause = c.Interval
		}
	}
}

// check returns nil if the health path answers 2xx in time.
func (i *instance) check(ctx context.Context, address string) error {
	return i.get(ctx, address, i.spec.Config.HealthPath)
}

// get returns nil if a path of the module answers 2xx in time.
func (i *instance) get(ctx context.Context, address, path string) error {
	ctx, cancel := context.WithTimeout(ctx, i.spec.Config.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return err
	}
	resp, err := i.m.health.Do(req)
	if err != nil {
		return withoutURL(err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("%s answers %s", path, resp.Status)
	}
	return nil
}
