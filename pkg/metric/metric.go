// Package metric reads metrics that nodes do not report: today from servers that
// speak the HTTP API of Prometheus (Prometheus, Thanos, Mimir, VictoriaMetrics).
//
// It reads counters and judges nothing. What a server does not know is no point in
// a series, never a zero, and what it calls not a number stays one: the analysis
// refuses it. An answer that is not certainly whole is an error.
//
// # Queries
//
// A query is a person's PromQL in which {{units}}, {{version}}, {{deployment}} and
// {{environment}} stand inside of quotes. What they stand for cannot leave the
// quotes. {{units}} must be in every query: without it both arms would read the
// same series, and no harm would ever be seen.
//
// The answer must be one series, so a query that may match several is wrapped in
// sum(…). A counter that does not exist before its first event is no data; who
// means zero writes "or vector(0)".
package metric

import (
	"errors"

	"hotswap.dev/hotswap/pkg/promql"
)

// The errors of a reading, by who can mend them.
var (
	// ErrURL reports an address that cannot be a server's: the installation's to mend.
	ErrURL = errors.New("not the address of a metric server")
	// ErrQuery reports a query that cannot be asked, or that the server refuses: its author's to mend.
	ErrQuery = promql.ErrQuery
	// ErrAnswer reports an answer that cannot be counted with.
	ErrAnswer = errors.New("not an answer that can be counted with")
)

// Vars are what the queries of a metric may name.
type Vars struct {
	promql.Vars
	Changed, Others []string // names of nodes
}
