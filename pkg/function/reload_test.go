package function_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/function"
	"hotswap.dev/hotswap/pkg/secret"
)

// A vault is the secrets of a host, which may change at any moment.
type vault struct {
	mu     sync.Mutex
	values map[string]string
	err    error
	reads  int
	now    time.Time

	building error
	built    []string       // values of "a" and "b"
	closed   map[string]int // how often each was closed
	hold     chan struct{}  // a call of /hold waits for it
}

func newVault(values map[string]string) *vault {
	return &vault{values: values, closed: map[string]int{}, hold: make(chan struct{}), now: time.Unix(1e9, 0)}
}

func (v *vault) set(values map[string]string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.values, v.err = values, err
}

func (v *vault) later(d time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.now = v.now.Add(d)
}

func (v *vault) get(_ context.Context, name string) (secret.Secret, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reads++
	if v.err != nil {
		return secret.Secret{}, v.err
	}
	value, ok := v.values[name]
	if !ok {
		return secret.Secret{}, fmt.Errorf("%w: %s", function.ErrNoSecret, name)
	}
	return secret.New([]byte(value)), nil
}

func (v *vault) build(_ context.Context, s function.Secrets) (function.Work, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.building != nil {
		return function.Work{}, v.building
	}
	_, optional := s["b"]
	made := fmt.Sprintf("%s %s %t #%d", s["a"].RevealString(), s["b"].RevealString(), optional, len(v.built))
	v.built = append(v.built, made)
	return function.Work{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hold" {
				<-v.hold
			}
			v.mu.Lock()
			defer v.mu.Unlock()
			if v.closed[made] > 0 {
				w.WriteHeader(http.StatusInternalServerError)
			}
			fmt.Fprint(w, made)
		}),
		Ready: func(context.Context) error { return nil },
		Close: func() {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.closed[made]++
		},
	}, nil
}

func (v *vault) function() *function.Reloading {
	return function.NewReloading(function.Reload{
		Required: []string{"a"}, Optional: []string{"b"}, Get: v.get, Build: v.build,
		Now: func() time.Time { v.mu.Lock(); defer v.mu.Unlock(); return v.now },
	})
}

func TestAFunctionIsBuiltWhenItIsFirstCalledAndAgainOnceItsSecretsHaveChanged(t *testing.T) {
	v := newVault(map[string]string{"a": "1"})
	f := v.function()
	require.Empty(t, v.built, "nothing is built that nobody called")
	require.Equal(t, "1  false #0", call(f, http.MethodPost, "/").Body.String())
	v.set(map[string]string{"a": "1", "b": "x"}, nil)
	require.Equal(t, "1  false #0", call(f, http.MethodPost, "/").Body.String(), "within a second nothing looks again")
	reads := v.reads
	v.later(time.Second)
	require.Equal(t, reads, v.reads, "nothing looks between calls")
	require.Equal(t, "1 x true #1", call(f, http.MethodPost, "/").Body.String(), "an optional one that has come")
	v.later(time.Minute)
	require.Equal(t, "1 x true #1", call(f, http.MethodPost, "/").Body.String(), "what is the same is not built again")
	v.set(map[string]string{"a": "2"}, nil)
	v.later(time.Second)
	require.NoError(t, f.Ready(t.Context()))
	require.Equal(t, "2  false #2", call(f, http.MethodPost, "/").Body.String())
	f.Close()
	require.Equal(t, map[string]int{"1  false #0": 1, "1 x true #1": 1, "2  false #2": 1}, v.closed)
}

func TestAFormerGenerationIsClosedAfterItsLastCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{"a": "1"})
		f := v.function()
		old := make(chan *httptest.ResponseRecorder, 2)
		for range 2 {
			go func() { old <- call(f, http.MethodPost, "/hold") }()
		}
		synctest.Wait()
		v.set(map[string]string{"a": "2"}, nil)
		v.later(time.Second)
		require.Equal(t, "2  false #1", call(f, http.MethodPost, "/").Body.String())
		require.Empty(t, v.closed, "two calls work with it")
		v.hold <- struct{}{}
		<-old
		synctest.Wait()
		require.Empty(t, v.closed, "one call works with it")
		v.hold <- struct{}{}
		w := <-old
		synctest.Wait()
		require.Equal(t, "200 1  false #0", fmt.Sprint(w.Code, " ", w.Body))
		require.Equal(t, map[string]int{"1  false #0": 1}, v.closed)
	})
}

func TestSecretsThatCannotBeReadOrUsedKeepTheFormerOnes(t *testing.T) {
	v := newVault(map[string]string{"a": "1"})
	f := v.function()
	call(f, http.MethodPost, "/")
	for name, spoil := range map[string]func(){
		"unreadable":      func() { v.set(map[string]string{"a": "2"}, errors.New("the disk is gone")) },
		"a required less": func() { v.set(map[string]string{}, nil) },
		"not to be used":  func() { v.set(map[string]string{"a": "2"}, nil); v.building = errors.New("not a key") },
	} {
		spoil()
		v.later(time.Second)
		w := call(f, http.MethodPost, "/")
		require.Equal(t, "200 1  false #0", fmt.Sprint(w.Code, " ", w.Body), name)
		require.NoError(t, f.Ready(t.Context()), name)
		reads := v.reads
		call(f, http.MethodPost, "/")
		require.Equal(t, reads, v.reads, "it is not looked at with each call: %s", name)
		v.building = nil
	}
	v.set(map[string]string{"a": "3"}, nil)
	v.later(time.Second)
	require.Equal(t, "3  false #1", call(f, http.MethodPost, "/").Body.String())
}

