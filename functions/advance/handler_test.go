package advance_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/functions/advance"
)

// A shop has work that is due every so often, and one place to wait.
type shop struct {
	mu       sync.Mutex
	every    time.Duration // 0: nothing is open
	steps    int
	due      time.Time
	holder   string
	until    time.Time
	hints    int
	backstop int
}

func (s *shop) config() advance.Config {
	return advance.Config{
		Work: func(context.Context) (int, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.every == 0 || time.Now().Before(s.due) {
				return 0, nil
			}
			s.steps++
			s.due = time.Now().Add(s.every)
			return 1, nil
		},
		Backstop: func(context.Context) error { s.mu.Lock(); defer s.mu.Unlock(); s.backstop++; return nil },
		NextDue: func(context.Context) (time.Duration, bool, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return max(0, time.Until(s.due)), s.every > 0, nil
		},
		Stay: func(_ context.Context, who string, d time.Duration) (bool, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.holder != who && time.Now().Before(s.until) {
				return false, nil
			}
			s.holder, s.until = who, time.Now().Add(d)
			return true, nil
		},
		Hint: func(ctx context.Context, _ string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.hints++
		},
	}
}

func post(ctx context.Context, h http.Handler) int {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/", nil))
	return w.Code
}

func TestOneInvocationWaitsForWhatIsDueSoonAndTheOthersGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{every: 2 * time.Second}
		h := advance.New(s.config())
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		start := time.Now()
		var mu sync.Mutex
		var ends []time.Duration
		var group sync.WaitGroup
		for range 5 {
			group.Go(func() {
				require.Equal(t, http.StatusOK, post(ctx, h))
				mu.Lock()
				defer mu.Unlock()
				ends = append(ends, time.Since(start))
			})
		}
		synctest.Wait()
		mu.Lock()
		gone := len(ends)
		mu.Unlock()
		require.Equal(t, 4, gone, "four went at once")
		group.Wait()
		require.Less(t, ends[4], 28*time.Second, "and the fifth well before its deadline")
		require.Greater(t, ends[4], 20*time.Second)
		require.Greater(t, s.steps, 10, "polls are faster than the cron while one waits")
		require.Equal(t, 2*s.steps, s.hints, "to nodes and to deliver")
		require.Equal(t, 5, s.backstop)
	})
}

func TestNobodyWaitsForWhatIsNotDueBeforeTheDeadline(t *testing.T) {
	for name, every := range map[string]time.Duration{"nothing is open": 0, "due in an hour": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &shop{every: every, due: time.Now().Add(every)}
				start := time.Now()
				require.Equal(t, http.StatusOK, post(t.Context(), advance.New(s.config())))
				require.Zero(t, time.Since(start))
				require.Empty(t, s.holder)
			})
		})
	}
}

func TestAWaitWithoutADeadlineEndsAfterFiftySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{every: time.Second}
		start := time.Now()
		require.Equal(t, http.StatusOK, post(t.Context(), advance.New(s.config())))
		require.InDelta(t, 50*time.Second, time.Since(start), float64(2*time.Second))
	})
}

func TestAWaitEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{every: 10 * time.Second}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, cancel)
		start := time.Now()
		post(ctx, advance.New(s.config()))
		require.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestAFailureIsAnsweredSoThatTheHostTriesAgain(t *testing.T) {
	s := &shop{every: time.Second}
	for name, breakIt := range map[string]func(c *advance.Config, err error){
		"work":     func(c *advance.Config, err error) { c.Work = func(context.Context) (int, error) { return 0, err } },
		"backstop": func(c *advance.Config, err error) { c.Backstop = func(context.Context) error { return err } },
		"next due": func(c *advance.Config, err error) {
			c.NextDue = func(context.Context) (time.Duration, bool, error) { return 0, false, err }
		},
		"stay": func(c *advance.Config, err error) {
			c.Stay = func(context.Context, string, time.Duration) (bool, error) { return false, err }
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.config()
			breakIt(&c, errors.New("database is away"))
			require.Equal(t, http.StatusServiceUnavailable, post(t.Context(), advance.New(c)))
		})
	}
}
