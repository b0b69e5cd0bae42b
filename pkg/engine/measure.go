package engine

import (
	"context"
	"log/slog"
	"time"

	"hotswap.dev/hotswap/pkg/analysis"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/metric"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/promql"
	"hotswap.dev/hotswap/pkg/store"
)

// A MetricSource reads a metric for the units that were changed and for the
// others, see [metric.Prometheus].
type MetricSource interface {
	Read(ctx context.Context, m intent.Metric, v metric.Vars, since, now time.Time, step time.Duration) (analysis.MetricSeries, error)
}

// measureTime bounds the reading of all metrics of one step: what is late is not
// read, and the step goes on without it.
const measureTime = time.Second

// measure reads the metrics of a promotion that are not reported by its nodes.
// A source that does not answer gives no data, and no data is no verdict: the
// promotion waits, and its policy follows in the end.
func (e *Engine) measure(ctx context.Context, c store.Claim) ([]analysis.MetricSeries, error) {
	if len(e.options.Metrics) == 0 {
		return nil, nil
	}
	s, snapshot, now, err := e.store.Peek(ctx, c.Tenant, c.ID)
	if err != nil || s.Phase != promotion.Analysing {
		return nil, err
	}
	a := snapshot.Analyses[s.AnalysisOf()]
	spec, err := analysis.NewSpec(a)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, measureTime)
	defer cancel()
	arms := s.Arms()
	vars := metric.Vars{
		Changed: arms.Changed, Others: arms.Others,
		Vars: promql.Vars{Deployment: s.Deployment, Environment: s.Environment, Version: s.Spec.Instance.Module.Version},
	}
	var out []analysis.MetricSeries
	for _, m := range a.Metrics {
		source, ok := e.options.Metrics[m.Prometheus.Source]
		if m.Prometheus.Source == "" || !ok {
			continue
		}
		series, err := source.Read(ctx, m, vars, s.Since, now, spec.Interval)
		if err != nil {
			slog.WarnContext(ctx, "metric not read", "promotion", s.ID, "metric", m.Name, "err", err)
			continue
		}
		out = append(out, series)
	}
	return out, nil
}