func TestAFunctionThatCannotBeBuiltSaysSoWithoutDetailsAndIsTriedAgainAtTheNextCall(t *testing.T) {
	v := newVault(map[string]string{"b": "s3cret"})
	f := v.function()
	for name, spoil := range map[string]func(){
		"a required secret that is missing": func() {},
		"a build that fails": func() {
			v.set(map[string]string{"a": "1"}, nil)
			v.building = errors.New("password s3cret of host db is wrong")
		},
	} {
		spoil()
		w := call(f, http.MethodPost, "/")
		require.Equal(t, http.StatusServiceUnavailable, w.Code, name)
		require.Equal(t, "5", w.Header().Get("Retry-After"), name)
		require.Equal(t, "try again\n", w.Body.String(), name)
		require.Error(t, f.Ready(t.Context()), name)
		v.building = nil
		v.set(map[string]string{"b": "s3cret"}, nil)
	}
	v.set(map[string]string{"a": "1"}, nil)
	require.Equal(t, "1  false #0", call(f, http.MethodPost, "/").Body.String())
}

// A look that takes long, as one at a database that is away does.
func TestWhoLooksAtTheSecretsStopsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{"a": "1"})
		slow := make(chan struct{})
		reload := v.function().Reload
		reload.Build = func(ctx context.Context, s function.Secrets) (function.Work, error) {
			if s["a"].RevealString() == "1" {
				return v.build(ctx, s)
			}
			<-slow
			return v.build(ctx, s)
		}
		f := function.NewReloading(reload)
		held := make(chan struct{})
		go func() { call(f, http.MethodPost, "/hold"); close(held) }()
		synctest.Wait()
		v.set(map[string]string{"a": "2"}, nil)
		v.later(time.Second)
		looks := make(chan string, 1)
		go func() { looks <- call(f, http.MethodPost, "/").Body.String() }()
		synctest.Wait()
		require.Equal(t, "1  false #0", call(f, http.MethodPost, "/").Body.String(), "others go on with what there is")
		v.hold <- struct{}{}
		<-held // a call that is over does not wait either
		close(slow)
		require.Equal(t, "2  false #1", <-looks)
	})
}

func TestACallWaitsForTheFirstBuildNoLongerThanItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{"a": "1"})
		slow := make(chan struct{})
		reload := v.function().Reload
		reload.Build = func(ctx context.Context, s function.Secrets) (function.Work, error) { <-slow; return v.build(ctx, s) }
		f := function.NewReloading(reload)
		first := make(chan int, 1)
		go func() { first <- call(f, http.MethodPost, "/").Code }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w, start := httptest.NewRecorder(), time.Now()
		f.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/", nil))
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.Equal(t, time.Second, time.Since(start))
		close(slow)
		require.Equal(t, http.StatusOK, <-first)
		require.Len(t, v.built, 1)
	})
}

func TestAClosedFunctionIsBuiltNoMoreAndEndsWithItsLastCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(map[string]string{"a": "1"})
		f := v.function()
		last := make(chan int, 1)
		go func() { last <- call(f, http.MethodPost, "/hold").Code }()
		synctest.Wait()
		f.Close()
		require.Equal(t, http.StatusServiceUnavailable, call(f, http.MethodPost, "/").Code)
		require.Len(t, v.built, 1)
		require.Empty(t, v.closed, "a call works with it")
		close(v.hold)
		require.Equal(t, http.StatusOK, <-last)
		synctest.Wait()
		f.Close()
		require.Equal(t, map[string]int{"1  false #0": 1}, v.closed)
	})
}

func TestSecretsThatChangeTogetherAreSeenTogether(t *testing.T) {
	v := newVault(map[string]string{"a": "0", "b": "0"})
	reload := v.function().Reload
	reload.Every = time.Nanosecond
	var at atomic.Int64
	reload.Now = func() time.Time { return time.Unix(0, at.Add(1)) } // each call may look
	f := function.NewReloading(reload)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		for i := 1; ctx.Err() == nil; i++ {
			n := fmt.Sprint(i)
			v.set(map[string]string{"a": n, "b": n}, nil)
			time.Sleep(20 * time.Microsecond) // a host that changes them as fast as they are read
		}
	})
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			for range 300 {
				w := call(f, http.MethodPost, "/")
				var a, b string
				_, _ = fmt.Sscan(w.Body.String(), &a, &b)
				if w.Code != http.StatusOK && w.Code != http.StatusServiceUnavailable || w.Code == http.StatusOK && a != b {
					t.Errorf("%d %s", w.Code, w.Body)
				}
			}
		})
	}
	calls.Wait()
	cancel()
	group.Wait()
	f.Close()
	require.NotEmpty(t, v.built)
	require.Len(t, v.closed, len(v.built))
	for made, times := range v.closed {
		require.Equal(t, 1, times, made)
	}
}

func TestSecretsAreLookedAtWhenTheirTimeHasPassedOrTheClockIsSetBack(t *testing.T) {
	now, looked := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), false
	r := function.NewReloading(function.Reload{
		Required: []string{"a"}, Every: time.Minute, Now: func() time.Time { return now },
		Get: func(context.Context, string) (secret.Secret, error) {
			looked = true
			return secret.New([]byte("value")), nil
		},
		Build: func(context.Context, function.Secrets) (function.Work, error) {
			return function.Work{Handler: http.NotFoundHandler(), Ready: ready, Close: func() {}}, nil
		},
	})
	for i, step := range []struct {
		later time.Duration
		want  bool
	}{{0, true}, {59 * time.Second, false}, {time.Second, true}, {time.Second, false}, {-time.Hour, true}, {time.Second, false}} {
		now, looked = now.Add(step.later), false
		call(r, http.MethodPost, "/")
		require.Equal(t, step.want, looked, "step %d, after %s", i, step.later)
	}
}
