package intent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // the same zones on every machine

	"github.com/adhocore/gronx"
)

// The effects of a window.
const (
	Allow = "allow"
	Deny  = "deny"
)

// maxShift is more than any clock was ever put forward or back at once.
const maxShift = 26 * time.Hour

// OpenAt reports whether the window is open at t, and when that changes next at
// the earliest; zero if it never does within the years that are looked at.
//
// The window opens when the clocks of its time zone show what Opens says, and
// stays open for For of elapsed time. On the day on which clocks are put forward
// over that time it opens at the end of the gap, so that nothing starts in a
// window that denies; where they show it twice, it opens the first time.
func (w Window) OpenAt(t time.Time) (open bool, changes time.Time, err error) {
	zone, err := time.LoadLocation(cmp.Or(w.TimeZone, "UTC"))
	if err != nil {
		return false, time.Time{}, fmt.Errorf("window %s: time zone %q: %w", w.Name, w.TimeZone, err)
	}
	if !gronx.New().IsValid(w.Opens) {
		return false, time.Time{}, fmt.Errorf("window %s: %q is not a cron expression", w.Name, w.Opens)
	}
	if last, ok := w.previous(t, zone); ok && t.Before(last.Add(Duration(w.For))) {
		return true, last.Add(Duration(w.For)), nil
	}
	if next, ok := w.next(t, zone); ok {
		return false, next, nil
	}
	return false, time.Time{}, nil
}

// previous returns the last opening at or before t.
func (w Window) previous(t time.Time, zone *time.Location) (time.Time, bool) {
	for tick, inclusive := wall(t.In(zone)).Add(maxShift), true; ; inclusive = false {
		var err error
		if tick, err = gronx.PrevTickBefore(w.Opens, tick, inclusive); err != nil {
			return time.Time{}, false
		}
		if at := instant(tick, zone); !at.After(t) {
			return at, true
		}
	}
}

// next returns the first opening after t.
func (w Window) next(t time.Time, zone *time.Location) (time.Time, bool) {
	for tick, inclusive := wall(t.In(zone)).Add(-maxShift), true; ; inclusive = false {
		var err error
		if tick, err = gronx.NextTickAfter(w.Opens, tick, inclusive); err != nil {
			return time.Time{}, false
		}
		if at := instant(tick, zone); at.After(t) {
			return at, true
		}
	}
}

// wall is what the clocks show at t, as if they were never put forward or back:
// the library is asked in it, since it passes over what falls into a gap.
func wall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// instant returns when the clocks of a zone first show what w shows, or, when
// they never do, the end of the gap.
func instant(w time.Time, zone *time.Location) time.Time {
	offset := func(t time.Time) time.Duration {
		_, seconds := t.In(zone).Zone()
		return time.Duration(seconds) * time.Second
	}
	early := w.Add(-offset(w.Add(-maxShift))) // by the offset from before a change, if there is one nearby
	late := w.Add(-offset(w.Add(maxShift)))
	for _, at := range []time.Time{early, late} {
		if wall(at.In(zone)).Equal(w) {
			return at.In(zone)
		}
	}
	end, _ := early.In(zone).ZoneBounds()
	return end
}

// Allows reports whether the named windows of the environment let something
// start at t: at least one of those that allow is open, if there is one among
// them, and none of those that deny. Why says it in a sentence, next is when to
// look again; zero if that never changes by itself. A name that the environment
// has not is an error: nothing starts then.
func (e EnvironmentSpec) Allows(names []string, t time.Time) (ok bool, why string, next time.Time, err error) {
	allowing, allowed := 0, false
	var shut, denied []string
	for _, name := range names {
		i := slices.IndexFunc(e.Windows, func(w Window) bool { return w.Name == name })
		if i < 0 {
			return false, "", time.Time{}, fmt.Errorf("there is no window %q", name)
		}
		w := e.Windows[i]
		open, changes, err := w.OpenAt(t)
		if err != nil {
			return false, "", time.Time{}, err
		}
		if !changes.IsZero() && (next.IsZero() || changes.Before(next)) {
			next = changes
		}
		switch {
		case w.Effect == Deny && open:
			denied = append(denied, fmt.Sprintf("window %s denies until %s", name, shown(changes)))
		case w.Effect == Deny:
		case open:
			allowing, allowed = allowing+1, true
		default:
			allowing++
			shut = append(shut, fmt.Sprintf("window %s opens %s", name, shown(changes)))
		}
	}
	if allowing > 0 && !allowed {
		denied = append(denied, shut...)
	}
	return len(denied) == 0, strings.Join(denied, "; "), next, nil
}

func shown(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Format("Mon 2006-01-02 15:04 MST")
}
