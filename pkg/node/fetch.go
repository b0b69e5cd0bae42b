package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/target"
)

// errAgain is wrapped by what may go better on another try.
var errAgain = errors.New("store cannot be reached")

// A fetcher brings artifacts from their stores.
type fetcher struct {
	http   *http.Client
	files  string // folder below which file URLs may lie; empty: refused
	limits Limits
}

func newFetcher(files string, limits Limits) *fetcher {
	return &fetcher{
		files:  files,
		limits: limits,
		http: &http.Client{
			Timeout: limits.Fetch,
			Transport: &http.Transport{
				Proxy:                 nil, // no environment
				TLSHandshakeTimeout:   10 * time.Second,
				ResponseHeaderTimeout: 30 * time.Second,
				DisableCompression:    true, // the digest is of the bytes as they are stored
				MaxIdleConns:          4,
				IdleConnTimeout:       30 * time.Second,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// fetch writes m's artifact to w and returns nil only if its size and digest are
// those of m. It tries again while the store cannot be reached; w is emptied
// between tries. Errors are of type *failure, or the context's.
func (f *fetcher) fetch(ctx context.Context, m target.Module, w *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, f.limits.Fetch)
	defer cancel()
	wait := newBackoff(200*time.Millisecond, 5*time.Second)
	for try := 1; ; try++ {
		err := f.once(ctx, m, w)
		if err == nil || !errors.Is(err, errAgain) {
			return err
		}
		if try >= f.limits.Tries || wait.sleep(ctx) != nil {
			return failed(target.ArtifactMissing, "%v, after %d tries", err, try)
		}
		if err := rewind(w); err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
	}
}

func rewind(w *os.File) error {
	if _, err := w.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return w.Truncate(0)
}

func (f *fetcher) once(ctx context.Context, m target.Module, w *os.File) error {
	u, err := url.Parse(m.Artifact)
	if err != nil {
		return failed(target.ArtifactMissing, "the artifact's URL cannot be read")
	}
	var r io.ReadCloser
	switch u.Scheme {
	case "http", "https":
		r, err = f.openHTTP(ctx, u)
	case "file":
		r, err = f.openFile(u)
	default:
		err = failed(target.ArtifactMissing, "this node fetches by file, http and https, not by %q", u.Scheme)
	}
	if err != nil {
		return err
	}
	defer r.Close()
	return f.copy(m, r, w)
}

// copy bounds, counts and hashes what comes.
func (f *fetcher) copy(m target.Module, r io.Reader, w io.Writer) error {
	limit := f.limits.Artifact
	if m.Size > 0 {
		limit = min(limit, m.Size)
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(r, limit+1))
	switch {
	case err != nil && isWriteError(err):
		return fmt.Errorf("fetch: %w", err)
	case err != nil:
		return fmt.Errorf("%w: cut off after %d bytes: %w", errAgain, n, withoutURL(err))
	case n > limit && m.Size > 0 && m.Size <= f.limits.Artifact:
		return failed(target.ArtifactTooLarge, "it is larger than the %d bytes that were declared", m.Size)
	case n > limit:
		return failed(target.ArtifactTooLarge, "it is larger than the %d bytes that this node allows", limit)
	case digestOf(h) != m.Digest:
		return failed(target.DigestMismatch, "the artifact has %s (%d bytes), the release wants %s", digestOf(h), n, m.Digest)
	case m.Size > 0 && n != m.Size:
		return failed(target.DigestMismatch, "the artifact has %d bytes, the release wants %d", n, m.Size)
	}
	return nil
}

func (f *fetcher) openHTTP(ctx context.Context, u *url.URL) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, failed(target.ArtifactMissing, "the artifact's URL cannot be read")
	}
	resp, err := f.http.Do(req)
	if err != nil {
		if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
			return nil, fmt.Errorf("fetch: %w", ctx.Err())
		}
		return nil, fmt.Errorf("%w: %s: %w", errAgain, publicURL(u), withoutURL(err))
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	resp.Body.Close()
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return nil, failed(target.ArtifactMissing, "%s redirects, which is not followed", publicURL(u))
	case resp.StatusCode >= 500, resp.StatusCode == http.StatusTooManyRequests:
		return nil, fmt.Errorf("%w: %s answers %s", errAgain, publicURL(u), resp.Status)
	}
	return nil, failed(target.ArtifactMissing, "%s answers %s", publicURL(u), resp.Status)
}

// openFile opens a file URL below the allowed folder. [os.Root] sees to it that
// no link leads out.
func (f *fetcher) openFile(u *url.URL) (io.ReadCloser, error) {
	if f.files == "" {
		return nil, failed(target.ArtifactMissing, "this node does not fetch by file (see --file-artifacts)")
	}
	if u.Host != "" && u.Host != "localhost" {
		return nil, failed(target.ArtifactMissing, "a file URL with the host %q is not on this node", u.Host)
	}
	name, err := filepath.Rel(f.files, filepath.Clean(u.Path))
	if err != nil || !filepath.IsAbs(u.Path) || !filepath.IsLocal(name) {
		return nil, failed(target.ArtifactMissing, "%s is not below the folder that this node fetches from", publicURL(u))
	}
	root, err := os.OpenRoot(f.files)
	if err != nil {
		return nil, failed(target.ArtifactMissing, "the folder of file artifacts cannot be opened")
	}
	defer root.Close()
	info, err := root.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, failed(target.ArtifactMissing, "%s does not exist", publicURL(u))
	case err != nil:
		return nil, failed(target.ArtifactMissing, "%s cannot be opened: %v", publicURL(u), err)
	case !info.Mode().IsRegular():
		return nil, failed(target.ArtifactMissing, "%s is not a file", publicURL(u))
	}
	file, err := root.Open(name)
	if err != nil {
		return nil, failed(target.ArtifactMissing, "%s cannot be opened: %v", publicURL(u), err)
	}
	return file, nil
}

func digestOf(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }

// publicURL is u without what gives access: user and query.
func publicURL(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// withoutURL takes away the URL that net/http puts into its errors, because its
// query may be a signature that gives access.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// isWriteError tells a full disk from a broken connection.
func isWriteError(err error) bool {
	var p *fs.PathError
	return errors.As(err, &p) && strings.HasPrefix(p.Op, "write")
}
