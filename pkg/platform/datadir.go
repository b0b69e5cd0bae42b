package platform

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"hotswap.dev/hotswap/pkg/secret"
)

// maxSecret is the longest secret that is read from a file, in bytes.
const maxSecret = 4 << 10

var secretName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*(\.previous)?$`) })

// DataDir is the folder of one installation: its database, its repositories, its secrets. Nobody else may enter it.
type DataDir struct {
	path string
}

// OpenDataDir creates the folder with mode 0700, or checks that it is ours and closes it to others.
func OpenDataDir(path string) (DataDir, error) {
	path, err := filepath.Abs(path)
	if err == nil {
		err = privateFolder(path)
	}
	if err == nil {
		err = privateFolder(filepath.Join(path, "secrets"))
	}
	if err != nil {
		return DataDir{}, fmt.Errorf("open the data folder %s: %w", path, err)
	}
	return DataDir{path: path}, nil
}

// Path is a place in the folder; without elements the folder itself. It does not create it.
func (d DataDir) Path(elements ...string) string {
	return filepath.Join(append([]string{d.path}, elements...)...)
}

// Secrets are all that an installation keeps to itself. Each is a file in secrets/, random per data folder. The
// previous ones are optional: they are valid beside the current ones while a rotation is under way.
type Secrets struct {
	Webhook         secret.Secret // signs webhooks (HMAC-SHA-256); file webhook
	WebhookPrevious secret.Secret // file webhook.previous
	GitAdmin        secret.Secret // token of the Git user "admin"; file git-admin
	APIAdmin        secret.Secret // token of the first administrator; file api-admin
	Metrics         secret.Secret // bearer token of who reads metrics; file metrics
	FunctionCall    SigningKey    // signs calls between functions; file function-call
	Audit           SigningKey    // signs audit rows and checkpoints; file audit-signing
	Tokens          SigningKey    // signs bearer tokens; file token-signing
}

// LoadSecrets reads the secrets and makes those that are missing; two processes that start together get the same
// ones. A file that others can read is refused with [ErrNotPrivate].
func (d DataDir) LoadSecrets() (Secrets, error) {
	var s Secrets
	var problems []error
	token := func(name string, into *secret.Secret) {
		value, err := d.Token(name)
		*into, problems = value, append(problems, err)
	}
	key := func(name string, into *SigningKey) {
		value, err := d.SigningKey(name)
		*into, problems = value, append(problems, err)
	}
	token("webhook", &s.Webhook)
	token("git-admin", &s.GitAdmin)
	token("api-admin", &s.APIAdmin)
	token("metrics", &s.Metrics)
	key("function-call", &s.FunctionCall)
	key("audit-signing", &s.Audit)
	key("token-signing", &s.Tokens)
	previous, err := d.Optional("webhook.previous")
	s.WebhookPrevious, problems = previous, append(problems, err)
	if err := errors.Join(problems...); err != nil {
		return Secrets{}, fmt.Errorf("load the secrets: %w", err)
	}
	return s, nil
}

// Token reads secrets/NAME, and makes it of 32 random bytes in hexadecimal when there is none.
func (d DataDir) Token(name string) (secret.Secret, error) {
	s, err := d.Optional(name)
	if err != nil || !s.IsZero() {
		return s, err
	}
	err = createPrivate(d.Path("secrets", name), []byte(randomHex(32)+"\n"))
	if err != nil && !errors.Is(err, fs.ErrExist) { // another process may have been faster: its secret holds
		return secret.Secret{}, err
	}
	return d.Optional(name)
}

// Optional reads secrets/NAME; the empty secret when there is no such file. A file that is there must hold something.
func (d DataDir) Optional(name string) (secret.Secret, error) {
	if !secretName().MatchString(name) {
		return secret.Secret{}, fmt.Errorf("secret name %q: only lower-case letters, digits and single dashes", name)
	}
	file := d.Path("secrets", name)
	b, err := readPrivate(file, maxSecret)
	if errors.Is(err, fs.ErrNotExist) {
		return secret.Secret{}, nil
	}
	if err != nil {
		return secret.Secret{}, err
	}
	value := strings.TrimSpace(string(b))
	if value == "" {
		return secret.Secret{}, fmt.Errorf("%s is empty: remove it, and a new secret is made", file)
	}
	return secret.New([]byte(value)), nil
}

// SigningKey is [DataDir.Token] for an Ed25519 key: the token is its seed.
func (d DataDir) SigningKey(name string) (SigningKey, error) {
	s, err := d.Token(name)
	if err != nil {
		return SigningKey{}, err
	}
	seed, err := hex.DecodeString(s.RevealString())
	if err != nil || len(seed) != ed25519.SeedSize {
		return SigningKey{}, fmt.Errorf("%s is not an Ed25519 seed of 64 hexadecimal digits", d.Path("secrets", name))
	}
	return SigningKey{seed: secret.New(seed)}, nil
}

// SigningKey is an Ed25519 key that does not print itself.
type SigningKey struct {
	seed secret.Secret
}

// Private returns the key itself. Like [secret.Secret.Reveal], it is a place where the secret leaves its type.
func (k SigningKey) Private() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(k.seed.Reveal()) }

// Public returns the half that everybody may know.
func (k SigningKey) Public() ed25519.PublicKey { return k.Private().Public().(ed25519.PublicKey) }

// WriteFile replaces a file of the folder, whole or not at all, readable by its owner only.
func (d DataDir) WriteFile(name string, content []byte) error {
	return replacePrivate(d.Path(name), content)
}
