package intent

import "time"

// Duration returns the length of a duration that the schemas have validated
// ("90s", "1h30m"). Empty means zero, and so does what is no duration: the
// schemas refuse it before anything is frozen.
func Duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0
	}
	return d
}
