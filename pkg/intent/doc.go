// Package intent reads the declarative kinds that people commit: it decodes
// documents with their positions, says in a person's words what is wrong with
// them, and freezes a valid deployment into the snapshot that a release is made
// of.
//
// Everything here is pure: no file, no network, no clock. The same bytes give
// the same answer, so a caller may keep the answer of [Decode] by the bytes'
// hash and hand it to [CheckDocuments] again.
//
// One bad document never takes the others with it: [Set.Problems] tells which
// problems concern a deployment, and only those refuse it.
package intent
