// Package pipelines holds the built-in pipelines and analyses: those that a
// repository may name without having a file of that name.
package pipelines

import _ "embed"

// standard is written by the compiler and never changes; neither is standardAnalysis.
//
//go:embed standard.yaml
var standard []byte

//go:embed analyses/standard.yaml
var standardAnalysis []byte

// BuiltIn returns the documents of the built-in pipelines by name.
func BuiltIn() map[string][]byte {
	return map[string][]byte{"standard": append([]byte(nil), standard...)}
}

// Analyses returns the documents of the built-in analyses by name.
func Analyses() map[string][]byte {
	return map[string][]byte{"standard": append([]byte(nil), standardAnalysis...)}
}
