package simulation_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/intent"
)

// berlin is the time zone of the world's windows.
var berlin = func() *time.Location {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		panic(err)
	}
	return zone
}()

// openings are when the windows of the world open, as a person would say it.
var openings = map[string]struct {
	hour, minute int
	weekdays     bool
	lasts        time.Duration
	denies       bool
}{
	"business-hours": {hour: 9, weekdays: true, lasts: 8 * time.Hour},
	"night":          {hour: 2, minute: 30, lasts: 2 * time.Hour},
	"freeze":         {hour: 2, lasts: 90 * time.Minute, denies: true},
}

// windowsOpen is what intent.EnvironmentSpec.Allows says, found out day by day and
// without a cron expression.
func windowsOpen(have []intent.Window, names []string, at time.Time) bool {
	allowing, allowed := false, false
	for _, w := range have {
		if !slices.Contains(names, w.Name) {
			continue
		}
		o := openings[w.Name]
		open := inside(o.hour, o.minute, o.weekdays, o.lasts, at)
		switch {
		case o.denies && open:
			return false
		case !o.denies:
			allowing, allowed = true, allowed || open
		}
	}
	return allowed || !allowing
}

func inside(hour, minute int, weekdays bool, lasts time.Duration, at time.Time) bool {
	day := at.In(berlin)
	for back := range 3 {
		opens := firstShown(day.Year(), day.Month(), day.Day()-back, hour, minute)
		weekend := opens.Weekday() == time.Saturday || opens.Weekday() == time.Sunday
		if !(weekdays && weekend) && !at.Before(opens) && at.Before(opens.Add(lasts)) {
			return true
		}
	}
	return false
}

// firstShown is when the clocks of Berlin first show a time of a day, or, if they
// never do, the first moment after: found by walking through the day.
func firstShown(year int, month time.Month, day, hour, minute int) time.Time {
	t := time.Date(year, month, day, 0, 0, 0, 0, berlin)
	for ; t.Hour()*60+t.Minute() < hour*60+minute; t = t.Add(30 * time.Minute) {
	}
	return t
}

func TestTheOracleOfWindowsKnowsTheDaysOnWhichClocksChange(t *testing.T) {
	tests := map[string]struct {
		names []string
		at    string
		want  bool
	}{
		"at night in winter": {[]string{"night"}, "2026-01-15T01:45:00Z", true},
		"before the night":   {[]string{"night"}, "2026-01-15T01:29:59Z", false},
		"the night begins at three when two is left out": {[]string{"night"}, "2026-03-29T01:00:00Z", true},
		"and not before":                                    {[]string{"night"}, "2026-03-29T00:59:59Z", false},
		"the first half past two counts":                    {[]string{"night"}, "2026-10-25T00:30:00Z", true},
		"and two hours later it is over":                    {[]string{"night"}, "2026-10-25T02:30:00Z", false},
		"a freeze shuts what a night opens":                 {[]string{"night", "freeze"}, "2026-06-03T01:00:00Z", false},
		"until it is over":                                  {[]string{"night", "freeze"}, "2026-06-03T01:30:00Z", true},
		"business is not on Sunday":                         {[]string{"business-hours"}, "2026-06-07T10:00:00Z", false},
		"business on Monday":                                {[]string{"business-hours"}, "2026-06-08T07:00:00Z", true},
		"without a window that allows, only a denial shuts": {[]string{"freeze"}, "2026-06-08T10:00:00Z", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			at, err := time.Parse(time.RFC3339, tt.at)
			require.NoError(t, err)
			env := newEnvironment(choice{rand.New(rand.NewPCG(1, 1))}, "qa")
			require.Equal(t, tt.want, windowsOpen(env.Spec.Windows, tt.names, at))
			got, _, _, err := env.Spec.Allows(tt.names, at)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}
