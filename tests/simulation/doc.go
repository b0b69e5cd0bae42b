// Package simulation holds no code, only tests: thousands of releases are played
// in a world that exists in memory alone, and after every step the invariants of
// docs/ARCHITECTURE.md are checked.
//
// The world is one database, a few workers, a fleet of nodes, a network and the
// people around it. The database has the tables of pkg/store, and the same checks
// on what is committed: version, fence, slot token. What is decided is decided by
// pkg/promotion and pkg/analysis, nothing of it is imitated. A worker can die, or
// stand still and come back as a zombie, between any two of: claim, read, commit,
// answer. Nodes obey, fail, lie, fall silent, leave, come late and lose their state;
// what is said between them and the database is lost, doubled, delayed and reordered.
//
// A run is a seed. The seed makes the pipelines and the fleet, and then a script of
// steps, each a kind and a number of its own from which it draws all its choices: so a
// script from which steps were taken away is a script too, and a run that found
// something is made as short as possible before it is shown. There is one thread
// and no clock but the world's.
//
// When the script is over the world settles: faults end, people answer, and
// everything must end, and be as it is recorded, or something must say why not.
//
// `SIM_SEED=17 go test ./tests/simulation -run TestSeed -v` plays one seed and tells
// its last steps. testdata/seeds.txt lists seeds that found something once; they
// are played always.
//
// A sample of the same scripts is played on a real PostgreSQL as well, through pkg/store
// and pkg/engine, at the world's time: after everything that is done both databases must
// hold the same rows, and in the end the same transitions with all that they were decided
// on. There each step reads and commits at once, and no backup is restored.
package simulation
