package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/revlist"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/file"
)

// ErrRefused reports that the remote does not let us move a branch, with its own words:
// it is protected, a hook declined, or our account may not.
var ErrRefused = errors.New("the remote refuses it")

const (
	maxSent   = 10_000 // objects of one push
	deltaSize = 10     // window of the pack's deltas, git's default
)

// Push moves a branch of the remote from the commit expect (empty: it is not there) to
// sha (empty: it is to be removed there), which the repository has. The remote itself
// compares: [ErrMoved] when its branch is elsewhere. It need not be a fast-forward: what
// may be forced is the remote's to say. [ErrRefused] with what it says.
//
// When no answer comes the remote is asked where the branch is: if it is at sha, all is well.
func (r *Repository) Push(ctx context.Context, remote Remote, branch, sha, expect string) error {
	ctx, cancel := context.WithTimeout(ctx, fetchDeadline)
	defer cancel()
	c, err := command(branch, sha, expect)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	err = r.send(ctx, remote, c)
	if err == nil || errors.Is(err, ErrMoved) || errors.Is(err, ErrRefused) {
		return wrapPush(branch, err)
	}
	at, askErr := remoteAt(ctx, remote, c.Name)
	if askErr == nil && at == c.New {
		return nil
	}
	return wrapPush(branch, err)
}

func wrapPush(branch string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("push %.100s: %w", branch, err)
}

// command is what the remote is asked to do.
func command(branch, sha, expect string) (*packp.Command, error) {
	ref, err := branchRef(branch)
	if err != nil {
		return nil, err
	}
	c := &packp.Command{Name: ref}
	if sha != "" {
		if c.New, err = parseSHA(sha); err != nil {
			return nil, err
		}
	}
	if expect != "" {
		if c.Old, err = parseSHA(expect); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (r *Repository) send(ctx context.Context, remote Remote, c *packp.Command) error {
	session, done, err := openReceive(remote)
	if err != nil {
		return err
	}
	defer done()
	announced, err := session.AdvertisedReferencesContext(ctx)
	if errors.Is(err, transport.ErrEmptyRemoteRepository) {
		announced, err = packp.NewAdvRefs(), nil
	}
	if err != nil {
		return denied(err)
	}
	switch at := announced.References[c.Name.String()]; {
	case at == c.New:
		return nil // somebody who died had the answer
	case at != c.Old:
		return ErrMoved
	}
	request := packp.NewReferenceUpdateRequestFromCapabilities(announced.Capabilities)
	request.Commands = []*packp.Command{c}
	if announced.Capabilities.Supports(capability.DeleteRefs) {
		_ = request.Capabilities.Set(capability.DeleteRefs) // it is announced, so it can be set
	}
	if !c.New.IsZero() {
		pack, err := r.pack(ctx, announced, c)
		if err != nil {
			return err
		}
		request.Packfile = pack
	}
	status, err := session.ReceivePack(ctx, request)
	if err != nil && status == nil {
		return denied(err)
	}
	return verdict(status) // its error is what the status says
}

// pack streams the objects that the remote does not have.
func (r *Repository) pack(ctx context.Context, announced *packp.AdvRefs, c *packp.Command) (io.ReadCloser, error) {
	storage := openStorage(r.path)
	var theirs []plumbing.Hash
	for _, h := range announced.References {
		if storage.HasEncodedObject(h) == nil {
			theirs = append(theirs, h)
		}
	}
	objects, err := revlist.Objects(storage, []plumbing.Hash{c.New}, theirs)
	if err != nil {
		return nil, err
	}
	if len(objects) > maxSent {
		return nil, fmt.Errorf("%w: %d objects", ErrLimit, len(objects))
	}
	reader, writer := io.Pipe()
	stop := context.AfterFunc(ctx, func() { _ = writer.CloseWithError(context.Cause(ctx)) })
	go func() { // it ends when the session has read all, or closes the pipe
		defer stop()
		_, err := packfile.NewEncoder(writer, storage, false).Encode(objects, deltaSize)
		_ = writer.CloseWithError(err)
	}()
	return reader, nil
}

// verdict reads the remote's answer for the one command.
func verdict(status *packp.ReportStatus) error {
	if status == nil {
		return errors.New("the remote does not say what became of it")
	}
	for _, c := range status.CommandStatuses {
		switch why := c.Status; {
		case why == "ok":
			return nil
		case strings.Contains(why, "cannot lock ref"), strings.Contains(why, "failed to update ref"), strings.Contains(why, "fetch first"), strings.Contains(why, "stale info"):
			return fmt.Errorf("%w: %s", ErrMoved, clean(why, 200))
		default:
			return fmt.Errorf("%w: %s", ErrRefused, clean(why, 200))
		}
	}
	return fmt.Errorf("%w: %s", ErrRefused, clean(status.UnpackStatus, 200))
}

// denied turns a refusal of the account into [ErrRefused].
func denied(err error) error {
	if errors.Is(err, transport.ErrAuthenticationRequired) || errors.Is(err, transport.ErrAuthorizationFailed) {
		return fmt.Errorf("%w: our account may not push", ErrRefused)
	}
	return err
}

// remoteAt asks where a branch of the remote is; zero: it is not there.
func remoteAt(ctx context.Context, remote Remote, name plumbing.ReferenceName) (plumbing.Hash, error) {
	session, done, err := openSession(remote)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	defer done()
	announced, err := session.AdvertisedReferencesContext(ctx)
	if errors.Is(err, transport.ErrEmptyRemoteRepository) {
		return plumbing.ZeroHash, nil
	}
	if err != nil {
		return plumbing.ZeroHash, err
	}
	return announced.References[name.String()], nil
}

// openReceive is openSession for a push.
func openReceive(remote Remote) (transport.ReceivePackSession, func(), error) {
	u, err := parseRemote(remote)
	if err != nil {
		return nil, nil, err
	}
	endpoint, err := transport.NewEndpoint(u.String())
	if err != nil {
		return nil, nil, fmt.Errorf("%w: URL %s", ErrBadName, u.Redacted())
	}
	if u.Scheme == "file" {
		session, err := file.DefaultClient.NewReceivePackSession(endpoint, nil)
		if err != nil {
			return nil, nil, err
		}
		return session, func() { _ = session.Close() }, nil
	}
	client, auth, closeClient := httpClient(remote)
	session, err := client.NewReceivePackSession(endpoint, auth)
	if err != nil {
		closeClient()
		return nil, nil, err
	}
	return session, func() { _ = session.Close(); closeClient() }, nil
}

// clean is a text of somebody else as one line of at most n bytes.
func clean(s string, n int) string {
	s = cleanText(s)
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return s
}
