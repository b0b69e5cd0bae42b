package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/file"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"hotswap.dev/hotswap/pkg/secret"
)

const (
	fetchDeadline = 5 * time.Minute // when the caller's context has none
	maxPack       = 1 << 30         // bytes of one answer of the remote, when Remote.MaxBytes is 0
	maxRefs       = 50_000          // references that a remote may announce
	knownCommits  = 64              // commits of each branch that we tell the remote we have
)

// Remote is where to fetch from.
type Remote struct {
	URL      string // https://…, http://… or file:///…, without credentials in it
	User     string
	Password secret.Secret // sent to the URL's own host only, and over http only on this machine
	MaxBytes int64         // of the answer; 0 means 1 GiB
}

// Init creates an empty bare repository at path, or opens the one that is there.
func Init(path string) (*Repository, error) {
	if r, err := Open(path); err == nil {
		return r, nil
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	if _, err := git.Init(openStorage(path), nil); err != nil && !errors.Is(err, git.ErrRepositoryAlreadyExists) {
		return nil, fmt.Errorf("create repository %s: %w", path, err)
	}
	return Open(path)
}

// Fetch makes the branches named here what they are at the remote, forced ones too, and removes those that are gone there.
// Only what is missing is transferred. Without a deadline in ctx it takes five minutes at most.
func (r *Repository) Fetch(ctx context.Context, remote Remote, branches ...string) error {
	names := make([]plumbing.ReferenceName, 0, len(branches))
	for _, branch := range branches {
		name, err := branchRef(branch)
		if err != nil {
			return fmt.Errorf("fetch: branch %.100q: %w", branch, err)
		}
		names = append(names, name)
	}
	return r.fetchNames(ctx, remote, names)
}

// FetchPulls brings the heads of pull requests, which a forge keeps for each of them, of forks too: never
// anything else of a fork. [Repository.PullTip] reads what came.
func (r *Repository) FetchPulls(ctx context.Context, remote Remote, numbers ...int64) error {
	names := make([]plumbing.ReferenceName, 0, len(numbers))
	for _, n := range numbers {
		names = append(names, pullRef(n))
	}
	return r.fetchNames(ctx, remote, names)
}

func pullRef(number int64) plumbing.ReferenceName {
	return plumbing.ReferenceName(fmt.Sprintf("refs/pull/%d/head", number))
}

// PullTip returns the head of a pull request as it was fetched last. [ErrNoBranch].
func (r *Repository) PullTip(ctx context.Context, number int64) (string, error) {
	sha, err := r.tip(ctx, pullRef(number))
	if err != nil {
		return "", fmt.Errorf("head of pull request %d: %w", number, err)
	}
	return sha, nil
}

func (r *Repository) fetchNames(ctx context.Context, remote Remote, names []plumbing.ReferenceName) error {
	if len(names) == 0 {
		return fmt.Errorf("fetch: %w: nothing is named", ErrBadName)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchDeadline)
	defer cancel()
	select {
	case r.fetching <- struct{}{}:
		defer func() { <-r.fetching }()
	case <-ctx.Done():
		return fmt.Errorf("fetch: %w", context.Cause(ctx))
	}
	session, closeSession, err := openSession(remote)
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	defer closeSession()
	if err := r.fetch(ctx, session, names); err != nil {
		return fmt.Errorf("fetch %s: %w", remote.URL, err)
	}
	return nil
}

func (r *Repository) fetch(ctx context.Context, session transport.UploadPackSession, names []plumbing.ReferenceName) error {
	// A storage of our own: readers go on with theirs, and find the new pack when they miss something.
	storage := openStorage(r.path)
	announced, err := session.AdvertisedReferencesContext(ctx)
	if errors.Is(err, transport.ErrEmptyRemoteRepository) {
		announced, err = packp.NewAdvRefs(), nil
	}
	if err != nil {
		return err
	}
	if len(announced.References) > maxRefs {
		return fmt.Errorf("%w: the remote has %d references", ErrLimit, len(announced.References))
	}
	wanted := make(map[plumbing.ReferenceName]plumbing.Hash)
	for _, name := range names {
		wanted[name] = announced.References[name.String()] // zero when it is gone
	}
	if err := fetchMissing(ctx, storage, session, announced, wanted); err != nil {
		return err
	}
	return updateRefs(storage, wanted)
}

func fetchMissing(ctx context.Context, storage *filesystem.Storage, session transport.UploadPackSession, announced *packp.AdvRefs, wanted map[plumbing.ReferenceName]plumbing.Hash) error {
	request := packp.NewUploadPackRequestFromCapabilities(announced.Capabilities)
	if announced.Capabilities.Supports(capability.NoProgress) {
		if err := request.Capabilities.Set(capability.NoProgress); err != nil {
			return err
		}
	}
	asked := make(map[plumbing.Hash]bool)
	for name, h := range wanted {
		if h.IsZero() || asked[h] || storage.HasEncodedObject(h) == nil && isComplete(storage, name, h) {
			continue
		}
		asked[h] = true
		request.Wants = append(request.Wants, h)
	}
	if len(request.Wants) == 0 {
		return nil
	}
	have := map[plumbing.Hash]bool{}
	for _, name := range bases(storage, wanted) {
		for _, h := range known(ctx, storage, name) {
			if !have[h] {
				have[h] = true
				request.Haves = append(request.Haves, h)
			}
		}
	}
	// What is in the history of a branch that is here is here with its own history.
	request.Wants = slices.DeleteFunc(request.Wants, func(h plumbing.Hash) bool { return have[h] })
	if len(request.Wants) == 0 {
		return nil
	}
	answer, err := session.UploadPack(ctx, request)
	if err != nil {
		return err
	}
	defer answer.Close()
	return packfile.UpdateObjectStorage(storage, demultiplex(request.Capabilities, answer))
}

// maxBases bounds of how many branches the remote is told what we have.
const maxBases = 16

// bases are the references whose commits the remote is told of: those that are wanted, and branches that are there
// already. What is wanted for the first time began at one of these.
func bases(storage *filesystem.Storage, wanted map[plumbing.ReferenceName]plumbing.Hash) []plumbing.ReferenceName {
	out := slices.Sorted(maps.Keys(wanted))
	all, err := storage.IterReferences()
	if err != nil {
		return out // more is transferred than must be
	}
	defer all.Close()
	_ = all.ForEach(func(ref *plumbing.Reference) error {
		_, ok := wanted[ref.Name()]
		if !ok && ref.Name().IsBranch() && len(out) < len(wanted)+maxBases {
			out = append(out, ref.Name())
		}
		return nil
	})
	return out
}

// isComplete reports whether the branch already points there. An object that is merely there proves nothing about its
// history: an interrupted fetch may have left it.
func isComplete(storage *filesystem.Storage, name plumbing.ReferenceName, h plumbing.Hash) bool {
	ref, err := storage.Reference(name)
	return err == nil && ref.Hash() == h
}

// known lists the newest commits of a branch that we have, so that the remote finds a common one also after a force.
func known(ctx context.Context, storage *filesystem.Storage, name plumbing.ReferenceName) []plumbing.Hash {
	ref, err := storage.Reference(name)
	if err != nil {
		return nil
	}
	var commits []plumbing.Hash
	_ = walk(ctx, storage, ref.Hash(), func(c *object.Commit) bool { // what was read before a failure is known all the same
		commits = append(commits, c.Hash)
		return len(commits) < knownCommits
	})
	return commits
}

func demultiplex(c *capability.List, answer io.Reader) io.Reader {
	switch {
	case c.Supports(capability.Sideband64k):
		return sideband.NewDemuxer(sideband.Sideband64k, answer)
	case c.Supports(capability.Sideband):
		return sideband.NewDemuxer(sideband.Sideband, answer)
	}
	return answer
}

func updateRefs(storage *filesystem.Storage, wanted map[plumbing.ReferenceName]plumbing.Hash) error {
	for name, h := range wanted {
		var err error
		if h.IsZero() {
			err = storage.RemoveReference(name)
		} else {
			err = storage.SetReference(plumbing.NewHashReference(name, h))
		}
		if err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// openSession checks the URL and prepares the connection.
func openSession(remote Remote) (transport.UploadPackSession, func(), error) {
	u, err := parseRemote(remote)
	if err != nil {
		return nil, nil, err
	}
	endpoint, err := transport.NewEndpoint(u.String())
	if err != nil {
		return nil, nil, fmt.Errorf("%w: URL %s", ErrBadName, u.Redacted())
	}
	if u.Scheme == "file" {
		session, err := file.DefaultClient.NewUploadPackSession(endpoint, nil)
		if err != nil {
			return nil, nil, err
		}
		return session, func() { _ = session.Close() }, nil
	}
	client, auth, closeClient := httpClient(remote)
	session, err := client.NewUploadPackSession(endpoint, auth)
	if err != nil {
		closeClient()
		return nil, nil, err
	}
	return session, func() { _ = session.Close(); closeClient() }, nil
}

// httpClient returns a client with all its limits, how it proves us, and what closes its
// idle connections.
func httpClient(remote Remote) (transport.Transport, transport.AuthMethod, func()) {
	limit := remote.MaxBytes
	if limit == 0 {
		limit = maxPack
	}
	pool := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: time.Minute,
	}
	// A redirect is an error: it could carry the credentials, or us, to a host nobody named.
	client := githttp.NewClientWithOptions(&http.Client{Transport: limitedTransport{pool, limit}},
		&githttp.ClientOptions{RedirectPolicy: githttp.NoFollowRedirects})
	var auth transport.AuthMethod
	if !remote.Password.IsZero() {
		auth = &githttp.BasicAuth{Username: remote.User, Password: remote.Password.RevealString()}
	}
	return client, auth, pool.CloseIdleConnections
}

// parseRemote refuses URLs that carry credentials, name another scheme, or would send a password in the clear.
func parseRemote(remote Remote) (*url.URL, error) {
	u, err := url.Parse(remote.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: it is not a URL", ErrBadName) // the parser's error repeats the URL with what is in it
	case u.User != nil:
		return nil, fmt.Errorf("%w: credentials in a URL end up in logs; give them as user and password", ErrBadName)
	case u.RawQuery != "" || u.Fragment != "" || u.Opaque != "":
		return nil, fmt.Errorf("%w: the URL has more than a host and a path", ErrBadName)
	case u.Scheme == "file":
		if u.Host != "" || !filepath.IsAbs(u.Path) || strings.ContainsRune(u.Path, 0) {
			return nil, fmt.Errorf("%w: a file URL is file:///absolute/path", ErrBadName)
		}
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("%w: scheme %.20q, only https, http and file", ErrBadName, u.Scheme)
	case u.Hostname() == "" || strings.HasPrefix(u.Host, "-"):
		return nil, fmt.Errorf("%w: URL %s has no host", ErrBadName, u.Redacted())
	case u.Scheme == "http" && !remote.Password.IsZero() && !isLoopback(u.Hostname()):
		return nil, fmt.Errorf("%w: %s would get a password in the clear: use https", ErrBadName, u.Host)
	}
	return u, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// limitedTransport cuts answers that are larger than a repository may be.
type limitedTransport struct {
	next  http.RoundTripper
	limit int64
}

// RoundTrip implements [http.RoundTripper].
func (t limitedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	res.Body = &limitedBody{ReadCloser: res.Body, left: t.limit}
	return res, nil
}

type limitedBody struct {
	io.ReadCloser
	left int64
}

// Read implements [io.Reader].
func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("%w: the remote's answer is too large", ErrLimit)
	}
	return n, err
}
