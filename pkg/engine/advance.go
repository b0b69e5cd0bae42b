package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/analysis"
	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
)

// promotion takes one promotion one step. What is measured elsewhere is read
// before the transaction, which would wait for it otherwise.
func (e *Engine) promotion(ctx context.Context, c store.Claim) error {
	extra, err := e.measure(ctx, c)
	if err != nil {
		return err
	}
	_, err = e.store.Advance(ctx, c, func(s store.Step) (promotion.Decision, error) {
		return decide(s, promotion.Event{Kind: promotion.Looked, Actor: promotion.System}, extra)
	})
	return err
}

// decide completes the facts with what is computed from them: the plan as it
// would be rendered now, the windows, the limit, the verdict.
func decide(s store.Step, ev promotion.Event, extra []analysis.MetricSeries) (promotion.Decision, error) {
	f := &s.Facts
	f.Limit = s.Environment.Spec.Limits.PromotionsPerCluster
	if s.State.Status == promotion.Gating || s.State.Status == promotion.Queued {
		if err := reopen(&s); err != nil {
			return promotion.Decision{}, err
		}
	}
	if name := s.State.AnalysisOf(); name != "" {
		spec, err := promotion.AnalysisSpec(s.Snapshot, name)
		if err != nil {
			return promotion.Decision{}, err
		}
		f.Verdict = promotion.Verdict(s.State, spec, s.Samples, extra, s.Now)
	}
	ev.Facts = *f
	return promotion.Decide(s.State, ev, s.Now)
}

// reopen looks again at what opened the gates: the plan and the windows. A
// restore carries out a plan of the past, at any time.
func reopen(s *store.Step) error {
	if s.State.Kind == promotion.Restore {
		return nil
	}
	stage := s.State.Spec.Stage
	plan, err := promotion.NewPlan(s.Snapshot, stage.Name, s.Environment, s.Policy, s.Selected)
	if err != nil {
		return err
	}
	if s.Facts.Plan, err = plan.Digest(); err != nil {
		return err
	}
	if s.Facts.Plan != s.State.Plan {
		parts, err := plan.Parts()
		if err != nil {
			return err
		}
		s.Facts.Parts = &parts
	}
	if len(stage.Gates.Windows) == 0 {
		return nil
	}
	open, why, next, err := s.Environment.Spec.Allows(stage.Gates.Windows, s.Now)
	if err != nil {
		return fmt.Errorf("windows of environment %s: %w", stage.Environment, err)
	}
	s.Facts.Gates.Window = &promotion.WindowFact{Open: open, Why: why, Next: next}
	return nil
}

// Act asks something of a promotion for a person who may, see auth.Authorize:
// [promotion.Stopped], [promotion.Promoted], [promotion.Refused],
// [promotion.Held] or [promotion.Resumed].
func (e *Engine) Act(ctx context.Context, tenant, id string, kind promotion.EventKind, by audit.Actor, reason string) (promotion.State, error) {
	d, err := e.store.Act(ctx, tenant, id, func(s store.Step) (promotion.Decision, error) {
		return decide(s, promotion.Event{Kind: kind, Actor: by, Reason: reason}, nil)
	})
	if err != nil {
		return promotion.State{}, err
	}
	e.sequence(ctx, map[string]bool{tenant: true})
	return d.State, nil
}

// release starts the stages of a release that can start, or ends it.
func (e *Engine) release(ctx context.Context, c store.Claim) error {
	return e.store.AdvanceRelease(ctx, c, func(s store.ReleaseStep) (store.ReleaseResult, error) {
		d := promotion.DecideRelease(s.Snapshot.Pipeline, s.Stages)
		res := store.ReleaseResult{State: d.State, Wake: s.Now.Add(time.Hour)} // its promotions wake it
		for _, start := range d.Start {
			first, err := begin(c.Tenant, s, start, promotion.System, "")
			if err != nil {
				return store.ReleaseResult{}, err
			}
			res.Started = append(res.Started, first)
		}
		if d.State == promotion.ReleaseOpen {
			res.Waiting = waitForStages(s, d.Start, res.Wake)
		} else {
			res.Rows = append(res.Rows, releaseRow(c.Tenant, s, "release."+string(d.State), "every stage that could start has ended"))
		}
		return res, nil
	})
}

// waitForStages names the stages that an open release waits for.
func waitForStages(s store.ReleaseStep, started []promotion.StageStart, next time.Time) *promotion.Waiting {
	var open []string
	for _, st := range s.Stages {
		if !st.Status.Final() {
			open = append(open, st.Stage)
		}
	}
	for _, st := range started {
		open = append(open, st.Stage.Name)
	}
	return &promotion.Waiting{What: "the end of stage " + strings.Join(open, ", "), Since: s.Now, Next: next, Command: "hotswap status"}
}

// begin is the first decision of a promotion of a release through a stage. A
// reason is that of the person who asked for it.
func begin(tenant string, s store.ReleaseStep, start promotion.StageStart, by audit.Actor, reason string) (promotion.Decision, error) {
	st := start.Stage
	env, ok := s.Environments[st.Environment]
	if !ok {
		return promotion.Decision{}, fmt.Errorf("environment %q is not known", st.Environment)
	}
	var policy *intent.Policy
	if p, ok := s.Policies[st.Gates.Approval]; ok {
		policy = &p
	}
	plan, err := promotion.NewPlan(s.Snapshot, st.Name, env, policy, s.Selected[st.Environment])
	if err != nil {
		return promotion.Decision{}, err
	}
	digest, err := plan.Digest()
	if err != nil {
		return promotion.Decision{}, err
	}
	parts, err := plan.Parts()
	if err != nil {
		return promotion.Decision{}, err
	}
	p, err := promotion.New(promotion.Birth{
		Tenant: tenant, Release: s.ID, Generation: s.Generation, Snapshot: s.Snapshot, Stage: st, Kind: kindOf(s.Snapshot), Attempt: start.Attempt,
	})
	if err != nil {
		return promotion.Decision{}, err
	}
	return promotion.Decide(p, promotion.Event{Kind: promotion.Created, Actor: by, Reason: reason, Facts: promotion.Facts{Plan: digest, Parts: &parts}}, s.Now)
}

func kindOf(s intent.Snapshot) promotion.Kind {
	if s.Remove {
		return promotion.Remove
	}
	return promotion.Promote
}

func releaseRow(tenant string, s store.ReleaseStep, action, reason string) audit.Row {
	id := "release/" + s.ID + "/" + action
	attempts := 0
	for _, st := range s.Stages {
		attempts += max(0, st.Attempt-1)
	}
	if attempts > 0 { // it may end again after another attempt
		id += fmt.Sprintf("/%d", attempts)
	}
	return audit.Row{
		ID: id, Tenant: tenant, At: s.Now, Actor: promotion.System,
		Action: action, Subject: "release " + s.ID, Reason: reason,
		Attributes: map[string]string{"deployment": s.Deployment, "commit": s.Commit, "version": s.Snapshot.Module.Version},
	}
}
