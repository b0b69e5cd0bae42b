package main

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
)

// found is at which look a referee called each trial harmful; never if it did not.
type found []int

const never = math.MaxInt

// abortRate is the share of trials that were called harmful.
func (f found) abortRate() float64 {
	n := 0
	for _, at := range f {
		if at != never {
			n++
		}
	}
	return float64(n) / float64(len(f))
}

// p90 is the look by which nine of ten trials were called harmful.
func (f found) p90() string {
	at := slices.Sorted(slices.Values(f))[(9*len(f)+9)/10-1]
	if at == never {
		return fmt.Sprintf("> %d", looks)
	}
	return fmt.Sprint(at)
}

// play lets all referees look at trials of a traffic, and returns what each found.
func play(t traffic, trials int) []found {
	out := make([]found, len(referees))
	for i := range out {
		out[i] = make(found, trials)
	}
	var group sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		group.Go(func() {
			for i := w; i < trials; i += workers {
				for j, at := range trial(newStream(t, uint64(i))) {
					out[j][i] = at
				}
			}
		})
	}
	group.Wait()
	return out
}

// trial shows one stream to every referee until it is sure.
func trial(s *stream) []int {
	at := make([]int, len(referees))
	judges := make([]referee, len(referees))
	past := s.past()
	for i, r := range referees {
		at[i], judges[i] = never, r.begin(past)
	}
	for look := 1; look <= looks && slices.Contains(at, never); look++ {
		changed, others := s.look()
		for i, j := range judges {
			if at[i] == never && j.harmful(changed, others) {
				at[i] = look
			}
		}
	}
	return at
}
