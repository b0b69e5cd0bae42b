package intent

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// crossCheck collects the documents of a tree, and what is wrong between them.
type crossCheck struct {
	set       *Set
	pipelines map[string]Document // valid ones and built-in ones
}

func (c *crossCheck) add(file string, p Problem) {
	key := stem(file)
	c.set.problems[key] = append(c.set.problems[key], p)
}

// admit takes a file into the set if it is valid by itself and lies where it
// should. Paths holds the files admitted so far, by stem.
func (c *crossCheck) admit(f File, paths map[string]string) {
	d := f.Document
	for _, p := range f.Problems {
		c.add(d.Path, p)
	}
	c.set.files[stem(d.Path)] = true
	if first, twice := paths[stem(d.Path)]; twice {
		c.add(d.Path, d.problem(RuleDuplicateName, fmt.Sprintf("%s declares the same name", first), "keep one of the files"))
	}
	paths[stem(d.Path)] = d.Path
	c.checkPlace(d)
	if !d.Valid() {
		return
	}
	switch name := d.Metadata().Name; {
	case HasErrors(c.set.problems[stem(d.Path)]):
	case d.Deployment != nil:
		c.set.Deployments[name] = *d.Deployment
	case d.Pipeline != nil:
		c.set.Pipelines[name] = *d.Pipeline
		c.pipelines[name] = d
	case d.Environment != nil:
		e := *d.Environment
		e.Spec.Target = cmp.Or(e.Spec.Target, DefaultTarget)
		c.set.Environments[name] = e
	case d.Analysis != nil:
		c.set.Analyses[name] = *d.Analysis
	case d.Policy != nil:
		c.set.Policies[name] = *d.Policy
	}
}

// checkPlace checks a document against its path, and its tenant.
func (c *crossCheck) checkPlace(d Document) {
	base := path.Base(stem(d.Path))
	if !dnsLabel().MatchString(base) {
		c.add(d.Path, d.problem(RuleBadPath, fmt.Sprintf("the file name %q is not a DNS label", base), "use lower-case letters, digits and hyphens"))
	}
	if want := folderOf(d.Kind); d.Kind != "" && path.Dir(d.Path) != want {
		c.add(d.Path, d.problem(RuleWrongFolder, fmt.Sprintf("kind %s does not belong into %s/", d.Kind, path.Dir(d.Path)),
			fmt.Sprintf("move it to %s/%s", want, path.Base(d.Path)), "kind"))
	}
	if !d.Valid() {
		return
	}
	m := d.Metadata()
	if m.Name != base {
		c.add(d.Path, d.problem(RuleWrongName, fmt.Sprintf("metadata.name is %q, but the file is called %q", m.Name, path.Base(d.Path)),
			"rename one of them", "metadata", "name"))
	}
	if m.Tenant != "" && c.set.Tenant != "" && m.Tenant != c.set.Tenant {
		c.add(d.Path, d.problem(RuleWrongTenant, fmt.Sprintf("this repository belongs to tenant %q, not to %q", c.set.Tenant, m.Tenant),
			"remove the line", "metadata", "tenant"))
	}
}

func folderOf(kind string) string {
	switch kind {
	case KindDeployment:
		return FolderDeployments
	case KindPipeline:
		return FolderPipelines
	case KindEnvironment:
		return FolderEnvironments
	case KindAnalysis:
		return FolderAnalyses
	case KindPolicy:
		return FolderPolicies
	}
	return ""
}

// builtIn adds the built-in pipelines and analyses that the repository does not replace.
func (c *crossCheck) builtIn() {
	for name, d := range builtInPipelines() {
		if !c.set.files[FolderPipelines+"/"+name] {
			c.set.Pipelines[name] = *d.Pipeline
			c.pipelines[name] = d
		}
	}
	for name, d := range builtInAnalyses() {
		if !c.set.files[FolderAnalyses+"/"+name] {
			c.set.Analyses[name] = *d.Analysis
		}
	}
}

// references checks the names by which a document refers to others.
func (c *crossCheck) references(d Document) {
	switch {
	case d.Deployment != nil:
		c.deployment(d)
	case d.Pipeline != nil:
		for i, s := range d.Pipeline.Spec.Stages {
			if !c.known(FolderEnvironments, s.Environment) {
				c.add(d.Path, d.problem(RuleUnknownEnvironment, fmt.Sprintf("unknown environment %q", s.Environment),
					c.hint(FolderEnvironments, s.Environment), "spec", "stages", strconv.Itoa(i), "environment"))
			}
			c.stage(d, s, i)
		}
	}
}

