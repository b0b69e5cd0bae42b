package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
)

// promotion takes one promotion one step.
func (e *Engine) promotion(ctx context.Context, c store.Claim) error {
	_, err := e.store.Advance(ctx, c, func(s store.Step) (promotion.Decision, error) {
		return decide(s, promotion.Event{Kind: promotion.Looked, Actor: promotion.System})
	})
	return err
}

// decide completes the facts with the plan as it would be rendered now.
func decide(s store.Step, ev promotion.Event) (promotion.Decision, error) {
	plan, err := promotion.NewPlan(s.Snapshot, s.State.Spec.Stage.Name, s.Environment)
	if err != nil {
		return promotion.Decision{}, err
	}
	if s.Facts.Plan, err = plan.Digest(); err != nil {
		return promotion.Decision{}, err
	}
	ev.Facts = s.Facts
	return promotion.Decide(s.State, ev, s.Now)
}

// Stop asks a promotion to stop, for a person who may: see auth.Authorize. What
// was switched already goes back to what ran before.
func (e *Engine) Stop(ctx context.Context, tenant, id string, by audit.Actor, reason string) error {
	_, err := e.store.Stop(ctx, tenant, id, func(s store.Step) (promotion.Decision, error) {
		return decide(s, promotion.Event{Kind: promotion.Stopped, Actor: by, Reason: reason})
	})
	if err != nil {
		return err
	}
	e.sequence(ctx, map[string]bool{tenant: true})
	return nil
}

// release starts the stages of a release that can start, or ends it.
func (e *Engine) release(ctx context.Context, c store.Claim) error {
	return e.store.AdvanceRelease(ctx, c, func(s store.ReleaseStep) (store.ReleaseResult, error) {
		d := promotion.DecideRelease(s.Snapshot.Pipeline, s.Stages)
		res := store.ReleaseResult{State: d.State, Wake: s.Now.Add(time.Hour)} // its promotions wake it
		for _, stage := range d.Start {
			first, err := begin(c.Tenant, s, stage.Name)
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
func waitForStages(s store.ReleaseStep, started []intent.Stage, next time.Time) *promotion.Waiting {
	var open []string
	for _, st := range s.Stages {
		if !st.Status.Final() {
			open = append(open, st.Stage)
		}
	}
	for _, st := range started {
		open = append(open, st.Name)
	}
	return &promotion.Waiting{What: "the end of stage " + strings.Join(open, ", "), Since: s.Now, Next: next, Command: "hotswap status"}
}

// begin is the first decision of a promotion of a release through a stage.
func begin(tenant string, s store.ReleaseStep, stage string) (promotion.Decision, error) {
	st, _ := promotion.StageOf(s.Snapshot.Pipeline, stage)
	env, ok := s.Environments[st.Environment]
	if !ok {
		return promotion.Decision{}, fmt.Errorf("environment %q is not known", st.Environment)
	}
	plan, err := promotion.NewPlan(s.Snapshot, stage, env)
	if err != nil {
		return promotion.Decision{}, err
	}
	digest, err := plan.Digest()
	if err != nil {
		return promotion.Decision{}, err
	}
	instance, err := promotion.NewInstance(s.Snapshot, s.ID, st.Environment)
	if err != nil {
		return promotion.Decision{}, err
	}
	p := promotion.State{
		ID: fmt.Sprintf("%s/%s/%s-1", s.ID, stage, promotion.Promote), Tenant: tenant, Release: s.ID,
		Deployment: s.Deployment, Environment: st.Environment, Kind: promotion.Promote, Attempt: 1,
		Generation: s.Generation, Spec: promotion.Spec{Stage: st, Instance: instance},
	}
	return promotion.Decide(p, promotion.Event{Kind: promotion.Created, Actor: promotion.System, Facts: promotion.Facts{Plan: digest}}, s.Now)
}

func releaseRow(tenant string, s store.ReleaseStep, action, reason string) audit.Row {
	return audit.Row{
		ID: "release/" + s.ID + "/" + action, Tenant: tenant, At: s.Now, Actor: promotion.System,
		Action: action, Subject: "release " + s.ID, Reason: reason,
		Attributes: map[string]string{"deployment": s.Deployment, "commit": s.Commit, "version": s.Snapshot.Module.Version},
	}
}
