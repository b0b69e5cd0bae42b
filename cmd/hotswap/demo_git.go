package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// gitTime bounds one call of git.
const gitTime = 30 * time.Second

// git runs the real git in the demo's clone. The password is in a file that
// only its owner can read: it is neither an argument nor in the environment.
func (d *demo) git(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, gitTime)
	defer cancel()
	all := append([]string{
		"-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-c", "commit.gpgSign=false",
		"-c", "credential.helper=store --file=" + d.path("git-credentials"),
	}, args...)
	cmd := exec.CommandContext(ctx, "git", all...)
	cmd.Dir = d.path("clone")
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + d.path(), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C.UTF-8",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s: %w\n%s", args[0], err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// cloned makes sure that there is a clone that can push.
func (d *demo) cloned(ctx context.Context) error {
	credentials := strings.Replace(d.parts.url, "http://", "http://admin:"+d.parts.installation.secrets.GitAdmin.RevealString()+"@", 1)
	if err := os.WriteFile(d.path("git-credentials"), []byte(credentials+"\n"), 0o600); err != nil {
		return err
	}
	_, err := os.Stat(d.path("clone", ".git"))
	if err == nil {
		_, err = d.git(ctx, "remote", "set-url", "origin", d.repositoryURL())
		return err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(d.path("clone"), 0o700); err != nil {
		return err
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"remote", "add", "origin", d.repositoryURL()}} {
		if _, err := d.git(ctx, args...); err != nil {
			return err
		}
	}
	return os.CopyFS(d.path("clone"), os.DirFS(filepath.Join(d.sources, "repository")))
}

// pipeline is what the demo's releases go through. What is judged by samples would
// wait for ever while every node is killed again and again.
func (o demoOptions) pipeline() string {
	if o.chaos {
		return "four-quick-stages"
	}
	return "four-stages"
}

// commit commits a version in the clone.
func (d *demo) commit(ctx context.Context, version string) error {
	file := d.path("clone", "deployments", demoDeployment+".yaml")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(d.parts.modules[version].intent(d.pipeline())), 0o600); err != nil {
		return err
	}
	for _, args := range [][]string{{"add", "-A"}, {"commit", "-q", "--allow-empty", "-m", "checkout " + version}} {
		if _, err := d.git(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// pushTime bounds how long a push is tried again while the chaos kills the Git server.
const pushTime = time.Minute

// push commits a version and pushes it, and returns the commit. A push that the
// chaos cut is pushed again: git does nothing when it had arrived.
func (d *demo) push(ctx context.Context, version string) (string, error) {
	if err := d.commit(ctx, version); err != nil {
		return "", err
	}
	var err error
	for end := time.Now().Add(pushTime); time.Now().Before(end); {
		if _, err = d.git(ctx, "push", "-q", "-u", "origin", "main"); err == nil {
			return d.git(ctx, "rev-parse", "HEAD")
		}
		if !d.chaos {
			break
		}
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	return "", err
}
