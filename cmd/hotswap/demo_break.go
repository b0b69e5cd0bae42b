package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/record"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/pkg/strategy"
	"hotswap.dev/hotswap/tests/load/constant"
)

// canaryPercent is the first wave of the demo's production stage.
const canaryPercent = 10

// takenBack is what was seen of a version with a bug.
type takenBack struct {
	promotion  store.PromotionRow // of production
	held       bool               // its artifact is barred from production
	recorded   string             // version that Git says runs in production
	former     string             // version that ran there before
	production []string           // URLs
	share      int                // units that the canary may have reached
}

// breakRelease pushes the version with the bug and looks at what came of it.
func (d *demo) breakRelease(ctx context.Context, live string, back *takenBack) error {
	back.former = live
	for _, n := range d.parts.nodes {
		if n.environment == "production" {
			back.production = append(back.production, "http://"+n.address+"/")
		}
	}
	back.share = strategy.Size(canaryPercent, len(back.production))
	tell := d.teller()
	if _, err := d.told(ctx, live, brokenVersion, tell); err != nil {
		return err
	}
	if err := os.WriteFile(d.path("version"), []byte(brokenVersion), 0o600); err != nil {
		return err
	}
	if err := d.untilLive(ctx, live, "production"); err != nil {
		return err
	}
	st := d.parts.installation.store
	rows, err := st.Promotions(ctx, demoTenant, 10)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(rows, func(p store.PromotionRow) bool { return p.Environment == "production" && p.Version == brokenVersion }); i >= 0 {
		back.promotion = rows[i]
	}
	holds, err := st.Holds(ctx, demoTenant)
	if err != nil {
		return err
	}
	back.held = slices.ContainsFunc(holds, func(h store.HoldRow) bool {
		return h.Environment == "production" && h.Artifact == d.parts.modules[brokenVersion].digest
	})
	return d.readRecord(ctx, back, tell)
}

// recordTime bounds how long Git may take to say what runs.
const recordTime = 15 * time.Second

// readRecord fetches the records' branch until it tells of the promotion.
func (d *demo) readRecord(ctx context.Context, back *takenBack, tell func(what, detail, result string)) error {
	path := record.Path("production", demoDeployment)
	for end := time.Now().Add(recordTime); ; {
		if _, err := d.git(ctx, "fetch", "-q", "origin", record.Branch); err == nil {
			text, err := d.git(ctx, "show", "FETCH_HEAD:"+path)
			if err != nil {
				return err
			}
			r, err := record.Parse(path, []byte(text+"\n"))
			if err != nil {
				return err
			}
			if r.Promotion == back.promotion.ID && r.State != string(promotion.Running) { // its pull request's merge was there before
				back.recorded = r.Module.Version
				tell("record", fmt.Sprintf("%s on branch %s says checkout %s", path, record.Branch, r.Module.Version), r.State)
				return nil
			}
		}
		if time.Now().After(end) {
			return nil // missing says so
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b takenBack) String() string {
	return fmt.Sprintf("Taken back: %s is %s, its artifact is held, the record says %s.\nWhat a person does next: mend it and push, or lift the hold with hotswap hold lift.",
		b.promotion.ID, b.promotion.Status, b.recorded)
}

// missing says what was promised and not seen: the canary was taken back, the hold
// stands, the record names the former version, and no more units than the canary's
// share ever answered with the version.
func (b takenBack) missing(load constant.Result) []string {
	var bad []string
	if b.promotion.Status != promotion.RolledBack {
		bad = append(bad, fmt.Sprintf("production was not rolled back: %s is %s", b.promotion.ID, b.promotion.Status))
	}
	if !b.held {
		bad = append(bad, "the artifact is not held")
	}
	if b.recorded != b.former {
		bad = append(bad, fmt.Sprintf("the record says %q, not %s", b.recorded, b.former))
	}
	var met []string
	for _, url := range b.production {
		if load.ByURL[url][brokenVersion] > 0 {
			met = append(met, url)
		}
	}
	if len(met) == 0 || len(met) > b.share {
		bad = append(bad, fmt.Sprintf("%d units of production answered with %s, not 1 to %d: %s", len(met), brokenVersion, b.share, strings.Join(met, ", ")))
	}
	return bad
}
