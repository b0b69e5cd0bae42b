package node

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheSameContentIsPackedToTheSameBytesAndUnpacks(t *testing.T) {
	build := func(mode os.FileMode, at time.Time) []byte {
		folder := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(folder, "bin"), mode|0o700))
		require.NoError(t, os.WriteFile(filepath.Join(folder, "z.txt"), []byte("z"), mode&0o666))
		require.NoError(t, os.WriteFile(filepath.Join(folder, "bin", "checkout"), []byte("program"), mode|0o100))
		require.NoError(t, os.Chtimes(filepath.Join(folder, "z.txt"), at, at))
		var out bytes.Buffer
		packed, err := Pack(&out, folder, "checkout")
		require.NoError(t, err)
		require.Equal(t, Packed{Digest: digestOfBytes(out.Bytes()), Size: int64(out.Len())}, packed)
		return out.Bytes()
	}
	first, second := build(0o755, time.Unix(1, 0)), build(0o600, time.Now())
	require.Equal(t, first, second)
	tree, err := unpackTest(t, first, Limits{})
	require.NoError(t, err)
	path, f := findCommand(tree, "checkout")
	require.Nil(t, f)
	require.Equal(t, filepath.Join(tree, "bin", "checkout"), path)
}

func TestPackingRefusesWhatANodeWouldRefuse(t *testing.T) {
	folder := t.TempDir()
	program := filepath.Join(folder, "checkout")
	_, err := Pack(&bytes.Buffer{}, folder, "checkout")
	require.ErrorIs(t, err, ErrPack)
	require.NoError(t, os.WriteFile(program, nil, 0o644))
	_, err = Pack(&bytes.Buffer{}, folder, "checkout")
	require.ErrorIs(t, err, ErrPack, "not executable")
	require.NoError(t, os.Chmod(program, 0o755))
	_, err = Pack(&bytes.Buffer{}, folder, "checkout")
	require.NoError(t, err)
	require.NoError(t, os.Symlink("checkout", filepath.Join(folder, "link")))
	_, err = Pack(&bytes.Buffer{}, folder, "checkout")
	require.ErrorIs(t, err, ErrPack)
	_, err = Pack(&bytes.Buffer{}, program, "../checkout")
	require.ErrorIs(t, err, ErrPack)
	_, err = Pack(&bytes.Buffer{}, filepath.Join(folder, "missing"), "checkout")
	require.ErrorIs(t, err, os.ErrNotExist)
}
