package promotion

import "maps"

// A Counter is something that is counted for ever: it only rises.
type Counter string

// The counters. A deployment is a promotion here: that is what people who read
// the metrics call it.
const (
	DeploymentsStarted    Counter = "deployments_started"     // the first order was given, or there was none to give
	DeploymentsCompleted  Counter = "deployments_completed"   // started ones that succeeded
	DeploymentsFailed     Counter = "deployments_failed"      // that ended failed, errored or rollback_failed
	DeploymentsRolledBack Counter = "deployments_rolled_back" // that ended rolled_back
	DeploymentsCancelled  Counter = "deployments_cancelled"   // that a person, or a newer release, ended
	ApprovalsRequested    Counter = "approvals_requested"     // people began to be asked
	ApprovalsGranted      Counter = "approvals_granted"       // a plan was approved
	ApprovalsRejected     Counter = "approvals_rejected"      // promotions that ended rejected
	ModulesDeployed       Counter = "modules_deployed"        // promotions that brought a module to units
	NodesUpdated          Counter = "nodes_updated"           // units seen running what they were switched to

	// DeploymentDuration counts what started when it ends, with the time that it
	// took since. Its N is left to who knows when that was.
	DeploymentDuration Counter = "deployment_duration"
)

// Who gave an approval, as [ApprovalsGranted] tells it.
const (
	byOperator   = "operator"    // an operator's word
	byReviews    = "reviews"     // the reviews that a policy asks for
	byBreakGlass = "break-glass" // a person, without them
)

// Which way units were switched, as [NodesUpdated] tells it.
const (
	forward = "forward" // to what the promotion brings
	back    = "back"    // to what they ran before it
)

// DurationBuckets are the bounds of [DeploymentDuration], in seconds.
var DurationBuckets = []int64{1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400}

// A Count is what one step adds to a counter.
type Count struct {
	Counter Counter           `json:"name"`
	Labels  map[string]string `json:"labels"`
	N       int64             `json:"value"`
}

// Counts returns what the decision adds to the counters, given the state before
// it. Each promotion starts once and ends once, so what has started and has not
// ended is what runs.
func (d Decision) Counts(before State) []Count {
	if d.Transition == nil {
		return nil
	}
	t := tally{environment: d.State.Environment}
	t.approval(before, d)
	t.course(before, d.State)
	if n := len(d.Live); n > 0 {
		way := forward
		if before.Status == RollingBack {
			way = back
		}
		t.add(NodesUpdated, n, "direction", way)
	}
	return t.counts
}

// A tally collects the counts of one step in one environment.
type tally struct {
	environment string
	counts      []Count
}

// add counts n with the environment and further labels, names and values in turn.
func (t *tally) add(c Counter, n int, labels ...string) {
	l := map[string]string{"environment": t.environment}
	for i := 0; i < len(labels); i += 2 {
		l[labels[i]] = labels[i+1]
	}
	t.counts = append(t.counts, Count{Counter: c, Labels: l, N: int64(n)})
}

// approval counts the asking of people and what they said.
func (t *tally) approval(before State, d Decision) {
	had, has := before.Progress.Approval, d.State.Progress.Approval
	if d.State.asksPeople() && (before.Version == 0 || had != nil && has == nil) {
		t.add(ApprovalsRequested, 1)
	}
	if had == nil && has != nil {
		t.add(ApprovalsGranted, 1, "by", grantedBy(*has, d.Transition.Event.Facts.Gates.Review))
	}
	if d.State.Status == Rejected {
		t.add(ApprovalsRejected, 1)
	}
}

func grantedBy(a Approval, r *ReviewFact) string {
	switch {
	case a.Head == "":
		return byOperator
	case r != nil && r.BreakGlass:
		return byBreakGlass
	default:
		return byReviews
	}
}

// asksPeople reports whether somebody must agree before the promotion starts.
func (s State) asksPeople() bool {
	return s.Kind != Restore && (s.Spec.Stage.Gates.Approval != "" || s.Kind == Remove)
}

// started reports whether orders were given. While its plan is being recorded,
// none was: the forge may refuse, and the promotion waits again.
func (s State) started() bool {
	return s.Status == Running && s.Phase != Recording || s.Status == RollingBack
}

// course counts the start and the end of a promotion.
func (t *tally) course(before, after State) {
	kind := string(after.Kind)
	waited := before.Status == Queued || before.Phase == Recording
	starts := waited && (after.started() || after.Status == Succeeded)
	if starts {
		t.add(DeploymentsStarted, 1, "kind", kind)
	}
	if !starts && !before.started() || !after.Status.Final() {
		return
	}
	switch after.Status {
	case Succeeded:
		t.add(DeploymentsCompleted, 1, "kind", kind)
		if after.want() != nil && len(after.Units) > 0 {
			t.add(ModulesDeployed, 1)
		}
	case RolledBack:
		t.add(DeploymentsRolledBack, 1, "kind", kind)
	case Cancelled:
		t.add(DeploymentsCancelled, 1, "kind", kind)
	default:
		t.add(DeploymentsFailed, 1, "kind", kind, "state", string(after.Status))
	}
	t.add(DeploymentDuration, 0, "kind", kind, "state", string(after.Status))
}

// Zeros are all the counts that an environment can have, with nothing counted,
// so that the first of each is seen to rise. Durations are left out.
func Zeros(environment string) []Count {
	t := tally{environment: environment}
	for _, kind := range []Kind{Promote, Restore, Remove} {
		for _, c := range []Counter{DeploymentsStarted, DeploymentsCompleted, DeploymentsRolledBack, DeploymentsCancelled} {
			t.add(c, 0, "kind", string(kind))
		}
		for _, state := range []Status{Failed, Errored, RollbackFailed} {
			t.add(DeploymentsFailed, 0, "kind", string(kind), "state", string(state))
		}
	}
	for _, by := range []string{byOperator, byReviews, byBreakGlass} {
		t.add(ApprovalsGranted, 0, "by", by)
	}
	for _, way := range []string{forward, back} {
		t.add(NodesUpdated, 0, "direction", way)
	}
	t.add(ApprovalsRequested, 0)
	t.add(ApprovalsRejected, 0)
	t.add(ModulesDeployed, 0)
	return t.counts
}

// Same reports whether two counts are of one counter with the same labels.
func (c Count) Same(other Count) bool {
	return c.Counter == other.Counter && maps.Equal(c.Labels, other.Labels)
}
