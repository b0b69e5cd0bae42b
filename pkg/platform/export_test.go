package platform

import "time"

// SetRetries makes the worker try a call this often, with this wait before each.
func (a *Async) SetRetries(attempts int, wait time.Duration) {
	a.attempts, a.wait = attempts, func(int) time.Duration { return wait }
}
