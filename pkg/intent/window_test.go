package intent_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hotswap.dev/hotswap/pkg/intent"
)

func at(t *testing.T, zone, wall string) time.Time {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	require.NoError(t, err)
	x, err := time.ParseInLocation("2006-01-02 15:04", wall, loc)
	require.NoError(t, err)
	return x
}

func TestAWindowOpensByTheClocksOfItsZone(t *testing.T) {
	hours := intent.Window{Name: "business-hours", Opens: "0 9 * * 1-5", For: "8h", TimeZone: "Europe/Berlin"}
	night := intent.Window{Name: "night", Opens: "30 2 * * *", For: "3h", TimeZone: "Europe/Berlin"}
	howe := intent.Window{Name: "howe", Opens: "15 2 * * *", For: "1h", TimeZone: "Australia/Lord_Howe"}
	midnight := intent.Window{Name: "midnight", Opens: "0 0 * * *", For: "2h", TimeZone: "Asia/Beirut"}
	tests := map[string]struct {
		window  intent.Window
		now     time.Time
		open    bool
		changes time.Time
	}{
		"before it":                       {hours, at(t, "Europe/Berlin", "2026-11-25 08:59"), false, at(t, "Europe/Berlin", "2026-11-25 09:00")},
		"its first moment":                {hours, at(t, "Europe/Berlin", "2026-11-25 09:00"), true, at(t, "Europe/Berlin", "2026-11-25 17:00")},
		"its last minute":                 {hours, at(t, "Europe/Berlin", "2026-11-25 16:59"), true, at(t, "Europe/Berlin", "2026-11-25 17:00")},
		"its end":                         {hours, at(t, "Europe/Berlin", "2026-11-25 17:00"), false, at(t, "Europe/Berlin", "2026-11-26 09:00")},
		"over the weekend":                {hours, at(t, "Europe/Berlin", "2026-11-27 18:00"), false, at(t, "Europe/Berlin", "2026-11-30 09:00")},
		"another zone's clock":            {hours, at(t, "America/New_York", "2026-11-25 03:30"), true, at(t, "Europe/Berlin", "2026-11-25 17:00")},
		"its opening falls into a gap":    {night, at(t, "Europe/Berlin", "2026-03-29 03:00"), true, at(t, "Europe/Berlin", "2026-03-29 06:00")},
		"just before the gap":             {night, at(t, "Europe/Berlin", "2026-03-29 01:59"), false, at(t, "Europe/Berlin", "2026-03-29 03:00")},
		"the clocks show it twice":        {night, at(t, "Europe/Berlin", "2026-10-25 01:59"), false, time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC)},
		"between the two":                 {night, time.Date(2026, 10, 25, 1, 15, 0, 0, time.UTC), true, time.Date(2026, 10, 25, 3, 30, 0, 0, time.UTC)},
		"after three elapsed hours":       {night, time.Date(2026, 10, 25, 3, 30, 0, 0, time.UTC), false, at(t, "Europe/Berlin", "2026-10-26 02:30")},
		"a gap of half an hour":           {howe, at(t, "Australia/Lord_Howe", "2026-10-04 02:30"), true, at(t, "Australia/Lord_Howe", "2026-10-04 03:30")},
		"a day whose midnight is a gap":   {midnight, at(t, "Asia/Beirut", "2026-03-29 01:00"), true, at(t, "Asia/Beirut", "2026-03-29 03:00")},
		"it opens again before it closes": {intent.Window{Name: "w", Opens: "0 * * * *", For: "2h"}, at(t, "UTC", "2026-11-25 10:30"), true, at(t, "UTC", "2026-11-25 12:00")},
		"a day that never comes":          {intent.Window{Name: "w", Opens: "0 0 30 2 *", For: "2h"}, at(t, "UTC", "2026-11-25 10:30"), false, time.Time{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			open, changes, err := tt.window.OpenAt(tt.now)
			require.NoError(t, err)
			require.Equal(t, tt.open, open)
			require.True(t, tt.changes.Equal(changes), "changes at %s, not %s", changes, tt.changes)
		})
	}
}

