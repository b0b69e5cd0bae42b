package crash_test

import "hotswap.dev/hotswap/pkg/target"

// scenarios are the ways that the release of 1.5.0 goes.
func scenarios() []scenario {
	return []scenario{
		{
			name: "succeeds", release: "succeeded",
			promotions: map[string]string{"qa": "succeeded", "production": "succeeded"},
			runs:       map[string]string{"qa-1": newVersion, "prod-1": newVersion, "prod-2": newVersion},
			orders:     map[string]int64{"qa-1": 3, "prod-1": 3, "prod-2": 3}, // prepare, switch, let go
			switches:   map[string]int{"qa-1": 1, "prod-1": 1, "prod-2": 1},
		},
		{
			name: "never healthy in qa", release: "failed",
			misdeed:    map[string]func(*target.PlaceReport){"qa-1": neverHealthy},
			promotions: map[string]string{"qa": "failed"},
			runs:       map[string]string{"qa-1": oldVersion, "prod-1": oldVersion, "prod-2": oldVersion},
			orders:     map[string]int64{"qa-1": 2, "prod-1": 0, "prod-2": 0}, // prepare, withdraw
			switches:   map[string]int{"qa-1": 0, "prod-1": 0, "prod-2": 0},
		},
		{
			name: "breaks on one node after the switch", release: "failed",
			misdeed:    map[string]func(*target.PlaceReport){"prod-2": breaks},
			promotions: map[string]string{"qa": "succeeded", "production": "rolled_back"},
			runs:       map[string]string{"qa-1": newVersion, "prod-1": oldVersion, "prod-2": oldVersion},
			orders:     map[string]int64{"qa-1": 3, "prod-1": 3, "prod-2": 3}, // prepare, switch, go back
			switches:   map[string]int{"qa-1": 1, "prod-1": 2, "prod-2": 2},
		},
	}
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
