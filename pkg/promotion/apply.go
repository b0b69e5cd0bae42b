package promotion

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ErrReplay reports transitions that do not follow from one another.
var ErrReplay = errors.New("transition does not follow")

// Apply folds one recorded transition into s. A state rebuilt from all its
// transitions must equal the stored one: the rows are a cache of them.
func Apply(s State, t Transition) (State, error) {
	switch {
	case t.Event.Version > EventVersion:
		return s, fmt.Errorf("%w: %s at version %d was written by a newer release of HotSwap", ErrReplay, t.Promotion, t.From)
	case t.Promotion != s.ID || t.From != s.Version:
		return s, fmt.Errorf("%w: %s from version %d after %s at version %d", ErrReplay, t.Promotion, t.From, s.ID, s.Version)
	case s.Status.Final() && s.Version > 0:
		return s, fmt.Errorf("%w: %s was final (%s) at version %d", ErrReplay, s.ID, s.Status, s.Version)
	}
	if t.To.Status != s.Status || t.To.Phase != s.Phase || t.To.Wave != s.Wave {
		s.Since = t.At
	}
	s.Version++
	s.Status, s.Phase, s.Wave = t.To.Status, t.To.Phase, t.To.Wave
	s.Token, s.Plan, s.Units = t.To.Token, t.To.Plan, t.To.Units
	s.Ending, s.Reason, s.Progress = t.To.Ending, t.To.Reason, t.To.Progress
	return s, nil
}

// outcome is the part of s that a transition records.
func outcome(s State) Outcome {
	return Outcome{
		Status: s.Status, Phase: s.Phase, Wave: s.Wave, Token: s.Token, Plan: s.Plan,
		Units: s.Units, Ending: s.Ending, Reason: s.Reason, Progress: s.Progress,
	}
}

// CheckReplay folds the transitions of stored from the beginning and returns an
// [ErrReplay] when the result is not what is stored.
func CheckReplay(stored State, transitions []Transition) error {
	s := State{
		ID: stored.ID, Tenant: stored.Tenant, Release: stored.Release, Deployment: stored.Deployment, Environment: stored.Environment,
		Kind: stored.Kind, Attempt: stored.Attempt, Generation: stored.Generation, Spec: stored.Spec,
	}
	for _, t := range transitions {
		var err error
		if s, err = Apply(s, t); err != nil {
			return err
		}
	}
	want, got := comparable(stored), comparable(s)
	if want != got {
		return fmt.Errorf("%w: the transitions of %s lead to %s, stored is %s", ErrReplay, stored.ID, got, want)
	}
	return nil
}

// comparable is a state as JSON, with times as the database keeps them.
func comparable(s State) string {
	s.Since = s.Since.UTC().Truncate(time.Microsecond)
	if len(s.Units) == 0 {
		s.Units = nil
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
