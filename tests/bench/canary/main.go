// Canary plays releases against tests that say when a version fails more than the
// one before, and prints what each test gets wrong as a table in Markdown:
//
//	go run ./tests/bench/canary >table.md
//
// Every ten seconds of half an hour each test looks at what two arms did. A tenth of
// the requests goes to the changed units. One request in a hundred fails before;
// a bad version fails five times as often. All tests see the same streams, whose
// seeds are fixed: the table is the same on every machine.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
)

const (
	interval = 10   // seconds between looks
	looks    = 180  // in half an hour
	share    = 0.1  // of the requests that goes to the changed units
	base     = 0.01 // failures per request
	ratio    = 5    // how much more often a bad version fails
)

func main() {
	trials := flag.Int("trials", 4000, "releases of each kind")
	flag.Parse()
	if err := write(os.Stdout, *trials); err != nil {
		log.Fatal("canary: ", err)
	}
}

// write plays every kind of traffic and prints the table.
func write(w io.Writer, trials int) error {
	if trials < 10 {
		return fmt.Errorf("%d trials say nothing", trials)
	}
	fmt.Fprintf(w, "A look every %d s for %d min; %.0f %% of the requests go to the changed units; %.0f %% of requests fail before; %d trials of each kind.\n", interval, interval*looks/60, 100*share, 100*base, trials)
	fmt.Fprintf(w, "First figure: versions that are no worse and are taken back (goal: at most 5 %%). Second: looks until a version that fails %d times\n", ratio)
	fmt.Fprint(w, "as often is taken back, in nine of ten trials (goal: at most 3).\n\n| Failures | Requests to the changed units |")
	for _, r := range referees {
		fmt.Fprintf(w, " %s |", r.name)
	}
	fmt.Fprintf(w, "\n|---|---%s|\n", strings.Repeat("|---", len(referees)))
	for _, m := range moods {
		for _, rps := range []float64{1, 10, 100} {
			line(w, traffic{mood: m, rps: rps}, trials)
		}
	}
	fmt.Fprint(w, "\nAll ask at 0.05 whether the changed units are worse. Ours is given the hour before the change, in which the same units ran the\n")
	fmt.Fprint(w, "same version: how much they fluctuate on their own is measured there, and that much more is asked for. Where arms fluctuate on\n")
	fmt.Fprint(w, "their own a bad version is found later; where failures are rare as well (1/s), an hour says too little of how much they do.\n")
	return nil
}

// line plays good and bad versions in one kind of traffic and prints a line.
func line(w io.Writer, t traffic, trials int) {
	t.ratio = 1
	good := play(t, trials)
	t.ratio = ratio
	bad := play(t, trials)
	fmt.Fprintf(w, "| %s | %.0f/s |", t.name, t.rps)
	for i := range referees {
		fmt.Fprintf(w, " %.1f %%, %s |", 100*good[i].abortRate(), bad[i].p90())
	}
	fmt.Fprintln(w)
}
