package intent

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"hotswap.dev/hotswap/pipelines"
)

// Limits of one repository.
const (
	MaxFiles     = 2000
	MaxTreeBytes = 16 << 20
)

// The folders that are read. A document lies directly in the folder of its kind.
const (
	FolderDeployments  = "deployments"
	FolderPipelines    = "pipelines"
	FolderEnvironments = "environments"
	FolderAnalyses     = "analyses"
	FolderPolicies     = "policies"
)

// What [Set.Snapshot] answers when there is none.
var (
	ErrUnknownDeployment = errors.New("no such deployment")
	ErrInvalid           = errors.New("invalid intent")
)

// A Tree is a repository's files by path, "deployments/shop.yaml". Only *.yaml
// and *.yml files in the folders of the kinds are read; the rest may be there.
type Tree map[string][]byte

// A File is a decoded document with what [Decode] said about it. Whoever keeps
// Files by the hash of path and bytes need not decode them again.
type File struct {
	Document Document
	Problems []Problem
}

// A Set is what is valid in a tree, and every problem of the rest. Pipelines
// holds the built-in ones too. A Set is not changed once made.
type Set struct {
	Tenant       string // as given to [CheckTree], "" if it is not known
	Deployments  map[string]Deployment
	Pipelines    map[string]Pipeline
	Environments map[string]Environment
	Analyses     map[string]Analysis // the built-in ones too
	Policies     map[string]Policy

	problems map[string][]Problem // by file without its extension, "" for the tree
	files    map[string]bool      // known files without their extensions, valid or not
}

// Folders returns the folders that are read, in the order of the kinds.
func Folders() []string {
	return []string{FolderDeployments, FolderPipelines, FolderEnvironments, FolderAnalyses, FolderPolicies}
}

// CheckTree decodes every file of a repository and checks them against each
// other. Tenant is the repository's; with "" the documents' own are taken.
// The problems are all of them, by file and position.
func CheckTree(tree Tree, tenant string) (*Set, []Problem) {
	var paths []string
	total := 0
	for p, data := range tree {
		if Reads(p) {
			paths = append(paths, p)
			total += len(data)
		}
	}
	switch {
	case len(paths) > MaxFiles:
		return refuseTree(tenant, RuleTooMany, fmt.Sprintf("there are more than the %d files allowed", MaxFiles))
	case total > MaxTreeBytes:
		return refuseTree(tenant, RuleTooLarge, fmt.Sprintf("the files have more than the %d bytes allowed", MaxTreeBytes))
	}
	slices.Sort(paths)
	var files []File
	for _, p := range paths {
		d, problems := Decode(p, tree[p])
		files = append(files, File{Document: d, Problems: problems})
	}
	return CheckDocuments(files, tenant)
}

// Reads reports whether a path of a repository belongs to the tree: a YAML file
// below one of the folders.
func Reads(p string) bool {
	folder, _, below := strings.Cut(p, "/")
	ext := path.Ext(p)
	return below && (ext == ".yaml" || ext == ".yml") && slices.Contains(Folders(), folder)
}

// refuseTree answers for a tree that is too big to look at: nothing in it is used.
func refuseTree(tenant, rule, message string) (*Set, []Problem) {
	s := newSet(tenant)
	p := Problem{Rule: rule, Message: message, Severity: Error}
	s.problems[""] = []Problem{p}
	return s, []Problem{p}
}

func newSet(tenant string) *Set {
	return &Set{
		Tenant:      tenant,
		Deployments: map[string]Deployment{}, Pipelines: map[string]Pipeline{}, Environments: map[string]Environment{}, Analyses: map[string]Analysis{},
		Policies: map[string]Policy{},
		problems: map[string][]Problem{}, files: map[string]bool{},
	}
}

// CheckDocuments checks decoded files against each other; see [CheckTree].
func CheckDocuments(files []File, tenant string) (*Set, []Problem) {
	c := crossCheck{set: newSet(tenant), pipelines: map[string]Document{}}
	files = slices.SortedFunc(slices.Values(files), func(a, b File) int { return strings.Compare(a.Document.Path, b.Document.Path) })
	paths := map[string]string{}
	for _, f := range files {
		c.admit(f, paths)
	}
	c.builtIn()
	for _, f := range files {
		c.references(f.Document)
	}
	for stem, problems := range c.set.problems {
		SortProblems(problems)
		if HasErrors(problems) {
			c.set.drop(stem)
		}
	}
	var all []Problem
	for _, stem := range slices.Sorted(maps.Keys(c.set.problems)) {
		all = append(all, c.set.problems[stem]...)
	}
	SortProblems(all)
	return c.set, all
}

// drop takes an invalid document out of the set. A repository's broken pipeline
// is not replaced by the built-in one of the same name.
func (s *Set) drop(stem string) {
	folder, name, _ := strings.Cut(stem, "/")
	switch folder {
	case FolderDeployments:
		delete(s.Deployments, name)
	case FolderPipelines:
		delete(s.Pipelines, name)
	case FolderEnvironments:
		delete(s.Environments, name)
	case FolderAnalyses:
		delete(s.Analyses, name)
	case FolderPolicies:
		delete(s.Policies, name)
	}
}

// Problems returns what concerns a deployment: the problems of its file, of its
// pipeline, of the environments, analyses and policies of its stages, and of the tree as a whole. The
// deployment can be released exactly if none of them is an error.
func (s *Set) Problems(deployment string) []Problem {
	out := slices.Clone(s.problems[""])
	out = append(out, s.problems[FolderDeployments+"/"+deployment]...)
	d, ok := s.Deployments[deployment]
	if ok {
		out = append(out, s.problems[FolderPipelines+"/"+d.Spec.Pipeline]...)
		for _, stage := range s.Pipelines[d.Spec.Pipeline].Spec.Stages {
			out = append(out, s.problems[FolderEnvironments+"/"+stage.Environment]...)
			if policy := stage.Gates.Policy(); policy != "" {
				out = append(out, s.problems[FolderPolicies+"/"+policy]...)
			}
		}
		for _, name := range s.Pipelines[d.Spec.Pipeline].Spec.Analyses() {
			out = append(out, s.problems[FolderAnalyses+"/"+name]...)
		}
	}
	return out
}

// stem is a path without its extension.
func stem(p string) string { return strings.TrimSuffix(p, path.Ext(p)) }

var dnsLabel = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`) })

// builtIn decodes built-in documents of a folder. They are constants; a test says
// that they are valid.
func builtIn(folder string, documents map[string][]byte) map[string]Document {
	out := map[string]Document{}
	for name, data := range documents {
		d, _ := Decode(folder+"/"+name+".yaml", data)
		out[name] = d
	}
	return out
}

func builtInPipelines() map[string]Document { return builtIn(FolderPipelines, pipelines.BuiltIn()) }

func builtInAnalyses() map[string]Document { return builtIn(FolderAnalyses, pipelines.Analyses()) }
