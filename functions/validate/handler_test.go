package validate_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/functions/validate"
)

func TestAdvanceIsToldToLookWhenThereWasWorkEvenIfTheRestFailed(t *testing.T) {
	for name, c := range map[string]struct {
		steps  int
		err    error
		status int
		hints  []string
	}{
		"nothing was due":    {0, nil, http.StatusOK, nil},
		"work was done":      {3, nil, http.StatusOK, []string{"advance", "deliver"}},
		"the database ended": {3, errors.New("away"), http.StatusServiceUnavailable, []string{"advance", "deliver"}},
		"it was never there": {0, errors.New("away"), http.StatusServiceUnavailable, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var hints []string
			h := validate.New(func(context.Context) (int, error) { return c.steps, c.err }, func(ctx context.Context, f string) {
				_, bounded := ctx.Deadline()
				require.True(t, bounded)
				hints = append(hints, f)
			})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
			require.Equal(t, c.status, w.Code)
			require.Equal(t, c.hints, hints)
		})
	}
}
