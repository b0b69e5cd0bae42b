package insight

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/secret"
	"hotswap.dev/hotswap/pkg/store"
)

// A family is one metric as Prometheus reads it. docs/reference/metrics.md tells
// exactly what each counts, and a test holds the page to this list.
type family struct {
	from   string // name in the database
	name   string
	help   string
	kind   string // counter, gauge or histogram
	labels []string
	span   bool // a span of time: seconds here, microseconds in the database
	desc   *prometheus.Desc
}

// The kinds of a family.
const (
	counter   = "counter"
	gauge     = "gauge"
	histogram = "histogram"
)

// families are all that the database tells. A series of another name was counted
// by a newer build; it is left out.
var families = describe(
	family{from: string(promotion.DeploymentsStarted), kind: counter, labels: of("environment", "kind"), help: "Promotions whose first order was given."},
	family{from: string(promotion.DeploymentsCompleted), kind: counter, labels: of("environment", "kind"), help: "Promotions that succeeded."},
	family{from: string(promotion.DeploymentsFailed), kind: counter, labels: of("environment", "kind", "state"), help: "Promotions that started and ended failed, errored or rollback_failed."},
	family{from: string(promotion.DeploymentsRolledBack), kind: counter, labels: of("environment", "kind"), help: "Promotions that were rolled back because the release did badly."},
	family{from: string(promotion.DeploymentsCancelled), kind: counter, labels: of("environment", "kind"), help: "Promotions that started and were stopped by a person or gave way to a newer release."},
	family{from: string(promotion.DeploymentDuration), kind: histogram, labels: of("environment", "kind", "state"), span: true, help: "Time from the first order of a promotion to its end."},
	family{from: string(promotion.ApprovalsRequested), kind: counter, labels: of("environment"), help: "Times that people began to be asked to approve a plan."},
	family{from: string(promotion.ApprovalsGranted), kind: counter, labels: of("environment", "by"), help: "Plans that were approved."},
	family{from: string(promotion.ApprovalsRejected), kind: counter, labels: of("environment"), help: "Promotions that people rejected."},
	family{from: string(promotion.ModulesDeployed), kind: counter, labels: of("environment"), help: "Promotions that succeeded and left a module running on at least one unit."},
	family{from: string(promotion.NodesUpdated), kind: counter, labels: of("environment", "direction"), help: "Units seen running what a promotion switched them to, forward or back."},
	family{from: store.PromotionsOpen, kind: gauge, labels: of("environment", "state", "phase"), help: "Promotions that have not ended."},
	family{from: store.Holds, kind: gauge, labels: of("environment"), help: "Artifacts that are barred from a slot until a person lifts the hold."},
	family{from: store.AuditRowsUnsequenced, kind: gauge, help: "Audit rows that have no leaf in the log yet."},
	family{from: store.DueLag, kind: gauge, span: true, help: "How long the oldest row that is due has waited for a worker."},
)

var secretAge = prometheus.NewDesc("hotswap_secret_age_seconds", "Time since the newest version of a secret of this host was stored.", []string{"secret"}, nil)

func of(labels ...string) []string { return labels }

// describe gives every family its name and description, by its name in the database.
func describe(all ...family) map[string]family {
	out := map[string]family{}
	for _, f := range all {
		f.name = "hotswap_" + f.from
		if f.span {
			f.name += "_seconds"
		}
		if f.kind == counter {
			f.name += "_total"
		}
		f.labels = append([]string{"tenant"}, f.labels...)
		f.desc = prometheus.NewDesc(f.name, f.help, f.labels, nil)
		out[f.from] = f
	}
	return out
}

// A collector holds what was read for one answer.
type collector struct {
	series  []store.Series
	secrets []secret.Entry
	now     func() time.Time
}

// Describe implements [prometheus.Collector].
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range families {
		out <- f.desc
	}
	out <- secretAge
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(out chan<- prometheus.Metric) {
	for _, s := range c.series {
		if f, known := families[s.Name]; known {
			out <- f.metric(s)
		}
	}
	for _, e := range c.secrets {
		out <- constant(prometheus.NewConstMetric(secretAge, prometheus.GaugeValue, max(0, c.now().Sub(e.At).Seconds()), e.Name))
	}
}

// metric is a series as the registry takes it.
func (f family) metric(s store.Series) prometheus.Metric {
	values := []string{s.Tenant}
	for _, l := range f.labels[1:] {
		values = append(values, s.Labels[l])
	}
	value := float64(s.Value)
	if f.span {
		value = s.Seconds()
	}
	switch f.kind {
	case histogram:
		buckets := map[float64]uint64{}
		for le, n := range s.Buckets {
			buckets[float64(le)] = n
		}
		return constant(prometheus.NewConstHistogram(f.desc, s.Count, value, buckets, values...))
	case counter:
		return constant(prometheus.NewConstMetric(f.desc, prometheus.CounterValue, value, values...))
	default:
		return constant(prometheus.NewConstMetric(f.desc, prometheus.GaugeValue, value, values...))
	}
}

// constant hands an error to the gathering, which then answers nothing.
func constant(m prometheus.Metric, err error) prometheus.Metric {
	if err != nil {
		return prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
	}
	return m
}
