package tests

import (
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"hotswap.dev/hotswap/functions"
	"hotswap.dev/hotswap/pkg/engine"
)

// A stackFunction is the part of stack.yml that can be wrong without anybody noticing.
type stackFunction struct {
	Lang        string            `yaml:"lang"`
	Image       string            `yaml:"image"`
	Environment map[string]string `yaml:"environment"`
	Annotations map[string]string `yaml:"annotations"`
	Limits      map[string]string `yaml:"limits"`
	Secrets     []string          `yaml:"secrets"`
}

func readStack(t *testing.T) map[string]stackFunction {
	t.Helper()
	text, err := os.ReadFile("../stack.yml")
	require.NoError(t, err)
	var stack struct {
		Functions map[string]stackFunction `yaml:"functions"`
	}
	require.NoError(t, yaml.Unmarshal(text, &stack))
	return stack.Functions
}

func TestTheStackListsExactlyTheFunctionsOfTheBinary(t *testing.T) {
	all := functions.All(functions.Deps{Engine: &engine.Engine{}})
	stack := readStack(t)
	require.Equal(t, slices.Sorted(maps.Keys(all)), slices.Sorted(maps.Keys(stack)))
	require.LessOrEqual(t, len(stack), 14, "OpenFaaS Community Edition allows 15 functions")
	for name, f := range stack {
		require.Equal(t, "dockerfile", f.Lang, name)
		require.Equal(t, stack["advance"].Image, f.Image, "one image for all: %s", name)
		require.Contains(t, f.Secrets, "hotswap-database-url", name)
		require.NotEmpty(t, f.Limits["memory"], name)
	}
}

func TestTheStackCallsByCronWhatTheProgramSchedules(t *testing.T) {
	var scheduled []string
	for name, f := range readStack(t) {
		if len(f.Annotations) == 0 {
			continue
		}
		scheduled = append(scheduled, name)
		require.Equal(t, map[string]string{"topic": "cron-function", "schedule": "* * * * *"}, f.Annotations, name)
	}
	slices.Sort(scheduled)
	require.Equal(t, slices.Sorted(maps.Keys(functions.Schedule(time.Minute))), scheduled)
}

// The provider repeats a call whose answer takes longer than it may be written.
func TestEveryTimeoutOfTheStackLeavesTheNextOneTime(t *testing.T) {
	for name, f := range readStack(t) {
		timeout := func(key string) time.Duration {
			d, err := time.ParseDuration(f.Environment[key])
			require.NoError(t, err, "%s: %s", name, key)
			return d
		}
		require.Greater(t, timeout("write_timeout"), timeout("read_timeout"), name)
		require.Greater(t, timeout("read_timeout"), timeout("exec_timeout"), name)
	}
}
