package simulation_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// mostPlays bounds how often a script is played while it is made shorter.
const mostPlays = 3000

// shrink takes moves away from a script for as long as the same invariant is still
// violated: halves first, then ever smaller pieces, to single moves (ddmin of Zeller
// and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002, without
// its tests of the pieces alone).
func shrink(seed uint64, m mutant, script []move, found *violation) ([]move, *violation) {
	again := play
	if found.step < len(script) { // it was found before the world settled
		script, again = script[:found.step+1], (*world).follow
	}
	plays := 0
	for size := len(script) / 2; size > 0 && plays < mostPlays; {
		shorter := false
		for at := 0; at < len(script) && plays < mostPlays; {
			plays++
			without := slices.Concat(script[:at], script[min(len(script), at+size):])
			if v := again(newWorld(seed, m), without); v != nil && v.invariant == found.invariant {
				script, found, shorter = without, v, true
				continue
			}
			at += size
		}
		if size > 1 || !shorter {
			size /= 2
		}
	}
	return script, found
}

// shortest tells the shortest script that was found for a violation, with what
// happens in it.
func shortest(seed uint64, m mutant, found *violation) string {
	script, found := shrink(seed, m, newScript(seed, length), found)
	w := newWorld(seed, m)
	w.story = &story{}
	play(w, script)
	moves := make([]string, len(script))
	for i, x := range script {
		moves[i] = x.String()
	}
	return fmt.Sprintf("%d moves are enough (SIM_SCRIPT plays them): %s\n%s\n%s", len(script), strings.Join(moves, ", "), w.story.last(40), found)
}

// parseScript is the inverse of what shortest tells: "push 12, drain 3".
func parseScript(text string) ([]move, error) {
	var out []move
	for _, part := range strings.Split(text, ",") {
		var name string
		var m move
		if _, err := fmt.Sscanf(strings.TrimSpace(part), "%s %d", &name, &m.arg); err != nil {
			return nil, fmt.Errorf("move %q: %w", part, err)
		}
		i := slices.Index(moveNames[:], name)
		if i < 0 {
			return nil, fmt.Errorf("move %q is of no known kind", part)
		}
		m.kind = moveKind(i)
		out = append(out, m)
	}
	return out, nil
}

func TestAScriptIsMadeShort(t *testing.T) {
	w, found := simulate(1, blindSlot)
	require.NotNil(t, found)
	require.NotNil(t, w)
	script, still := shrink(1, blindSlot, newScript(1, length), found)
	require.Equal(t, found.invariant, still.invariant)
	require.Less(t, len(script), 60)
	for i := range script { // not one of them can be left out
		v := newWorld(1, blindSlot).follow(slices.Concat(script[:i], script[i+1:]))
		require.False(t, v != nil && v.invariant == found.invariant, "move %d is not needed", i)
	}
	var told []string
	for _, m := range script {
		told = append(told, m.String())
	}
	again, err := parseScript(strings.Join(told, ", "))
	require.NoError(t, err)
	require.Equal(t, script, again)
}
