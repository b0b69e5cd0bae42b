package promotion

import (
	"errors"
	"fmt"
	"time"
)

// MaxFormers is how many releases back a slot can be restored.
const MaxFormers = 10

// ErrNoFormer reports that a slot has no release to go back to.
var ErrNoFormer = errors.New("no former release to go back to")

// A Former is a release that has run in a slot.
type Former struct {
	Promotion  string // that brought it there
	Release    string
	Generation int64
	Digest     string // releaseDigest
	Plan       string // planDigest
	Artifact   string // digest
	Version    string // of the module
	At         time.Time
	Held       bool // its artifact is barred from the slot
}

// ChooseFormer returns the former release to restore: the one that is asked for
// by its id, or, with "", the newest that is older than what runs now. Asked
// again, that goes further back, one release at a time. Formers are what ran
// there, newest first, live is what runs. A held artifact is never chosen, and
// asking for it is an error.
func ChooseFormer(live Former, formers []Former, ask string) (Former, error) {
	seen, left := map[string]bool{}, MaxFormers
	for _, f := range formers {
		if seen[f.Release] || f.Release == live.Release {
			continue
		}
		if left--; left < 0 {
			break
		}
		seen[f.Release] = true
		switch {
		case ask != "" && f.Release != ask, ask == "" && f.Generation >= live.Generation:
		case f.Held && ask != "":
			return Former{}, fmt.Errorf("%w: %s is held", ErrNoFormer, f.Release)
		case f.Held:
		default:
			return f, nil
		}
	}
	switch {
	case ask != "" && ask == live.Release:
		return Former{}, fmt.Errorf("%w: %s is what runs", ErrNoFormer, ask)
	case ask != "":
		return Former{}, fmt.Errorf("%w: %s is not among the last %d releases that ran here", ErrNoFormer, ask, MaxFormers)
	default:
		return Former{}, ErrNoFormer
	}
}
