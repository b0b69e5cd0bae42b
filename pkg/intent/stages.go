package intent

import (
	"fmt"
	"strconv"
	"strings"
)

// checkStages checks the graph of a pipeline's stages: names and environments
// are unique, needs are known and acyclic.
func (d *Document) checkStages() []Problem {
	var problems []Problem
	stages := d.Pipeline.Spec.Stages
	names, environments := map[string]int{}, map[string]int{}
	var known []string
	for i, s := range stages {
		at := []string{"spec", "stages", strconv.Itoa(i)}
		if _, twice := names[s.Name]; twice {
			problems = append(problems, d.problem(RuleDuplicateName, fmt.Sprintf("a second stage is called %q", s.Name), "", append(at, "name")...))
		} else {
			names[s.Name] = i
			known = append(known, s.Name)
		}
		if j, twice := environments[s.Environment]; twice {
			problems = append(problems, d.problem(RuleEnvironmentTwice,
				fmt.Sprintf("environment %q belongs to stage %q already", s.Environment, stages[j].Name), "", append(at, "environment")...))
		} else {
			environments[s.Environment] = i
		}
	}
	for i, s := range stages {
		for j, need := range s.Needs {
			if _, ok := names[need]; ok {
				continue
			}
			hint := "the stages are " + strings.Join(known, ", ")
			if w := suggest(need, known); w != "" {
				hint = fmt.Sprintf("did you mean %q?", w)
			}
			problems = append(problems, d.problem(RuleUnknownStage, fmt.Sprintf("unknown stage %q", need), hint,
				"spec", "stages", strconv.Itoa(i), "needs", strconv.Itoa(j)))
		}
	}
	if len(problems) > 0 {
		return problems
	}
	if cycle := findCycle(stages); len(cycle) > 0 {
		problems = append(problems, d.problem(RuleNeedsCycle, "stages wait for each other: "+strings.Join(cycle, " needs "), "",
			"spec", "stages", strconv.Itoa(names[cycle[0]]), "needs"))
	}
	return problems
}

// findCycle returns the names along a cycle of needs, the first again at the
// end, or nil. It takes away stages whose needs are all taken away; whatever
// stays is on a cycle or waits for one.
func findCycle(stages []Stage) []string {
	left := map[string]Stage{}
	for _, s := range stages {
		left[s.Name] = s
	}
	for again := true; again; {
		again = false
		for _, s := range stages {
			if _, ok := left[s.Name]; ok && openNeed(s, left) == "" {
				delete(left, s.Name)
				again = true
			}
		}
	}
	for _, s := range stages {
		if _, ok := left[s.Name]; ok {
			return walkCycle(s, left)
		}
	}
	return nil
}

// openNeed returns the first need of a stage that is still left.
func openNeed(s Stage, left map[string]Stage) string {
	for _, n := range s.Needs {
		if _, ok := left[n]; ok {
			return n
		}
	}
	return ""
}

// walkCycle follows needs from a stage until one comes again.
func walkCycle(s Stage, left map[string]Stage) []string {
	var path []string
	seen := map[string]int{}
	for {
		if at, ok := seen[s.Name]; ok {
			return append(path[at:], s.Name)
		}
		seen[s.Name] = len(path)
		path = append(path, s.Name)
		s = left[openNeed(s, left)]
	}
}
