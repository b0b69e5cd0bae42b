package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAHostThatPassesNoArgumentsNamesTheFunctionByItsEnvironment(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		env  map[string]string
		want string
	}{
		"on Lambda its handler is the function":    {nil, map[string]string{"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001", "_HANDLER": "advance"}, "advance"},
		"on Lambda HOTSWAP_FUNCTION goes first":    {nil, map[string]string{"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001", "_HANDLER": "bootstrap", "HOTSWAP_FUNCTION": "api"}, "api"},
		"an image names it by HOTSWAP_FUNCTION":    {nil, map[string]string{"HOTSWAP_FUNCTION": "api"}, "api"},
		"arguments go first":                       {[]string{"function", "api"}, map[string]string{"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001", "_HANDLER": "advance"}, "api"},
		"another command is another command":       {[]string{"function", "list"}, map[string]string{"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001", "_HANDLER": "advance"}, ""},
		"outside Lambda a handler means nothing":   {nil, map[string]string{"_HANDLER": "advance"}, ""},
		"neither: the program says how it is used": {nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, functionToRun(c.args, func(key string) string { return c.env[key] }))
		})
	}
}
