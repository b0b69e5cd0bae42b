package platform

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"hotswap.dev/hotswap/pkg/secret"
)

// superuser is PostgreSQL's first role; it migrates, and nothing else uses it.
const superuser = "postgres"

var roleName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`) })

// Connection says how to reach a database of the cluster. The password is in a file, never in a string.
type Connection struct {
	Host         string // folder of the unix socket
	Port         int
	User         string
	Database     string
	PasswordFile string // in the format of .pgpass; "" when nobody is asked for a password
}

// Connection returns how a role reaches a database: the role "postgres", or one of [ClusterOptions].Roles.
func (c *Cluster) Connection(role, database string) Connection {
	conn := Connection{Host: c.socket, Port: port, User: role, Database: database}
	if !c.options.Trust {
		conn.PasswordFile = c.passwordFile(role)
	}
	return conn
}

// DSN is the connection in keyword/value form for pgx or libpq, without the password and with passfile=.
func (c Connection) DSN() string {
	dsn := fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable", quoteDSN(c.Host), c.Port, quoteDSN(c.User), quoteDSN(c.Database))
	if c.PasswordFile != "" {
		dsn += " passfile=" + quoteDSN(c.PasswordFile)
	}
	return dsn
}

func quoteDSN(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

func (c *Cluster) passwordFile(role string) string {
	return filepath.Join(c.options.Dir, "passwords", role+".pgpass")
}

// password reads the role's password, or makes one.
func (c *Cluster) password(role string) (secret.Secret, error) {
	name := c.passwordFile(role)
	if err := privateFolder(filepath.Dir(name)); err != nil {
		return secret.Secret{}, err
	}
	line, err := readPrivate(name, 1<<10)
	if errors.Is(err, fs.ErrNotExist) {
		line = []byte("*:*:*:" + role + ":" + randomHex(24) + "\n")
		err = createPrivate(name, line)
	}
	if err != nil {
		return secret.Secret{}, err
	}
	value, found := strings.CutPrefix(strings.TrimSpace(string(line)), "*:*:*:"+role+":")
	if !found || value == "" {
		return secret.Secret{}, fmt.Errorf("%s is not a password file of ours: remove it, and a new password is made", name)
	}
	return secret.New([]byte(value)), nil
}

// initialPassword puts the superuser's password where initdb, as the cluster's user, can read it.
func (c *Cluster) initialPassword() (string, error) {
	password, err := c.password(superuser)
	if err != nil {
		return "", err
	}
	file := filepath.Join(c.socket, "initial-password")
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := createPrivate(file, append(password.Reveal(), '\n')); err != nil {
		return "", err
	}
	return file, c.give(file)
}

// applyPasswords makes the server know the roles and passwords that the files hold. It asks the server's single-user
// mode, which needs no password, and only when a file changed since it was applied last.
func (c *Cluster) applyPasswords(ctx context.Context) error {
	var statements, marks []string
	var contents [][]byte
	for _, role := range append([]string{superuser}, c.options.Roles...) {
		password, err := c.password(role)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(password.Reveal())
		mark, content := filepath.Join(c.options.Dir, "passwords", role+".applied"), []byte(hex.EncodeToString(sum[:])+"\n")
		if old, err := os.ReadFile(mark); err == nil && string(old) == string(content) {
			continue
		}
		verifier, err := scramVerifier(password)
		if err != nil {
			return err
		}
		if role != superuser {
			statements = append(statements, fmt.Sprintf("DO $$ BEGIN CREATE ROLE %s LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$", role))
		}
		statements = append(statements, fmt.Sprintf("ALTER ROLE %s LOGIN PASSWORD '%s'", role, verifier))
		marks, contents = append(marks, mark), append(contents, content)
	}
	if len(statements) == 0 {
		return nil
	}
	if err := c.singleUser(ctx, statements); err != nil {
		return fmt.Errorf("set the passwords of the roles: %w", err)
	}
	for i, mark := range marks {
		if err := replacePrivate(mark, contents[i]); err != nil {
			return err
		}
	}
	return nil
}

// singleUser runs statements, one a line, in postgres --single.
func (c *Cluster) singleUser(ctx context.Context, statements []string) error {
	args := []string{"--single", "-D", dataFD, "-c", "exit_on_error=on", "-c", "log_min_error_statement=panic"}
	if c.options.Fast {
		args = append(args, "-c", "fsync=off")
	}
	cmd, closeFiles, err := c.command(filepath.Join(c.options.Dir, "data"), "postgres", append(args, "postgres")...)
	if err != nil {
		return err
	}
	defer closeFiles()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Stdin = strings.NewReader(strings.Join(statements, "\n") + "\n")
	if err := runChild(ctx, cmd); err != nil {
		return fmt.Errorf("postgres --single: %w\n%s", err, strings.TrimSpace(out.String()))
	}
	return nil
}

// scramVerifier is what PostgreSQL stores for a password (RFC 5803 section 3, as in src/common/scram-common.c), made
// here so that the clear text never passes through a statement or a log. The password is ASCII, so SASLprep is void.
func scramVerifier(password secret.Secret) (string, error) {
	const iterations = 4096
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails, see crypto/rand
	salted, err := pbkdf2.Key(sha256.New, password.RevealString(), salt, iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	sign := func(text string) []byte {
		m := hmac.New(sha256.New, salted)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	stored := sha256.Sum256(sign("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt), b64(stored[:]), b64(sign("Server Key"))), nil
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return hex.EncodeToString(b)
}
