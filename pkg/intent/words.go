package intent

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Text says what a strategy does, in words.
func (s Strategy) Text() string {
	var what string
	switch s.Type {
	case Rolling:
		at := s.MaxUnavailable
		if at == "" {
			at = "1"
		}
		what = "batches of " + at
	case BlueGreen:
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
	case Canary:
		what = "waves " + strings.Join(s.Waves, ", ") + ", analysis " + s.Analysis
	default:
		what = "all units at once"
	}
	if s.Stabilization != "" {
		what += ", stable by analysis " + s.Stabilization
	} else if s.Type == Direct || Duration(s.HealthyFor) > 0 {
		what += ", seen healthy for " + s.HealthyFor
	}
	return fmt.Sprintf("%s: %s, %s for each phase", s.Type, what, s.Deadline)
}

// Texts lists the gates of a stage, in words; windows with their definition,
// since when they open next depends on when one asks.
func (g Gates) Texts(windows []Window) []string {
	out := []string{}
	if g.Approval != "" {
		deadline := g.Deadline
		if deadline == "" {
			deadline = "24h"
		}
		out = append(out, fmt.Sprintf("approval by %s within %s", g.Approval, deadline))
	}
	for _, name := range g.Windows {
		i := slices.IndexFunc(windows, func(w Window) bool { return w.Name == name })
		if i < 0 {
			continue
		}
		w := windows[i]
		effect, zone := "window", w.TimeZone
		if w.Effect == Deny {
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

// Labels writes labels in order: "environment=staging, region=eu".
func Labels(labels map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, k+"="+labels[k])
	}
	return strings.Join(out, ", ")
}
