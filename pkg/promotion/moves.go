package promotion

// A Move is a way from one state to another, with its phase where the state is
// running. An empty From is the beginning.
type Move struct {
	From, To string
	When     string
}

// Moves lists every move of a promotion. docs/reference/states.md is made from
// it; a decision that makes another move is a defect that tests find.
func Moves() []Move {
	return []Move{
		{"", "gating", "the release was created, every needed stage succeeded, or a person asked for an attempt or a restore"},
		{"gating", "gating", "the plan moved, which voids an approval; a person agreed; or the reviews approve it, or do no more"},
		{"gating", "queued", "every gate is true: approval, window, soak, checks, no hold"},
		{"gating", "rejected", "a person says no, or a review that counts does, or the pull request was closed"},
		{"gating", "expired", "nobody agreed within the deadline"},
		{"gating", "superseded", "a newer release was started in the slot (concurrency: supersede)"},
		{"gating", "cancelled", "a person stops it; or the restore before it did not succeed"},
		{"queued", "gating", "the plan moved, or a gate fell"},
		{"queued", "rejected", "a person says no, or a review that counts does, or the pull request was closed"},
		{"queued", "superseded", "a newer release was started in the slot (concurrency: supersede)"},
		{"queued", "cancelled", "a person stops it"},
		{"queued", "succeeded", "there is no unit to take anything away from"},
		{"queued", "running/preparing", "the slot is free and clean, the clusters have room, and it is its turn: it takes the slot"},
		{"queued", "running/activating", "the same, and there is nothing to prepare: a removal"},
		{"queued", "running/recording", "the same, and a policy's reviews approve the plan, read again at this moment: the pull request is to be merged"},
		{"running/recording", "gating", "the forge refused the merge, or the head moved: the slot is free again"},
		{"running/recording", "running/preparing", "the merge shows exactly the plan, and no window was closed meanwhile"},
		{"running/recording", "running/activating", "the same, and there is nothing to prepare: a removal"},
		{"running/recording", "succeeded", "the same, and there is no unit to take anything away from"},
		{"running/preparing", "running/preparing", "a unit left the fleet and is skipped"},
		{"running/preparing", "running/stabilising", "every standby of a blue-green is prepared and passed its smoke test; it must be stable"},
		{"running/preparing", "running/activating", "every unit of the wave is prepared"},
		{"running/activating", "running/activating", "a unit left the fleet and is skipped"},
		{"running/activating", "running/stabilising", "every unit of the wave serves the release and must be seen healthy, or stable"},
		{"running/activating", "running/analysing", "every unit of the wave serves the release and is compared with the others"},
		{"running/activating", "running/preparing", "the wave is done; the next one begins"},
		{"running/activating", "succeeded", "the last wave is done"},
		{"running/stabilising", "running/stabilising", "a unit left the fleet and is skipped; or there was no verdict in time and the policy is extend"},
		{"running/stabilising", "running/activating", "the standby is stable"},
		{"running/stabilising", "running/analysing", "the wave is stable and is compared with the others"},
		{"running/stabilising", "running/preparing", "the wave is stable; the next one begins"},
		{"running/stabilising", "succeeded", "the last wave is stable"},
		{"running/analysing", "running/analysing", "a unit left the fleet and is skipped; or there was no verdict in time and the policy is extend"},
		{"running/analysing", "running/preparing", "no harm was found; the next wave begins"},
		{"running/analysing", "succeeded", "no harm was found in the last wave"},
		{"running/preparing", "running/paused", "a person pauses it; or more units left the fleet than are tolerated"},
		{"running/activating", "running/paused", "a person pauses it; or more units left the fleet than are tolerated"},
		{"running/stabilising", "running/paused", "the same; or there was no verdict in time and the policy is pause"},
		{"running/analysing", "running/paused", "the same; or there was no verdict in time and the policy is pause"},
		{"running/paused", "running/preparing", "a person resumes it, or promotes a wave without a verdict: the next wave begins"},
		{"running/paused", "running/activating", "a person resumes it, or promotes a standby without a verdict"},
		{"running/paused", "running/stabilising", "a person resumes it"},
		{"running/paused", "running/analysing", "a person resumes it, or promotes a wave without a verdict: it is compared next"},
		{"running/paused", "succeeded", "a person promotes the last wave without a verdict"},
		{"running/paused", "errored", "a person resumes it and no unit is left"},
		{"running/preparing", "errored", "a unit is silent until the deadline; nothing was switched"},
		{"running", "failed", "nothing was switched yet and a unit cannot, or time is used up; or the policy is to leave the units as they are"},
		{"running", "cancelled", "a person stops it before anything was switched"},
		{"running", "rolling_back", "a switched unit fails, time is used up, the analysis finds harm, a person stops it, or a newer release is ready (onNewer: abort)"},
		{"rolling_back", "rolled_back", "every unit that is there runs the former version again"},
		{"rolling_back", "cancelled", "the same, and a person or a newer release had asked for it"},
		{"rolling_back", "rollback_failed", "a unit cannot go back, or not in time: the slot is dirty"},
	}
}

// Where names the state as [Moves] does: "running/preparing", "queued".
func (s State) Where() string {
	switch {
	case s.Version == 0:
		return ""
	case s.Phase != "":
		return string(s.Status) + "/" + string(s.Phase)
	default:
		return string(s.Status)
	}
}

// Listed reports whether [Moves] holds the move from one state to another. A
// move from "running" holds for every phase.
func Listed(from, to State) bool {
	for _, m := range Moves() {
		same := m.From == from.Where() || m.From == "running" && from.Status == Running
		if same && m.To == to.Where() {
			return true
		}
	}
	return false
}
