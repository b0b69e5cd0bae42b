package rest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"hotswap.dev/hotswap/pkg/forge"
)

// How long to wait when a forge asks to, and does not say how long, or says nonsense.
const (
	defaultWait = time.Minute
	maxWait     = time.Hour
)

// A Refusal is an answer that is no success. It is the sentinel of pkg/forge that
// its status stands for: errors.Is works on it.
type Refusal struct {
	Status  int
	Message string // what the forge says, cleaned and cut; may be empty
	kind    error
}

func (r *Refusal) Error() string {
	if r.Message == "" {
		return fmt.Sprintf("%v (status %d)", r.kind, r.Status)
	}
	return fmt.Sprintf("%v (status %d): %s", r.kind, r.Status, r.Message)
}

func (r *Refusal) Unwrap() error { return r.kind }

// refusal tells the breaker how the server is, and the caller what it said. That
// there is a redirect at all means that a repository, or the forge, has moved.
func (c *Client) refusal(resp *http.Response) error {
	if wait, asked := c.asksToWait(resp); asked {
		c.breaker.RecordSuccess()
		return forge.Limited{RetryAfter: wait}
	}
	if resp.StatusCode >= 500 {
		c.breaker.RecordFailure()
	} else {
		c.breaker.RecordSuccess()
	}
	r := &Refusal{Status: resp.StatusCode, kind: kind(resp.StatusCode)}
	if r.Status < 400 {
		r.Message = "it has moved; a redirect is not followed"
		return r
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	if err == nil {
		r.Message = message(body)
	}
	return r
}

func kind(status int) error {
	switch {
	case status < 400, status == http.StatusNotFound:
		return forge.ErrNotFound
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return forge.ErrDenied
	case status >= 500, status == http.StatusRequestTimeout:
		return forge.ErrUnavailable
	}
	return forge.ErrRefused
}

// message is the "message" of a JSON answer, fit for a log and for people.
func message(body []byte) string {
	var m struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &m) != nil {
		return ""
	}
	return Clean(m.Message)
}

// Clean makes foreign text one line of at most 200 printable characters.
func Clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return ' '
	}, s)
	runes := []rune(strings.Join(strings.Fields(s), " "))
	if len(runes) > 200 {
		runes = append(runes[:199], '…')
	}
	return string(runes)
}

// asksToWait reads 429, and 403 or 503 with Retry-After (RFC 9110, 10.2.3), and
// takes down until when nothing is asked.
func (c *Client) asksToWait(resp *http.Response) (time.Duration, bool) {
	after := resp.Header.Get("Retry-After")
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
	case http.StatusForbidden, http.StatusServiceUnavailable:
		if after == "" {
			return 0, false
		}
	default:
		return 0, false
	}
	now := c.now()
	wait := RetryAfter(after, now)
	c.mu.Lock()
	defer c.mu.Unlock()
	if until := now.Add(wait); until.After(c.until) {
		c.until = until
	}
	return wait, true
}

// RetryAfter reads the header's seconds or date: at least a second, at most an hour.
func RetryAfter(header string, now time.Time) time.Duration {
	wait := defaultWait
	if seconds, err := strconv.ParseUint(header, 10, 32); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(header); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, time.Second), maxWait)
}

// admitted says by an error that the forge asked us to wait, and for how long still.
func (c *Client) admitted() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if left := c.until.Sub(c.now()); left > 0 {
		return forge.Limited{RetryAfter: left}
	}
	return nil
}
