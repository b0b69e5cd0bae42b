package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"hotswap.dev/hotswap/pkg/target"
)

// A cache holds artifacts by the digest of their archive:
//
//	artifacts/<hex>/archive.tar.gz   the bytes as fetched
//	artifacts/<hex>/tree/            unpacked
//	artifacts/<hex>/manifest         digests of the files of tree
//
// A folder <hex> comes into being whole, by one rename. Every use compares the
// tree with the manifest again; a tree that has changed is unpacked once more
// from the archive, and an archive that has changed is fetched again.
type cache struct {
	folder        string
	fetch         *fetcher
	limits        Limits
	trusted       []ed25519.PublicKey
	allowUnsigned bool

	mu   sync.Mutex
	busy map[string]chan struct{} // hex digests that somebody is working on
}

func newCache(folder string, o Options) (*cache, error) {
	c := &cache{
		folder: folder, fetch: newFetcher(o.FileArtifacts, o.Limits), limits: o.Limits,
		trusted: o.Trusted, allowUnsigned: o.AllowUnsigned, busy: map[string]chan struct{}{},
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("open artifact cache: %w", err)
	}
	return c, nil
}

// get returns the folder that m's archive is unpacked in. Name, version and
// digest are checked against the signature before a byte is fetched, the bytes
// against the digest before one is unpacked. Errors are of type *failure, or the
// context's, or of a disk that does not do.
func (c *cache) get(ctx context.Context, m target.Module) (string, error) {
	if err := c.checkSignature(m); err != nil {
		return "", err
	}
	hex := strings.TrimPrefix(m.Digest, "sha256:")
	done, err := c.lock(ctx, hex)
	if err != nil {
		return "", err
	}
	defer done()
	folder := filepath.Join(c.folder, hex)
	if verifyTree(folder) == nil {
		now := time.Now()
		_ = os.Chtimes(folder, now, now) // only the order of the garbage collection hangs on it
		return filepath.Join(folder, treeFolder), nil
	}
	if err := c.make(ctx, m, folder); err != nil {
		return "", err
	}
	return filepath.Join(folder, treeFolder), nil
}

func (c *cache) checkSignature(m target.Module) error {
	err := target.VerifyModule(m, c.trusted)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, target.ErrUnsigned) && c.allowUnsigned:
		return nil
	case errors.Is(err, target.ErrUnsigned):
		return failed(target.SignatureMissing, "%s %s is not signed, and this node runs only what is", m.Name, m.Version)
	}
	return failed(target.SignatureInvalid, "%s %s: %v", m.Name, m.Version, err)
}

// make fills a folder beside folder and renames it into place.
func (c *cache) make(ctx context.Context, m target.Module, folder string) error {
	next, err := os.MkdirTemp(c.folder, "tmp-")
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	defer os.RemoveAll(next)
	archive, err := c.archive(ctx, m, folder, next)
	if err != nil {
		return err
	}
	defer archive.Close()
	if err := unpackInto(archive, next, c.limits); err != nil {
		return err
	}
	old, err := os.MkdirTemp(c.folder, "tmp-")
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	defer os.RemoveAll(old)
	if err := os.Rename(folder, filepath.Join(old, "old")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("fetch: %w", err)
	}
	if err := os.Rename(next, folder); err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	return syncFolder(c.folder)
}

// archive returns m's verified bytes, open at their beginning, in next: those of
// folder if they are still good, or fetched.
func (c *cache) archive(ctx context.Context, m target.Module, folder, next string) (*os.File, error) {
	path := filepath.Join(next, archiveFile)
	if err := os.Link(filepath.Join(folder, archiveFile), path); err == nil {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("fetch: %w", err)
		}
		if c.fetch.copy(m, f, io.Discard) == nil {
			_, err = f.Seek(0, io.SeekStart)
			return f, err
		}
		f.Close()
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("fetch: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	if err = c.fetch.fetch(ctx, m, f); err == nil {
		err = f.Sync()
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// unpackInto fills tree and manifest of a cache folder.
func unpackInto(archive io.Reader, folder string, limits Limits) error {
	tree := filepath.Join(folder, treeFolder)
	if err := os.Mkdir(tree, 0o755); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	root, err := os.OpenRoot(tree)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	defer root.Close()
	if err := unpack(archive, root, limits); err != nil {
		if errors.Is(err, errArchive) {
			return failed(target.ArchiveInvalid, "%v", err)
		}
		return err
	}
	return writeManifest(folder)
}

// lock waits until nobody else works on hex.
func (c *cache) lock(ctx context.Context, hex string) (unlock func(), err error) {
	for {
		c.mu.Lock()
		other, taken := c.busy[hex]
		if !taken {
			mine := make(chan struct{})
			c.busy[hex] = mine
			c.mu.Unlock()
			return func() {
				c.mu.Lock()
				delete(c.busy, hex)
				c.mu.Unlock()
				close(mine)
			}, nil
		}
		c.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// collect removes what no crash should leave and all artifacts but those of keep
// (digests) and the newest few. What somebody works on stays.
func (c *cache) collect(keep map[string]bool) error {
	entries, err := os.ReadDir(c.folder)
	if err != nil {
		return fmt.Errorf("collect artifacts: %w", err)
	}
	type old struct {
		path string
		used time.Time
	}
	var candidates []old
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || keep["sha256:"+e.Name()] || strings.HasPrefix(e.Name(), "tmp-") {
			continue
		}
		candidates = append(candidates, old{e.Name(), info.ModTime()})
	}
	slices.SortFunc(candidates, func(a, b old) int { return b.used.Compare(a.used) })
	for _, o := range candidates[min(len(candidates), c.limits.Cached):] {
		err = errors.Join(err, c.remove(o.path))
	}
	return err
}

func (c *cache) remove(hex string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, taken := c.busy[hex]; taken {
		return nil
	}
	return os.RemoveAll(filepath.Join(c.folder, hex))
}

// clearTemporary removes what a crash left half done. Only for the start: nobody
// else may be at work, so not while a predecessor lives.
func (c *cache) clearTemporary() error {
	half, err := filepath.Glob(filepath.Join(c.folder, "tmp-*"))
	for _, path := range half {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}
