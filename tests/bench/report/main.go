// Report reads benchmark lines from standard input, of several rounds, and
// writes docs/reference/benchmarks.md: medians, spread, ratios to the peer
// that was measured in the same rounds, and whether each goal is met. Lines that
// begin with "# " say something of the machine. The table of tests/bench/canary is
// judged and appended.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A row is one line of the table: a measurement, its peer or limit, and the goal.
type row struct {
	number       int // in the table of goals
	what, metric string
	name, peer   string
	goal         string
	limit        float64 // in the metric's unit, where the goal is a limit and there is no peer
	atMost       float64 // of the ratio; 0: see atLeast
	atLeast      float64 // of the ratio; 0 and no limit either: the measure itself is to be 0
}

var rows = []row{
	{1, "durable events, 256 callers", "events/s", "Events/accept", "Events/pgbench", "≥ 1.5 times pgbench inserting one row with 256 clients", 0, 0, 1.5},
	{2, "transitions of promotions that are committed, each with its audit rows and orders", "steps/s", "Promotions", "River", "≥ 3 times River v0.51.1 whose worker writes three plain rows", 0, 0, 3},
	{2, "the same", "steps/s", "Promotions", "DBOS", "≥ 8 times DBOS-Go v1.8.0 with workflows of two steps that write three plain rows", 0, 0, 8},
	{4, "webhook accepted: request to answer", "p50-µs", "Webhook/forge-webhook", "Webhook/bare-insert", "≤ 3 times a bare handler with one INSERT", 0, 3, 0},
	{6, "promotions through four stages, nodes that answer at once, records written to Git; after one round and ANALYZE", "promotions/h", "Promotions", "", "≥ 1 000 000 an hour", 1_000_000, 0, 1},
	{7, "tick that finds nothing among 100 000 open rows", "p50-µs", "Tick", "", "≤ 10 ms", 10_000, 1, 0},
	{8, "webhook to the order in a node's hands", "p50-µs", "Merge", "", "≤ 150 ms", 150_000, 1, 0},
	{10, "cold start of a function: from exec to its first answer", "p50-µs", "ColdStart/function", "ColdStart/bare", "≤ 2 times a program of net/http and nothing else", 0, 2, 0},
	{11, "call of a function that stores a webhook, through the embedded gateway", "p50-µs", "Call/webhook-gateway", "Call/webhook-direct", "≤ 1.3 times a call of its process", 0, 1.3, 0},
	{11, "call of a function that does nothing, through the embedded gateway", "p50-µs", "Call/gateway", "Call/direct", "≤ 1.3 times a call of its process", 0, 1.3, 0},
	{11, "the same", "p50-µs", "Call/gateway", "Call/openfaas", "no slower than the real gateway of OpenFaaS (2023) before our provider", 0, 1, 0},
	{11, "deliveries stored by four processes of the function that takes webhooks, for 32 callers", "deliveries/s", "Replicas/4", "Replicas/1", "more than by one process", 0, 0, 1.05},
	{12, "requests that fail while versions are swapped 1 000 times under load", "failed-requests", "Swaps", "", "0", 0, 0, 0},
	{12, "request through the node's proxy", "ns/op", "Proxy/hotswap", "Proxy/reverse-proxy", "≤ 1.2 times net/http's ReverseProxy", 0, 1.2, 0},
	{12, "request through the node's proxy", "ns/op", "Proxy/hotswap", "Proxy/nginx", "≤ 1.2 times nginx", 0, 1.2, 0},
	{12, "CPU of the proxy's process for a request", "cpu-µs/request", "Proxy/hotswap", "Proxy/reverse-proxy", "≤ 1.2 times net/http's ReverseProxy", 0, 1.2, 0},
	{12, "CPU of the proxy's process for a request", "cpu-µs/request", "Proxy/hotswap", "Proxy/nginx", "≤ 1.2 times nginx", 0, 1.2, 0},
	{13, "audit verification, per row", "ns/row", "Audit/verify", "Audit/ed25519", "what the signatures alone cost: ≤ 2 times", 0, 2, 0},
	{13, "audit verification, per row", "ns/row", "Audit/verify", "Audit/sha256", "≤ 2 times raw SHA-256 over the same bytes; a signature for each row makes that impossible", 0, 2, 0},
}

// met says whether the goal was reached, by the median of the ratios.
func (r row) met(ratios, mine []float64) bool {
	switch {
	case r.peer == "" && r.limit == 0:
		return slices.Max(mine) == 0
	case r.atMost > 0:
		return median(ratios) <= r.atMost
	default:
		return median(ratios) >= r.atLeast
	}
}

// goals is how many the design names.
const goals = 20

func main() {
	path := flag.String("canary", "", "file with the table of tests/bench/canary")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *path); err != nil {
		log.Fatal("report: ", err)
	}
}

func run(r io.Reader, w io.Writer, path string) error {
	m, err := read(r)
	if err != nil {
		return err
	}
	table, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return write(w, m, string(table))
}

