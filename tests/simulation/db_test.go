package simulation_test

import (
	"maps"
	"slices"
	"time"

	"hotswap.dev/hotswap/pkg/analysis"
	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/target"
)

// Keys of rows. The tenant is in every one of them.
type (
	key      struct{ tenant, id string } // a promotion, release, node, environment or audit row
	slotKey  struct{ tenant, environment, deployment string }
	placeKey struct{ tenant, node, environment, deployment string }
	holdKey  struct {
		slotKey
		artifact string
	}
	dueKey struct {
		tenant string
		kind   kind
		id     string
	}
)

// A kind says what a due row is about, as in pkg/store.
type kind string

const (
	releaseDue   kind = "release"
	promotionDue kind = "promotion"
	slotDue      kind = "slot"
)

// A table keeps its rows in the order in which they came, so that a run is the
// same run each time. Rows are replaced, never changed: a copy of a table is a backup.
type table[K comparable, V any] struct {
	rows  map[K]V
	order []K
}

func (t *table[K, V]) has(k K) bool { _, ok := t.rows[k]; return ok }

func (t *table[K, V]) put(k K, v V) {
	if t.rows == nil {
		t.rows = map[K]V{}
	}
	if _, ok := t.rows[k]; !ok {
		t.order = append(t.order, k)
	}
	t.rows[k] = v
}

func (t *table[K, V]) drop(k K) {
	delete(t.rows, k)
	if i := slices.Index(t.order, k); i >= 0 {
		t.order = slices.Delete(t.order, i, i+1)
	}
}

func (t *table[K, V]) clone() table[K, V] {
	return table[K, V]{maps.Clone(t.rows), slices.Clone(t.order)}
}

type nodeRow struct {
	labels    map[string]string
	key       int // changes when it joins again
	left      bool
	joined    time.Time
	seen      time.Time // zero: never
	boot, seq int64
}

type environmentRow struct {
	document intent.Environment
	version  int // changes with the document
}

type releaseRow struct {
	id         string
	deployment string
	generation int64
	snapshot   *intent.Snapshot
	state      promotion.ReleaseState
	waiting    *promotion.Waiting
	version    int64
}

type promotionRow struct {
	promotion.State
	waiting  *promotion.Waiting
	finished time.Time // zero: open
}

func (p *promotionRow) slot() slotKey { return slotOf(p.State) }

func slotOf(s promotion.State) slotKey { return slotKey{s.Tenant, s.Environment, s.Deployment} }

type wantedRow struct {
	order target.Order
	at    time.Time
}

type reportRow struct {
	report target.PlaceReport
	seen   time.Time
}

type sampleRow struct {
	span int64
	analysis.Sample
}

type dueRow struct {
	wake, lease  time.Time
	fence, pokes int64
	attempts     int
}

// tables are all there is of a database.
type tables struct {
	epoch        int64
	nodes        table[key, nodeRow]
	environments map[key]*environmentRow
	releases     table[key, *releaseRow]
	promotions   table[key, *promotionRow]
	open         []key             // promotions that have not ended, by their creation
	waiting      map[slotKey][]key // the same, by slot
	bySlot       map[slotKey][]key // all
	byRelease    map[key][]key
	transitions  map[key][]promotion.Transition
	slots        table[slotKey, promotion.Slot]
	wanted       map[placeKey]*wantedRow
	reports      map[placeKey]*reportRow
	live         map[placeKey]*target.Instance
	samples      map[slotKey][]sampleRow
	holds        map[holdKey]string // why
	checks       map[key][]promotion.CheckFact
	findings     map[slotKey][]promotion.Finding // open
	due          table[dueKey, dueRow]
	rows         map[key]int64 // of the audit trail, with the version of the promotion that each is about
	told         map[key]int64 // rows of a promotion
}

func newTables() *tables {
	return &tables{
		epoch: 1, environments: map[key]*environmentRow{}, bySlot: map[slotKey][]key{}, waiting: map[slotKey][]key{}, byRelease: map[key][]key{},
		transitions: map[key][]promotion.Transition{}, wanted: map[placeKey]*wantedRow{}, reports: map[placeKey]*reportRow{},
		live: map[placeKey]*target.Instance{}, samples: map[slotKey][]sampleRow{}, holds: map[holdKey]string{}, checks: map[key][]promotion.CheckFact{},
		findings: map[slotKey][]promotion.Finding{}, rows: map[key]int64{}, told: map[key]int64{},
	}
}

// backup copies the database as it is. Lists are clipped, so that what is appended
// to one is not seen in the other.
func (db *tables) backup() *tables {
	c := *db
	c.nodes, c.releases, c.promotions = db.nodes.clone(), db.releases.clone(), db.promotions.clone()
	c.slots, c.due, c.open = db.slots.clone(), db.due.clone(), slices.Clone(db.open)
	c.environments, c.wanted, c.reports, c.live = maps.Clone(db.environments), maps.Clone(db.wanted), maps.Clone(db.reports), maps.Clone(db.live)
	c.holds, c.rows, c.told = maps.Clone(db.holds), maps.Clone(db.rows), maps.Clone(db.told)
	c.bySlot, c.waiting, c.byRelease, c.transitions = clipped(db.bySlot), clipped(db.waiting), clipped(db.byRelease), clipped(db.transitions)
	c.samples, c.checks, c.findings = clipped(db.samples), clipped(db.checks), clipped(db.findings)
	return &c
}

// clipped copies a map of lists that are only appended to or replaced as a whole.
func clipped[K comparable, V any](m map[K][]V) map[K][]V {
	out := make(map[K][]V, len(m))
	for k, v := range m { // their order decides nothing
		out[k] = slices.Clip(v)
		m[k] = out[k]
	}
	return out
}

// nodesOf are the tenant's nodes that are in the fleet and that a selector selects,
// by name.
func (db *tables) nodesOf(tenant string, selector map[string]string) []string {
	var out []string
	for _, k := range db.nodes.order {
		if n := db.nodes.rows[k]; k.tenant == tenant && !n.left && selects(selector, n.labels) {
			out = append(out, k.id)
		}
	}
	slices.Sort(out)
	return out
}

// selects reports what SQL's labels @> selector does. No selector selects nothing.
func selects(selector, labels map[string]string) bool {
	if selector == nil {
		return false
	}
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

// openIn are the open promotions of a slot, by their creation.
func (db *tables) openIn(at slotKey) []*promotionRow {
	out := make([]*promotionRow, 0, len(db.waiting[at]))
	for _, k := range db.waiting[at] {
		out = append(out, db.promotions.rows[k])
	}
	return out
}

// begin and end keep the lists of what is open. A list is replaced, never changed.
func (db *tables) begin(k key, at slotKey) {
	db.open, db.waiting[at] = append(db.open, k), append(db.waiting[at], k)
}

func (db *tables) end(k key, at slotKey) {
	other := func(o key) bool { return o == k }
	db.open = slices.DeleteFunc(slices.Clone(db.open), other)
	db.waiting[at] = slices.DeleteFunc(slices.Clone(db.waiting[at]), other)
}
