package main

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/functions"
	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/forge/builtin"
	"hotswap.dev/hotswap/pkg/function"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/secret"
	"hotswap.dev/hotswap/pkg/store"
)

// functionEnv are the environment variables that a function is configured by; its secrets
// are none of them. An empty one is not set.
type functionEnv struct {
	tenant     string            // HOTSWAP_TENANT, by default "default"
	repository string            // HOTSWAP_REPOSITORY, by default "deploy"; with Gitea the name of its repository
	public     string            // HOTSWAP_URL: where people and forges reach the functions, below which is /function/NAME
	hints      string            // HOTSWAP_HINT_URL: of a function for a signed hint; {function} stands for its name. Empty: no hints
	state      string            // HOTSWAP_STATE: folder for mirrors, which may be lost; by default one of the system's for temporary files
	data       string            // HOTSWAP_DATA: folder with the built-in forge's repositories and the local secrets; on one machine only
	gitea      giteaAt           // HOTSWAP_GITEA_URL, HOTSWAP_GITEA_REPOSITORY, HOTSWAP_GITEA_BOTS
	metrics    map[string]string // HOTSWAP_METRIC_SOURCES: NAME=URL,…
	reconcile  time.Duration     // HOTSWAP_RECONCILE, by default 1m
	verbose    bool              // HOTSWAP_VERBOSE=true
}

func readFunctionEnv(getenv func(string) string) (functionEnv, error) {
	e := functionEnv{
		tenant: cmp.Or(getenv("HOTSWAP_TENANT"), "default"), repository: cmp.Or(getenv("HOTSWAP_REPOSITORY"), "deploy"),
		public: strings.TrimSuffix(getenv("HOTSWAP_URL"), "/"), hints: getenv("HOTSWAP_HINT_URL"),
		state: cmp.Or(getenv("HOTSWAP_STATE"), filepath.Join(os.TempDir(), "hotswap")), data: getenv("HOTSWAP_DATA"),
		gitea:     giteaAt{URL: getenv("HOTSWAP_GITEA_URL"), Repository: getenv("HOTSWAP_GITEA_REPOSITORY")},
		reconcile: time.Minute, verbose: getenv("HOTSWAP_VERBOSE") == "true",
	}
	if e.hints != "" && !strings.Contains(e.hints, "{function}") {
		return e, errors.New("HOTSWAP_HINT_URL has no {function} in it, which stands for the function's name")
	}
	if text := getenv("HOTSWAP_RECONCILE"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			return e, fmt.Errorf("HOTSWAP_RECONCILE=%q is not a duration like 1m", text)
		}
		e.reconcile = d
	}
	for _, text := range commaList(getenv("HOTSWAP_GITEA_BOTS")) {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return e, fmt.Errorf("HOTSWAP_GITEA_BOTS: %q is not the number of an account", text)
		}
		e.gitea.Bots = append(e.gitea.Bots, id)
	}
	e.metrics = map[string]string{}
	for _, text := range commaList(getenv("HOTSWAP_METRIC_SOURCES")) {
		name, url, ok := strings.Cut(text, "=")
		if !ok {
			return e, fmt.Errorf("HOTSWAP_METRIC_SOURCES: %q is not NAME=URL", text)
		}
		e.metrics[name] = url
	}
	if e.gitea.URL != "" || e.gitea.Repository != "" {
		if err := e.gitea.check(); err != nil {
			return e, errors.New("HOTSWAP_GITEA_URL and HOTSWAP_GITEA_REPOSITORY=OWNER/NAME belong together")
		}
		e.repository = e.gitea.name()
	}
	return e, nil
}

// commaList splits a value at its commas.
func commaList(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func functionCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "function NAME",
		Short: "Run one function for the host that started this process, or manage those of the embedded platform",
		Long: `Function NAME runs one function of HotSwap: on AWS Lambda where AWS_LAMBDA_RUNTIME_API is set, on a socket
that the embedded platform hands over where LISTEN_FDS is set, else over HTTP on $PORT, by default
8080, as OpenFaaS expects it. It is configured by the environment, see docs/reference/functions.md;
secrets are files below $CREDENTIALS_DIRECTORY or /var/openfaas/secrets, or in AWS Secrets Manager.`,
		Example: "  hotswap function advance\n  hotswap function api",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return runFunction(c.Context(), args[0], os.Getenv)
		},
	}
	c.AddCommand(functionListCommand(), functionDeployCommand(), functionRemoveCommand(), functionScaleCommand(),
		functionLogsCommand(), functionSecretCommand(), functionCallsCommand())
	return c
}

