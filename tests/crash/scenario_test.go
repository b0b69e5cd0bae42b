package crash_test

import (
	"context"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/target"
)

// scenarios are the ways that the release of 1.5.0 goes: two stages side by side,
// a join, and a stage of two waves.
func scenarios() []scenario {
	return []scenario{
		{
			name: "succeeds", releases: map[string]string{newVersion: "succeeded"},
			promotions: map[string]string{"1.5.0 qa promote": "succeeded", "1.5.0 load promote": "succeeded", "1.5.0 production promote": "succeeded"},
			runs:       fleet(newVersion, newVersion, newVersion, newVersion),
			orders:     orders(3, 3, 3, 3), // prepare, switch, let go
			switches:   switches(1, 1, 1, 1),
		},
		{
			name: "never healthy in qa", releases: map[string]string{newVersion: "failed"},
			misdeed:    map[string]func(*target.PlaceReport){"qa-1": neverHealthy},
			promotions: map[string]string{"1.5.0 qa promote": "failed", "1.5.0 load promote": "succeeded"},
			runs:       fleet(oldVersion, newVersion, oldVersion, oldVersion),
			orders:     orders(2, 3, 0, 0), // prepare, withdraw
			switches:   switches(0, 1, 0, 0),
		},
		{
			name: "breaks in the second wave", releases: map[string]string{newVersion: "failed"},
			misdeed:    map[string]func(*target.PlaceReport){"prod-2": breaks},
			promotions: map[string]string{"1.5.0 qa promote": "succeeded", "1.5.0 load promote": "succeeded", "1.5.0 production promote": "rolled_back"},
			runs:       fleet(newVersion, newVersion, oldVersion, oldVersion),
			orders:     orders(3, 3, 3, 3), // prepare, switch, go back
			switches:   switches(1, 1, 2, 2),
		},
		{
			// The older one is overtaken where it has not started; disturbed, it may come first.
			name: "is superseded by the next", newer: true,
			releases: map[string]string{newVersion: "superseded|succeeded|failed", nextVersion: "succeeded"},
			promotions: map[string]string{
				"1.5.0 qa promote": "superseded|succeeded", "1.5.0 load promote": "superseded|succeeded", "1.5.0 production promote": "|superseded|succeeded",
				"1.6.0 qa promote": "succeeded", "1.6.0 load promote": "succeeded", "1.6.0 production promote": "succeeded",
			},
			runs: fleet(nextVersion, nextVersion, nextVersion, nextVersion),
		},
		{
			name: "is rolled back by a person", after: rollBack,
			releases: map[string]string{newVersion: "succeeded"},
			promotions: map[string]string{
				"1.5.0 qa promote": "succeeded", "1.5.0 load promote": "succeeded", "1.5.0 production promote": "succeeded",
				"1.4.2 production restore": "succeeded", "1.4.2 qa restore": "succeeded",
			},
			runs:     fleet(oldVersion, newVersion, oldVersion, oldVersion),
			orders:   orders(6, 3, 6, 6),
			switches: switches(2, 1, 2, 2),
		},
	}
}

// rollBack is a person who takes production back, and QA after it.
func rollBack(ctx context.Context, k *worker) error {
	_, err := k.engine.Rollback(ctx, engine.Rollback{
		Tenant: tenant, Deployment: "checkout", Environments: []string{"production", "qa"},
		By: audit.Actor{Kind: audit.Person, Name: "ann"}, Reason: "it is slow", Kind: "rollback",
	})
	return err
}

// The nodes are told of in this order.
func fleet(qa, load, prod1, prod2 string) map[string]string {
	return map[string]string{"qa-1": qa, "load-1": load, "prod-1": prod1, "prod-2": prod2}
}

func orders(qa, load, prod1, prod2 int64) map[string]int64 {
	return map[string]int64{"qa-1": qa, "load-1": load, "prod-1": prod1, "prod-2": prod2}
}

func switches(qa, load, prod1, prod2 int) map[string]int {
	return map[string]int{"qa-1": qa, "load-1": load, "prod-1": prod1, "prod-2": prod2}
}

// neverHealthy is a node where the new version never answers its health check.
func neverHealthy(r *target.PlaceReport) {
	if r.Standby != nil && r.Standby.Version == newVersion {
		r.Standby.Phase, r.Standby.Reason, r.Standby.Detail = target.Failed, target.NeverHealthy, "no answer on /healthz"
	}
}

// breaks is a node where the new version dies when it gets the traffic.
func breaks(r *target.PlaceReport) {
	if r.Active != nil && r.Active.Version == newVersion {
		r.Active.Phase, r.Active.Reason, r.Active.Detail = target.Failed, target.StartFailed, "it keeps exiting"
	}
}
