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
	"hotswap.dev/hotswap/tests/load/constant"
)

// playTime bounds how long one release may take.
const playTime = 4 * time.Minute

// firstVersion makes sure that some good version is live on every node.
func (d *demo) firstVersion(ctx context.Context) error {
	began := time.Now()
	if err := d.cloned(ctx); err != nil {
		return err
	}
	b, err := os.ReadFile(d.path("version"))
	live := string(b)
	from := "from the last run"
	if err != nil || live == brokenVersion {
		live, from = oldVersion, "by the first push"
		if err := d.quietly(ctx, live); err != nil {
			return err
		}
	}
	if err := d.untilLive(ctx, live, ""); err != nil {
		return err
	}
	if err := os.WriteFile(d.path("version"), []byte(live), 0o600); err != nil {
		return err
	}
	d.component("live", fmt.Sprintf("checkout %s on %d nodes, %s", live, len(d.parts.nodes), from), "in "+since(began))
	return nil
}

// quietly releases a version without a word.
func (d *demo) quietly(ctx context.Context, version string) error {
	commit, err := d.push(ctx, version)
	if err != nil {
		return err
	}
	state, err := d.watch(ctx, commit, nil)
	if err == nil && state != promotion.ReleaseSucceeded {
		err = fmt.Errorf("the release of %s ended %s", version, state)
	}
	return err
}

// untilLive waits until every node of an environment serves the version; with ""
// every node.
func (d *demo) untilLive(ctx context.Context, version, environment string) error {
	return waitFor(ctx, "version "+version+" on every node", d.path("logs"), func(ctx context.Context) bool {
		return !slices.ContainsFunc(d.parts.nodes, func(n demoNode) bool {
			return (environment == "" || n.environment == environment) && !n.serves(ctx, version)
		})
	})
}

// A demoResult is what the demo has to show for itself.
type demoResult struct {
	report  audit.Report
	replay  replayResult
	load    constant.Result
	kills   kills
	pushes  []string
	options demoOptions
	back    takenBack
}

// play pushes, watches, and counts.
func (d *demo) play(ctx context.Context) (demoResult, error) {
	r := demoResult{options: d.demoOptions}
	b, err := os.ReadFile(d.path("version"))
	if err != nil {
		return r, err
	}
	live := string(b)
	r.pushes = d.versions(live)
	chaos := d.startChaos(ctx)
	if d.broken {
		err = d.breakRelease(ctx, live, &r.back)
	} else {
		err = d.release(ctx, live, r.pushes)
	}
	r.kills = chaos.stop()
	if err != nil {
		return r, err
	}
	if !d.broken {
		if err := d.untilLive(ctx, r.pushes[len(r.pushes)-1], ""); err != nil {
			return r, err
		}
	}
	if err := d.endLoad(ctx, &r.load); err != nil {
		return r, err
	}
	r.report, r.replay, err = d.verified(ctx)
	return r, err
}

// versions are what is pushed, one after the other: the other version, and with
// chaos there and back.
func (d *demo) versions(live string) []string {
	if d.broken {
		return []string{brokenVersion}
	}
	next := map[string]string{oldVersion: newVersion, newVersion: oldVersion}
	n := 1
	if d.chaos {
		n = 2
	}
	var out []string
	for range n {
		live = next[live]
		out = append(out, live)
	}
	return out
}

// maxTold is how much of a reason fits on a line; hotswap status has all of it.
const maxTold = 100

// teller prints what happens, each line with the time since the push.
func (d *demo) teller() func(what, detail, result string) {
	began := time.Now()
	return func(what, detail, result string) {
		if r := []rune(detail); len(r) > maxTold {
			detail = string(r[:maxTold-1]) + "…"
		}
		d.say("%s", strings.TrimRight(fmt.Sprintf("  %s  %-12s %-66s %s", stamp(began), what, detail, result), " "))
	}
}

// release pushes each version in turn and waits until it has gone through.
func (d *demo) release(ctx context.Context, live string, versions []string) error {
	for _, version := range versions {
		state, err := d.told(ctx, live, version, d.teller())
		if err != nil {
			return err
		}
		if state != promotion.ReleaseSucceeded {
			return fmt.Errorf("the release of %s ended %s", version, state)
		}
		if err := os.WriteFile(d.path("version"), []byte(version), 0o600); err != nil {
			return err
		}
		live = version
	}
	return nil
}

// told brings a version to main and tells what follows until its release has ended: by a
// pull request, as people do it; while the chaos kills the Git server, by a push.
func (d *demo) told(ctx context.Context, live, version string, tell func(what, detail, result string)) (promotion.ReleaseState, error) {
	if d.chaos {
		d.say("\ngit push  \"checkout %s → %s\"", live, version)
		commit, err := d.push(ctx, version)
		if err != nil {
			return "", err
		}
		tell("pushed", "commit "+commit[:12]+" by admin", "")
		return d.watch(ctx, commit, tell)
	}
	l, err := d.propose(ctx, fmt.Sprintf("checkout %s → %s", live, version), version)
	if err != nil {
		return "", err
	}
	d.say("\nPull request #%d \"checkout %s → %s\"", l.Number, live, version)
	tell("opened", fmt.Sprintf("by ann, commit %.12s", l.Head), "")
	lines, err := d.checked(ctx, l.Number)
	if err != nil {
		return "", err
	}
	says(tell, l.Number, lines)
	commit, err := d.merge(ctx, l)
	if err != nil {
		return "", err
	}
	tell("merged", fmt.Sprintf("by ann, as commit %.12s", commit), "")
	return d.watch(ctx, commit, tell)
}

func stamp(began time.Time) string {
	s := int(time.Since(began).Seconds())
	return fmt.Sprintf("%02d:%02d", s/60, s%60)
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

// line is the end of the transcript.
func (r demoResult) line() string {
	s := fmt.Sprintf("Done: %d audit rows %s, %d promotions replayed, %d of %d requests failed.",
		r.report.Rows, r.report.Result, r.replay.Promotions, r.load.Failed, r.load.Requests)
	if r.kills.total() > 0 {
		s = fmt.Sprintf("Killed meanwhile: %s.\n%s", r.kills, s)
	}
	if r.options.broken {
		s = r.back.String() + "\n" + s
	}
	return "\n" + s
}

// why says what was promised and not seen. Under chaos a request may meet a node
// that was just killed, and of the version with the bug some must fail.
func (r demoResult) why() string {
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
	if r.load.Failed > 0 && !r.options.chaos && !r.options.broken {
		bad = append(bad, fmt.Sprintf("%d requests failed, the first: %s", r.load.Failed, r.load.FirstError))
	}
	if r.options.chaos && !r.kills.each() {
		bad = append(bad, "not every kind of process was killed: "+r.kills.String())
	}
	if r.options.broken {
		bad = append(bad, r.back.missing(r.load)...)
	}
	return strings.Join(bad, "; ")
}

// errTooLong ends the watching of a release.
var errTooLong = errors.New("the release took too long")
