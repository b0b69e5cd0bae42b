package node

import (
	"context"
	"math/rand/v2"
	"time"
)

// A backoff is how long to wait before the next try: doubled each time up to
// longest, and then somewhere between half of it and all of it, so that a fleet
// does not come back at one instant.
type backoff struct {
	first, longest time.Duration
	next           time.Duration
}

func newBackoff(first, longest time.Duration) *backoff {
	return &backoff{first: first, longest: longest, next: first}
}

func (b *backoff) reset() { b.next = b.first }

func (b *backoff) wait() time.Duration {
	d := b.next/2 + rand.N(b.next/2+1)
	b.next = min(2*b.next, b.longest)
	return d
}

// sleep waits, or returns the context's error.
func (b *backoff) sleep(ctx context.Context) error { return sleep(ctx, b.wait()) }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
