package simulation_test

import (
	"slices"

	"hotswap.dev/hotswap/pkg/analysis"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/target"
)

// A message is under way between a node and the database: orders to it, or a
// report of it. Joined is the key that the node signed with.
type message struct {
	to     *node
	joined int
	orders []target.Order
	report *target.Report
}

// send hands a message to the network, which loses, doubles and delays some. While
// the world settles it delivers all at once.
func (w *world) send(m message) {
	fate := 0
	if !w.settling {
		fate = w.n(20)
	}
	switch {
	case fate < 13:
		w.deliver(m)
	case fate < 16:
		w.net = append(w.net, m)
	case fate < 17:
		w.deliver(m)
		w.net = append(w.net, m)
	case fate < 18:
		w.net = append(w.net, m, m)
	default: // lost
	}
	if len(w.net) > 40 { // what is late for too long was given up by a deadline
		w.net = w.net[1:]
	}
}

func (w *world) deliver(m message) {
	switch {
	case m.report != nil:
		if r := w.db.nodes.rows[m.to.key]; r.key == m.joined && !r.left {
			w.saveReport(m.to.key, r, *m.report)
			w.twin.report(m.to.key, *m.report)
		}
	case m.to.joined == m.joined && m.to.speaks():
		m.to.take(m.orders, w.now, w.mutant == obeysAll)
		w.check.took(m.to)
	}
}

// turn lets a node look, ask for orders, follow them and report.
func (w *world) turn(n *node) {
	if n.off {
		return
	}
	n.pass(w.now)
	if !n.speaks() {
		return
	}
	if r := w.db.nodes.rows[n.key]; r.key == n.joined && !r.left { // else its key is refused
		if orders := w.newer(n); len(orders) > 0 {
			w.send(message{to: n, joined: n.joined, orders: orders})
			n.pass(w.now)
		}
		if n.news(w.now) || w.now.Sub(n.told) >= heartbeat {
			report := n.report(w.now)
			w.send(message{to: n, joined: n.joined, report: &report})
		}
	}
}

// newer are the node's orders that are newer than what it says that it knows.
func (w *world) newer(n *node) []target.Order {
	var out []target.Order
	for _, s := range w.db.slots.order {
		if s.tenant != n.tenant {
			continue
		}
		o := w.db.wanted[placeKey{n.tenant, n.id, s.environment, s.deployment}]
		if o != nil && (o.order.Position.Newer(n.known(o.order.Place)) || w.mutant == obeysAll) {
			out = append(out, o.order)
		}
	}
	return out
}

// Spans of which one reading is kept, see pkg/store.
const (
	spanHeld = 1
	spanIdle = 60
)

// saveReport stores what a node sees and wakes whom it concerns, as pkg/store does.
func (w *world) saveReport(k key, n nodeRow, r target.Report) {
	if r.Boot < n.boot || r.Boot == n.boot && r.Seq <= n.seq {
		return
	}
	n.seen, n.boot, n.seq = w.now, r.Boot, r.Seq
	w.db.nodes.put(k, n)
	for _, p := range r.Places {
		at := slotKey{k.tenant, p.Place.Environment, p.Place.Deployment}
		pk := placeKey{k.tenant, k.id, at.environment, at.deployment}
		if w.db.wanted[pk] == nil {
			continue
		}
		w.db.reports[pk] = &reportRow{p, w.now}
		slot := w.db.slots.rows[at]
		w.sample(at, k.id, p.Active, slot.Holder != "")
		w.sample(at, k.id, p.Standby, slot.Holder != "")
		if slot.Holder != "" {
			w.poke(dueKey{k.tenant, promotionDue, slot.Holder})
		} else if w.differs(pk) != w.said(at, k.id) {
			w.poke(at.due())
		}
	}
}

// differs reports whether a report is not as the order says.
func (w *world) differs(pk placeKey) bool {
	want, r := w.db.wanted[pk].order.Active, w.db.reports[pk].report.Active
	switch {
	case r == nil:
		return want != nil
	case want == nil || r.Digest != want.Digest:
		return true
	}
	return r.Phase != target.Healthy
}

func (w *world) said(at slotKey, node string) bool {
	return slices.ContainsFunc(w.db.findings[at], func(f promotion.Finding) bool { return f.Node == node && f.Kind != promotion.Outside })
}

// sample keeps a reading, the first of each span.
func (w *world) sample(at slotKey, node string, i *target.InstanceReport, held bool) {
	if i == nil || i.Phase != target.Healthy && i.Phase != target.Unhealthy {
		return
	}
	width := int64(spanIdle)
	if held {
		width = spanHeld
	}
	span := w.now.Unix() / width * width
	all := w.db.samples[at]
	for j := len(all) - 1; j >= 0 && all[j].At.Unix() >= span; j-- {
		if x := all[j]; x.span == span && x.Unit == node && x.Instance == i.Digest {
			return
		}
	}
	w.db.samples[at] = append(all, sampleRow{span, analysis.Sample{
		Unit: node, At: w.now, Instance: i.Digest, Restarts: i.Restarts, CPU: i.CPU, CPULimit: i.CPULimit, Memory: i.Memory, MemoryLimit: i.MemoryLimit,
		Requests: i.Requests, Errors: i.Errors, Latency: i.Latency, LatencySum: i.LatencySum,
	}})
}

// join lets a node into the fleet, at first or again.
func (w *world) join(n *node) {
	r, known := w.db.nodes.rows[n.key]
	if !known {
		r = nodeRow{joined: w.now}
	}
	w.keys++
	r.labels, r.left, r.boot, r.seq, r.key = n.labels, false, 0, 0, w.keys
	n.joined = w.keys
	w.db.nodes.put(n.key, r)
	defer w.twin.join(n)
	for _, k := range w.db.open {
		if k.tenant == n.tenant && w.db.promotions.rows[k].Status == promotion.Queued {
			w.poke(dueKey{k.tenant, promotionDue, k.id})
		}
	}
	for _, s := range w.db.slots.order {
		if env := w.db.environments[key{s.tenant, s.environment}]; s.tenant == n.tenant && w.db.slots.rows[s].Live != "" && selects(env.document.Spec.Selector, n.labels) {
			w.poke(s.due())
		}
	}
}

// remove takes a node out of the fleet.
func (w *world) remove(n *node) {
	r, ok := w.db.nodes.rows[n.key]
	if !ok || r.left {
		return
	}
	r.left = true
	w.db.nodes.put(n.key, r)
	defer w.twin.remove(n)
	for _, k := range w.db.open {
		if k.tenant == n.tenant {
			w.poke(dueKey{k.tenant, promotionDue, k.id})
		}
	}
	for _, s := range w.db.slots.order {
		if s.tenant == n.tenant && w.db.wanted[placeKey{n.tenant, n.id, s.environment, s.deployment}] != nil {
			w.poke(s.due())
		}
	}
}
