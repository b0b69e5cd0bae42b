package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/promotion"
)

// MaxSeries bounds what one reading of the metrics may answer: what is over it is
// no answer, because a part of it would look like counters that fell.
const MaxSeries = 50_000

// ErrTooMany reports more series than [MaxSeries].
var ErrTooMany = errors.New("too many series")

// Gauges, beside the counters of [promotion.Counter]. A span of time is in microseconds.
const (
	PromotionsOpen       = "promotions_open"        // by environment, state and phase
	Holds                = "holds"                  // by environment
	AuditRowsUnsequenced = "audit_rows_unsequenced" // rows of the trail without a leaf
	DueLag               = "due_lag"                // since when the oldest row waits that is due and nobody works on
)

// environmentRow names an environment, whose counters exist though nothing was counted.
const environmentRow = "environment"

// A Series is one number of a tenant, or, of durations, one distribution.
type Series struct {
	Name   string
	Tenant string
	Labels map[string]string
	Value  int64

	// Count and Buckets are of [promotion.DeploymentDuration]: how many durations Value, in
	// microseconds, is the sum of, and how many were not longer than each of [promotion.DurationBuckets].
	Count   uint64
	Buckets map[int64]uint64
}

// queueCounts adds what a step counts, as rows of its own: steps wait for nobody. It
// comes after the step's transition, which may be the one that a duration ends with.
func queueCounts(b *pgx.Batch, before promotion.State, d promotion.Decision) {
	p := d.State
	var plain []promotion.Count
	for _, c := range d.Counts(before) {
		if c.Counter == promotion.DeploymentDuration {
			b.Queue(insertDuration, p.Tenant, p.ID, c.Counter, c.Labels, d.Transition.At, promotion.DurationBuckets)
			continue
		}
		plain = append(plain, c)
	}
	if len(plain) > 0 {
		b.Queue(`INSERT INTO metric_facts (tenant, name, labels, value)
			SELECT $1, name, labels, value FROM jsonb_to_recordset($2) AS c(name text, labels jsonb, value bigint)`, p.Tenant, plain)
	}
}

// insertDuration counts what began when the first order was given and ends at $5, or
// took no time because there was no order to give.
const insertDuration = `INSERT INTO metric_facts (tenant, name, labels, value)
	SELECT $1, $3, $4::jsonb || jsonb_build_object('le', coalesce((SELECT min(le)::text FROM unnest($6::bigint[]) le WHERE le * 1000000 >= d.micros), '+Inf')), d.micros
	FROM (SELECT greatest(0, coalesce(extract(epoch FROM $5::timestamptz - min(at)) * 1000000, 0))::bigint AS micros FROM transitions
		WHERE (tenant, promotion) = ($1, $2) AND outcome ->> 'status' = 'running' AND outcome ->> 'phase' <> 'recording') d`

// FoldMetrics moves up to n counted rows of all tenants into their totals, and says how
// many it moved: none while somebody else does. What [Store.Metrics] tells is the same
// before, during and after.
func (s *Store) FoldMetrics(ctx context.Context, n int) (folded int, err error) {
	if err := s.pool.QueryRow(ctx, "SELECT fold_metrics($1)", n).Scan(&folded); err != nil {
		return 0, fmt.Errorf("fold metrics: %w", err)
	}
	return folded, nil
}

// Metrics returns all that is counted, for all tenants, and how things stand, as of
// one moment. Counters of environments where nothing was counted are there, with zero.
// It is for those who may see every tenant: nobody who asks for one may be answered with it.
func (s *Store) Metrics(ctx context.Context) ([]Series, error) {
	rows, err := s.pool.Query(ctx, "SELECT tenant, name, labels, count, value FROM scrape_metrics() LIMIT $1", MaxSeries+1)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	r := reading{series: map[string]*Series{}}
	var tenant, name string
	var labels map[string]string
	var count, value int64
	_, err = pgx.ForEachRow(rows, []any{&tenant, &name, &labels, &count, &value}, func() error {
		r.take(tenant, name, labels, count, value)
		labels = nil
		return r.check()
	})
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return r.all(), nil
}

// A reading collects series, each once.
type reading struct {
	rows   int
	series map[string]*Series
}

func (r *reading) check() error {
	if r.rows > MaxSeries || len(r.series) > MaxSeries {
		return fmt.Errorf("%w: over %d", ErrTooMany, MaxSeries)
	}
	return nil
}

// take adds one row. Those of a duration are parts of one series.
func (r *reading) take(tenant, name string, labels map[string]string, count, value int64) {
	r.rows++
	switch {
	case name == environmentRow:
		for _, c := range promotion.Zeros(labels["environment"]) {
			r.at(tenant, string(c.Counter), c.Labels)
		}
	case name == string(promotion.DeploymentDuration):
		le := labels["le"]
		labels = maps.Clone(labels)
		delete(labels, "le")
		s := r.at(tenant, name, labels)
		s.Value += value
		s.observe(le, uint64(max(0, count)))
	default:
		r.at(tenant, name, labels).Value += value
	}
}

// at returns the series with the labels, new when there was none.
func (r *reading) at(tenant, name string, labels map[string]string) *Series {
	key, _ := json.Marshal([]any{tenant, name, labels}) // of text only: it cannot fail
	s := r.series[string(key)]
	if s == nil {
		s = &Series{Name: name, Tenant: tenant, Labels: labels}
		r.series[string(key)] = s
	}
	return s
}

// observe counts n durations that are not longer than le, in every bucket that they
// belong to. A bound that this build does not have counts for the next longer one.
func (s *Series) observe(le string, n uint64) {
	bound, err := strconv.ParseInt(le, 10, 64)
	if err != nil { // +Inf
		bound = math.MaxInt64
	}
	s.Count += n
	if s.Buckets == nil {
		s.Buckets = map[int64]uint64{}
	}
	for _, b := range promotion.DurationBuckets {
		if s.Buckets[b] += 0; bound <= b {
			s.Buckets[b] += n
		}
	}
}

func (r *reading) all() []Series {
	out := make([]Series, 0, len(r.series))
	for _, k := range slices.Sorted(maps.Keys(r.series)) {
		out = append(out, *r.series[k])
	}
	return out
}

// Seconds is a span that is counted in microseconds.
func (s Series) Seconds() float64 { return float64(s.Value) / float64(time.Second/time.Microsecond) }
