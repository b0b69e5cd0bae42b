package node

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// member is one entry of a test archive.
type member struct {
	name, content, link string
	kind                byte // default: regular file
	mode                int64
}

func archiveOf(t testing.TB, members ...member) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	for _, m := range members {
		orElse(&m.kind, byte(tar.TypeReg))
		orElse(&m.mode, int64(0o644))
		h := &tar.Header{Name: m.name, Typeflag: m.kind, Mode: m.mode, Linkname: m.link, Size: int64(len(m.content))}
		require.NoError(t, archive.WriteHeader(h))
		_, err := archive.Write([]byte(m.content))
		require.NoError(t, err)
	}
	require.NoError(t, archive.Close())
	require.NoError(t, zipped.Close())
	return out.Bytes()
}

// unpackTest unpacks into a folder whose parent would show an escape.
func unpackTest(t testing.TB, archive []byte, limits Limits) (tree string, err error) {
	t.Helper()
	tree = filepath.Join(t.TempDir(), "tree")
	require.NoError(t, os.Mkdir(tree, 0o755))
	root, err := os.OpenRoot(tree)
	require.NoError(t, err)
	defer root.Close()
	return tree, unpack(bytes.NewReader(archive), root, limits.withDefaults())
}

func TestUnpackingRefuses(t *testing.T) {
	dir := func(name string) member { return member{name: name, kind: tar.TypeDir} }
	link := func(name, to string) member { return member{name: name, kind: tar.TypeSymlink, link: to} }
	cases := map[string]struct {
		members []member
		limits  Limits
		says    string
	}{
		"an absolute name":                   {members: []member{{name: "/etc/cron.d/evil"}}, says: "absolute"},
		"a name that begins with dots":       {members: []member{{name: "../evil"}}, says: "leads out"},
		"a name with dots in the middle":     {members: []member{{name: "a/../../evil"}}, says: "leads out"},
		"dots that stay inside":              {members: []member{{name: "a/../b"}}, says: "leads out"},
		"an empty name":                      {members: []member{{name: "", kind: tar.TypeDir}}, says: "empty"},
		"a control character in a name":      {members: []member{{name: "a\nb"}}, says: "control"},
		"a link to an absolute path":         {members: []member{link("evil", "/etc/passwd")}, says: "leads out"},
		"a link out of the tree":             {members: []member{dir("a"), link("a/evil", "../../etc")}, says: "leads out"},
		"a link out of the tree by a link":   {members: []member{dir("a/b"), link("a/b/up", "../.."), link("evil", "a/b/up/../x")}, says: "leads nowhere or out"},
		"a link that leads nowhere":          {members: []member{link("evil", "missing")}, says: "leads nowhere"},
		"a link to itself":                   {members: []member{link("evil", "evil")}, says: "leads nowhere"},
		"a file written through a link":      {members: []member{dir("a"), link("l", "a"), {name: "l/evil"}}, says: "not a folder"},
		"a file in place of a link":          {members: []member{{name: "a"}, link("l", "a"), {name: "l", content: "evil"}}, says: "file exists"},
		"a folder in place of a link":        {members: []member{dir("a"), link("l", "a"), dir("l/b")}, says: "not a folder"},
		"the same file twice":                {members: []member{{name: "a"}, {name: "a", content: "evil"}}, says: "file exists"},
		"a hard link out of the tree":        {members: []member{{name: "evil", kind: tar.TypeLink, link: "../../etc/passwd"}}, says: "leads out"},
		"a hard link to an absolute path":    {members: []member{{name: "evil", kind: tar.TypeLink, link: "/etc/passwd"}}, says: "leads out"},
		"a hard link to a symbolic one":      {members: []member{{name: "a"}, link("l", "a"), {name: "evil", kind: tar.TypeLink, link: "l"}}, says: "not to a file"},
		"a hard link to what comes later":    {members: []member{{name: "evil", kind: tar.TypeLink, link: "a"}, {name: "a"}}, says: "not to a file"},
		"a character device":                 {members: []member{{name: "null", kind: tar.TypeChar}}, says: "neither file"},
		"a block device":                     {members: []member{{name: "disk", kind: tar.TypeBlock}}, says: "neither file"},
		"a named pipe":                       {members: []member{{name: "pipe", kind: tar.TypeFifo}}, says: "neither file"},
		"too many members":                   {members: []member{{name: "a"}, {name: "b"}, {name: "c"}}, limits: Limits{Members: 2}, says: "more than 2 members"},
		"more bytes than allowed":            {members: []member{{name: "a", content: "12345"}, {name: "b", content: "123456"}}, limits: Limits{Unpacked: 10}, says: "larger than allowed"},
		"a bomb":                             {members: []member{{name: "a", content: string(make([]byte, 8<<20))}}, limits: Limits{Unpacked: 1 << 20}, says: "larger than allowed"},
		"a file below a file":                {members: []member{{name: "a"}, {name: "a/b"}}, says: "not a folder"},
		"a name longer than a thousand":      {members: []member{{name: string(bytes.Repeat([]byte("a/"), 600)) + "b"}}, says: "too long"},
		"a component longer than a disk has": {members: []member{{name: string(bytes.Repeat([]byte("a"), 400))}}, says: "too long"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			tree, err := unpackTest(t, archiveOf(t, c.members...), c.limits)
			require.ErrorIs(t, err, errArchive)
			require.ErrorContains(t, err, c.says)
			beside, err := os.ReadDir(filepath.Dir(tree))
			require.NoError(t, err)
			require.Len(t, beside, 1, "nothing was written outside")
		})
	}
}

