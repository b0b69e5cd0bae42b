package node

import (
	"crypto/ed25519"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/target"
)

// A shop serves one archive and counts how often.
type shop struct {
	cache *cache
	m     target.Module
	asked atomic.Int32
	serve []byte
	key   ed25519.PrivateKey
}

func newShop(t *testing.T, archive []byte, change func(o *Options)) *shop {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	s := &shop{serve: archive, key: key}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.asked.Add(1)
		_, _ = w.Write(s.serve)
	}))
	t.Cleanup(server.Close)
	o := Options{Server: "http://x", Name: "n", State: "/", Trusted: []ed25519.PublicKey{public}, Limits: Limits{Cached: 1}}
	if change != nil {
		change(&o)
	}
	o, err = o.withDefaults()
	require.NoError(t, err)
	s.cache, err = newCache(filepath.Join(t.TempDir(), "artifacts"), o)
	require.NoError(t, err)
	s.m = target.Module{Name: "checkout", Version: "1.5.0", Artifact: server.URL, Digest: digestOfBytes(archive)}
	s.sign(t)
	return s
}

func (s *shop) sign(t *testing.T) {
	t.Helper()
	var err error
	s.m.Signature, err = target.SignModule(s.m, s.key)
	require.NoError(t, err)
}

func (s *shop) folder() string {
	return filepath.Join(s.cache.folder, strings.TrimPrefix(s.m.Digest, "sha256:"))
}

// entries are what a crash could have left, and what should be there.
func (s *shop) entries(t *testing.T) []string {
	t.Helper()
	all, err := os.ReadDir(s.cache.folder)
	require.NoError(t, err)
	var names []string
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names
}

func goodArchive(t *testing.T) []byte {
	return archiveOf(t, member{name: "checkout", content: "#!/bin/sh\n", mode: 0o755}, member{name: "data/x", content: "x"})
}

func TestAnArtifactIsFetchedOnceAndUsedAgain(t *testing.T) {
	s := newShop(t, goodArchive(t), nil)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			tree, err := s.cache.get(t.Context(), s.m)
			if err != nil {
				t.Error(err)
				return
			}
			if _, f := findCommand(tree, "checkout"); f != nil {
				t.Error(f)
			}
		})
	}
	all.Wait()
	require.Equal(t, int32(1), s.asked.Load())
	require.Len(t, s.entries(t), 1)
}

func TestNothingIsFetchedForASignatureThatIsNotTrusted(t *testing.T) {
	for name, c := range map[string]struct {
		change func(s *shop)
		lax    bool
		reason target.Reason
	}{
		"no signature":                           {func(s *shop) { s.m.Signature = "" }, false, target.SignatureMissing},
		"the signature of another version":       {func(s *shop) { s.m.Version = "1.6.0" }, false, target.SignatureInvalid},
		"a wrong one, where none is needed":      {func(s *shop) { s.m.Version = "1.6.0" }, true, target.SignatureInvalid},
		"a trusted one of another digest":        {func(s *shop) { s.m.Digest = digestFor("0") }, false, target.SignatureInvalid},
		"no signature, where none is needed":     {func(s *shop) { s.m.Signature = "" }, true, ""},
		"a good one, where none would be needed": {func(*shop) {}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, goodArchive(t), func(o *Options) { o.AllowUnsigned = c.lax })
			c.change(s)
			_, err := s.cache.get(t.Context(), s.m)
			if c.reason == "" {
				require.NoError(t, err)
				return
			}
			requireReason(t, err, c.reason, "1.")
			require.Zero(t, s.asked.Load())
		})
	}
}

func TestBytesOfAnotherDigestAreNeverUnpacked(t *testing.T) {
	s := newShop(t, goodArchive(t), nil)
	s.serve = archiveOf(t, member{name: "evil"})
	_, err := s.cache.get(t.Context(), s.m)
	requireReason(t, err, target.DigestMismatch, "the release wants")
	require.Empty(t, s.entries(t), "nothing half is left")
}

func TestAnArchiveThatIsRefusedLeavesNothing(t *testing.T) {
	s := newShop(t, archiveOf(t, member{name: "checkout", mode: 0o755}, member{name: "../evil"}), nil)
	_, err := s.cache.get(t.Context(), s.m)
	requireReason(t, err, target.ArchiveInvalid, "leads out")
	require.Empty(t, s.entries(t))
}

func TestAnArtifactThatHasChangedOnTheDiskIsNotUsed(t *testing.T) {
	for name, c := range map[string]struct {
		damage  func(t *testing.T, folder string)
		fetches int32
	}{
		"a file of the tree":   {func(t *testing.T, f string) { overwrite(t, f+"/tree/checkout") }, 1},
		"a file more":          {func(t *testing.T, f string) { overwrite(t, f+"/tree/evil") }, 1},
		"a file less":          {func(t *testing.T, f string) { require.NoError(t, os.Remove(f+"/tree/data/x")) }, 1},
		"a mode":               {func(t *testing.T, f string) { require.NoError(t, os.Chmod(f+"/tree/data/x", 0o755)) }, 1},
		"the manifest":         {func(t *testing.T, f string) { overwrite(t, f+"/manifest") }, 1},
		"half of it is gone":   {func(t *testing.T, f string) { require.NoError(t, os.RemoveAll(f+"/tree")) }, 1},
		"tree and the archive": {func(t *testing.T, f string) { overwrite(t, f+"/tree/checkout"); overwrite(t, f+"/archive.tar.gz") }, 2},
		"all of it":            {func(t *testing.T, f string) { require.NoError(t, os.RemoveAll(f)) }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, goodArchive(t), nil)
			_, err := s.cache.get(t.Context(), s.m)
			require.NoError(t, err)
			c.damage(t, s.folder())
			tree, err := s.cache.get(t.Context(), s.m)
			require.NoError(t, err)
			require.NoError(t, verifyTree(filepath.Dir(tree)))
			got, err := os.ReadFile(filepath.Join(tree, "checkout"))
			require.NoError(t, err)
			require.Equal(t, "#!/bin/sh\n", string(got))
			require.Equal(t, c.fetches, s.asked.Load())
			require.Len(t, s.entries(t), 1)
		})
	}
}

func overwrite(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte("evil"), 0o755))
}

func TestOldArtifactsAreRemovedAndNeededOnesStay(t *testing.T) {
	s := newShop(t, goodArchive(t), nil) // keeps one that nobody needs
	age := func(name string, old time.Duration) {
		path := filepath.Join(s.cache.folder, name)
		require.NoError(t, os.MkdirAll(path, 0o755))
		require.NoError(t, os.Chtimes(path, time.Now().Add(-old), time.Now().Add(-old)))
	}
	age("needed", 9*time.Hour)
	age("newest", time.Hour)
	age("older", 2*time.Hour)
	age("oldest", 3*time.Hour)
	age("tmp-1", 4*time.Hour)
	require.NoError(t, s.cache.collect(map[string]bool{"sha256:needed": true}))
	require.ElementsMatch(t, []string{"needed", "newest", "tmp-1"}, s.entries(t))
	require.NoError(t, s.cache.clearTemporary())
	require.ElementsMatch(t, []string{"needed", "newest"}, s.entries(t))
}
