package lambda

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"hotswap.dev/hotswap/functions"
)

const page = "../../docs/how-to/lambda.md"

// The database must allow as many connections as the page adds up.
func TestThePageAddsUpTheConnections(t *testing.T) {
	text, sum := programText(t, page), 0
	for _, s := range functions.Specs() {
		n := rows(t)[s.Name].Concurrency
		sum += n * s.Connections
		require.Contains(t, text, fmt.Sprintf("| `%s` | %d | %d | %d |", s.Name, s.Connections, n, n*s.Connections))
	}
	require.Contains(t, text, fmt.Sprintf("with the defaults **%d**", sum))
}

func TestThePageNamesEverySecretAndEveryParameterThatMustBeGiven(t *testing.T) {
	text := programText(t, page)
	for _, s := range functions.Specs() {
		for _, name := range append(append([]string{}, s.Secrets...), s.Optional...) {
			require.Contains(t, text, "`hotswap/"+name+"`")
		}
	}
	var template struct {
		Parameters map[string]struct {
			Default *string `yaml:"Default"`
		} `yaml:"Parameters"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(programText(t, templateFile)), &template))
	for name, p := range template.Parameters {
		if p.Default == nil {
			require.Contains(t, text, name+"=")
		}
	}
}
