// Package intent reads the declarative kinds that people commit.
package intent
