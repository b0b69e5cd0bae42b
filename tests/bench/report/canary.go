package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// What a test of canaries may get wrong, in every kind of traffic.
const (
	mostAborts = 5 // per cent of the versions that are no worse
	mostLooks  = 3 // until nine of ten bad versions are taken back
)

// A looked is one cell of the canary's table. A bad version that is not taken back in
// time has more looks than there are.
type looked struct{ aborts, looks float64 }

var looks = regexp.MustCompile(`^([0-9.]+) %, (> )?([0-9]+)$`)

// judgeCanary judges our test, the table's third column, beside those that it is
// compared with, which are the last two.
func judgeCanary(table string) ([]verdict, error) {
	columns, names, err := readCanary(table)
	if err != nil {
		return nil, err
	}
	ours, names := columns[0], names[len(names)-2:]
	peers := columns[len(columns)-2:]
	aborts := func(l looked) float64 { return l.aborts }
	soon := func(l looked) float64 { return l.looks }
	return []verdict{
		judgeLooks("versions that are no worse and are taken back", " %", mostAborts, ours, peers, names, aborts),
		judgeLooks("looks until nine of ten versions that fail five times as often are taken back", "", mostLooks, ours, peers, names, soon),
	}, nil
}

// judgeLooks compares one figure in every kind of traffic.
func judgeLooks(what, unit string, most float64, ours []looked, peers [][]looked, names []string, of func(looked) float64) verdict {
	mine, within := figures(ours, of), 0
	for _, v := range mine {
		if v <= most {
			within++
		}
	}
	var beside []string
	for i, p := range peers {
		beside = append(beside, names[i]+": "+span(figures(p, of))+unit)
	}
	return verdict{
		number: 16, what: what, measured: span(mine) + unit, peer: strings.Join(beside, "; "), ratio: "–",
		wanted: fmt.Sprintf("≤ %.0f%s in each kind of traffic; so in %d of %d", most, unit, within, len(mine)), met: within == len(mine),
	}
}

func figures(column []looked, of func(looked) float64) []float64 {
	var out []float64
	for _, l := range column {
		out = append(out, of(l))
	}
	return out
}

// span is the smallest and the largest.
func span(v []float64) string {
	return fmt.Sprintf("%s–%s", strconv.FormatFloat(slices.Min(v), 'f', -1, 64), strconv.FormatFloat(slices.Max(v), 'f', -1, 64))
}

// readCanary returns the columns that hold figures, and their names.
func readCanary(table string) (columns [][]looked, names []string, err error) {
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || len(cells) < 5 || strings.HasPrefix(cells[0], "---") {
			continue
		}
		if names == nil {
			for _, c := range cells[2:] {
				names = append(names, strings.TrimSpace(c))
			}
			columns = make([][]looked, len(names))
			continue
		}
		if len(cells)-2 != len(names) {
			return nil, nil, fmt.Errorf("canary: line %q has not %d columns", line, len(names))
		}
		for i, c := range cells[2:] {
			l, err := readLooked(strings.TrimSpace(c))
			if err != nil {
				return nil, nil, err
			}
			columns[i] = append(columns[i], l)
		}
	}
	if len(columns) == 0 || len(columns[0]) == 0 {
		return nil, nil, fmt.Errorf("canary: no measurement")
	}
	return columns, names, nil
}

func readLooked(cell string) (looked, error) {
	m := looks.FindStringSubmatch(cell)
	if m == nil {
		return looked{}, fmt.Errorf("canary: cell %q is not understood", cell)
	}
	aborts, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return looked{}, err
	}
	n, err := strconv.ParseFloat(m[3], 64)
	if m[2] != "" {
		n++
	}
	return looked{aborts, n}, err
}
