package secret

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"filippo.io/age"
)

// Errors of a local secret.
var (
	ErrNotFound = errors.New("no such secret")
	ErrName     = errors.New("a secret's name is one to four parts of lower-case letters, digits and hyphens, with slashes between")
	ErrTooLarge = errors.New("the secret is too large")
)

// Limits of a local secret.
const (
	MaxValue     = 64 << 10
	keptVersions = 10
)

var nameForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9-]{1,63}(/[a-z0-9-]{1,63}){0,3}$`) })

// Local keeps secrets on this machine: one file each, encrypted with age to a key
// beside them, so that a copy of a file or of a backup without the key says nothing.
// Whoever can read the folder with its key can read the secrets.
type Local struct {
	folder   string
	identity *age.X25519Identity
}

// A version is one value that a secret had.
type version struct {
	Number int       `json:"version"`
	At     time.Time `json:"at"`
	Value  []byte    `json:"value"`
}

// An Entry is a secret as a list shows it, without its value.
type Entry struct {
	Name    string    `json:"name"`
	Version int       `json:"version"`
	At      time.Time `json:"at"` // of this version
}

// OpenLocal opens the folder of the secrets, and makes it, with its key, when there
// is none. Both are readable by their owner only.
func OpenLocal(folder string) (*Local, error) {
	if err := os.MkdirAll(filepath.Join(folder, "values"), 0o700); err != nil {
		return nil, fmt.Errorf("local secrets: %w", err)
	}
	path := filepath.Join(folder, "key")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = makeKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("local secrets: %w", err)
	}
	identity, err := age.ParseX25519Identity(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("local secrets: %s holds no key", path) // without the error: it may quote the file
	}
	return &Local{folder: folder, identity: identity}, nil
}

// makeKey writes a new key; another process may be faster, and its key holds.
func makeKey(path string) ([]byte, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".key-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(identity.String() + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.ReadFile(path)
}

func (l *Local) path(name string) string {
	return filepath.Join(l.folder, "values", strings.ReplaceAll(name, "/", "+")+".age")
}

// Set stores a new version of a secret. The last ten are kept. It answers the
// version's number.
func (l *Local) Set(name string, value Secret, now time.Time) (int, error) {
	switch {
	case !nameForm().MatchString(name):
		return 0, fmt.Errorf("secret %.100q: %w", name, ErrName)
	case len(value.bytes()) > MaxValue:
		return 0, fmt.Errorf("secret %s: %w: at most %d bytes", name, ErrTooLarge, MaxValue)
	}
	versions, err := l.read(name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return 0, err
	}
	next := version{Number: 1, At: now.UTC(), Value: value.Reveal()}
	if len(versions) > 0 {
		next.Number = versions[len(versions)-1].Number + 1
	}
	versions = append(versions, next)
	return next.Number, l.write(name, versions[max(0, len(versions)-keptVersions):])
}

func (l *Local) read(name string) ([]version, error) {
	if !nameForm().MatchString(name) {
		return nil, fmt.Errorf("secret %.100q: %w", name, ErrName)
	}
	f, err := os.Open(l.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("secret %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", name, err)
	}
	defer f.Close()
	plain, err := age.Decrypt(f, l.identity)
	if err != nil {
		return nil, fmt.Errorf("secret %s: it cannot be decrypted with this installation's key", name)
	}
	raw, err := io.ReadAll(io.LimitReader(plain, 2*keptVersions*MaxValue))
	if err != nil {
		return nil, fmt.Errorf("secret %s: it was changed or cut", name)
	}
	var versions []version
	if json.Unmarshal(raw, &versions) != nil || len(versions) == 0 {
		return nil, fmt.Errorf("secret %s: its file holds no value", name)
	}
	return versions, nil
}

// write replaces a secret's file, whole or not at all.
func (l *Local) write(name string, versions []version) error {
	raw, err := json.Marshal(versions)
	if err != nil {
		return fmt.Errorf("secret %s: it cannot be stored", name)
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, l.identity.Recipient())
	if err == nil {
		_, err = w.Write(raw)
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		return fmt.Errorf("secret %s: it cannot be encrypted", name)
	}
	f, err := os.CreateTemp(filepath.Join(l.folder, "values"), ".new-")
	if err != nil {
		return fmt.Errorf("secret %s: %w", name, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(sealed.Bytes())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("secret %s: %w", name, err)
	}
	if err := os.Rename(f.Name(), l.path(name)); err != nil {
		return fmt.Errorf("secret %s: %w", name, err)
	}
	return nil
}

// Get returns the newest value of a secret. The tenant is not looked at: an
// installation's folder belongs to one.
func (l *Local) Get(_ context.Context, _, name string) (Secret, error) {
	versions, err := l.read(name)
	if err != nil {
		return Secret{}, err
	}
	return New(versions[len(versions)-1].Value), nil
}

// Remove takes a secret away with all its versions.
func (l *Local) Remove(name string) error {
	if !nameForm().MatchString(name) {
		return fmt.Errorf("secret %.100q: %w", name, ErrName)
	}
	err := os.Remove(l.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("secret %s: %w", name, ErrNotFound)
	}
	return err
}

// List returns what secrets there are, by name, and how old they are.
func (l *Local) List() ([]Entry, error) {
	files, err := filepath.Glob(filepath.Join(l.folder, "values", "*.age"))
	if err != nil {
		return nil, fmt.Errorf("list secrets: %w", err)
	}
	out := []Entry{}
	for _, f := range files {
		name := strings.ReplaceAll(strings.TrimSuffix(filepath.Base(f), ".age"), "+", "/")
		versions, err := l.read(name)
		if err != nil {
			return nil, err
		}
		last := versions[len(versions)-1]
		out = append(out, Entry{Name: name, Version: last.Number, At: last.At})
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
