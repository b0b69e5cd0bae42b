// Package schemas holds the JSON Schemas (draft-07) of the declarative kinds,
// and answers what a field is from them.
//
// The schemas are published as they are: an editor completes with them, and
// `hotswap explain` prints them. They describe exactly what this build does; a
// key that is not in them is refused, since a key that is accepted and ignored
// would be a lie.
package schemas

import "embed"

// files is written by the compiler and never changes.
//
//go:embed deployment.v1.json pipeline.v1.json environment.v1.json analysis.v1.json policy.v1.json
var files embed.FS

// Kinds returns the kinds that have a schema, in the order a person meets them.
func Kinds() []string { return []string{"Deployment", "Pipeline", "Environment", "Analysis", "Policy"} }

// FileName returns the name of the kind's schema, "deployment.v1.json", or ""
// for a kind that has none.
func FileName(kind string) string {
	switch kind {
	case "Deployment":
		return "deployment.v1.json"
	case "Pipeline":
		return "pipeline.v1.json"
	case "Environment":
		return "environment.v1.json"
	case "Analysis":
		return "analysis.v1.json"
	case "Policy":
		return "policy.v1.json"
	}
	return ""
}

// Source returns the bytes of the kind's schema, or nil for a kind that has none.
func Source(kind string) []byte {
	name := FileName(kind)
	if name == "" {
		return nil
	}
	b, err := files.ReadFile(name)
	if err != nil {
		return nil // unreachable: the file is embedded above
	}
	return b
}
