package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openfaas/faas-provider/types"

	"hotswap.dev/hotswap/functions"
	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/function"
	"hotswap.dev/hotswap/pkg/platform"
	"hotswap.dev/hotswap/pkg/secret"
)

// functionsFolder is where the platform keeps functions in the data folder.
const functionsFolder = "functions"

// gatewayUser manages functions, by the password in secrets/gateway-admin.
const gatewayUser = "admin"

// ownImage is what our own functions are shown to run.
const ownImage = "hotswap"

// ownIdle is how long a process of ours stays that nothing calls: shorter than the time
// between two looks at a branch, so that an installation in which nothing happens runs none.
const ownIdle = 15 * time.Second

// host puts the platform together: our own functions as child processes of this program,
// what calls them, and the door before them.
func (s *server) host(authorizer *auth.Authorizer) error {
	password, err := s.dir.Token("gateway-admin")
	if err != nil {
		return err
	}
	own, err := s.ownFunctions()
	if err != nil {
		return err
	}
	s.functions, err = platform.OpenFunctions(platform.FunctionsOptions{
		Dir: s.dir.Path(functionsFolder), Own: own, Env: inherited(os.Environ()), Secret: s.functionSecret,
		Connections: s.options.connections,
		Log:         func(name, line string) { logLine(os.Stderr, name, line) },
	})
	if err != nil {
		return err
	}
	allow, err := networks(s.options.callbacks)
	if err != nil {
		return err
	}
	callbacks := platform.Callbacks{Allow: allow}
	s.async = platform.NewAsync(s.functions, s.store, callbacks.Client())
	handlers := map[string]http.Handler{}
	for _, f := range functions.Specs() {
		handlers[f.Name] = signed(s.functions.Caller(f.Name), s.callKeys)
	}
	s.runner = platform.NewRunner(handlers, functions.Schedule(s.options.tick), s.due)
	s.runner.Spread(s.functions.Processes)
	o := platform.GatewayOptions{
		Functions: s.functions, Calls: s.store, Hint: s.hint, Wake: s.async.Wake, Callback: callbacks.Check,
		Signed: func(r *http.Request) error { return verifyCall(r, s.callKeys) },
		Access: platform.Access{User: gatewayUser, Password: password, Authorize: s.authorizeFunctions(authorizer)},
	}
	if s.git != nil { // a foreign forge serves its repositories itself
		o.Git = http.StripPrefix("/git", s.git)
	}
	s.gateway = platform.Gateway(o)
	return nil
}

// ownFunctions are ours, each a process of this very program.
func (s *server) ownFunctions() ([]platform.OwnFunction, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	var out []platform.OwnFunction
	for _, f := range functions.Specs() {
		env := s.functionEnv()
		env["exec_timeout"], env["read_timeout"], env["write_timeout"] = f.Timeouts.Exec.String(), f.Timeouts.Read.String(), f.Timeouts.Write.String()
		out = append(out, platform.OwnFunction{
			Command: []string{self, "function", f.Name},
			Deployment: types.FunctionDeployment{
				Service: f.Name, Image: ownImage, EnvVars: env, Secrets: append(slices.Clone(f.Secrets), f.Optional...),
				Limits: &types.FunctionResources{Memory: f.Memory, CPU: f.CPU},
				Annotations: &map[string]string{
					platform.AnnotationPublic:      "true", // each asks its callers itself
					platform.AnnotationConnections: strconv.Itoa(f.Connections),
				},
				Labels: &map[string]string{platform.LabelIdle: ownIdle.String()},
			},
		})
	}
	return out, nil
}

// functionEnv configures a function; it holds no secret. See [functionEnv].
func (s *server) functionEnv() map[string]string {
	o := s.options
	env := map[string]string{
		"HOTSWAP_TENANT": o.tenant, "HOTSWAP_REPOSITORY": o.repository, "HOTSWAP_URL": s.url,
		"HOTSWAP_HINT_URL": s.url + "/async-function/{function}", "HOTSWAP_RECONCILE": o.reconcile.String(),
		"HOTSWAP_DATA": s.dir.Path(), "HOTSWAP_VERBOSE": strconv.FormatBool(o.verbose),
	}
	var sources []string
	for _, name := range slices.Sorted(maps.Keys(o.metrics)) {
		sources = append(sources, name+"="+o.metrics[name])
	}
	env["HOTSWAP_METRIC_SOURCES"] = strings.Join(sources, ",")
	if g := s.foreign(); g != nil {
		env["HOTSWAP_GITEA_URL"], env["HOTSWAP_GITEA_REPOSITORY"] = g.URL, g.Repository
		var bots []string
		for _, id := range g.Bots {
			bots = append(bots, strconv.FormatInt(id, 10))
		}
		env["HOTSWAP_GITEA_BOTS"] = strings.Join(bots, ",")
	}
	return env
}

