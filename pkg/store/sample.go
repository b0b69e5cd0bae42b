package store

import (
	"slices"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/analysis"
	"hotswap.dev/hotswap/pkg/target"
)

// Spans of time of which one reading of an instance is kept, in seconds: short
// while a promotion holds the slot, long otherwise, as the units' own past.
const (
	spanHeld = 1
	spanIdle = 60
)

// queueSamples keeps the readings of a report. Of a span the first reading
// counts: what was seen once does not change.
func queueSamples(b *pgx.Batch, tenant, node string, places []target.PlaceReport) error {
	var envs, deps, instances, samples []string
	for _, p := range places {
		for _, i := range []*target.InstanceReport{p.Active, p.Standby} {
			if i == nil || i.Phase != target.Healthy && i.Phase != target.Unhealthy {
				continue
			}
			doc, err := encode(sample(node, i))
			if err != nil {
				return err
			}
			envs, deps = append(envs, noNUL(p.Place.Environment)), append(deps, noNUL(p.Place.Deployment))
			instances, samples = append(instances, noNUL(i.Digest)), append(samples, doc)
		}
	}
	if len(samples) == 0 {
		return nil
	}
	b.Queue(`INSERT INTO samples (tenant, environment, deployment, node, instance, span, at, sample)
		SELECT s.tenant, s.environment, s.deployment, $2, r.instance,
			floor(extract(epoch FROM now()) / width)::bigint * width, now(), r.sample::jsonb
		FROM unnest($3::text[], $4::text[], $5::text[], $6::text[]) AS r(environment, deployment, instance, sample)
		JOIN slots s ON (s.tenant, s.environment, s.deployment) = ($1, r.environment, r.deployment)
		CROSS JOIN LATERAL (SELECT CASE WHEN s.holder IS NULL THEN $7::bigint ELSE $8::bigint END AS width) w
		ON CONFLICT DO NOTHING`, tenant, node, envs, deps, instances, samples, spanIdle, spanHeld)
	return nil
}

// sample is a reading as the analysis takes it; its time is the database's.
func sample(node string, i *target.InstanceReport) analysis.Sample {
	return analysis.Sample{
		Unit: node, Instance: i.Digest, Restarts: i.Restarts,
		CPU: i.CPU, CPULimit: i.CPULimit, Memory: i.Memory, MemoryLimit: i.MemoryLimit,
		Requests: i.Requests, Errors: i.Errors, Latency: slices.Clone(i.Latency), LatencySum: i.LatencySum,
	}
}

// pruneSamples throws away the readings of a slot that no analysis looks at any
// more, a bounded number at a time.
const pruneSamples = `DELETE FROM samples WHERE ctid IN (SELECT ctid FROM samples
	WHERE (tenant, environment, deployment) = ($1, $2, $3) AND at < now() - interval '1 hour' LIMIT 5000)`