// functionToRun is the function that a host wants: the one that the arguments name, or, of a
// host that starts the program without arguments as an image or a Lambda does,
// $HOTSWAP_FUNCTION, or on Lambda $_HANDLER. Empty: it is another command.
func functionToRun(args []string, getenv func(string) string) string {
	switch {
	case len(args) == 2 && args[0] == "function":
		if _, ok := functions.Find(args[1]); ok {
			return args[1]
		}
		return ""
	case len(args) > 0:
		return ""
	case getenv("HOTSWAP_FUNCTION") != "":
		return getenv("HOTSWAP_FUNCTION")
	case function.Detect(getenv) == function.Lambda:
		return getenv("_HANDLER")
	default:
		return ""
	}
}

// runFunction serves the function until ctx ends; on Lambda it never returns.
func runFunction(ctx context.Context, name string, getenv func(string) string) error {
	spec, ok := functions.Find(name)
	if !ok {
		return usagef("there is no function %q; hotswap function list names them", name)
	}
	env, err := readFunctionEnv(getenv)
	if err != nil {
		return usagef("%w", err)
	}
	timeouts, err := function.ReadTimeouts(getenv)
	if err != nil {
		return usagef("%w", err)
	}
	level := slog.LevelInfo
	if env.verbose {
		level = slog.LevelDebug
	}
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("function", name))
	kind := function.Detect(getenv)
	built := newFunction(spec, env, function.HostCredentials(kind, getenv))
	h := function.Host(name, built, built.Ready, spec.Limits.Within(timeouts))
	if kind == function.Lambda {
		function.StartLambda(h, function.LambdaOptions{Name: name, Stream: getenv("HOTSWAP_LAMBDA_STREAM") == "true", Stop: built.Close})
		return nil
	}
	l, err := function.Listen(getenv)
	if err != nil {
		return err
	}
	defer built.Close()
	server := function.Server{Handler: h, Timeouts: timeouts}
	if kind == function.OpenFaaS {
		server.Lame = lameTime
	}
	return server.Serve(ctx, l)
}

// lameTime is how long a function in a container still takes calls after it was told to
// stop: so long Kubernetes may take to send them elsewhere.
const lameTime = 3 * time.Second

// newFunction returns a function that is put together of its secrets when it is called.
func newFunction(spec functions.Spec, env functionEnv, credentials *function.Credentials) *function.Reloading {
	p := parts{spec: spec, env: env}
	return function.NewReloading(function.Reload{
		Required: spec.Secrets, Optional: spec.Optional, Get: credentials.Get, Build: p.build, Now: time.Now,
	})
}

// parts put one function together.
type parts struct {
	spec functions.Spec
	env  functionEnv
}

func (p parts) build(ctx context.Context, secrets function.Secrets) (function.Work, error) {
	auditKey, err := signingKey(secrets, functions.SecretAudit)
	if err != nil {
		return function.Work{}, err
	}
	calls, err := signingKey(secrets, functions.SecretCalls)
	if err != nil {
		return function.Work{}, err
	}
	st, err := store.Open(ctx, store.Options{
		DSN: secrets[functions.SecretDatabase].RevealString(), MaxConns: int32(p.spec.Connections),
	}, audit.NewWriter(auditKey))
	if err != nil {
		return function.Work{}, err
	}
	h, err := p.handler(ctx, st, auditKey, calls, secrets)
	if err != nil {
		st.Close()
		return function.Work{}, err
	}
	return function.Work{Handler: h, Ready: st.Ready, Close: st.Close}, nil
}

func (p parts) handler(ctx context.Context, st *store.Store, auditKey, calls ed25519.PrivateKey, secrets function.Secrets) (http.Handler, error) {
	d := functions.Deps{Store: st, Authorizer: auth.NewAuthorizer(st), Hint: p.hint(calls), Looks: p.looks(st, calls, secrets)}
	var err error
	switch p.spec.Name {
	case "api":
		tokens, err := signingKey(secrets, functions.SecretTokens)
		if err != nil {
			return nil, err
		}
		d.Tokens = auth.NewTokens(tokens, nil, time.Now)
		d.Engine = engine.New(st, noRepository, engine.Options{})
	case "nodes", "insight":
		d.Metrics = secrets[functions.SecretMetrics]
		if p.env.data != "" {
			local, err := secret.OpenLocal(filepath.Join(p.env.data, "secrets", "local"))
			if err != nil {
				return nil, err
			}
			d.Secrets, d.Ages = local, local
		}
	case "forge-webhook":
		d.Hooks = p.hooks(secrets)
	default:
		d.Engine, err = p.engine(ctx, st, auditKey, secrets)
	}
	if err != nil {
		return nil, err
	}
	return functions.Handler(p.spec.Name, d)
}

// noRepository is for a function that reads none.
func noRepository(string, string) (*gitrepo.Repository, error) { return nil, gitrepo.ErrNoRepository }

// hint returns how another function is told to look now.
func (p parts) hint(key ed25519.PrivateKey) func(ctx context.Context, name string) {
	if p.env.hints == "" {
		return func(context.Context, string) {}
	}
	c := &function.Caller{URL: p.env.hints, Key: key, Client: hintClient(), Now: time.Now}
	return c.Hint
}

