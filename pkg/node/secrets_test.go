package node

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/target"
)

func (s *story) withSecret(i *target.Instance, name, from string) *target.Instance {
	i.Config.Secrets = []target.SecretRef{{Name: name, From: from}}
	s.sign(i)
	return i
}

func TestAModuleReadsItsSecretsFromFilesThatAreRenewed(t *testing.T) {
	s := newStory(t)
	s.o.SecretsEvery = 20 * time.Millisecond
	s.server.Secret("checkout/db", "hunter2")
	s.start()
	p := s.order(s.withSecret(s.instance("1.0.0"), "DB_URL", "checkout/db"), nil)
	folder := s.env(p.Address, "CREDENTIALS_DIRECTORY")
	require.NotEmpty(t, folder)
	read := func() string {
		b, err := os.ReadFile(filepath.Join(folder, "DB_URL"))
		require.NoError(t, err)
		return string(b)
	}
	require.Equal(t, "hunter2", read())
	for path, mode := range map[string]os.FileMode{folder: 0o700, filepath.Join(folder, "DB_URL"): 0o600} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm(), path)
	}
	pid := s.pid(p.Address)
	s.server.Secret("checkout/db", "hunter3")
	require.Eventually(t, func() bool { return read() == "hunter3" }, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, pid, s.pid(p.Address), "nothing is restarted")
	_, env := s.get(p.Address, "/env")
	require.NotContains(t, env, "hunter")

	s.order(s.instance("2.0.0"), nil)
	require.Eventually(t, func() bool { _, err := os.Stat(folder); return os.IsNotExist(err) }, 10*time.Second, 5*time.Millisecond)
}

func TestASecretThatIsNotGivenKeepsTheOldOneServing(t *testing.T) {
	s := newStory(t)
	s.start()
	old := s.instance("1.0.0")
	address := s.order(old, nil).Address
	s.send(old, s.withSecret(s.instance("2.0.0"), "DB_URL", "checkout/none"))
	p := s.await(func(p target.PlaceReport) bool { return p.Standby != nil && p.Standby.Phase == target.Failed })
	require.Equal(t, target.SecretMissing, p.Standby.Reason)
	require.Contains(t, p.Standby.Detail, "checkout/none")
	require.True(t, runs(p.Active, old))
	status, _ := s.get(address, "/pid")
	require.Equal(t, 200, status)
}
