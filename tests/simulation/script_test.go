package simulation_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/promotion"
)

// A move is one step of a script: what is done, and the number that all choices in
// it are drawn from. A move that is not possible changes nothing.
type move struct {
	kind moveKind
	arg  uint32
}

type moveKind uint8

const (
	drains   moveKind = iota // a worker does all that is due
	works                    // a worker takes one step
	kills                    // a worker dies
	passes                   // time passes
	turns                    // a node has a turn
	delivers                 // a message that was under way arrives
	pushes                   // a version is committed
	floods                   // several at once
	removes                  // an intent is deleted
	changes                  // an environment is changed
	asks                     // a person asks for something
	ails                     // something goes wrong with a node
	mends                    // or right again
	saves                    // the database is backed up
	restores                 // the database is put back to the backup
	moveKinds
)

var moveNames = [moveKinds]string{"drain", "work", "kill", "pass", "turn", "deliver", "push", "flood", "remove", "change", "ask", "ail", "mend", "save", "restore"}

func (m move) String() string { return fmt.Sprintf("%s %d", moveNames[m.kind], m.arg) }

// weights are how often each kind of move is made.
var weights = [moveKinds]int{
	drains: 260, works: 90, kills: 8, passes: 330, turns: 60, delivers: 40, pushes: 22, floods: 3, removes: 1, changes: 3, asks: 70, ails: 7, mends: 14, saves: 2, restores: 1,
}

// newScript draws the moves of a seed.
func newScript(seed uint64, length int) []move {
	c := choice{rand.New(rand.NewPCG(seed, 2))}
	total := 0
	for _, x := range weights {
		total += x
	}
	out := make([]move, length)
	for i := range out {
		n := c.IntN(total)
		k := moveKind(0)
		for ; n >= weights[k]; k++ {
			n -= weights[k]
		}
		out[i] = move{k, c.Uint32()}
	}
	return out
}

// A violation is an invariant that did not hold.
type violation struct {
	invariant, what string
	step            int
}

func (v violation) String() string {
	return fmt.Sprintf("%s is violated at step %d: %s", v.invariant, v.step, v.what)
}

// violates notes that an invariant does not hold; the first one counts.
func (w *world) violates(invariant, format string, args ...any) {
	if w.found == nil {
		w.found = &violation{invariant, fmt.Sprintf(format, args...), w.check.step}
	}
}

// play makes the moves of a script, lets the world settle, and returns what did not
// hold; nil: all did.
func play(w *world, script []move) *violation {
	if found := w.follow(script); found != nil {
		return found
	}
	w.settle()
	return w.found
}

// follow makes the moves of a script.
func (w *world) follow(script []move) *violation {
	for i, m := range script {
		w.check.step = i
		w.pcg.Seed(uint64(m.arg), uint64(m.kind))
		w.say("%s", m)
		w.do(m.kind)
		if w.check.always(); w.found != nil {
			return w.found
		}
	}
	w.check.step = len(script)
	return nil
}

// do makes one move.
func (w *world) do(k moveKind) {
	w.now = w.now.Add(time.Microsecond)
	switch k {
	case drains:
		w.drain(pick(w, w.workers))
	case works:
		for range 1 + w.n(3) {
			w.work(pick(w, w.workers))
		}
	case kills:
		w.kill(pick(w, w.workers))
	case passes:
		w.pass(w.until())
	case turns:
		w.turn(pick(w, w.fleet))
	case delivers:
		w.deliverOne()
	case pushes, floods, removes:
		w.commits(k)
	case changes:
		w.change(pick(w, w.shapes).name, pick(w, environmentNames))
	case asks:
		w.ask()
	case ails:
		w.ail(pick(w, w.fleet))
	case mends:
		w.mend(pick(w, w.fleet))
	case saves:
		w.saved = w.db.backup()
	case restores:
		if w.saved != nil {
			w.restoreBackup()
		}
	}
}

// until is to when time passes: mostly until something happens.
func (w *world) until() time.Time {
	switch n := w.n(100); {
	case n < 80:
		return w.ahead()
	case n < 98:
		return w.now.Add(time.Duration(w.n(4000)) * time.Millisecond)
	default:
		return w.now.Add(time.Duration(1+w.n(180)) * time.Minute)
	}
}

// deliverOne lets any of the messages that are under way arrive: or two, the later
// one first.
func (w *world) deliverOne() {
	for range 1 + w.n(2) {
		if len(w.net) == 0 {
			return
		}
		i := w.n(len(w.net))
		m := w.net[i]
		w.net = append(w.net[:i:i], w.net[i+1:]...)
		w.deliver(m)
	}
}

// commits pushes what people commit.
func (w *world) commits(k moveKind) {
	s := pick(w, w.shapes)
	d := pick(w, s.deployments)
	times, most := 1, 6 // people stop when too many of theirs wait
	if k == floods {
		times, most = 2+w.n(5), 15
	}
	if w.openReleases(key{s.name, d.name}) > most {
		return
	}
	for range times {
		q := pick(w, []quality{good, good, good, good, good, good, good, unfit, unready, crashing, failing, slow})
		w.push(s, d, q, k == removes)
	}
}

// openReleases counts the releases of a deployment that have not ended.
func (w *world) openReleases(of key) (n int) {
	for _, k := range w.db.releases.order {
		if r := w.db.releases.rows[k]; k.tenant == of.tenant && r.deployment == of.id && r.state == promotion.ReleaseOpen {
			n++
		}
	}
	return n
}

// A story is what happened last, for people.
type story struct{ lines []string }

// say tells what happens, if anybody listens.
func (w *world) say(format string, args ...any) {
	if w.story != nil {
		w.story.lines = append(w.story.lines, w.now.UTC().Format("02 15:04:05.000000 ")+fmt.Sprintf(format, args...))
	}
}

func (s *story) last(n int) string {
	return strings.Join(s.lines[max(0, len(s.lines)-n):], "\n")
}
