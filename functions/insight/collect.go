package insight

import (
	"cmp"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"

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
	kind   dto.MetricType
	labels []string
	span   bool // a span of time: seconds here, microseconds in the database
}

// The kinds of a family.
const (
	counter   = dto.MetricType_COUNTER
	gauge     = dto.MetricType_GAUGE
	histogram = dto.MetricType_HISTOGRAM
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

var secretAge = family{name: "hotswap_secret_age_seconds", kind: gauge, labels: of("secret"), help: "Time since the newest version of a secret of this host was stored."}

func of(labels ...string) []string { return labels }

// describe gives every family its name and the label that all have, by its name in the database.
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
		out[f.from] = f
	}
	return out
}

// collect makes what one answer holds, in one order whatever the order of what was read.
// What Prometheus would refuse is an error here: a series that is there twice, or a
// value of a label that is not UTF-8.
func collect(series []store.Series, secrets []secret.Entry, now time.Time) ([]*dto.MetricFamily, error) {
	found := map[string]*dto.MetricFamily{}
	add := func(f family, m *dto.Metric, values ...string) {
		if found[f.name] == nil {
			found[f.name] = &dto.MetricFamily{Name: &f.name, Help: &f.help, Type: &f.kind}
		}
		for i, name := range f.labels {
			m.Label = append(m.Label, &dto.LabelPair{Name: &name, Value: &values[i]})
		}
		slices.SortFunc(m.Label, func(a, b *dto.LabelPair) int { return cmp.Compare(a.GetName(), b.GetName()) })
		found[f.name].Metric = append(found[f.name].Metric, m)
	}
	for _, s := range series {
		f, known := families[s.Name]
		if !known {
			continue
		}
		values := []string{s.Tenant}
		for _, l := range f.labels[1:] {
			values = append(values, s.Labels[l])
		}
		add(f, f.metric(s), values...)
	}
	for _, e := range secrets {
		age := max(0, now.Sub(e.At).Seconds())
		add(secretAge, &dto.Metric{Gauge: &dto.Gauge{Value: &age}}, e.Name)
	}
	var out []*dto.MetricFamily
	for _, f := range found {
		slices.SortFunc(f.Metric, compareLabels)
		out = append(out, f)
		if err := acceptable(f); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return out, nil
}

// metric is the value of a series.
func (f family) metric(s store.Series) *dto.Metric {
	value := float64(s.Value)
	if f.span {
		value = s.Seconds()
	}
	switch f.kind {
	case histogram:
		h := &dto.Histogram{SampleCount: &s.Count, SampleSum: &value}
		for le, n := range s.Buckets {
			bound := float64(le)
			h.Bucket = append(h.Bucket, &dto.Bucket{UpperBound: &bound, CumulativeCount: &n})
		}
		slices.SortFunc(h.Bucket, func(a, b *dto.Bucket) int { return cmp.Compare(a.GetUpperBound(), b.GetUpperBound()) })
		return &dto.Metric{Histogram: h}
	case counter:
		return &dto.Metric{Counter: &dto.Counter{Value: &value}}
	default:
		return &dto.Metric{Gauge: &dto.Gauge{Value: &value}}
	}
}

func compareLabels(a, b *dto.Metric) int {
	return slices.CompareFunc(a.Label, b.Label, func(a, b *dto.LabelPair) int { return cmp.Compare(a.GetValue(), b.GetValue()) })
}

// acceptable looks at a family whose metrics are sorted.
func acceptable(f *dto.MetricFamily) error {
	for i, m := range f.Metric {
		for _, l := range m.Label {
			if !utf8.ValidString(l.GetValue()) {
				return fmt.Errorf("%s: label %s is not UTF-8: %q", f.GetName(), l.GetName(), l.GetValue())
			}
		}
		if i > 0 && compareLabels(f.Metric[i-1], m) == 0 {
			return fmt.Errorf("%s is there twice: %v", f.GetName(), m.Label)
		}
	}
	return nil
}
