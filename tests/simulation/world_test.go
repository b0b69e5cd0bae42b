package simulation_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/promotion"
)

// A mutant is a world with a deliberate fault, which the checks must find.
type mutant string

const (
	none         mutant = ""
	noFence      mutant = "neither fence nor version nor slot is checked"
	lostLease    mutant = "a claim that was lost is accepted"
	obeysAll     mutant = "nodes obey every order"
	gatesOnce    mutant = "gates are looked at once only"
	blindSlot    mutant = "nobody sees that a slot is dirty"
	auditOutside mutant = "audit rows are written outside of the transaction"
	countedEpoch mutant = "the epoch is counted from that of the backup"
	wallClock    mutant = "a smoke test lasts as long as the clock of its node says"
	newestOfAll  mutant = "the newest release goes first, whether its gates are true or not"
)

// A world is one database with what lives around it.
type world struct {
	seed     uint64
	mutant   mutant
	now      time.Time // of the database; it only goes forward
	epoch    int64     // the newest there ever was
	db       *tables
	saved    *tables // a backup; nil: none was made
	shapes   []tenantShape
	clusters []string
	fleet    []*node
	keys     int // that nodes ever got
	net      []message
	workers  []*worker
	plans    map[planKey]planned
	windows  map[string]promotion.WindowFact
	pushed   map[key]int64 // newest generation of each deployment, as Git has it
	versions int
	git      []*releaseRow // everything that was ever pushed, as it begins

	rng      *rand.Rand // of the present step
	pcg      *rand.PCG
	settling bool
	check    *checker
	found    *violation // the first
	story    *story     // nil: nobody listens
	twin     *twin      // nil: there is no other database
	releases int        // that there ever were
}

// springForward is shortly before the clocks of Berlin are put forward, fallBack
// before they are put back, and monday is in no time of the kind.
var (
	springForward = time.Date(2026, 3, 28, 20, 0, 0, 0, time.UTC)
	fallBack      = time.Date(2026, 10, 24, 20, 0, 0, 0, time.UTC)
	monday        = time.Date(2026, 6, 1, 6, 0, 0, 0, time.UTC)
)

// newWorld makes the world of a seed.
func newWorld(seed uint64, m mutant) *world { return newWorldBeside(seed, m, func(*world) {}) }

// newWorldBeside is newWorld with something beside it that is there from the beginning.
func newWorldBeside(seed uint64, m mutant, beside func(*world)) *world {
	c := choice{rand.New(rand.NewPCG(seed, 1))}
	w := emptyWorld(seed, m, one(c, monday, monday, springForward, fallBack))
	beside(w)
	names := []string{"shop"}
	if c.chance(30) {
		names = append(names, "bank")
	}
	for _, name := range names {
		var fleet []*node
		for i := range 3 + c.IntN(4) {
			fleet = append(fleet, newNode(c, key{name, fmt.Sprintf("n%d", i)}, i < 2))
		}
		w.add(newShape(c, name), fleet)
	}
	for _, n := range w.fleet {
		if n.start(w.now); c.chance(80) { // the others come late
			w.join(n)
		}
	}
	return w
}

func emptyWorld(seed uint64, m mutant, now time.Time) *world {
	w := &world{
		seed: seed, mutant: m, now: now, epoch: 1, db: newTables(), plans: map[planKey]planned{}, windows: map[string]promotion.WindowFact{},
		pushed: map[key]int64{}, clusters: []string{"", "east", "west"}, workers: []*worker{{}, {}, {}}, pcg: rand.NewPCG(0, 0),
	}
	w.rng = rand.New(w.pcg)
	w.check = &checker{w: w, written: map[placeOrder]string{}}
	return w
}

// add gives the world a tenant with what it has written down, and its nodes.
func (w *world) add(s tenantShape, fleet []*node) {
	w.shapes = append(w.shapes, s)
	for _, e := range s.environments {
		w.db.environments[key{s.name, e.Metadata.Name}] = &environmentRow{e, 1}
		w.twin.environment(s.name, e)
	}
	for _, n := range fleet {
		n.wall = w.mutant == wallClock
	}
	w.fleet = append(w.fleet, fleet...)
}

// newNode draws a node: where it is, and which environments select it.
func newNode(c choice, k key, everywhere bool) *node {
	n := &node{key: k, labels: map[string]string{"zone": one(c, "east", "west")}, tested: map[string]time.Duration{}}
	for _, env := range environmentNames {
		if everywhere || c.chance(60) {
			n.labels[env] = "yes"
		}
	}
	return n
}

func (w *world) node(k key) *node {
	return w.fleet[slices.IndexFunc(w.fleet, func(n *node) bool { return n.key == k })]
}

