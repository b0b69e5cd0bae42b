// Package docs holds no code, only tests: what README.md and docs/ say is done,
// and what they name exists.
//
// The shell blocks of a page are one script, run in a scratch folder with a
// freshly built hotswap on PATH; README.md runs in a copy of the repository. A
// port on 127.0.0.1 is replaced by a free one, and what a block starts in the
// background ends with its page. The runbooks and the examples of the command
// line share one installation, see testdata/world.sh. A block that cannot be run
// here stands below `<!-- not executed: why -->`, and is counted.
package docs
