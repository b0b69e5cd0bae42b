package record

import "bytes"

// An EditKind is what an edit of a record means.
type EditKind string

// The meanings.
const (
	Unchanged EditKind = "unchanged"
	Restore   EditKind = "restore" // a person asks for a release that ran there before
	Drift     EditKind = "drift"   // anything else: it is undone
)

// A Pair names a release with the plan that it was brought by.
type Pair struct {
	Release, ReleaseDigest, PlanDigest string
	Artifact                           string // digest
	Held                               bool
}

// A Judgement is what an edit means, and in a sentence why.
type Judgement struct {
	Kind    EditKind
	Release string // of a Restore
	Why     string
}

// Judge says what the file at a path means that is not what was written there: nil
// when it was removed. Former are the releases that ran in the slot, newest first.
// Only release, releaseDigest and planDigest count, and all three must be those of
// one former release: the rest may be of then, as after a revert, or of now.
func Judge(path string, edited []byte, current Record, former []Pair) Judgement {
	if text, err := current.Render(); err == nil && bytes.Equal(text, edited) {
		return Judgement{Kind: Unchanged}
	}
	if edited == nil {
		return Judgement{Kind: Drift, Why: "the file was removed"}
	}
	r, err := Parse(path, edited)
	if err != nil {
		return Judgement{Kind: Drift, Why: err.Error()}
	}
	if r.Release == current.Release && r.ReleaseDigest == current.ReleaseDigest && r.PlanDigest == current.PlanDigest {
		return Judgement{Kind: Drift, Why: "the edit changes something else than the release"}
	}
	for _, p := range former {
		if r.Release != p.Release || r.ReleaseDigest != p.ReleaseDigest || r.PlanDigest != p.PlanDigest {
			continue
		}
		if p.Held {
			return Judgement{Kind: Drift, Why: "release " + p.Release + " is held"}
		}
		return Judgement{Kind: Restore, Release: p.Release, Why: "release " + p.Release + " ran here before"}
	}
	return Judgement{Kind: Drift, Why: "release, releaseDigest and planDigest are not those of a release that ran here"}
}
