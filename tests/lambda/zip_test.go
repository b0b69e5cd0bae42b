package lambda

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const root = "../.."

// packed builds and packs the program in a folder with the sources, as `make lambda` does.
func packed(t *testing.T, sources, arch string, env ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "hotswap.zip")
	c := exec.CommandContext(t.Context(), "go", "run", "./deploy/lambda/package", "-arch", arch, "-out", out)
	c.Dir = sources
	c.Env = append(os.Environ(), env...)
	var problems strings.Builder
	c.Stderr = &problems
	said, err := c.Output()
	require.NoError(t, err, "%s", problems.String())
	b, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("%x  %s\n", sha256.Sum256(b), out), string(said))
	return b
}

// shared is what all tests of the process use: the zip for this machine, and its program.
var shared struct {
	sync.Once
	zip    []byte
	folder string
}

func ourZip(t *testing.T) []byte {
	t.Helper()
	shared.Do(func() {
		shared.zip = packed(t, root, runtime.GOARCH)
		unpack(t, shared.zip, filepath.Join(shared.folder, "bootstrap"))
	})
	require.NotEmpty(t, shared.zip)
	return shared.zip
}

// bootstrap is the program that the zip holds, as Lambda unpacks it.
func bootstrap(t *testing.T) string {
	t.Helper()
	ourZip(t)
	return filepath.Join(shared.folder, "bootstrap")
}

func unpack(t *testing.T, packed []byte, path string) {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(packed), int64(len(packed)))
	require.NoError(t, err)
	f, err := z.Open("bootstrap")
	require.NoError(t, err)
	defer f.Close()
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(to, f)
	require.NoError(t, errors.Join(err, to.Close()))
}

func TestTheZipHoldsOneProgramThatLambdaCanStart(t *testing.T) {
	z, err := zip.NewReader(bytes.NewReader(ourZip(t)), int64(len(ourZip(t))))
	require.NoError(t, err)
	require.Len(t, z.File, 1)
	require.Equal(t, "bootstrap", z.File[0].Name)
	require.Equal(t, fs.FileMode(0o755), z.File[0].Mode())
	require.Less(t, z.File[0].UncompressedSize64, uint64(200<<20), "Lambda takes 250 MB with all layers")
	require.Less(t, len(ourZip(t)), 50<<20, "Lambda takes 50 MB at once")
}

func TestTheZipIsTheSameWhereverItIsBuilt(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "of somebody", "e1se")
	copySources(t, elsewhere)
	again := packed(t, elsewhere, runtime.GOARCH, "TZ=Asia/Tokyo", "GOFLAGS=-v", "LC_ALL=C")
	require.True(t, bytes.Equal(ourZip(t), again), "%d and %d bytes", len(ourZip(t)), len(again))
	here, err := filepath.Abs(root)
	require.NoError(t, err)
	program, err := os.ReadFile(bootstrap(t))
	require.NoError(t, err)
	for _, trace := range []string{elsewhere, here} {
		require.False(t, bytes.Contains(program, []byte(trace+"/")), "the program names %s", trace)
	}
}

// copySources copies what the program is built of.
func copySources(t *testing.T, to string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		switch {
		case err != nil:
			return err
		case e.IsDir() && (strings.HasPrefix(e.Name(), ".") && path != root || name == "bin" || name == "tests" || name == "docs"):
			return fs.SkipDir
		case e.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		case !e.Type().IsRegular():
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), b, 0o644)
	}))
	// The one package of the tests that the program is built with.
	require.NoError(t, os.CopyFS(filepath.Join(to, "tests", "load"), os.DirFS(filepath.Join(root, "tests", "load"))))
}
