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
// when it was removed. Current is the record as Git had it before the edit; one
// that HotSwap is only about to write would make a former release of a file that
// nobody touched. Former are the releases that ran in the slot, newest first.
func Judge(path string, edited []byte, current Record, former []Pair) Judgement {
	written, err := current.Render()
	if err != nil {
		return drift(err.Error())
	}
	return JudgeEdit(path, written, edited, former)
}

// JudgeEdit says what it means that the file at a path was changed from before to
// after; nil is no file. Only release, releaseDigest and planDigest count: they
// must have been changed, and all three must be those of one former release of the
// slot. The rest of the file may be of then, as after a revert, or of now.
func JudgeEdit(path string, before, after []byte, former []Pair) Judgement {
	if (before == nil) == (after == nil) && bytes.Equal(before, after) {
		return Judgement{Kind: Unchanged}
	}
	if after == nil {
		return drift("the file was removed")
	}
	edited, err := Parse(path, after)
	if err != nil {
		return drift(err.Error())
	}
	if was, err := Parse(path, before); err == nil && was.pair() == edited.pair() {
		return drift("the edit changes something else than the release")
	}
	return wish(edited.pair(), former)
}

// pair is what of a record decides.
func (r Record) pair() Pair {
	return Pair{Release: r.Release, ReleaseDigest: r.ReleaseDigest, PlanDigest: r.PlanDigest}
}

// wish looks for what is asked for among the former releases.
func wish(asked Pair, former []Pair) Judgement {
	why := "release, releaseDigest and planDigest are not those of a release that ran here"
	for _, p := range former {
		switch {
		case asked.Release == "" || p.Release != asked.Release:
			continue
		case p.ReleaseDigest != asked.ReleaseDigest:
			why = "releaseDigest is not that of release " + p.Release
		case p.PlanDigest != asked.PlanDigest:
			why = "planDigest is not one that brought release " + p.Release + " here"
		case p.Held:
			return drift("release " + p.Release + " is held")
		default:
			return Judgement{Kind: Restore, Release: p.Release, Why: "release " + p.Release + " ran here before"}
		}
	}
	return drift(why)
}

func drift(why string) Judgement { return Judgement{Kind: Drift, Why: why} }
