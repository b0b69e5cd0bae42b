package function

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"hotswap.dev/hotswap/pkg/secret"
)

// ErrNoSecret reports that a host has no secret of that name for this function.
var ErrNoSecret = errors.New("no such secret")

// Bounds of a secret.
const (
	maxSecret     = 64 << 10
	extensionTime = 2 * time.Second
	missingTime   = 5 * time.Minute // that a secret which is not there is not asked for again: each question is paid for
)

var secretName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`) })

// Credentials are the secrets that a host gives to a function.
type Credentials struct {
	folders   []string // in this order
	extension *extension
}

// openFaaSSecrets is where OpenFaaS mounts secrets.
const openFaaSSecrets = "/var/openfaas/secrets"

// HostCredentials returns the secrets of a process: files below $CREDENTIALS_DIRECTORY,
// then below /var/openfaas/secrets; on Lambda, what its extension for secrets answers.
// On Lambda a secret's id is its name after $HOTSWAP_SECRET_PREFIX, by default "hotswap/".
func HostCredentials(kind Kind, getenv func(string) string) *Credentials {
	c := &Credentials{}
	if dir := getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		c.folders = append(c.folders, dir)
	}
	c.folders = append(c.folders, openFaaSSecrets)
	if kind == Lambda {
		c.extension = newExtension(getenv)
	}
	return c
}

// Get returns a secret, without the line feed at its end. [ErrNoSecret] when there is none.
func (c *Credentials) Get(ctx context.Context, name string) (secret.Secret, error) {
	if !secretName().MatchString(name) || strings.Contains(name, "..") {
		return secret.Secret{}, fmt.Errorf("secret name %q: only lower-case letters, digits, dots and dashes", name)
	}
	for _, dir := range c.folders {
		s, err := readSecret(filepath.Join(dir, name))
		if !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
	}
	if c.extension != nil {
		return c.extension.get(ctx, name)
	}
	return secret.Secret{}, fmt.Errorf("%w: %s is not in %s", ErrNoSecret, name, strings.Join(c.folders, " or "))
}

// readSecret reads a file of a host's secrets. Hosts mount them as links into a folder
// that they swap as a whole, so links are followed.
func readSecret(path string) (secret.Secret, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return secret.Secret{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return secret.Secret{}, err
	}
	if !info.Mode().IsRegular() {
		return secret.Secret{}, fmt.Errorf("%s is not a plain file", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return secret.Secret{}, err
	}
	return trimmed(path, b)
}

func trimmed(where string, b []byte) (secret.Secret, error) {
	if len(b) > maxSecret {
		return secret.Secret{}, fmt.Errorf("%s is larger than %d bytes", where, maxSecret)
	}
	s := secret.New([]byte(strings.TrimRight(string(b), "\r\n")))
	if s.IsZero() {
		return s, fmt.Errorf("%s is empty", where)
	}
	return s, nil
}

// An extension is the AWS Parameters and Secrets Lambda Extension, which keeps secrets of
// Secrets Manager on a port of its own beside the function. It keeps no answer that says
// that there is none, so we do.
// https://docs.aws.amazon.com/secretsmanager/latest/userguide/retrieving-secrets_lambda.html
type extension struct {
	url, prefix string
	session     secret.Secret
	client      *http.Client

	mu      sync.Mutex
	missing map[string]time.Time // since when
}

func newExtension(getenv func(string) string) *extension {
	port, prefix := getenv("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"), getenv("HOTSWAP_SECRET_PREFIX")
	if port == "" {
		port = "2773"
	}
	if prefix == "" {
		prefix = "hotswap/"
	}
	return &extension{
		url: "http://localhost:" + port + "/secretsmanager/get", prefix: prefix,
		session: secret.New([]byte(getenv("AWS_SESSION_TOKEN"))),
		client: &http.Client{
			Timeout:       extensionTime,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport:     &http.Transport{}, // never through a proxy: the answer is a secret
		},
		missing: map[string]time.Time{},
	}
}

func (e *extension) get(ctx context.Context, name string) (secret.Secret, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now().Round(0) // by the wall, see [Reloading]
	if since, ok := e.missing[name]; ok && now.Sub(since).Abs() < missingTime {
		return secret.Secret{}, fmt.Errorf("%w: %s%s is not in Secrets Manager, or this function may not read it", ErrNoSecret, e.prefix, name)
	}
	s, err := e.ask(ctx, name)
	delete(e.missing, name)
	if errors.Is(err, ErrNoSecret) {
		e.missing[name] = now
	}
	return s, err
}

func (e *extension) ask(ctx context.Context, name string) (secret.Secret, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url+"?secretId="+url.QueryEscape(e.prefix+name), nil)
	if err != nil {
		return secret.Secret{}, err
	}
	r.Header.Set("X-Aws-Parameters-Secrets-Token", e.session.RevealString())
	answer, err := e.client.Do(r)
	if err != nil {
		return secret.Secret{}, fmt.Errorf("secret %s: the extension for secrets does not answer: %w", name, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 7*maxSecret)) // JSON makes six bytes of one, at most
	if err != nil {
		return secret.Secret{}, fmt.Errorf("secret %s: %w", name, err)
	}
	switch {
	case answer.StatusCode != http.StatusOK && absent(string(body)):
		return secret.Secret{}, fmt.Errorf("%w: %s%s is not in Secrets Manager, or this function may not read it", ErrNoSecret, e.prefix, name)
	case answer.StatusCode != http.StatusOK:
		return secret.Secret{}, fmt.Errorf("secret %s: the extension for secrets answered %s", name, answer.Status)
	}
	var got struct{ SecretString string }
	if err := json.Unmarshal(body, &got); err != nil {
		return secret.Secret{}, fmt.Errorf("secret %s: the extension's answer is not JSON", name) // its text is a secret
	}
	return trimmed("secret "+name, []byte(got.SecretString))
}

// absent reports whether Secrets Manager says that there is no such secret. It says so of
// names alone that a policy allows; where one allows only what the name becomes once the
// secret exists, it says that reading it is denied.
func absent(body string) bool {
	return strings.Contains(body, "ResourceNotFoundException") || strings.Contains(body, "AccessDeniedException")
}
