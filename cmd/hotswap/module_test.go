package main

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/target"
)

// call runs one command and returns what it printed and its exit code.
func call(t *testing.T, c *cobra.Command, args ...string) (string, int) {
	t.Helper()
	var out, talk bytes.Buffer
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&talk)
	c.SilenceUsage, c.SilenceErrors = true, true
	code := exitCode(&talk, c.ExecuteContext(t.Context()))
	return out.String() + talk.String(), code
}

func TestAModuleThatWasPackedAndSignedIsTrustedByItsPublicKey(t *testing.T) {
	folder := t.TempDir()
	in := func(name string) string { return filepath.Join(folder, name) }
	require.NoError(t, os.WriteFile(in("checkout"), []byte("#!/bin/sh\n"), 0o755))

	out, code := call(t, moduleCommand(), "keygen", in("release"))
	require.Zero(t, code, out)
	info, err := os.Stat(in("release.key"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	out, code = call(t, moduleCommand(), "pack", in("checkout"), "--name", "checkout", "--out", in("a.tar.gz"))
	require.Zero(t, code, out)
	digest := strings.TrimPrefix(strings.Split(out, "\n")[0], "digest: ")

	signed, code := call(t, moduleCommand(), "sign", "--key", in("release.key"), "--name", "checkout", "--version", "1.5.0", "--digest", digest)
	require.Zero(t, code, signed)
	public, err := os.ReadFile(in("release.pub"))
	require.NoError(t, err)
	keys, err := target.ParsePublicKeys(public)
	require.NoError(t, err)
	m := target.Module{Name: "checkout", Version: "1.5.0", Digest: digest}
	m.Signature = strings.TrimSpace(strings.TrimPrefix(signed, "signature: "))
	require.NoError(t, target.VerifyModule(m, keys))
	require.ErrorIs(t, target.VerifyModule(m, []ed25519.PublicKey{make([]byte, 32)}), target.ErrSignature)
}

func TestModuleCommandsRefuseWhatWouldHurt(t *testing.T) {
	folder := t.TempDir()
	key := filepath.Join(folder, "release")
	_, code := call(t, moduleCommand(), "keygen", key)
	require.Zero(t, code)
	digest := "sha256:" + strings.Repeat("0", 64)
	sign := []string{"sign", "--key", key + ".key", "--name", "checkout", "--version", "1.5.0", "--digest"}

	out, code := call(t, moduleCommand(), "keygen", key)
	require.Equal(t, exitUsage, code)
	require.Contains(t, out, "exists and is not replaced")

	out, code = call(t, moduleCommand(), append(sign, "sha256:abc")...)
	require.Equal(t, exitUsage, code)
	require.Contains(t, out, "64 hex digits")

	out, code = call(t, moduleCommand(), "pack", folder, "--name", "checkout", "--out", filepath.Join(t.TempDir(), "a.tar.gz"))
	require.Equal(t, exitInvalid, code)
	require.Contains(t, out, "no executable checkout or bin/checkout")

	require.NoError(t, os.Chmod(key+".key", 0o644))
	out, code = call(t, moduleCommand(), append(sign, digest)...)
	require.Equal(t, exitAuth, code)
	require.Contains(t, out, "chmod 0600")
}

func TestTheNodeCommandSaysWhatItMisses(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys.pub")
	require.NoError(t, os.WriteFile(keys, []byte("nothing"), 0o600))
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no trusted keys":       {[]string{"--server", "http://localhost", "--name", "a"}, "--trusted-keys is missing"},
		"trusted keys are none": {[]string{"--trusted-keys", keys}, "not an Ed25519 key"},
		"no server":             {[]string{"--allow-unsigned", "--name", "a"}, "server must be"},
		"a name with a dot":     {[]string{"--allow-unsigned", "--server", "http://localhost", "--name", "a.b"}, "not a DNS label"},
		"no state folder":       {[]string{"--allow-unsigned", "--server", "http://localhost", "--name", "a"}, "state folder is missing"},
		"a route without port": {
			[]string{"--allow-unsigned", "--server", "http://localhost", "--name", "a", "--state", t.TempDir(), "--route", "checkout=localhost"},
			"not host:port",
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, code := call(t, nodeCommand(), c.args...)
			require.Equal(t, exitUsage, code, out)
			require.Contains(t, out, c.want)
		})
	}
}
