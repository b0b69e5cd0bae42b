package platform

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"hotswap.dev/hotswap/pkg/secret"
)

// Bounds of what users bring.
const (
	maxUserSecret = 64 << 10
	maxBinary     = 512 << 20
)

// reservedSecrets is how the names of the platform's own secrets begin.
const reservedSecrets = "hotswap-"

// mayName reports whether users may have a secret of that name: where the platform has
// functions of its own, those names are theirs.
func (f *Functions) mayName(name string) bool {
	return secretName().MatchString(name) && (len(f.options.Own) == 0 || !strings.HasPrefix(name, reservedSecrets))
}

// An image is NAME or NAME:TAG, where a program was registered under that name on this
// machine. Nothing is fetched from anywhere.
var imageName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9]([a-z0-9._/-]{0,100}[a-z0-9])?(:[A-Za-z0-9._-]{1,100})?$`)
})

// AddImage registers a program under an image's name, by its content: what is deployed
// already stays what it was. It returns when the copy is on disk.
func (f *Functions) AddImage(name, program string) error {
	return addImage(f.path("images"), name, program)
}

// AddImage registers a program in the folder of a platform that may be running; see
// [Functions.AddImage].
func AddImage(functionsDir, name, program string) error {
	dir := filepath.Join(functionsDir, "images")
	for _, d := range []string{functionsDir, dir} {
		if err := privateFolder(d); err != nil {
			return err
		}
	}
	return addImage(dir, name, program)
}

func addImage(dir, name, program string) error {
	tag, err := imageFile(name)
	if err != nil {
		return err
	}
	src, err := os.Open(filepath.Clean(program))
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("%w: %s is not a program", ErrInvalid, program)
	}
	temporary, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(temporary, sum), io.LimitReader(src, maxBinary+1))
	if err == nil && n > maxBinary {
		err = fmt.Errorf("%w: %s is larger than %d bytes", ErrInvalid, program, maxBinary)
	}
	if err == nil {
		err = temporary.Chmod(0o500)
	}
	if err == nil {
		err = temporary.Sync()
	}
	if err = errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	digest := "sha256-" + hex.EncodeToString(sum.Sum(nil))
	if err := os.Rename(temporary.Name(), filepath.Join(dir, digest)); err != nil {
		return err
	}
	return replacePrivate(filepath.Join(dir, tag), []byte(digest))
}

// imageFile is the file that says which program an image is.
func imageFile(name string) (string, error) {
	if !imageName().MatchString(name) || strings.Contains(name, "..") {
		return "", fmt.Errorf("%w: image %.100q is not NAME or NAME:TAG", ErrInvalid, name)
	}
	if !strings.Contains(name, ":") {
		name += ":latest"
	}
	return "tag-" + hex.EncodeToString([]byte(name)), nil
}

// image returns the file below images/ of a registered image.
func (f *Functions) image(name string) (string, error) {
	tag, err := imageFile(name)
	if err != nil {
		return "", err
	}
	b, err := readPrivate(f.path("images", tag), 200)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: image %s is not registered on this machine; register a program with: hotswap function deploy NAME --binary FILE", ErrInvalid, name)
	}
	if err != nil {
		return "", err
	}
	digest := filepath.Base(string(b))
	now := time.Now()
	if err := os.Chtimes(f.path("images", digest), now, now); err != nil { // it is needed a while, see keepImage
		return "", fmt.Errorf("image %s: %w", name, err)
	}
	return digest, nil
}

// keepImage is how long a program stays that nothing stands for: somebody may be about to
// name it, or to deploy it.
const keepImage = time.Hour

// forgetImages deletes the programs that no image's name and no deployment stands for any
// more, and what registrations that were cut off have left. While a deployment cannot be
// read, all stay.
func (f *Functions) forgetImages(now time.Time) error {
	needed := map[string]bool{}
	tags, err := filepath.Glob(f.path("images", "tag-*"))
	if err != nil {
		return err
	}
	for _, tag := range tags {
		b, err := readPrivate(tag, 200)
		if err != nil {
			return err
		}
		needed[filepath.Base(string(b))] = true
	}
	deployments, err := filepath.Glob(f.path("deployments", "*.json"))
	if err != nil {
		return err
	}
	for _, file := range deployments {
		s, err := readDeployment(file)
		if err != nil {
			return err
		}
		needed[filepath.Base(s.Binary)] = true
	}
	files, err := os.ReadDir(f.path("images"))
	if err != nil {
		return err
	}
	for _, file := range files {
		program := strings.HasPrefix(file.Name(), "sha256-") || strings.HasPrefix(file.Name(), ".new-")
		info, err := file.Info()
		if err != nil || !program || needed[file.Name()] || now.Sub(info.ModTime()) < keepImage {
			continue
		}
		if err := os.Remove(f.path("images", file.Name())); err != nil {
			return err
		}
		slog.Info("a program that is deployed no more was deleted", "file", file.Name(), "bytes", info.Size())
	}
	return nil
}

// readDeployment reads a file below deployments/.
func readDeployment(file string) (s savedDeployment, err error) {
	b, err := readPrivate(file, maxDeployment)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return s, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// userSecret reads a secret that was made by the provider's interface.
func (f *Functions) userSecret(name string) (secret.Secret, error) {
	if !f.mayName(name) {
		return secret.Secret{}, fmt.Errorf("%w: secret %.80q", ErrInvalid, name)
	}
	b, err := readPrivate(f.path("secrets", name), maxUserSecret)
	if err != nil {
		return secret.Secret{}, err
	}
	return secret.New(b), nil
}

// putSecret makes or changes a user's secret; new says which of the two is meant.
func (f *Functions) putSecret(name string, value []byte, isNew bool) error {
	if !f.mayName(name) {
		return fmt.Errorf("%w: secret %.80q: only lower-case letters, digits and single dashes, and not %s at the beginning", ErrInvalid, name, reservedSecrets)
	}
	if len(value) == 0 || len(value) > maxUserSecret {
		return fmt.Errorf("%w: secret %s has %d bytes, not 1 to %d", ErrInvalid, name, len(value), maxUserSecret)
	}
	file := f.path("secrets", name)
	if isNew {
		err := createPrivate(file, value)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%w: secret %s is there already", errExists, name)
		}
		return err
	}
	if _, err := os.Lstat(file); err != nil {
		return err
	}
	if err := replacePrivate(file, value); err != nil {
		return err
	}
	for _, m := range f.list() { // processes that run read it again
		if slices.Contains(m.status().Secrets, name) {
			if err := m.refreshSecrets(); err != nil {
				return err
			}
		}
	}
	return nil
}

var errExists = errors.New("exists")

// secretNames lists the secrets of users.
func (f *Functions) secretNames() ([]string, error) {
	entries, err := os.ReadDir(f.path("secrets"))
	if err != nil {
		return nil, err
	}
	out := []string{}
	for _, e := range entries {
		if secretName().MatchString(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// deleteSecret deletes a user's secret; one that a function uses stays.
func (f *Functions) deleteSecret(name string) error {
	if !f.mayName(name) {
		return fmt.Errorf("%w: secret %.80q", ErrInvalid, name)
	}
	for _, m := range f.list() {
		if slices.Contains(m.status().Secrets, name) {
			return fmt.Errorf("%w: function %s uses secret %s", errExists, m.name, name)
		}
	}
	return os.Remove(f.path("secrets", name))
}