// TestAWindowIsAsABruteForceSays walks minute by minute over days on which the
// clocks change: the clocks showing the opening, or the end of a gap over it,
// starts the elapsed time of the window.
func TestAWindowIsAsABruteForceSays(t *testing.T) {
	changes := map[string]string{
		"Europe/Berlin": "2026-03-29", "America/New_York": "2026-11-01", "Australia/Lord_Howe": "2026-04-05",
		"America/Santiago": "2026-09-06", "Asia/Beirut": "2026-03-29", "UTC": "2026-06-01",
	}
	rapid.Check(t, func(rt *rapid.T) {
		zone := rapid.SampledFrom([]string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Beirut", "UTC"}).Draw(rt, "zone")
		loc, err := time.LoadLocation(zone)
		require.NoError(rt, err)
		day, err := time.ParseInLocation(time.DateOnly, changes[zone], loc)
		require.NoError(rt, err)
		hour, minute := rapid.IntRange(0, 4).Draw(rt, "hour"), rapid.IntRange(0, 59).Draw(rt, "minute")
		length := rapid.IntRange(1, 600).Draw(rt, "minutes open")
		w := intent.Window{Name: "w", Opens: fmt.Sprintf("%d %d * * *", minute, hour), For: fmt.Sprintf("%dm", length), TimeZone: zone}

		start := day.Add(-24 * time.Hour)
		end := start.Add(-24 * time.Hour) // of the newest opening
		was, lastDay := start.Add(-time.Minute), ""
		for now := start; now.Before(day.Add(30 * time.Hour)); now = now.Add(time.Minute) {
			wanted, shows, showed := hour*60+minute, now.Hour()*60+now.Minute(), was.Hour()*60+was.Minute()
			today := now.Format(time.DateOnly)
			jumped := shows != (showed+1)%1440
			passes := shows == wanted || jumped && now.Day() == was.Day() && showed < wanted && wanted < shows || jumped && now.Day() != was.Day() && wanted < shows
			if passes && today != lastDay {
				end, lastDay = now.Add(time.Duration(length)*time.Minute), today
			}
			was = now
			if now.Sub(start) < 12*time.Hour || now.Minute()%7 != 0 { // the opening before the walk is not known; and time is short
				continue
			}
			open, _, err := w.OpenAt(now)
			require.NoError(rt, err)
			if open != now.Before(end) {
				rt.Fatalf("%s open %t at %s, the walk says %t", w.Opens, open, now, now.Before(end))
			}
		}
	})
}

func TestDenyWins(t *testing.T) {
	e := intent.EnvironmentSpec{Windows: []intent.Window{
		{Name: "day", Opens: "0 8 * * *", For: "10h"},
		{Name: "evening", Opens: "0 18 * * *", For: "2h"},
		{Name: "lunch", Effect: "deny", Opens: "0 12 * * *", For: "1h"},
		{Name: "holidays", Effect: "deny", Opens: "0 0 24 12 *", For: "72h"},
	}}
	tests := map[string]struct {
		names []string
		now   string
		ok    bool
		why   string
		next  string
	}{
		"one that allows is open":                 {[]string{"day", "evening"}, "2026-11-25 09:00", true, "", "2026-11-25 18:00"},
		"none that allows is open":                {[]string{"day", "evening"}, "2026-11-25 21:00", false, "window day opens Thu 2026-11-26 08:00 UTC; window evening opens Thu 2026-11-26 18:00 UTC", "2026-11-26 08:00"},
		"one that denies is open":                 {[]string{"day", "lunch"}, "2026-11-25 12:30", false, "window lunch denies until Wed 2026-11-25 13:00 UTC", "2026-11-25 13:00"},
		"with only denying ones all else is open": {[]string{"holidays"}, "2026-11-25 03:00", true, "", "2026-12-24 00:00"},
		"a freeze of days":                        {[]string{"day", "holidays"}, "2026-12-25 09:00", false, "window holidays denies until Sun 2026-12-27 00:00 UTC", "2026-12-25 18:00"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ok, why, next, err := e.Allows(tt.names, at(t, "UTC", tt.now))
			require.NoError(t, err)
			require.Equal(t, tt.ok, ok)
			require.Equal(t, tt.why, why)
			require.Equal(t, at(t, "UTC", tt.next), next)
		})
	}
	_, _, _, err := e.Allows([]string{"night"}, at(t, "UTC", "2026-11-25 09:00"))
	require.ErrorContains(t, err, `there is no window "night"`, "nothing starts then")
}
