package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	archiveFile  = "archive.tar.gz"
	treeFolder   = "tree"
	manifestFile = "manifest"

	maxManifest = 64 << 20 // bytes
)

var errTreeChanged = errors.New("unpacked artifact has changed")

// A treeEntry is one line of a manifest: mode and name of everything, the digest
// of what a file holds, the text of a link.
type treeEntry struct {
	Name   string      `json:"name"`
	Mode   fs.FileMode `json:"mode"`
	Digest string      `json:"digest,omitempty"`
	Link   string      `json:"link,omitempty"`
}

// writeManifest notes what is in the tree of a cache folder and brings all of it
// to the disk.
func writeManifest(folder string) error {
	manifest, err := readTree(folder, true)
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return writeFile(filepath.Join(folder, manifestFile), manifest)
}

// verifyTree returns nil if the tree of a cache folder is what its manifest says.
func verifyTree(folder string) error {
	want, err := readFile(filepath.Join(folder, manifestFile), maxManifest)
	if err != nil {
		return fmt.Errorf("verify tree: %w", err)
	}
	got, err := readTree(folder, false)
	if err != nil {
		return fmt.Errorf("verify tree: %w", err)
	}
	if !bytes.Equal(want, got) {
		return errTreeChanged
	}
	return nil
}

func readTree(folder string, sync bool) ([]byte, error) {
	root, err := os.OpenRoot(filepath.Join(folder, treeFolder))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var lines bytes.Buffer
	encode := json.NewEncoder(&lines)
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		entry, err := readEntry(root, name, d, sync)
		if err != nil {
			return err
		}
		return encode.Encode(entry)
	})
	return lines.Bytes(), err
}

func readEntry(root *os.Root, name string, d fs.DirEntry, sync bool) (treeEntry, error) {
	info, err := d.Info()
	if err != nil {
		return treeEntry{}, err
	}
	entry := treeEntry{Name: name, Mode: info.Mode()}
	if info.Mode().Type() == fs.ModeSymlink {
		entry.Link, err = root.Readlink(name)
		return entry, err
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return entry, errTreeChanged
	}
	f, err := root.Open(name)
	if err != nil {
		return treeEntry{}, err
	}
	defer f.Close()
	if info.Mode().IsRegular() {
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return treeEntry{}, err
		}
		entry.Digest = digestOf(h)
	}
	if sync {
		err = f.Sync()
	}
	return entry, err
}
