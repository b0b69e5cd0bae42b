package main

import (
	"fmt"
	"slices"
	"strings"

	"hotswap.dev/hotswap/pkg/intent"
)

// strategyText says what a strategy does, in words.
func strategyText(s intent.Strategy) string {
	var what string
	switch s.Type {
	case intent.Rolling:
		at := s.MaxUnavailable
		if at == "" {
			at = "1"
		}
		what = "batches of " + at
	case intent.BlueGreen:
		what = "all standbys first"
		if s.Smoke.Path != "" {
			what += ", smoke test GET " + s.Smoke.Path
			if s.Smoke.For != "" {
				what += " for " + s.Smoke.For
			}
		}
		what += ", then all switch together"
		if s.KeepOldFor != "" {
			what += ", the old is kept for " + s.KeepOldFor
		}
	case intent.Canary:
		what = "waves " + strings.Join(s.Waves, ", ") + ", analysis " + s.Analysis
	default:
		what = "all units at once"
	}
	if s.Stabilization != "" {
		what += ", stable by analysis " + s.Stabilization
	} else if s.Type == intent.Direct || intent.Duration(s.HealthyFor) > 0 {
		what += ", seen healthy for " + s.HealthyFor
	}
	return fmt.Sprintf("%s: %s, %s for each phase", s.Type, what, s.Deadline)
}

// failureText says what follows a failure, in words.
func failureText(s stagePlan) string {
	text := s.OnFailure
	if s.Hold {
		text += ", and what does harm is held"
	}
	if s.Retries > 0 {
		text += fmt.Sprintf(", %d more attempts if it did none", s.Retries)
	}
	return text
}

// newerText says what happens when releases meet in the stage, in words.
func newerText(concurrency, onNewer string) string {
	text := "of those that wait the newest goes, the older end"
	if concurrency == intent.Queue {
		text = "every release has its turn, the oldest first"
	}
	if onNewer == "abort" {
		return text + "; what runs gives way at the end of its wave"
	}
	return text + "; what runs goes on to its end"
}

// gatesText lists the gates of a stage, in words; windows with their definition,
// since when they open next depends on when one asks.
func gatesText(g intent.Gates, windows []intent.Window) []string {
	out := []string{}
	if g.Approval != "" {
		deadline := g.Deadline
		if deadline == "" {
			deadline = "24h"
		}
		out = append(out, fmt.Sprintf("approval by %s within %s", g.Approval, deadline))
	}
	for _, name := range g.Windows {
		i := slices.IndexFunc(windows, func(w intent.Window) bool { return w.Name == name })
		if i < 0 {
			continue
		}
		w := windows[i]
		effect, zone := "window", w.TimeZone
		if w.Effect == intent.Deny {
			effect = "no start in window"
		}
		if zone == "" {
			zone = "UTC"
		}
		out = append(out, fmt.Sprintf("%s %s (%s for %s, %s)", effect, name, w.Opens, w.For, zone))
	}
	if g.Soak.For != "" {
		out = append(out, "soak "+g.Soak.For)
	}
	for _, c := range g.Checks {
		out = append(out, "check "+c)
	}
	return out
}
