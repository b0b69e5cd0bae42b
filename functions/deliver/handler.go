// Package deliver does outside what was decided: records of releases on a branch of
// the repository, promotion pull requests, and their merges. A call means "look now"
// and carries nothing else.
package deliver

import (
	"context"
	"net/http"

	"hotswap.dev/hotswap/pkg/function"
)

// New returns the function's handler. Work takes the steps that are due and says
// how many it took; hint wakes advance, which waits for what came of them.
func New(work func(ctx context.Context) (int, error), hint func(ctx context.Context, function string)) http.Handler {
	return function.Worker("deliver", work, func(ctx context.Context) { hint(ctx, "advance") })
}
