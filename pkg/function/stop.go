package function

import "context"

// stopKey is where a call's context keeps the channel of [Stopping].
type stopKey struct{}

// Stopping is closed when the host wants the process to end. A handler that waits for
// something to come, and holds nothing meanwhile, answers then; one that works goes on
// to its end. Nil, which blocks for ever, where the host never says so.
func Stopping(ctx context.Context) <-chan struct{} {
	c, _ := ctx.Value(stopKey{}).(<-chan struct{})
	return c
}

// withStop returns a context whose [Stopping] is c.
func withStop(ctx context.Context, c <-chan struct{}) context.Context {
	return context.WithValue(ctx, stopKey{}, c)
}
