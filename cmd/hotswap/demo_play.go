package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/tests/load/constant"
)

// playTime bounds how long one release may take.
const playTime = 3 * time.Minute

// firstVersion makes sure that some version is live on every node.
func (d *demo) firstVersion(ctx context.Context) error {
	began := time.Now()
	if err := d.cloned(ctx); err != nil {
		return err
	}
	if b, err := os.ReadFile(d.path("version")); err == nil {
		version := string(b)
		if err := d.untilLive(ctx, version); err != nil {
			return err
		}
		d.component("live", "checkout "+version+" on 3 nodes, from the last run", "in "+since(began))
		return nil
	}
	commit, err := d.push(ctx, oldVersion)
	if err != nil {
		return err
	}
	if err := d.watch(ctx, commit, nil); err != nil {
		return err
	}
	if err := d.untilLive(ctx, oldVersion); err != nil {
		return err
	}
	if err := os.WriteFile(d.path("version"), []byte(oldVersion), 0o600); err != nil {
		return err
	}
	d.component("live", "checkout "+oldVersion+" on 3 nodes, by the first push", "in "+since(began))
	return nil
}

// untilLive waits until every node serves the version.
func (d *demo) untilLive(ctx context.Context, version string) error {
	return waitFor(ctx, "version "+version+" on every node", d.path("logs"), func(ctx context.Context) bool {
		return !slices.ContainsFunc(d.parts.nodes, func(n demoNode) bool { return !n.serves(ctx, version) })
	})
}

// A demoResult is what the demo has to show for itself.
type demoResult struct {
	report audit.Report
	replay replayResult
	load   constant.Result
	kills  kills
	pushes []string
}

// play pushes, watches, and counts.
func (d *demo) play(ctx context.Context) (demoResult, error) {
	var r demoResult
	b, err := os.ReadFile(d.path("version"))
	if err != nil {
		return r, err
	}
	r.pushes = d.versions(string(b))
	chaos := d.startChaos(ctx)
	err = d.release(ctx, string(b), r.pushes)
	r.kills = chaos.stop()
	if err != nil {
		return r, err
	}
	last := r.pushes[len(r.pushes)-1]
	if err := d.untilLive(ctx, last); err != nil {
		return r, err
	}
	if err := d.endLoad(ctx, &r.load); err != nil {
		return r, err
	}
	r.report, r.replay, err = d.verified(ctx)
	return r, err
}

// versions are what is pushed, one after the other: the other version, and with
// chaos several times to and fro.
func (d *demo) versions(live string) []string {
	next := map[string]string{oldVersion: newVersion, newVersion: oldVersion}
	n := 1
	if d.chaos {
		n = 5
	}
	var out []string
	for range n {
		live = next[live]
		out = append(out, live)
	}
	return out
}

// release pushes each version in turn and waits until it has gone through.
func (d *demo) release(ctx context.Context, live string, versions []string) error {
	began := time.Now()
	tell := func(what, detail, result string) {
		d.say("  %s  %-12s %-52s %s", stamp(began), what, detail, result)
	}
	for _, version := range versions {
		d.say("\ngit push  \"checkout %s → %s\"", live, version)
		commit, err := d.push(ctx, version)
		if err != nil {
			return err
		}
		tell("pushed", "commit "+commit[:12]+" by admin", "")
		if err := d.watch(ctx, commit, tell); err != nil {
			return err
		}
		if err := os.WriteFile(d.path("version"), []byte(version), 0o600); err != nil {
			return err
		}
		live = version
	}
	return nil
}

func stamp(began time.Time) string {
	s := int(time.Since(began).Seconds())
	return fmt.Sprintf("%02d:%02d", s/60, s%60)
}

// watch tells what happens to a commit until its release has ended. A release
// that does not end well is an error.
func (d *demo) watch(ctx context.Context, commit string, tell func(what, detail, result string)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, playTime, errors.New("the release took too long"))
	defer cancel()
	if tell == nil {
		tell = func(string, string, string) {}
	}
	w := watcher{demo: d, commit: commit, tell: tell}
	for {
		done, err := w.look(ctx)
		if done {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("watch commit %.12s: %w; last: %s", commit, context.Cause(ctx), w.last)
		}
	}
}

