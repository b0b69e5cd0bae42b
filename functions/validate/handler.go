// Package validate looks at deliveries and repositories that are due. A call
// means "look now" and carries nothing else.
package validate

import (
	"context"
	"net/http"

	"hotswap.dev/hotswap/pkg/function"
)

// New returns the function's handler. Work takes the steps that are due and
// says how many it took; hint says "look now" to another function.
func New(work func(ctx context.Context) (int, error), hint func(ctx context.Context, function string)) http.Handler {
	return function.Worker("validate", work, func(ctx context.Context) {
		hint(ctx, "advance")
		hint(ctx, "deliver") // a push may have changed the records' branch
	})
}
