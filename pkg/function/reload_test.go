package function_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/function"
	"hotswap.dev/hotswap/pkg/secret"
)

func TestSecretsAreLookedAtWhenTheirTimeHasPassedOrTheClockIsSetBack(t *testing.T) {
	now, looks := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), 0
	r := function.NewReloading(function.Reload{
		Required: []string{"a"}, Every: time.Minute, Now: func() time.Time { return now },
		Get: func(context.Context, string) (secret.Secret, error) {
			looks++
			return secret.New([]byte("value")), nil
		},
		Build: func(context.Context, function.Secrets) (function.Work, error) {
			return function.Work{Handler: http.NotFoundHandler(), Ready: ready, Close: func() {}}, nil
		},
	})
	for _, step := range []struct {
		later time.Duration
		want  int
	}{{0, 1}, {59 * time.Second, 1}, {time.Second, 2}, {time.Second, 2}, {-time.Hour, 3}, {time.Second, 3}} {
		now = now.Add(step.later)
		call(r, http.MethodPost, "/")
		require.Equal(t, step.want, looks, "after %s", step.later)
	}
}
