package forge

import (
	"errors"
	"fmt"
	"time"
)

// Errors of a [Forge] that a caller decides on.
var (
	// ErrNotFound: there is no such thing, or our account may not know of it.
	ErrNotFound = errors.New("the forge has no such thing")
	// ErrUnavailable: no whole answer came: network, deadline, 5xx, or not asked because
	// it failed several times just now. Whether something was done is not known.
	ErrUnavailable = errors.New("the forge does not answer")
	// ErrLimited: we asked too often. The error is a [Limited], which says until when.
	ErrLimited = errors.New("the forge asks us to wait")
	// ErrDenied: our account or its token may not do this (401, 403).
	ErrDenied = errors.New("the forge denies it")
	// ErrMalformed: an answer, or a delivery, that has not the form which it must have.
	ErrMalformed = errors.New("malformed")
	// ErrTooMuch: more pages or bytes than we read. Nothing is judged by a part.
	ErrTooMuch = errors.New("the forge has more of it than is read")
	// ErrMoving: the pull request changed each time that it was read.
	ErrMoving = errors.New("it changes while it is read")
	// ErrInvalid: the call itself names something that cannot be; nothing was asked.
	ErrInvalid = errors.New("invalid")

	// ErrHeadMoved: the head is not the expected one. Nothing was merged by this call.
	ErrHeadMoved = errors.New("the head has moved")
	// ErrConflict: it cannot be merged as it is.
	ErrConflict = errors.New("it conflicts with its base")
	// ErrRefused: the forge's rules do not allow it, and its text says which.
	ErrRefused = errors.New("the forge refuses it")
	// ErrMerged: it is merged already.
	ErrMerged = errors.New("it is merged already")
	// ErrClosed: it is closed, so it cannot be merged.
	ErrClosed = errors.New("it is closed")
)

// Limited is the ErrLimited that says how long to wait.
type Limited struct {
	RetryAfter time.Duration // more than zero
}

func (l Limited) Error() string {
	return fmt.Sprintf("%v %v", ErrLimited, l.RetryAfter.Round(time.Second))
}

// Is makes errors.Is(err, ErrLimited) true.
func (l Limited) Is(target error) bool { return target == ErrLimited }