// A watcher remembers what was told.
type watcher struct {
	demo      *demo
	commit    string
	tell      func(what, detail, result string)
	told      int // steps of the timeline
	validated bool
	last      string
}

// look tells what is new. A database that is away for a moment is looked at again.
func (w *watcher) look(ctx context.Context) (done bool, err error) {
	st := w.demo.parts.installation.store
	if !w.validated {
		statuses, err := st.Statuses(ctx, demoTenant, demoRepository, 20)
		if err != nil {
			w.last = err.Error()
			return false, nil
		}
		i := slices.IndexFunc(statuses, func(s store.CommitStatus) bool { return s.Commit == w.commit })
		if i < 0 {
			w.last = "not validated yet"
			return false, nil
		}
		if !statuses[i].OK {
			return true, fmt.Errorf("the intent is not valid: %s\n%s", statuses[i].Description, statuses[i].Detail)
		}
		w.validated = true
		w.tell("validate", statuses[i].Description, "success")
	}
	rel, err := st.ReleaseOf(ctx, demoTenant, demoRepository, w.commit)
	if err != nil {
		w.last = err.Error()
		return false, nil
	}
	steps, err := st.Timeline(ctx, demoTenant, rel.ID)
	if err != nil {
		w.last = err.Error()
		return false, nil
	}
	for _, t := range steps[min(w.told, len(steps)):] {
		w.step(t)
	}
	w.told = len(steps)
	switch rel.State {
	case promotion.ReleaseOpen:
		return false, nil
	case promotion.ReleaseSucceeded:
		return true, nil
	default:
		return true, fmt.Errorf("release %s ended %s", rel.ID, rel.State)
	}
}

// step tells one step of a promotion.
func (w *watcher) step(t store.TransitionRow) {
	w.last = t.Promotion + ": " + t.Reason
	state := string(t.Status)
	switch t.Status {
	case promotion.Gating, promotion.Queued:
		return
	case promotion.Running:
		state = string(t.Phase)
	case promotion.Succeeded:
		state = "done"
	}
	w.tell(t.Environment, t.Reason, state)
}

// endLoad stops the load and reads what it counted.
func (d *demo) endLoad(ctx context.Context, into *constant.Result) error {
	if err := d.children.end(ctx, "load"); err != nil {
		return err
	}
	r, err := readLoad(d.path("load.out"))
	*into = r
	return err
}

func readLoad(path string) (constant.Result, error) {
	var r constant.Result
	b, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("read load %s: %w", path, err)
	}
	return r, nil
}

// line is the last line of the transcript.
func (r demoResult) line() string {
	s := fmt.Sprintf("Done: %d audit rows %s, %d promotions replayed, %d of %d requests failed.",
		r.report.Rows, r.report.Result, r.replay.Promotions, r.load.Failed, r.load.Requests)
	if r.kills.total() > 0 {
		s = fmt.Sprintf("Killed meanwhile: %s.\n%s", r.kills, s)
	}
	return "\n" + s
}

// good reports whether all that was promised was seen. Under chaos a request
// may meet a node that was just killed; everything else must hold.
func (r demoResult) good(chaos bool) bool { return r.why(chaos) == "" }

// why says what was promised and not seen.
func (r demoResult) why(chaos bool) string {
	var bad []string
	if r.report.Verdict != audit.Verified {
		bad = append(bad, fmt.Sprintf("the audit trail is %s: %v", r.report.Result, r.report.Findings))
	}
	if len(r.replay.Differ) > 0 || r.replay.Promotions == 0 {
		bad = append(bad, fmt.Sprintf("replay differs: %v", r.replay.Differ))
	}
	if r.load.Requests == 0 {
		bad = append(bad, "no request was made")
	}
	for _, v := range r.pushes {
		if r.load.Versions[v] == 0 {
			bad = append(bad, "no answer came from version "+v)
		}
	}
	if r.load.Failed > 0 && !chaos {
		bad = append(bad, fmt.Sprintf("%d requests failed, the first: %s", r.load.Failed, r.load.FirstError))
	}
	if chaos && !r.kills.each() {
		bad = append(bad, "not every kind of process was killed: "+r.kills.String())
	}
	return strings.Join(bad, "; ")
}
