package node

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
)

// errArchive is wrapped by every reason for which an archive is refused.
var errArchive = errors.New("archive refused")

const maxMemberName = 1024 // bytes

// unpack writes the gzipped tar of r into root, which must be empty. Allowed are
// folders, regular files, and links that stay inside. Modes become 0755 or 0644.
// Everything else is refused and leaves root half full: the caller removes it.
//
// The names are checked by hand so that an attack is named in the error;
// [os.Root] would stop what slipped through.
func unpack(r io.Reader, root *os.Root, limits Limits) error {
	zipped, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("%w: not gzip: %w", errArchive, err)
	}
	defer zipped.Close()
	u := unpacking{root: root, left: limits.Unpacked}
	// The tar is bounded as a whole, padding and headers too: one block more per member.
	bounded := &io.LimitedReader{R: zipped, N: limits.Unpacked + int64(limits.Members)*4096 + 1<<20}
	members := tar.NewReader(bounded)
	for n := 0; ; n++ {
		h, err := members.Next()
		if errors.Is(err, io.EOF) && bounded.N > 0 {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: not a tar, or cut short: %w", errArchive, err)
		}
		if n >= limits.Members {
			return fmt.Errorf("%w: more than %d members", errArchive, limits.Members)
		}
		if err := u.member(h, members); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, bounded); err != nil { // gzip's checksum is at the end
		return fmt.Errorf("%w: damaged: %w", errArchive, err)
	}
	return u.checkLinks()
}

type unpacking struct {
	root  *os.Root
	left  int64    // bytes that may still be written
	links []string // symbolic links so far
}

func (u *unpacking) member(h *tar.Header, content io.Reader) error {
	name, err := u.cleanName(h.Name)
	if err != nil {
		return err
	}
	if name == "." {
		return nil
	}
	if h.Typeflag != tar.TypeDir {
		if err := u.folder(path.Dir(name)); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.folder(name)
	case tar.TypeReg:
		return u.file(name, h, content)
	case tar.TypeSymlink:
		return u.symlink(name, h.Linkname)
	case tar.TypeLink:
		return u.hardlink(name, h.Linkname)
	default:
		return fmt.Errorf("%w: %q is neither file, folder nor link (type %q)", errArchive, name, h.Typeflag)
	}
}

// cleanName refuses a name that is not plainly below the root, also where a
// cleaned form would be.
func (u *unpacking) cleanName(name string) (string, error) {
	switch {
	case name == "" || len(name) > maxMemberName || hasControl(name):
		return "", fmt.Errorf("%w: a name is empty, too long or holds control characters", errArchive)
	case path.IsAbs(name):
		return "", fmt.Errorf("%w: %q is absolute", errArchive, name)
	case strings.Contains("/"+name+"/", "/../"):
		return "", fmt.Errorf("%w: %q leads out of the archive", errArchive, name)
	}
	return path.Clean(name), nil
}

// folder makes a folder and those above it. A link among them is refused: what
// is written through it would not be where its name says.
func (u *unpacking) folder(name string) error {
	if name == "." {
		return nil
	}
	for i := range len(name) + 1 {
		if i < len(name) && name[i] != '/' {
			continue
		}
		info, err := u.root.Lstat(name[:i])
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := u.root.Mkdir(name[:i], 0o755); err != nil {
				return unpackError(name[:i], err)
			}
		case err != nil:
			return unpackError(name[:i], err)
		case !info.IsDir():
			return fmt.Errorf("%w: %q goes through %q, which is not a folder", errArchive, name, name[:i])
		}
	}
	return nil
}

func (u *unpacking) file(name string, h *tar.Header, content io.Reader) error {
	if h.Size > u.left {
		return fmt.Errorf("%w: unpacked it is larger than allowed", errArchive)
	}
	mode := fs.FileMode(0o644)
	if h.Mode&0o111 != 0 {
		mode = 0o755
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return unpackError(name, err)
	}
	n, err := io.Copy(f, io.LimitReader(content, u.left))
	u.left -= n
	if err == nil {
		err = f.Chmod(mode) // whatever the umask took away
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return unpackError(name, err)
	}
	return nil
}

func (u *unpacking) symlink(name, to string) error {
	if to == "" || len(to) > maxMemberName || hasControl(to) || path.IsAbs(to) || escapes(path.Join(path.Dir(name), to)) {
		return fmt.Errorf("%w: link %q leads out of the archive", errArchive, name)
	}
	if err := u.root.Symlink(to, name); err != nil {
		return unpackError(name, err)
	}
	u.links = append(u.links, name)
	return nil
}

// checkLinks follows every link once all members are there. Inside by its text is
// not enough: "a/b/l" may lead up to the root, and "a/b/l/../x" then out of it.
func (u *unpacking) checkLinks() error {
	for _, name := range u.links {
		if _, err := u.root.Stat(name); err != nil {
			return fmt.Errorf("%w: link %q leads nowhere or out of the archive", errArchive, name)
		}
	}
	return nil
}

func (u *unpacking) hardlink(name, to string) error {
	clean, err := u.cleanName(to)
	if err != nil {
		return fmt.Errorf("%w: link %q leads out of the archive", errArchive, name)
	}
	info, err := u.root.Lstat(clean)
	if err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("%w: link %q is not to a file that came before it", errArchive, name)
	}
	if err := u.root.Link(clean, name); err != nil {
		return unpackError(name, err)
	}
	return nil
}

func escapes(clean string) bool {
	return clean == ".." || strings.HasPrefix(clean, "../") || path.IsAbs(clean)
}

// unpackError tells a bad archive from a machine that cannot write.
func unpackError(name string, err error) error {
	for _, machine := range [...]error{
		syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EROFS, syscall.EACCES, syscall.EPERM,
		syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM,
	} {
		if errors.Is(err, machine) {
			return fmt.Errorf("unpack %q: %w", name, err)
		}
	}
	return fmt.Errorf("%w: %q: %w", errArchive, name, err)
}
