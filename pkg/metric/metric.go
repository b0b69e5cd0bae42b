// Package metric reads metrics that nodes do not report: today from servers that
// speak the HTTP API of Prometheus.
package metric

// Vars are what the queries of a metric may name.
type Vars struct {
	Changed, Others                  []string // names of nodes
	Deployment, Environment, Version string
}