// n draws a number below limit, from the generator of the present step.
func (w *world) n(limit int) int { return w.rng.IntN(limit) }

func pick[T any](w *world, of []T) T { return of[w.n(len(of))] }

// push commits a new version of a deployment, or its removal.
func (w *world) push(s tenantShape, d deploymentShape, q quality, remove bool) {
	w.versions++
	k := key{s.name, d.name}
	snapshot := d.snapshot(s.name, fmt.Sprintf("%d-%s", w.versions, q), remove)
	w.pushed[k]++
	r := &releaseRow{
		id: fmt.Sprintf("%s-%d", d.name, w.pushed[k]), deployment: d.name, generation: w.pushed[k], snapshot: &snapshot, state: promotion.ReleaseOpen,
	}
	w.git = append(w.git, r)
	w.sync()
	w.releases++
}

// sync makes releases of what Git has and the database has not.
func (w *world) sync() {
	for _, r := range w.git {
		if k := (key{r.snapshot.Tenant, r.id}); !w.db.releases.has(k) {
			w.db.releases.put(k, r)
			w.addDue(dueKey{k.tenant, releaseDue, r.id})
			w.twin.release(r)
		}
	}
}

// change commits another version of an environment: its limit moves, and with it
// every plan.
func (w *world) change(tenant, name string) {
	k := key{tenant, name}
	now := w.db.environments[k]
	next := &environmentRow{now.document, w.versions + 1000}
	w.versions++
	next.document.Spec.Limits.PromotionsPerCluster = (now.document.Spec.Limits.PromotionsPerCluster + 1) % 3
	w.db.environments[k] = next
	w.twin.environment(tenant, next.document)
	for _, pk := range w.db.open {
		p := w.db.promotions.rows[pk]
		if p.Tenant == tenant && p.Environment == name && (p.Status == promotion.Gating || p.Status == promotion.Queued) {
			w.poke(dueKey{tenant, promotionDue, p.ID})
		}
	}
	for _, s := range w.db.slots.order {
		if s.tenant == tenant && s.environment == name {
			w.poke(s.due())
		}
	}
}

// pass moves the clock to a time, or by a microsecond if that is not ahead, and lets
// the nodes whose turn has come have it.
func (w *world) pass(to time.Time) {
	w.now = later(w.now.Add(time.Microsecond), to)
	for _, n := range w.fleet {
		if at := n.next(n.told); w.now.Sub(n.told) >= heartbeat || !at.IsZero() && !at.After(w.now) {
			w.turn(n)
		}
	}
}

// heartbeat is how long a node is silent at most.
const heartbeat = 5 * time.Second

// ahead is when something happens next.
func (w *world) ahead() time.Time {
	kinds := []kind{releaseDue, promotionDue, slotDue}
	if w.settling && len(w.db.open) > 0 { // drift is looked for all the same, only later
		kinds = kinds[:2]
	}
	next := w.nextDue(kinds...)
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, n := range w.fleet {
		sooner(n.next(w.now))
	}
	for _, k := range w.db.open {
		if w.db.promotions.rows[k].holds() {
			sooner(w.now.Add(heartbeat))
		}
	}
	return later(next, w.now)
}

// allows is what the windows of an environment say now. An answer is remembered for
// as long as it says that it holds: the windows of all environments are the same.
func (w *world) allows(e *environmentRow, names []string) (promotion.WindowFact, error) {
	k := strings.Join(names, " ")
	if known, ok := w.windows[k]; ok && w.now.Before(known.Next) {
		return known, nil
	}
	open, why, next, err := e.document.Spec.Allows(names, w.now)
	w.windows[k] = promotion.WindowFact{Open: open, Why: why, Next: next}
	return w.windows[k], err
}

// A truth is what opens the gates of a promotion, found out another way than by
// the code that is under test.
type truth struct {
	held, open bool
	plan       string
}

func (w *world) truthOf(s *step) truth {
	return truth{
		held: w.db.holds[holdKey{s.row.slot(), s.row.Spec.Instance.Module.Digest}] != "",
		open: windowsOpen(s.env.document.Spec.Windows, s.row.Spec.Stage.Gates.Windows, s.now),
		plan: s.facts.Plan,
	}
}

// forget makes facts of what opened the gates when they were looked at first, in a
// world that does not look again.
func (w *world) forget(s *step) {
	if w.mutant == gatesOnce && s.row.Status == promotion.Queued {
		s.facts.Held, s.facts.Plan, s.facts.Gates.Window = "", s.row.Plan, nil
	}
	if w.mutant == blindSlot {
		s.facts.Slot.Dirty = false
	}
}