// measures are what the rounds said.
type measures struct {
	facts []string             // of the machine and of the peers' versions
	seen  map[string][]float64 // by "benchmark metric", one for each round
}

// read returns what all rounds said.
func read(r io.Reader) (measures, error) {
	m := measures{seen: map[string][]float64{}}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if fact, ok := strings.CutPrefix(lines.Text(), "# "); ok {
			m.facts = append(m.facts, fact)
			continue
		}
		f := strings.Fields(lines.Text())
		if len(f) < 4 {
			continue
		}
		name := strings.TrimPrefix(f[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i]
		}
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return m, fmt.Errorf("line %q: %w", lines.Text(), err)
			}
			key := name + " " + f[i+1]
			m.seen[key] = append(m.seen[key], v)
		}
	}
	return m, lines.Err()
}

// A verdict is one line of the table as it is printed.
type verdict struct {
	number                              int
	what, measured, peer, ratio, wanted string
	met                                 bool
}

// word says plainly whether the goal is met.
func (v verdict) word() string {
	if v.met {
		return "met"
	}
	return "**not met**"
}

// write prints the page.
func write(w io.Writer, m measures, canary string) error {
	var all []verdict
	for _, r := range rows {
		v, err := r.judge(m.seen)
		if err != nil {
			return err
		}
		all = append(all, v)
	}
	looked, err := judgeCanary(canary)
	if err != nil {
		return err
	}
	all = append(all, looked...)
	slices.SortStableFunc(all, func(a, b verdict) int { return a.number - b.number })
	fmt.Fprintf(w, "# Benchmarks\n\nMade by `make bench` on %s: %s/%s, %d cores, %s, PostgreSQL beside the client with durable commits on disk.\n",
		time.Now().UTC().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	fmt.Fprintf(w, "%s.\nMedians of %d rounds, with the smallest and the largest; ratios are of rounds that ran side by side.\n\n", strings.Join(m.facts, "; "), len(m.seen[rows[0].name+" "+rows[0].metric]))
	summary(w, all)
	fmt.Fprint(w, "| # | What | Measured | Peer or limit | Ratio | Goal | |\n|---|---|---|---|---|---|---|\n")
	for _, v := range all {
		fmt.Fprintf(w, "| %d | %s | %s | %s | %s | %s | %s |\n", v.number, v.what, v.measured, v.peer, v.ratio, v.wanted, v.word())
	}
	fmt.Fprintf(w, "\n## Canary\n\n%s", canary)
	return nil
}

// summary says which goals are not met and which are not measured.
func summary(w io.Writer, all []verdict) {
	missed, absent := map[int]bool{}, []string{}
	seen := map[int]bool{}
	for _, v := range all {
		seen[v.number] = true
		if !v.met {
			missed[v.number] = true
		}
	}
	var not []string
	for n := 1; n <= goals; n++ {
		switch {
		case missed[n]:
			not = append(not, strconv.Itoa(n))
		case !seen[n]:
			absent = append(absent, strconv.Itoa(n))
		}
	}
	if len(not) == 0 {
		fmt.Fprint(w, "Every goal that is measured here is met.")
	} else {
		fmt.Fprintf(w, "**Not met: %s.**", strings.Join(not, ", "))
	}
	fmt.Fprintf(w, " Not measured here: %s.\n\n", strings.Join(absent, ", "))
}

// judge compares a row's rounds with its peer's or its limit.
func (r row) judge(seen map[string][]float64) (verdict, error) {
	mine := seen[r.name+" "+r.metric]
	if len(mine) == 0 {
		return verdict{}, fmt.Errorf("no measurement of %s", r.name)
	}
	peer, ratios, name := []float64{r.limit}, []float64{}, "the limit"
	if r.peer != "" {
		name, peer = r.peer, seen[r.peer+" "+r.metric]
		if len(peer) != len(mine) {
			return verdict{}, fmt.Errorf("%s has %d rounds, %s has %d", r.name, len(mine), r.peer, len(peer))
		}
	}
	for i := range mine {
		if p := peer[min(i, len(peer)-1)]; p != 0 {
			ratios = append(ratios, mine[i]/p)
		}
	}
	return verdict{
		r.number, r.what, spread(mine, "%.0f") + " " + r.metric, name + ": " + spread(peer, "%.0f"), spread(ratios, "%.2f"), r.goal, r.met(ratios, mine),
	}, nil
}

// spread is the median, and the range in brackets.
func spread(v []float64, format string) string {
	if len(v) == 0 {
		return "–"
	}
	s := slices.Sorted(slices.Values(v))
	mid := fmt.Sprintf(format, median(v))
	if len(s) == 1 {
		return mid
	}
	return fmt.Sprintf("%s (%s–%s)", mid, fmt.Sprintf(format, s[0]), fmt.Sprintf(format, s[len(s)-1]))
}

// median is 0 of nothing.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}