// inherited is what of our own environment the functions get: how to reach the outside,
// and nothing that could hold a secret of somebody's.
func inherited(environ []string) []string {
	var out []string
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		switch strings.ToUpper(name) {
		case "PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "GOMAXPROCS", "GOTRACEBACK", "GOCOVERDIR":
			out = append(out, e)
		}
	}
	return out
}

// functionSecret reads one of our functions' secrets from the data folder, as it is now.
func (s *server) functionSecret(name string) (secret.Secret, error) {
	if name == functions.SecretDatabase {
		return secret.New([]byte(s.dsn)), nil
	}
	v, err := s.dir.Optional(secretFile(name))
	if err == nil && v.IsZero() {
		err = fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return v, err
}

// secretFile is where one of our functions' secrets lies below secrets/.
func secretFile(name string) string {
	file := strings.TrimPrefix(name, "hotswap-")
	if current, ok := strings.CutSuffix(file, "-previous"); ok {
		file = current + ".previous"
	}
	return file
}

// callKeys are the keys of calls between functions as they lie in the data folder now, which
// is what the functions get: the one that signs, and while it is rotated the former one.
func (s *server) callKeys() ([]ed25519.PrivateKey, error) {
	current, err := s.dir.SigningKey(secretFile(functions.SecretCalls))
	if err != nil {
		return nil, err
	}
	previous, err := s.dir.Optional(secretFile(functions.SecretCallsPrevious))
	if err != nil {
		return nil, err
	}
	return withPrevious(current.Private(), function.Secrets{functions.SecretCallsPrevious: previous}), nil
}

// signed signs the empty calls that the runner makes, so that a function takes as many of
// them as come.
func signed(h http.Handler, keys func() ([]ed25519.PrivateKey, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all, err := keys()
		if err == nil {
			err = function.Sign(r, all[0], time.Now())
		}
		if err != nil {
			slog.ErrorContext(r.Context(), "sign a call", "err", err)
		}
		h.ServeHTTP(w, r)
	})
}

// verifyCall proves that one of our functions made the call. One that comes again is a hint again, which asks for nothing
// but a look.
func verifyCall(r *http.Request, keys func() ([]ed25519.PrivateKey, error)) error {
	all, err := keys()
	if err != nil {
		return err
	}
	known := function.CallKeys(all...)
	return auth.VerifyRequest(r, nil, func(id string) (ed25519.PublicKey, error) { return known[id], nil }, time.Now())
}

// logLine logs what a function's process wrote. Ours write lines of a log that name their
// function; what others write is quoted, so that it passes for nothing else.
func logLine(out io.Writer, name, line string) {
	if _, ours := functions.Find(name); ours {
		fmt.Fprintln(out, line)
		return
	}
	slog.Info("function wrote", "name", name, "line", line)
}

// hint passes a hint on, unless it would start a process that finds nothing to do.
func (s *server) hint(ctx context.Context, name string) {
	if s.functions.Processes(name) == 0 {
		if _, looks := functions.Kinds(name); !looks || !s.due(ctx, name) { // nobody waits in a function that does not run
			return
		}
	}
	s.runner.Hint(ctx, name)
}

// due reports whether a function has something to do now, or will have before the next
// tick. What cannot be asked is taken for yes: the function says what is wrong.
func (s *server) due(ctx context.Context, name string) bool {
	kinds, ok := functions.Kinds(name)
	if !ok {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	wait, open, err := s.store.NextDue(ctx, kinds)
	if err != nil || (open && wait <= s.options.tick) {
		return true
	}
	if name != "advance" {
		return false
	}
	waiting, err := s.store.Unsequenced(ctx) // what its backstop is for
	return err != nil || len(waiting) > 0
}

// authorizeFunctions asks the authoriser on behalf of whoever has the gateway's password.
func (s *server) authorizeFunctions(authorizer *auth.Authorizer) func(ctx context.Context, action, resource string) error {
	p := auth.Principal{Actor: audit.Actor{Kind: audit.Person, Name: "gateway:" + gatewayUser}, Tenant: s.options.tenant, Role: auth.Admin}
	return func(ctx context.Context, action, resource string) error {
		err := authorizer.Authorize(ctx, p, auth.Action(action), p.Tenant, resource)
		if errors.Is(err, auth.ErrDenied) {
			return platform.Forbidden(err)
		}
		return err
	}
}

// networks reads the networks that answers of asynchronous calls may be told to.
func networks(texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, usagef("--allow-callbacks %q is not a network such as 10.1.0.0/16", text)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}
