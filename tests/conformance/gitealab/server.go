// Package gitealab is a real Gitea for tests: built once from tests/tools/gitea, started on loopback, and ended with
// the process that started it.
package gitealab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"
)

// How long a start and an end may take.
const (
	readyIn = 60 * time.Second
	endIn   = 15 * time.Second
)

// Server is a running Gitea. Admin is an administrator of all of it.
type Server struct {
	URL   string
	Admin string // token

	binary, work string
	log          bytes.Buffer // of the process; to be read when it has ended
	process      *exec.Cmd
	ended        chan struct{}
}

// Start builds Gitea if it is not in the cache, and starts it with an empty folder.
// tools is the folder tests/tools. The caller ends it with Stop.
func Start(ctx context.Context, tools string) (*Server, error) {
	s := &Server{}
	var source string
	var err error
	if s.binary, err = output(ctx, tools, []string{"CGO_ENABLED=1"}, "./ensure.sh", "gitea", "gitea", "code.gitea.io/gitea", "-tags", "sqlite sqlite_unlock_notify"); err != nil {
		return nil, fmt.Errorf("build gitea: %w", err)
	}
	if source, err = output(ctx, filepath.Join(tools, "gitea"), []string{"GOWORK=off"}, "go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", "code.gitea.io/gitea"); err != nil {
		return nil, fmt.Errorf("find gitea's files: %w", err)
	}
	if s.work, err = os.MkdirTemp(memory(), "hotswap-gitea-"); err != nil {
		return nil, err
	}
	for range 3 { // somebody may be faster at the port
		if err = s.start(ctx, tools, source); err == nil {
			return s, nil
		}
		s.end()
	}
	_ = os.RemoveAll(s.work)
	return nil, err
}

// memory is a file system in memory where there is one: nothing here must outlast the tests.
func memory() string {
	if _, err := os.Stat("/dev/shm"); err == nil {
		return "/dev/shm"
	}
	return ""
}

func output(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = append(os.Environ(), append(env, "GOFLAGS=")...)
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

func (s *Server) start(ctx context.Context, tools, source string) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	s.URL = "http://127.0.0.1:" + strconv.Itoa(port)
	if err := s.configure(tools, source, port); err != nil {
		return err
	}
	if s.Admin == "" {
		if s.Admin, err = s.createAdmin(ctx); err != nil {
			return err
		}
	}
	if err := s.run(); err != nil {
		return err
	}
	return s.ready(ctx)
}

func (s *Server) configure(tools, source string, port int) error {
	t, err := template.ParseFiles(filepath.Join(tools, "gitea", "app.ini.tmpl"))
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := t.Execute(&text, map[string]any{"Work": s.work, "Source": source, "Port": port}); err != nil {
		return err
	}
	return os.WriteFile(s.config(), text.Bytes(), 0o600)
}

func (s *Server) config() string { return filepath.Join(s.work, "app.ini") }

// freePort is one below the ports that the system gives to outgoing connections.
func freePort() (int, error) {
	for range 50 {
		port := 20000 + rand.IntN(32767-20000)
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no free port")
}

func (s *Server) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.binary, append([]string{"--config", s.config()}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+s.work, "GITEA_I_AM_BEING_UNSAFE_RUNNING_AS_ROOT=true", "GIT_CONFIG_NOSYSTEM=1")
	cmd.Dir = s.work
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	return cmd
}

// createAdmin makes the database and its first account.
func (s *Server) createAdmin(context.Context) (string, error) {
	if out, err := s.command("migrate").CombinedOutput(); err != nil {
		return "", fmt.Errorf("gitea migrate: %w\n%s", err, out)
	}
	out, err := s.command("admin", "user", "create", "--admin", "--username", "root1", "--random-password",
		"--email", "root1@example.test", "--must-change-password=false",
		"--access-token", "--access-token-name", "lab", "--access-token-scopes", "all").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("gitea admin user create: %w\n%s", err, out)
	}
	_, after, ok := strings.Cut(string(out), "Access token was successfully created... ")
	if !ok {
		return "", fmt.Errorf("gitea gave no token:\n%s", out)
	}
	return strings.Fields(after)[0], nil
}

// run starts the process on a thread that stays: the kernel ends a child with the
// thread that made it.
func (s *Server) run() error {
	s.process, s.ended = s.command("web"), make(chan struct{})
	s.process.Stdout, s.process.Stderr = &s.log, &s.log
	started, ended := make(chan error), s.ended
	go func() {
		runtime.LockOSThread()
		err := s.process.Start()
		started <- err
		if err == nil {
			_ = s.process.Wait()
		}
		close(ended)
	}()
	return <-started
}

// ready asks until the server answers, its process ends, or the time is over.
func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyIn)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.ended:
			return fmt.Errorf("gitea ended:\n%s", s.log.String())
		case <-ctx.Done():
			return fmt.Errorf("gitea is not ready: %w", ctx.Err())
		case <-tick.C:
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/api/healthz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
	}
}

// end ends the process: politely, then not.
func (s *Server) end() {
	if s.process == nil || s.process.Process == nil {
		return
	}
	_ = s.process.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(endIn):
		_ = s.process.Process.Kill()
		<-s.ended
	}
	s.process = nil
}

// Stop ends the server and forgets what it kept.
func (s *Server) Stop() {
	s.end()
	_ = os.RemoveAll(s.work)
}
