package docs

import (
	_ "embed"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var all = flag.Bool("docs.all", false, "run the examples of the demo, too")

// reference is the page whose blocks are the examples of the commands.
const reference = "docs/reference/cli.md"

// worldScript makes an installation in which something has happened.
//
//go:embed testdata/world.sh
var worldScript string

// world is a script of the installation and of what is done in it. In the end
// its audit trail must verify.
func world(t *testing.T, done string) string {
	t.Helper()
	repository, err := filepath.Abs(root)
	require.NoError(t, err)
	return fmt.Sprintf("SOURCES='%s'\n%s\n%s\nverified\n", repository, worldScript, done)
}

// runbooks are the blocks of all runbooks, in the order of their names.
func runbooks(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, p := range pages(t) {
		if p.inWorld() {
			b.WriteString(inFolder(p.script()))
		}
	}
	return b.String()
}

// typed are the examples as somebody would type them.
func typed(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("for_the_examples\n")
	for _, e := range examples(t) {
		if strings.Contains(e, "hotswap demo ") && !*all { // two demos at once may choose the same ports
			t.Logf("not executed: %s: tests/e2e runs the demo, and -docs.all this", e)
			continue
		}
		fmt.Fprintf(&b, "echo '### %s'\n%s\n", strings.ReplaceAll(e, "'", ""), e)
	}
	return b.String()
}

// inFolder replaces the places of an installed HotSwap by those of the world.
func inFolder(s string) string {
	return strings.NewReplacer("/var/lib/hotswap/node", "$WORLD/shop-1", "/var/lib/hotswap", "$DATA", "/etc/hotswap", "$WORLD/etc", "/run/secrets", "$WORLD/secrets").Replace(s)
}

// An adaption changes an example so that it can be run in the world, and says
// what is changed and nothing more.
type adaption struct{ example, old, new string }

// adaptions are tried in order; each holds for the examples that contain its first field.
var adaptions = []adaption{
	// There is no Gitea in the world: it says what is missing and ends.
	{"--gitea-url", "hotswap serve --data /var/lib/hotswap", "refused hotswap serve --data $WORLD/third"},
	{"hotswap setup --data /var/lib/hotswap/lambda", "hotswap setup", "refused hotswap setup"},
	// What runs until it is ended is given three seconds.
	{"hotswap serve", "hotswap serve --data /var/lib/hotswap", "for_a_while hotswap serve --data $WORLD/second"},
	{"--workers 4", "hotswap demo-load", "for_a_while hotswap demo-load"},
	{"hotswap function advance", "hotswap function", "for_a_while env PORT=0 hotswap function"},
	{"hotswap function api", "hotswap function", "for_a_while env PORT=0 hotswap function"},
	{"hotswap node --takeover", "hotswap node --takeover", "for_a_while hotswap node --takeover"},
	{"hotswap node --server", "hotswap node --server", "in_background hotswap node --server"},
	// What a reader replaces by what is hers.
	{"hotswap node", "https://hotswap.example", "$URL"},
	{"hotswap node", "0.0.0.0:8080", "127.0.0.1:18080"},
	{"hotswap demo-load", "--for 1m", "--for 1s"},
	{"hotswap demo-load", "127.0.0.1:20080", "$WEB"},
	{"hotswap abort", "checkout-3", "checkout-4"},
	// What there is nothing to do for in the world is refused, and not as a wrong call.
	{"hotswap promote checkout-3/production/promote-1", "hotswap promote", "refused hotswap promote"},
	{"hotswap reject", "hotswap reject", "refused hotswap reject"},
	{"hotswap pause", "hotswap pause", "refused hotswap pause"},
	{"hotswap resume", "hotswap resume", "refused hotswap resume"},
	{"hotswap check ", "hotswap check", "refused hotswap check"},
	{"hotswap rollback", "hotswap rollback", "refused hotswap rollback"},
	{"hotswap approvals", "hotswap approvals", "refused hotswap approvals"},
	{"hotswap approve ", "hotswap approve", "refused hotswap approve"},
	{"hotswap break-glass", "hotswap break-glass", "refused hotswap break-glass"},
	{"hotswap pr open", "hotswap pr open", "refused hotswap pr open"},
	{"hotswap pr show", "hotswap pr show", "refused hotswap pr show"},
	{"hotswap pr diff", "hotswap pr diff", "refused hotswap pr diff"},
	{"hotswap pr review", "hotswap pr review", "refused hotswap pr review"},
	{"hotswap pr comment", "hotswap pr comment", "refused hotswap pr comment"},
	{"hotswap pr close", "hotswap pr close", "refused hotswap pr close"},
	{"hotswap pr merge", "hotswap pr merge", "refused hotswap pr merge"},
	{"hotswap secret remove", "hotswap secret remove", "refused hotswap secret remove"},
	{"hotswap hold lift", "hotswap hold lift", "refused hotswap hold lift"},
	{"hotswap watch checkout --", "hotswap watch", "refused hotswap watch"},
	{"hotswap watch checkout-3", "hotswap watch checkout-3 --timeout 30m", "ends_with 6 hotswap watch checkout-3 --timeout 1s"},
	{"hotswap node remove", "shop-3", "web-1"},
	{"hotswap node remove", "qa-1", "qa-2"},
	{"hotswap module sign", "sha256:0b31…", "$DIGEST"},
	{"hotswap demo", "hotswap demo --once", "env --chdir=$SOURCES hotswap demo --data $WORLD/demo --once"},
}

// Examples of another command do not count.
func TestEveryCommandHasTwoExamples(t *testing.T) {
	shown := strings.Join(examples(t), "\n") + "\n"
	for name := range commands(t) {
		if n := strings.Count(shown, "hotswap "+name+"\n") + strings.Count(shown, "hotswap "+name+" "); n < 2 {
			t.Errorf("hotswap %s has %d examples that are run", name, n)
		}
	}
}

// examples returns every example of the reference, adapted to the world: one
// command each, its lines joined.
func examples(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, reference))
	require.NoError(t, err)
	var out []string
	for _, b := range parse(reference, string(text)).shell() {
		for line := range strings.Lines(strings.ReplaceAll(b.code, "\\\n", " ")) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "hotswap ") {
				out = append(out, adapt(line))
			}
		}
	}
	return out
}

func adapt(example string) string {
	original := example
	for _, a := range adaptions {
		if strings.Contains(original, a.example) && !(a.example == "hotswap demo" && strings.Contains(original, "demo-load")) {
			example = strings.ReplaceAll(example, a.old, a.new)
		}
	}
	return inFolder(example)
}
