package function_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/function"
)

// env is an environment of these variables.
func env(pairs ...string) func(string) string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return m[name] }
}

func TestTheHostIsKnownByWhatItSets(t *testing.T) {
	require.Equal(t, function.OpenFaaS, function.Detect(env()))
	require.Equal(t, function.OpenFaaS, function.Detect(env("PORT", "9000")))
	require.Equal(t, function.Embedded, function.Detect(env("LISTEN_FDS", "1")))
	require.Equal(t, function.Lambda, function.Detect(env("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")))
	require.Equal(t, function.Lambda, function.Detect(env("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001", "LISTEN_FDS", "1")))
}

func TestTimeoutsAreReadInTheWordsOfTheHostAndMustRise(t *testing.T) {
	got, err := function.ReadTimeouts(env())
	require.NoError(t, err)
	require.Equal(t, function.DefaultTimeouts(), got)
	got, err = function.ReadTimeouts(env("exec_timeout", "10s", "read_timeout", "11s", "write_timeout", "1m"))
	require.NoError(t, err)
	require.Equal(t, function.Timeouts{Exec: 10 * time.Second, Read: 11 * time.Second, Write: time.Minute}, got)
	got, err = function.ReadTimeouts(env("exec_timeout", "59s"))
	require.NoError(t, err)
	require.Equal(t, 59*time.Second, got.Exec, "what is not said holds by default")

	for _, name := range []string{"exec_timeout", "read_timeout", "write_timeout"} {
		for _, wrong := range []string{"55", "0s", "-1s", "soon", " 55s", "1e9s", "99999999h"} {
			_, err := function.ReadTimeouts(env(name, wrong))
			require.ErrorContains(t, err, name, "%s=%q", name, wrong)
		}
	}
	for name, vars := range map[string][]string{
		"a call that may last as long as a request is read": {"exec_timeout", "60s"},
		"a call that may last longer":                       {"exec_timeout", "61s"},
		"a request that is read as long as one writes":      {"read_timeout", "65s"},
		"a request that is read longer":                     {"read_timeout", "2m"},
		"an answer that must be there before the call ends": {"write_timeout", "30s"},
		"all the same": {"exec_timeout", "9s", "read_timeout", "9s", "write_timeout", "9s"},
		"falling":      {"exec_timeout", "3s", "read_timeout", "2s", "write_timeout", "1s"},
	} {
		_, err := function.ReadTimeouts(env(vars...))
		require.ErrorContains(t, err, "must rise", name)
	}
}

func TestADeadlineIsLoweredToWhatTheHostAllowsLessAMarginAndNeverRaised(t *testing.T) {
	host := func(exec time.Duration) function.Timeouts { return function.Timeouts{Exec: exec} }
	for name, c := range map[string]struct{ own, host, want time.Duration }{
		"the default below the host's":             {0, 55 * time.Second, 50 * time.Second},
		"a host with less: a second is left":       {0, 15 * time.Second, 14 * time.Second},
		"a host with very little: a tenth is left": {0, time.Second, 900 * time.Millisecond},
		"its own is shorter":                       {10 * time.Second, 55 * time.Second, 10 * time.Second},
		"its own is longer":                        {time.Hour, 55 * time.Second, 54 * time.Second},
	} {
		got := function.Limits{Deadline: c.own}.Within(host(c.host))
		require.Equal(t, c.want, got.Deadline, name)
		require.Equal(t, 64, got.Concurrency, name)
	}
	require.Equal(t, 7, function.Limits{Concurrency: 7}.Within(host(time.Minute)).Concurrency)
}
