package platform_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/platform"
)

// run runs the functions in a bubble of time until the test ends them; a
// goroutine that is left keeps the bubble from ending, which fails the test.
func run(t *testing.T, functions map[string]http.Handler, schedule map[string]time.Duration, play func(r *platform.Runner)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := platform.NewRunner(functions, schedule, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		synctest.Wait()
		play(r)
		cancel()
		synctest.Wait()
		select {
		case err := <-ended:
			require.NoError(t, err)
		default:
			require.Fail(t, "Run did not end with its context")
		}
	})
}

func TestHintsThatComeWhileOneWaitsAreOne(t *testing.T) {
	var calls atomic.Int64
	release := make(chan struct{})
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	synctest.Test(t, func(t *testing.T) {
		release = make(chan struct{})
		r := platform.NewRunner(map[string]http.Handler{"f": h}, nil, nil)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = r.Run(ctx) }()
		for range 100 {
			r.Hint(ctx, "f")
			synctest.Wait()
		}
		require.EqualValues(t, 3, calls.Load(), "so many are under way at once")
		close(release)
		synctest.Wait()
		require.EqualValues(t, 4, calls.Load(), "and ninety-seven more hints were one call")
		r.Hint(ctx, "unknown")
		cancel()
	})
}

func TestAPanicOfAFunctionIsTheEndOfItsCallOnly(t *testing.T) {
	var calls atomic.Int64
	run(t, map[string]http.Handler{"f": http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1); panic("handler") })}, nil, func(r *platform.Runner) {
		for range 5 {
			r.Hint(t.Context(), "f")
			synctest.Wait()
		}
	})
	require.EqualValues(t, 5, calls.Load())
}

func TestAFunctionIsCalledOnItsScheduleWithAnEmptyPostThoughEveryHintIsLost(t *testing.T) {
	var calls atomic.Int64
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		require.Equal(t, http.MethodPost, r.Method)
		require.Equal(t, "/", r.URL.Path)
		require.Zero(t, r.ContentLength)
	})
	run(t, map[string]http.Handler{"f": h, "g": http.NotFoundHandler()}, map[string]time.Duration{"f": 5 * time.Second}, func(*platform.Runner) {
		time.Sleep(21 * time.Second) // of the bubble
		synctest.Wait()
	})
	require.EqualValues(t, 5, calls.Load(), "at the start and every five seconds")
}

func TestRunWaitsForTheCallThatIsUnderWayAndLeavesNothingBehind(t *testing.T) {
	ended := false
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		time.Sleep(time.Second)
		ended = true
	})
	synctest.Test(t, func(t *testing.T) {
		r := platform.NewRunner(map[string]http.Handler{"f": h}, map[string]time.Duration{"f": time.Hour}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { _ = r.Run(ctx); close(done) }()
		synctest.Wait()
		cancel()
		<-done
		require.True(t, ended)
	})
}

func TestATickCallsOnlyWhatIsDue(t *testing.T) {
	var calls atomic.Int64
	var due atomic.Bool
	synctest.Test(t, func(t *testing.T) {
		h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) })
		r := platform.NewRunner(map[string]http.Handler{"f": h}, map[string]time.Duration{"f": time.Minute}, func(context.Context, string) bool { return due.Load() })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { _ = r.Run(ctx); close(done) }()
		time.Sleep(10*time.Minute + time.Second)
		require.Zero(t, calls.Load(), "nothing was due")
		r.Hint(ctx, "f")
		synctest.Wait()
		require.EqualValues(t, 1, calls.Load(), "a hint calls all the same")
		due.Store(true)
		time.Sleep(time.Minute + time.Second)
		require.EqualValues(t, 2, calls.Load())
		cancel()
		<-done
	})
}
