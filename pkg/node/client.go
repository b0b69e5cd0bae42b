package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/target"
)

const (
	longestWait  = 25 * time.Second // of a held answer, by the wire protocol
	answerMargin = 15 * time.Second // on top of the wait, for slow networks
	requestTime  = 20 * time.Second // of a request that is not held
	maxAnswer    = 4 << 20          // bytes of an answer
	maxErrorText = 512              // bytes of a refusal that are shown
	pathJoin     = "/v1/nodes/join"
	pathWanted   = "/v1/nodes/self/wanted"
	pathReport   = "/v1/nodes/self/report"
	pathSecrets  = "/v1/nodes/self/secrets"
)

// A refusal is an answer of the server that is not a success.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string {
	return strings.TrimSpace(fmt.Sprintf("server answers %d %s %s", r.status, http.StatusText(r.status), r.text))
}

// final reports whether asking again, unchanged, can not help.
func (r *refusal) final() bool {
	return r.status >= 400 && r.status < 500 && r.status != http.StatusRequestTimeout &&
		r.status != http.StatusTooEarly && r.status != http.StatusTooManyRequests
}

// A client speaks the node's part of the wire protocol (pkg/target/order.go).
type client struct {
	base string // without a slash at its end
	key  ed25519.PrivateKey
	http *http.Client
}

func newClient(base string, key ed25519.PrivateKey) *client {
	return &client{base: base, key: key, http: &http.Client{
		Transport: &http.Transport{
			TLSHandshakeTimeout: 10 * time.Second,
			IdleConnTimeout:     90 * time.Second,
			MaxIdleConnsPerHost: 4,
			DisableCompression:  true, // a small answer must not become a large one
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// join is sent unsigned: the token is what proves it.
func (c *client) join(ctx context.Context, j target.Join) (target.Joined, error) {
	var out target.Joined
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	if err := c.post(ctx, "", pathJoin, j, &out); err != nil {
		return target.Joined{}, fmt.Errorf("join: %w", err)
	}
	if out.Node == "" {
		return target.Joined{}, errors.New("join: the answer names no node")
	}
	return out, nil
}

// wanted returns the orders that are newer than known, or none after wait.
func (c *client) wanted(ctx context.Context, node string, known []target.Known, wait time.Duration) (target.Wanted, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+answerMargin)
	defer cancel()
	var raw json.RawMessage
	if err := c.post(ctx, node, pathWanted, target.WantedRequest{Known: known, Wait: wait}, &raw); err != nil {
		return target.Wanted{}, fmt.Errorf("ask for orders: %w", err)
	}
	if len(raw) == 0 {
		return target.Wanted{}, nil
	}
	return decodeWanted(raw)
}

func (c *client) report(ctx context.Context, node string, r target.Report) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	if err := c.post(ctx, node, pathReport, r, nil); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// secrets returns the values of secrets by their names.
func (c *client) secrets(ctx context.Context, node string, place target.Place, names []string) (map[string][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	var out target.Secrets
	if err := c.post(ctx, node, pathSecrets, target.SecretsRequest{Place: place, Names: names}, &out); err != nil {
		return nil, fmt.Errorf("ask for secrets: %w", err)
	}
	return out.Values, nil
}

// post sends in as JSON, signed if node is not empty, and decodes the answer
// into out unless that is nil or the answer has no body.
func (c *client) post(ctx context.Context, node, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	// Signed is the path below the base URL: what stands before it is the
	// business of whoever hosts the server.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if node != "" {
		id, err := randomID()
		if err != nil {
			return err
		}
		if err := auth.SignRequest(req, body, node, c.key, id, time.Now()); err != nil {
			return err
		}
	}
	if req.URL, err = url.Parse(c.base + path); err != nil {
		return err
	}
	req.Host = req.URL.Host
	return c.do(req, out)
}

func (c *client) do(req *http.Request, out any) error {
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorText))
		return &refusal{status: resp.StatusCode, text: oneSentence(string(text))}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	if out == nil || len(body) == 0 {
		return nil
	}
	return json.Unmarshal(body, out)
}
