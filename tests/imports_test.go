// Package tests holds the tests that span packages.
package tests

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "hotswap.dev/hotswap/"

// order lists the packages from pure to edge: a package may import those before
// it and none after it. A package that is not in the list fails the test.
var order = []string{
	"schemas", "pipelines",
	// the domain: pure
	"pkg/copybuf", "pkg/canonical", "pkg/promql", "pkg/approval", "pkg/intent", "pkg/target", "pkg/strategy", "pkg/analysis", "pkg/audit", "pkg/record", "pkg/promotion",
	// ports and their adapters
	"pkg/secret", "pkg/store", "pkg/forge", "pkg/forge/rest", "pkg/forge/gitea", "pkg/gitrepo", "pkg/forge/builtin", "pkg/metric",
	// the application
	"pkg/auth", "pkg/engine", "pkg/api",
	// the hosts
	"pkg/function", "pkg/platform", "pkg/node",
	// what is put together from them
	"functions/forge-webhook", "functions/validate", "functions/advance", "functions/deliver", "functions/nodes", "functions/api", "functions/insight", "functions",
	"tests/load/constant", "cmd/hotswap", "deploy/lambda/package",
}

// pure are the packages that read no clock, disk, network or environment, and
// the foreign packages that they may use.
var pure = map[string][]string{
	"pkg/canonical": {"github.com/gowebpki/jcs"},
	"pkg/intent":    {"gopkg.in/yaml.v3", "github.com/xeipuuv/gojsonschema", "github.com/agnivade/levenshtein", "github.com/adhocore/gronx"},
	"pkg/promql":    {},
	"pkg/target":    {},
	"pkg/strategy":  {},
	"pkg/analysis":  {},
	"pkg/record":    {"gopkg.in/yaml.v3"},
	"pkg/approval":  {"github.com/hmarr/codeowners"},
	"pkg/audit":     {"golang.org/x/mod/sumdb/tlog", "golang.org/x/mod/sumdb/note"},
	"pkg/promotion": {},
}

// outside are standard packages that reach outside the process.
var outside = []string{
	"net", "net/http", "os", "os/exec", "os/user", "database/sql", "log", "log/slog", "math/rand", "math/rand/v2", "syscall", "runtime",
}

// TestImportsPointInwards parses the sources itself rather than asking go list:
// a result that a subprocess computed would be cached across edits.
func TestImportsPointInwards(t *testing.T) {
	seen := 0
	for pkg, imports := range packages(t, "..") {
		at := slices.Index(order, pkg)
		if at < 0 {
			if !strings.HasPrefix(pkg, "tests") && !strings.HasPrefix(pkg, "deploy/demo/") && !strings.HasSuffix(pkg, "test") {
				t.Errorf("%s is not in the list of packages", pkg)
			}
			continue
		}
		seen++
		for _, imp := range imports {
			if local, ours := strings.CutPrefix(imp, module); ours {
				if i := slices.Index(order, local); i < 0 || i >= at {
					t.Errorf("%s imports %s, which does not come before it", pkg, local)
				}
				continue
			}
			if strings.HasPrefix(imp, "github.com/jackc/pgx") && pkg != "pkg/store" {
				t.Errorf("%s imports %s: only pkg/store speaks to PostgreSQL", pkg, imp)
			}
			foreign, isPure := pure[pkg]
			if isPure && strings.Contains(strings.Split(imp, "/")[0], ".") && !slices.Contains(foreign, imp) {
				t.Errorf("%s imports %s: the domain uses the standard library and what it must", pkg, imp)
			}
			if isPure && slices.Contains(outside, imp) {
				t.Errorf("%s imports %s: the domain does no I/O", pkg, imp)
			}
		}
	}
	if seen < len(order)-1 {
		t.Errorf("only %d of %d listed packages were found", seen, len(order))
	}
}

// TestTheDomainReadsNoClock looks for the calls that an import list cannot show.
func TestTheDomainReadsNoClock(t *testing.T) {
	for pkg := range pure {
		for name, src := range sources(t, filepath.Join("..", pkg)) {
			for _, call := range []string{"time.Now(", "time.Since(", "time.Until(", "time.Sleep(", "time.After("} {
				if strings.Contains(src, call) {
					t.Errorf("%s calls %s): the domain is given the time", name, call)
				}
			}
		}
	}
}