// stage checks the analyses, policy and windows that a stage refers to. An environment
// whose file is broken says so itself.
func (c *crossCheck) stage(d Document, s Stage, i int) {
	at := []string{"spec", "stages", strconv.Itoa(i)}
	for field, name := range map[string]string{"stabilization": s.Strategy.Stabilization, "analysis": s.Strategy.Analysis} {
		if _, ok := c.set.Analyses[name]; name != "" && !ok && !c.known(FolderAnalyses, name) {
			c.add(d.Path, d.problem(RuleUnknownAnalysis, fmt.Sprintf("unknown analysis %q", name), c.hint(FolderAnalyses, name),
				append(slices.Clone(at), "strategy", field)...))
		}
	}
	if policy := s.Gates.Policy(); policy != "" && !c.known(FolderPolicies, policy) {
		c.add(d.Path, d.problem(RuleUnknownPolicy, fmt.Sprintf("unknown policy %q", policy), c.hint(FolderPolicies, policy),
			append(slices.Clone(at), "gates", "approval")...))
	}
	env, ok := c.set.Environments[s.Environment]
	if !ok {
		return
	}
	var windows []string
	for _, w := range env.Spec.Windows {
		windows = append(windows, w.Name)
	}
	for j, name := range s.Gates.Windows {
		if slices.Contains(windows, name) {
			continue
		}
		hint := fmt.Sprintf("add it to %s/%s.yaml", FolderEnvironments, s.Environment)
		if near := suggest(name, windows); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		c.add(d.Path, d.problem(RuleUnknownWindow, fmt.Sprintf("environment %s has no window %q", s.Environment, name), hint,
			append(slices.Clone(at), "gates", "windows", strconv.Itoa(j))...))
	}
}

// deployment checks a deployment's pipeline and overrides. A pipeline whose file
// is broken says so itself; the deployment has no second problem for it.
func (c *crossCheck) deployment(d Document) {
	name := d.Deployment.Spec.Pipeline
	pipeline, ok := c.pipelines[name]
	if !ok {
		if !c.known(FolderPipelines, name) {
			c.add(d.Path, d.problem(RuleUnknownPipeline, fmt.Sprintf("unknown pipeline %q", name), c.hint(FolderPipelines, name), "spec", "pipeline"))
		}
		return
	}
	var environments, missing []string
	for _, s := range pipeline.Pipeline.Spec.Stages {
		environments = append(environments, s.Environment)
		if !c.known(FolderEnvironments, s.Environment) {
			missing = append(missing, FolderEnvironments+"/"+s.Environment+".yaml")
		}
	}
	if len(missing) > 0 && !c.set.files[FolderPipelines+"/"+name] { // of a file, the file says so
		c.add(d.Path, d.problem(RuleUnknownEnvironment, fmt.Sprintf("the built-in pipeline %q needs %s", name, strings.Join(missing, ", ")),
			"add the environments, or a pipeline of your own", "spec", "pipeline"))
	}
	for _, override := range slices.Sorted(maps.Keys(d.Deployment.Spec.Environments)) {
		if slices.Contains(environments, override) {
			continue
		}
		hint := "its environments are " + strings.Join(environments, ", ")
		if s := suggest(override, environments); s != "" {
			hint = fmt.Sprintf("did you mean %q?", s)
		}
		key, _ := locate(d.root, "spec", "environments", override)
		c.add(d.Path, d.source.at(key, RuleUnknownEnvironment, fmt.Sprintf("pipeline %q has no environment %q", name, override), hint))
	}
}

// known reports whether a document of that name is there, valid or not.
func (c *crossCheck) known(folder, name string) bool {
	if folder == FolderPipelines && c.pipelines[name].Pipeline != nil {
		return true
	}
	return c.set.files[folder+"/"+name]
}

// hint says which name was probably meant, or which file to add.
func (c *crossCheck) hint(folder, name string) string {
	var names []string
	for f := range c.set.files {
		if base, ok := strings.CutPrefix(f, folder+"/"); ok {
			names = append(names, base)
		}
	}
	if folder == FolderPipelines {
		names = slices.AppendSeq(names, maps.Keys(c.pipelines))
	}
	if folder == FolderAnalyses {
		names = slices.AppendSeq(names, maps.Keys(c.set.Analyses))
	}
	if folder == FolderPolicies {
		names = append(names, Operator)
	}
	if s := suggest(name, names); s != "" {
		return fmt.Sprintf("did you mean %q?", s)
	}
	return fmt.Sprintf("add %s/%s.yaml", folder, name)
}
