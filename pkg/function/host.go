package function

import (
	"fmt"
	"time"
)

// A Kind is where a function runs.
type Kind string

// The hosts.
const (
	Lambda   Kind = "lambda"   // AWS Lambda: the process asks its Runtime API for events
	OpenFaaS Kind = "openfaas" // a container that listens on port 8080
	Embedded Kind = "embedded" // a child of `hotswap serve`, which hands it a listening socket
)

// Detect returns the host that a process was started by, from its environment.
// OpenFaaS sets nothing of its own, so it is what is left.
func Detect(getenv func(string) string) Kind {
	switch {
	case getenv("AWS_LAMBDA_RUNTIME_API") != "":
		return Lambda
	case getenv(socketsEnv) != "":
		return Embedded
	default:
		return OpenFaaS
	}
}

// Timeouts are the host's bounds of one call, in its own words: a call is over after
// Exec, its answer is written at the latest at Write, and a request is read within Read.
// They must rise in this order, or a host executes a slow call a second time.
type Timeouts struct {
	Exec, Read, Write time.Duration
}

// DefaultTimeouts hold where the host's environment says nothing.
func DefaultTimeouts() Timeouts {
	return Timeouts{Exec: 55 * time.Second, Read: 60 * time.Second, Write: 65 * time.Second}
}

// ReadTimeouts reads exec_timeout, read_timeout and write_timeout, the names of OpenFaaS's
// watchdog. A value that is no duration, or durations in another order, are an error:
// a function that guesses its deadline works past it.
func ReadTimeouts(getenv func(string) string) (Timeouts, error) {
	t := DefaultTimeouts()
	for name, into := range map[string]*time.Duration{"exec_timeout": &t.Exec, "read_timeout": &t.Read, "write_timeout": &t.Write} {
		text := getenv(name)
		if text == "" {
			continue
		}
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			return t, fmt.Errorf("%s=%q is not a duration like 55s", name, text)
		}
		*into = d
	}
	if t.Exec >= t.Read || t.Read >= t.Write {
		return t, fmt.Errorf("exec_timeout %s, read_timeout %s and write_timeout %s must rise in this order", t.Exec, t.Read, t.Write)
	}
	return t, nil
}

// margin is what a call leaves of its host's deadline, to answer in.
func margin(d time.Duration) time.Duration { return min(time.Second, d/10) }

// Within lowers a function's own deadline to what its host allows, less a margin.
func (l Limits) Within(t Timeouts) Limits {
	l = l.withDefaults()
	l.Deadline = min(l.Deadline, t.Exec-margin(t.Exec))
	return l
}
