package node

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"hotswap.dev/hotswap/pkg/target"
)

// provideSecrets writes the secrets that the instance refers to into its folder,
// and keeps them up to date until end is called. A server that cannot be reached is
// asked again; a secret that it does not give is a failure.
func (i *instance) provideSecrets(ctx context.Context, folder string) (end func(), f *failure) {
	if folder == "" {
		return func() {}, nil
	}
	wait := newBackoff(200*time.Millisecond, 5*time.Second)
	for {
		err := i.writeSecrets(ctx, folder)
		var r *refusal
		switch {
		case err == nil:
			return i.refreshSecrets(ctx, folder), nil
		case errors.As(err, &r) && r.status == http.StatusNotFound:
			return nil, failed(target.SecretMissing, "%s", r.text)
		}
		i.m.log.Warn("secrets are asked for again", "module", i.spec.Module.Name, "error", err)
		if wait.sleep(ctx) != nil {
			return nil, failed(target.SecretMissing, "it was ended before its secrets came")
		}
	}
}

// refreshSecrets looks for changed secrets now and then. The module reads its files
// again when it likes; nothing is restarted.
func (i *instance) refreshSecrets(ctx context.Context, folder string) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for sleep(ctx, i.m.o.SecretsEvery) == nil {
			if err := i.writeSecrets(ctx, folder); err != nil && ctx.Err() == nil {
				i.m.log.Warn("secrets are not renewed; the former ones stay", "module", i.spec.Module.Name, "error", err)
			}
		}
	}()
	return func() { cancel(); <-done }
}

// writeSecrets asks for all secrets and replaces the files that differ.
func (i *instance) writeSecrets(ctx context.Context, folder string) error {
	var names []string
	for _, ref := range i.spec.Config.Secrets {
		names = append(names, ref.From)
	}
	values, err := i.m.secrets(ctx, i.place, names)
	if err != nil {
		return err
	}
	for _, ref := range i.spec.Config.Secrets {
		value, ok := values[ref.From]
		if !ok {
			return &refusal{status: http.StatusNotFound, text: "secret " + ref.From + " was not given"}
		}
		path := filepath.Join(folder, ref.Name)
		if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, value) {
			continue
		}
		next := filepath.Join(folder, "."+ref.Name+".next")
		if err := os.WriteFile(next, value, 0o600); err != nil {
			return err
		}
		if err := os.Rename(next, path); err != nil {
			return err
		}
	}
	return nil
}
