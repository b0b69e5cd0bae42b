package node

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrPack means that a folder or file cannot be made into a module's archive.
var ErrPack = errors.New("cannot be packed")

// Packed is what an intent says about an archive.
type Packed struct {
	Digest string // "sha256:" and 64 hex digits
	Size   int64  // bytes
}

// Pack writes the archive of the module name to w: the file source as its
// executable, or the folder source whole. The same content gives the same bytes,
// on every machine and whatever the times and owners. It refuses, with [ErrPack],
// what a node would refuse: a folder without an executable of the module's name
// at its top or in bin, links, and anything but files and folders.
func Pack(w io.Writer, source, name string) (Packed, error) {
	if !dnsLabel(name) {
		return Packed{}, fmt.Errorf("%w: module name %q is not a DNS label", ErrPack, name)
	}
	info, err := os.Stat(source)
	if err != nil {
		return Packed{}, fmt.Errorf("pack: %w", err)
	}
	sum := sha256.New()
	counted := &countingWriter{w: io.MultiWriter(w, sum)}
	zipped := gzip.NewWriter(counted)
	archive := tar.NewWriter(zipped)
	if info.IsDir() {
		err = packFolder(archive, source, name)
	} else {
		err = packFile(archive, source, name, 0o755)
	}
	for _, finish := range []func() error{archive.Close, zipped.Close} {
		if err == nil {
			err = finish()
		}
	}
	if err != nil {
		return Packed{}, fmt.Errorf("pack %s: %w", source, err)
	}
	return Packed{Digest: digestOf(sum), Size: counted.n}, nil
}

func packFolder(archive *tar.Writer, folder, name string) error {
	if _, f := findCommand(folder, name); f != nil {
		return fmt.Errorf("%w: it holds no executable %s or bin/%s", ErrPack, name, name)
	}
	return filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error { // in order of names
		if err != nil || path == folder {
			return err
		}
		member, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		switch info, err := d.Info(); {
		case err != nil:
			return err
		case d.IsDir():
			return archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: member + "/", Mode: 0o755, Format: tar.FormatPAX})
		case !info.Mode().IsRegular():
			return fmt.Errorf("%w: %s is neither a file nor a folder", ErrPack, member)
		case info.Mode()&0o111 != 0:
			return packFile(archive, path, member, 0o755)
		default:
			return packFile(archive, path, member, 0o644)
		}
	})
}

func packFile(archive *tar.Writer, path, member string, mode int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is neither a file nor a folder", ErrPack, path)
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: member, Mode: mode, Size: info.Size(), Format: tar.FormatPAX}
	if err := archive.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(archive, f)
	return err
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
