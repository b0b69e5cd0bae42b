// Package deliver writes to the outside what was decided: today the records of
// releases, on a branch of the repository. A call means "look now" and carries
// nothing else.
package deliver

import (
	"context"
	"net/http"

	"hotswap.dev/hotswap/pkg/function"
)

// New returns the function's handler. Work takes the steps that are due and says
// how many it took.
func New(work func(ctx context.Context) (int, error)) http.Handler {
	return function.Worker("deliver", work, func(context.Context) {})
}