// looks guard the call of a cron or of another function.
func (p parts) looks(st *store.Store, calls ed25519.PrivateKey, secrets function.Secrets) function.Looks {
	return function.Looks{Keys: function.CallKeys(withPrevious(calls, secrets)...), Once: st.OnceCall, Now: time.Now}
}

// hintClient calls other functions: without redirects, and no longer than the hint may take.
func hintClient() *http.Client {
	return &http.Client{
		Timeout:       time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// hooks finds the secrets of the repository's webhook.
func (p parts) hooks(secrets function.Secrets) func(tenant, repository string) (forge.Keys, bool) {
	keys := forge.Keys{Current: secrets[functions.SecretWebhook], Previous: secrets[functions.SecretWebhookPrevious]}
	return func(tenant, repository string) (forge.Keys, bool) {
		return keys, tenant == p.env.tenant && repository == p.env.repository
	}
}

// engine puts together what works on repositories: those of a Gitea with a mirror of the
// process's own, or those of the built-in forge on this machine.
func (p parts) engine(ctx context.Context, st *store.Store, auditKey ed25519.PrivateKey, secrets function.Secrets) (*engine.Engine, error) {
	sign, err := gitrepo.SSHSigner(auditKey)
	if err != nil {
		return nil, err
	}
	sources, err := metricSources(p.env.metrics)
	if err != nil {
		return nil, err
	}
	var o engine.Options
	var open func(tenant, repository string) (*gitrepo.Repository, error)
	switch {
	case p.env.gitea.URL != "":
		token := secrets[functions.SecretGitea]
		if token.IsZero() {
			return nil, fmt.Errorf("%w: %s, the token of HotSwap's own account", function.ErrNoSecret, functions.SecretGitea)
		}
		g, err := newGitea(p.env.gitea, p.env.tenant, token, filepath.Join(p.env.state, p.spec.Name, p.env.tenant, p.env.gitea.name()+".git"))
		if err != nil {
			return nil, err
		}
		o, open = g.options(), g.open
	case p.env.data != "":
		o, open, err = p.builtin(ctx, st, secrets)
	default:
		return nil, errors.New("neither HOTSWAP_GITEA_URL nor HOTSWAP_DATA says where repositories are")
	}
	if err != nil {
		return nil, err
	}
	o.Sign, o.Metrics, o.Reconcile, o.Concurrency = sign, sources, p.env.reconcile, p.spec.Connections
	return engine.New(st, open, o), nil
}

// builtin is the forge of this machine, as HotSwap's own account.
func (p parts) builtin(ctx context.Context, st *store.Store, secrets function.Secrets) (engine.Options, func(string, string) (*gitrepo.Repository, error), error) {
	open := openOnce(func(tenant, repository string) (string, error) {
		if tenant != p.env.tenant || repository != p.env.repository {
			return "", fmt.Errorf("repository %s of tenant %s: %w", repository, tenant, gitrepo.ErrNoRepository)
		}
		return filepath.Join(p.env.data, "git", tenant, repository+".git"), nil
	})
	at := forgeAt{
		store: st, tenant: p.env.tenant, repository: p.env.repository, url: p.env.public, webhook: secrets[functions.SecretWebhook],
		open: func(name string) (*gitrepo.Repository, error) { return open(p.env.tenant, name) },
	}
	own, err := st.Account(ctx, at.tenant, builtin.Own)
	if err != nil {
		return engine.Options{}, nil, fmt.Errorf("account %s of the built-in forge: %w", builtin.Own, err)
	}
	f, err := at.as(own)
	if err != nil {
		return engine.Options{}, nil, err
	}
	if !at.webhook.IsZero() {
		if err := at.hook(ctx, f); err != nil {
			return engine.Options{}, nil, err
		}
	}
	return engine.Options{Forges: func(tenant, repository string) (forge.Forge, string, bool) {
		return f, at.full(), tenant == at.tenant && repository == at.repository
	}}, open, nil
}

// signingKey reads the seed of an Ed25519 key.
func signingKey(secrets function.Secrets, name string) (ed25519.PrivateKey, error) {
	seed, err := hex.DecodeString(secrets[name].RevealString())
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("secret %s is not an Ed25519 seed of 64 hexadecimal digits", name)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// withPrevious is the key that calls are signed with, and the former one while it is rotated:
// where the host has none, or an unreadable one, there is just the key.
func withPrevious(current ed25519.PrivateKey, secrets function.Secrets) []ed25519.PrivateKey {
	previous, err := signingKey(secrets, functions.SecretCallsPrevious)
	if err != nil {
		return []ed25519.PrivateKey{current}
	}
	return []ed25519.PrivateKey{current, previous}
}
