package tests

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openfaas/go-sdk/builder"
	"github.com/openfaas/go-sdk/stack"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/functions"
	"hotswap.dev/hotswap/pkg/function"
	"hotswap.dev/hotswap/pkg/platform"
)

// readStack reads stack.yml as faas-cli does.
func readStack(t *testing.T) *stack.Services {
	t.Helper()
	t.Setenv("HOTSWAP_COMMIT", "0123456789abcdef0123456789abcdef01234567")
	s, err := stack.ParseYAMLFile("../stack.yml", "", "", true)
	require.NoError(t, err)
	return s
}

func TestTheStackListsExactlyTheFunctionsOfTheBinary(t *testing.T) {
	s := readStack(t)
	require.LessOrEqual(t, len(s.Functions), 14, "OpenFaaS Community Edition allows 15 functions")
	var names []string
	for _, spec := range functions.Specs() {
		names = append(names, spec.Name)
		f, ok := s.Functions[spec.Name]
		require.True(t, ok, "%s is not in stack.yml", spec.Name)
		require.Equal(t, "dockerfile", f.Language, spec.Name)
		require.Equal(t, "./deploy/openfaas", f.Handler, spec.Name)
		require.Equal(t, s.Functions["advance"].Image, f.Image, "one image for all: %s", spec.Name)
		require.Equal(t, spec.Name, f.Environment["HOTSWAP_FUNCTION"])
		require.Equal(t, stack.FunctionResources{Memory: spec.Memory, CPU: spec.CPU}, *f.Limits, spec.Name)
		require.Equal(t, "0123456789abcdef0123456789abcdef01234567", (*f.Labels)["org.opencontainers.image.revision"], spec.Name)
		require.Equal(t, "true", (*f.Annotations)[platform.AnnotationPublic], spec.Name)
		secrets := slices.Clone(spec.Secrets)
		if slices.Contains(spec.Optional, functions.SecretGitea) { // repositories are at a Gitea, always
			secrets = append(secrets, functions.SecretGitea)
		}
		require.ElementsMatch(t, secrets, f.Secrets, "%s gets exactly the secrets that it needs", spec.Name)
		timeouts, err := function.ReadTimeouts(func(name string) string { return f.Environment[name] })
		require.NoError(t, err, spec.Name)
		require.Equal(t, spec.Timeouts, timeouts, spec.Name)
	}
	require.Equal(t, names, slices.Sorted(maps.Keys(s.Functions)))
}

func TestTheStackCallsByCronWhatTheProgramSchedules(t *testing.T) {
	var scheduled []string
	for name, f := range readStack(t).Functions {
		if schedule, ok := (*f.Annotations)["schedule"]; ok {
			require.Equal(t, "* * * * *", schedule, name)
			require.Equal(t, "cron-function", (*f.Annotations)["topic"], name)
			scheduled = append(scheduled, name)
		}
	}
	slices.Sort(scheduled)
	require.Equal(t, slices.Sorted(maps.Keys(functions.Schedule(time.Minute))), scheduled)
}

// secretLooking are names and values that belong into a secret.
var secretLooking = regexp.MustCompile(`(?i)passw|secret|token|credential|private|_key|://[^/]*:[^/]*@`)

func TestNothingThatLooksLikeASecretIsInTheStacksEnvironment(t *testing.T) {
	for name, f := range readStack(t).Functions {
		for key, value := range f.Environment {
			require.NotRegexp(t, secretLooking, key, name)
			require.NotRegexp(t, secretLooking, value, name)
		}
	}
	require.Regexp(t, secretLooking, "HOTSWAP_GITEA_TOKEN")
	require.Regexp(t, secretLooking, "postgres://app:x@db/hotswap")
}

// TestTheImageCompilesInTheContextThatFaasCliMakes makes the context of the image's build
// as faas-cli does and runs the Dockerfile's own compile command in it: whatever the
// program needs must be copied there.
func TestTheImageCompilesInTheContextThatFaasCliMakes(t *testing.T) {
	s := readStack(t)
	dockerfile, err := os.ReadFile("../deploy/openfaas/Dockerfile")
	require.NoError(t, err)
	command := regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0 go build .*) -o /hotswap (.*)$`).FindSubmatch(dockerfile)
	require.NotNil(t, command, "the Dockerfile compiles the program")
	t.Chdir("..")
	out := t.TempDir()
	context, err := builder.CreateBuildContext("advance", s.Functions["advance"].Handler, "dockerfile", s.StackConfiguration.CopyExtraPaths, builder.WithBuildDir(out))
	require.NoError(t, err)
	for _, file := range []string{"Dockerfile", "go.mod", "cmd/hotswap/main.go"} {
		require.FileExists(t, filepath.Join(context, file))
	}
	require.NoDirExists(t, filepath.Join(context, "docs"), "only what is needed")
	binary := filepath.Join(out, "hotswap")
	build := exec.CommandContext(t.Context(), "sh", "-c", string(command[1])+" -o "+binary+" "+string(command[2]))
	build.Dir = context
	text, err := build.CombinedOutput()
	require.NoError(t, err, "%s", text)
	help := exec.CommandContext(t.Context(), binary, "function", "--help")
	text, err = help.CombinedOutput()
	require.NoError(t, err, "%s", text)
	require.True(t, strings.Contains(string(text), "Function NAME runs one function"), "%s", text)
}
