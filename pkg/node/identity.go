package node

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"hotswap.dev/hotswap/pkg/target"
)

const (
	keyFile  = "node.key"
	maxToken = 4096
)

// ErrJoin means that the server does not take the node with this token.
var ErrJoin = errors.New("node cannot join")

// openKey reads the node's key, or makes it. It never leaves the state folder.
func openKey(folder string) (ed25519.PrivateKey, error) {
	path := filepath.Join(folder, keyFile)
	text, err := readFile(path, 4096)
	if err == nil {
		key, err := target.ParsePrivateKey(text)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read node key: %w", err)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("make node key: %w", err)
	}
	if text, err = target.MarshalPrivateKey(key); err != nil {
		return nil, err
	}
	if err := writeFile(path, text); err != nil {
		return nil, fmt.Errorf("write node key: %w", err)
	}
	return key, nil
}

// join asks until the server has answered. A lost answer costs nothing: the same
// join with the same key is answered alike. Only a refusal ends it, as [ErrJoin].
func (a *Agent) join(ctx context.Context) error {
	token, err := readFile(a.o.TokenFile, maxToken)
	if err != nil {
		return fmt.Errorf("%w: its token file cannot be read: %w", ErrJoin, err)
	}
	j := target.Join{
		Token: strings.TrimSpace(string(token)), Name: a.o.Name, Labels: a.o.Labels,
		PublicKey: base64.StdEncoding.EncodeToString(a.client.key.Public().(ed25519.PublicKey)),
	}
	wait := newBackoff(250*time.Millisecond, 15*time.Second)
	for {
		joined, err := a.client.join(ctx, j)
		if err == nil {
			a.log.Info("joined", "id", joined.Node, "tenant", joined.Tenant)
			return a.st.update(func(s *state) { s.Node, s.Tenant, s.Labels = joined.Node, joined.Tenant, joined.Labels })
		}
		var r *refusal
		if errors.As(err, &r) && r.final() {
			return fmt.Errorf("%w: %w", ErrJoin, r)
		}
		a.log.Warn("cannot join yet", "error", err)
		if err := wait.sleep(ctx); err != nil {
			return err
		}
	}
}