func TestUnpackingRefusesWhatIsNoArchive(t *testing.T) {
	whole := archiveOf(t, member{name: "a", content: string(bytes.Repeat([]byte("0123456789"), 5000))})
	damaged := bytes.Clone(whole)
	damaged[len(damaged)-6] ^= 1 // gzip's checksum
	var noTar bytes.Buffer
	zipped := gzip.NewWriter(&noTar)
	_, err := zipped.Write(bytes.Repeat([]byte("no tar "), 200))
	require.NoError(t, err)
	require.NoError(t, zipped.Close())
	for name, content := range map[string][]byte{
		"nothing": nil, "text": []byte("hello"), "cut short": whole[:len(whole)/2], "damaged": damaged, "gzip without tar": noTar.Bytes(),
	} {
		_, err := unpackTest(t, content, Limits{})
		require.ErrorIs(t, err, errArchive, name)
	}
}

func TestUnpackingKeepsContentLinksInsideAndPlainModes(t *testing.T) {
	tree, err := unpackTest(t, archiveOf(t,
		member{name: "./bin/checkout", content: "program", mode: 0o6777},
		member{name: "data.txt", content: "data", mode: 0o666},
		member{name: "lib", kind: tar.TypeDir, mode: 0o1777},
		member{name: "lib/current", kind: tar.TypeSymlink, link: "../data.txt"},
		member{name: "copy", kind: tar.TypeLink, link: "data.txt"},
	), Limits{})
	require.NoError(t, err)
	for name, mode := range map[string]fs.FileMode{"bin/checkout": 0o755, "data.txt": 0o644, "lib": fs.ModeDir | 0o755, "copy": 0o644} {
		info, err := os.Lstat(filepath.Join(tree, name))
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode(), name)
	}
	for _, name := range []string{"lib/current", "copy"} {
		got, err := os.ReadFile(filepath.Join(tree, name))
		require.NoError(t, err)
		require.Equal(t, "data", string(got))
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(archiveOf(f, member{name: "a/b", content: "x"}))
	f.Add(archiveOf(f, member{name: "l", kind: tar.TypeSymlink, link: "../x"}, member{name: "l/x", content: "x"}))
	f.Add(archiveOf(f, member{name: "a"}, member{name: "b", kind: tar.TypeLink, link: "a"}))
	f.Fuzz(func(t *testing.T, content []byte) {
		// Plain tars are packed first: a fuzzer does not find gzip's checksum.
		var zipped bytes.Buffer
		w := gzip.NewWriter(&zipped)
		_, _ = w.Write(content)
		_ = w.Close()
		for _, archive := range [][]byte{content, zipped.Bytes()} {
			tree, _ := unpackTest(t, archive, Limits{Unpacked: 1 << 20, Members: 50})
			beside, err := os.ReadDir(filepath.Dir(tree))
			require.NoError(t, err)
			require.Len(t, beside, 1)
			requireInside(t, tree)
		}
	})
}

// requireInside looks at every file for what no archive may bring.
func requireInside(t *testing.T, tree string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		require.NoError(t, err)
		require.Zero(t, info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky|fs.ModeDevice|fs.ModeNamedPipe|fs.ModeSocket))
		return nil
	}))
}
