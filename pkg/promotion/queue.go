package promotion

import (
	"fmt"
	"slices"

	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/strategy"
)

// queued waits for the slot. Everything that opened the gates is looked at once
// more: what was true then need not be true now.
func (d *decider) queued() {
	slot, again := d.ev.Facts.Slot, d.now.Add(lookIdle)
	switch {
	case d.overtaken():
	case d.moves():
		d.replan()
	case d.unread():
	case d.review():
	case len(d.closed()) > 0:
		d.become(Gating, "", "promotion.regated", "a gate fell: "+d.closed()[0].what)
	case slot.Holder != "":
		d.wait(again, "the slot is held by promotion "+slot.Holder, "", "hotswap abort "+slot.Holder)
	case slot.Dirty && d.State.Kind != Restore:
		place := d.State.Environment + "/" + d.State.Deployment
		d.wait(again, "the slot is dirty: units may run different versions", "an earlier promotion ended without knowing what every unit runs",
			fmt.Sprintf("hotswap rollback %s --environment %s, or hotswap slot clean %s", d.State.Deployment, d.State.Environment, place))
	case d.yields():
	case len(d.ev.Facts.Candidates) == 0 && d.State.Kind == Promote:
		d.wait(d.now.Add(lookAgain), "no node matches the selector of environment "+d.State.Environment, "", "hotswap join-token create NODE.token --label KEY=VALUE, and hotswap node with it")
	case d.crowded():
	default:
		d.start()
	}
}

// unread waits while all that is closed is that the reviews could not be read: it
// keeps its turn, and starts with nothing that nobody saw.
func (d *decider) unread() bool {
	if !d.State.reviewed() {
		return false
	}
	if r := d.reviews(); r != nil && r.State != ReviewUnread || len(d.closed()) != 1 {
		return false
	}
	d.waitForGates(d.closed())
	d.Wake = d.now.Add(lookAgain)
	d.Waiting.Next = d.Wake
	return true
}

// yields waits while another promotion has the first turn.
func (d *decider) yields() bool {
	f, again := d.ev.Facts, d.now.Add(lookIdle)
	switch {
	case d.State.Kind == Restore:
		return false
	case f.Restore != "":
		d.wait(again, "restore "+f.Restore+" goes first", "", "hotswap abort "+f.Restore)
	case d.State.Spec.Concurrency == intent.Queue && f.Oldest != 0 && f.Oldest < d.State.Generation:
		d.wait(again, fmt.Sprintf("generation %d goes first: the stage takes the oldest", f.Oldest), "", "hotswap status")
	case d.State.Spec.Concurrency != intent.Queue && f.Newest > d.State.Generation:
		d.wait(again, fmt.Sprintf("generation %d goes first: its gates are true too, and it is newer", f.Newest), "", "hotswap status")
	default:
		return false
	}
	return true
}

// crowded waits while a cluster has as many promotions as it may.
func (d *decider) crowded() bool {
	if d.ev.Facts.Limit == 0 {
		return false
	}
	for _, c := range d.ev.Facts.Candidates {
		i := slices.IndexFunc(d.ev.Facts.Load, func(l ClusterLoad) bool { return l.Cluster == c.Cluster })
		if i < 0 || d.ev.Facts.Load[i].Running < d.ev.Facts.Limit {
			continue
		}
		name := c.Cluster
		if name == "" {
			name = d.State.Environment
		}
		d.wait(d.now.Add(lookAgain), fmt.Sprintf("a turn in cluster %s: %d of %d promotions are running there", name, d.ev.Facts.Load[i].Running, d.ev.Facts.Limit),
			"", "hotswap status")
		return true
	}
	return false
}

// start takes the slot, freezes units and waves, and begins the first wave.
func (d *decider) start() {
	slot := d.ev.Facts.Slot
	slot.Holder, slot.Token = d.State.ID, slot.Token+1
	if d.State.Kind != Restore && !d.State.reviewed() { // what comes back from the past overtakes nobody, nor does what may yet be refused
		slot.Started = max(slot.Started, d.State.Generation)
	}
	d.Slot = &slot
	d.State.Token = slot.Token
	d.freeze()
	if d.ev.Facts.Limit > 0 {
		for _, c := range d.clusters() {
			d.Load = append(d.Load, Load{Cluster: c, Limit: d.ev.Facts.Limit})
		}
	}
	if d.State.reviewed() {
		d.record()
		return
	}
	if len(d.State.Units) == 0 { // a removal where nothing runs, or a restore of nothing
		d.finish(Succeeded, false, "promotion.succeeded", "no unit runs it")
		return
	}
	d.prepareWave("promotion.started", "the slot is free; ")
}

// freeze resolves the units and their waves. The list never grows afterwards. A
// canary of a first deployment is one wave: there is nothing to compare it with,
// and nobody whom it could harm.
func (d *decider) freeze() {
	how := d.State.Spec.Stage.Strategy
	d.State.Progress.First = !slices.ContainsFunc(d.ev.Facts.Candidates, func(c Candidate) bool { return c.Former != nil })
	if d.State.Progress.First && how.Type == intent.Canary {
		how = intent.Strategy{Type: intent.Direct}
	}
	split := strategy.Split(how, len(d.ev.Facts.Candidates))
	d.State.Units = nil
	for i, c := range d.ev.Facts.Candidates {
		wave := slices.IndexFunc(split, func(end int) bool { return i < end })
		d.State.Units = append(d.State.Units, Unit{Node: c.Node, Cluster: c.Cluster, Wave: wave, Former: c.Former})
	}
}
