package intent_test

import (
	"fmt"
	"strings"
	"testing"

	"hotswap.dev/hotswap/pkg/intent"
)

func BenchmarkDecode(b *testing.B) {
	data := []byte(everyField)
	b.ReportAllocs()
	for b.Loop() {
		intent.Decode("deployments/checkout.yaml", data)
	}
}

func BenchmarkCheckTreeOfAHundredDeployments(b *testing.B) {
	tree := baseTree(b)
	for i := range 100 {
		name := fmt.Sprintf("d%d", i)
		tree["deployments/"+name+".yaml"] = []byte(strings.Replace(string(tree["deployments/checkout.yaml"]), "{name: checkout,", "{name: "+name+",", 1))
	}
	for b.Loop() {
		intent.CheckTree(tree, "shop")
	}
}

// The worst that a repository within the limits can ask for: every file full of
// mistakes.
func BenchmarkCheckTreeOfNothingButMistakes(b *testing.B) {
	file := "apiVersion: hotswap.dev/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n"
	for i := range 450 {
		file += fmt.Sprintf("  modul%d: 1\n", i)
	}
	tree := intent.Tree{}
	for i := range intent.MaxFiles {
		tree[fmt.Sprintf("deployments/d%d.yaml", i)] = []byte(file)
	}
	b.ReportAllocs()
	for b.Loop() {
		intent.CheckTree(tree, "shop")
	}
}
