// Package pipelines holds the built-in pipelines: those that a deployment may
// name without a file of that name in its repository.
package pipelines

import _ "embed"

// standard is written by the compiler and never changes.
//
//go:embed standard.yaml
var standard []byte

// BuiltIn returns the documents of the built-in pipelines by name.
func BuiltIn() map[string][]byte {
	return map[string][]byte{"standard": append([]byte(nil), standard...)}
}
