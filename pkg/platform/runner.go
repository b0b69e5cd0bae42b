package platform

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// callsAtOnce is how many calls of one function the runner has under way, beside one for
// each of its processes: one may be lingering, see functions/advance, while another works.
const callsAtOnce = 2

// A Runner is the cron and the asynchronous calls of the embedded platform: it
// sends functions an empty POST that means "look now", on hints and on ticks.
// Nothing depends on a hint: what one misses, the next tick finds.
type Runner struct {
	functions map[string]http.Handler
	schedule  map[string]time.Duration
	due       func(ctx context.Context, function string) bool
	processes func(function string) int
	hints     map[string]chan struct{}
}

// NewRunner returns a runner of these functions. Schedule says how often each
// is looked after without a hint; functions that are not in it are called on hints only.
// Due says at such a tick whether there is anything for the function to do, so that one
// that is idle is not started; nil: each tick calls.
func NewRunner(functions map[string]http.Handler, schedule map[string]time.Duration, due func(ctx context.Context, function string) bool) *Runner {
	if due == nil {
		due = func(context.Context, string) bool { return true }
	}
	r := &Runner{functions: functions, schedule: schedule, due: due, processes: func(string) int { return 1 }, hints: map[string]chan struct{}{}}
	for name := range functions {
		r.hints[name] = make(chan struct{}, 1)
	}
	return r
}

// Spread lets the runner call a function at once as often as it has processes, and twice
// more. Without it there is one.
func (r *Runner) Spread(processes func(function string) int) { r.processes = processes }

// Hint asks for a call of the function and returns at once. Hints that come
// while one is waiting are one.
func (r *Runner) Hint(_ context.Context, function string) {
	select {
	case r.hints[function] <- struct{}{}:
	default:
	}
}

// Run calls the functions until ctx ends, and returns when every call has ended.
func (r *Runner) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for name := range r.functions {
		group.Go(func() error { r.loop(ctx, name); return nil })
		if every := r.schedule[name]; every > 0 {
			group.Go(func() error { r.tick(ctx, name, every); return nil })
		}
	}
	return group.Wait()
}

func (r *Runner) tick(ctx context.Context, name string, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		if r.due(ctx, name) {
			r.Hint(ctx, name)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// loop calls a function for each hint. A hint that comes while as many calls are under way
// as may be waits for the end of one.
func (r *Runner) loop(ctx context.Context, name string) {
	var calls sync.WaitGroup
	defer calls.Wait()
	ended := make(chan struct{})
	active, hinted := 0, false
	for {
		select {
		case <-r.hints[name]:
			hinted = true
		case <-ended:
			active--
		case <-ctx.Done():
			return
		}
		if !hinted || active >= callsAtOnce+max(1, r.processes(name)) {
			continue
		}
		hinted = false
		active++
		calls.Go(func() {
			r.call(ctx, name)
			select {
			case ended <- struct{}{}:
			case <-ctx.Done():
			}
		})
	}
}

// call sends the function an empty POST. A panic of a handler ends its call and
// nothing else, as on every host.
func (r *Runner) call(ctx context.Context, name string) {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler { // that one says only that we stop
			slog.ErrorContext(ctx, "function panicked", "function", name, "panic", fmt.Sprint(p))
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "/", http.NoBody)
	if err != nil {
		slog.ErrorContext(ctx, "call", "function", name, "err", err)
		return
	}
	w := &discard{header: http.Header{}, status: http.StatusOK}
	r.functions[name].ServeHTTP(w, req)
	if w.status >= http.StatusInternalServerError && ctx.Err() == nil {
		slog.WarnContext(ctx, "function failed; the next tick tries again", "function", name, "status", w.status)
	}
}

// A discard is the answer that nobody reads, but for its status.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(code int)        { d.status = code }
