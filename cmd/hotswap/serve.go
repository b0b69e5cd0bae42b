package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/metric"
	"hotswap.dev/hotswap/pkg/platform"
	"hotswap.dev/hotswap/pkg/secret"
	"hotswap.dev/hotswap/pkg/store"
)

// serveOptions are the flags of `hotswap serve`.
type serveOptions struct {
	data        string
	listen      string
	tenant      string
	repository  string
	databaseURL string // file
	migrateURL  string // file
	tick        time.Duration
	reconcile   time.Duration
	metrics     map[string]string // URL by name
	gitea       giteaAt           // without URL: the built-in forge
	branch      string            // empty: the default one
	public      string            // URL
	connections int               // of the functions, to the database
	callbacks   []string          // networks
	functionsAt string            // URL; empty: here
	verbose     bool
}

func serveCommand() *cobra.Command {
	var o serveOptions
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the functions, the Git server and, unless there is one, PostgreSQL on this machine",
		Long: `Serve runs the embedded platform in one process: a Git server with a repository for intents, the
functions, and their cron. Without --database-url-file it runs a PostgreSQL of its own in the data
folder. Secrets are made at the first start and lie in DATA/secrets, readable by their owner only.

A URL file holds one line, a PostgreSQL URL or keyword string. The database URL is of the role
hotswap_app. The migrate URL, of a role that may create roles and tables, is needed when the
schema is not current.

With --gitea-url it works for a repository of a Gitea server instead of its own Git server. The token
of HotSwap's own account there, an administrator of the repository, lies in DATA/secrets/gitea-token.`,
		Example: "  hotswap serve --data /var/lib/hotswap --listen 127.0.0.1:7080\n" +
			"  hotswap serve --data /var/lib/hotswap --database-url-file db.url --migrate-url-file admin.url\n" +
			"  hotswap serve --data /var/lib/hotswap --gitea-url https://git.example.com --gitea-repository acme/deploy --public-url https://hotswap.example.com",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if o.gitea.URL != "" || o.gitea.Repository != "" {
				if err := o.gitea.check(); err != nil {
					return err
				}
				o.repository = o.gitea.name()
			}
			level := slog.LevelInfo
			if o.verbose {
				level = slog.LevelDebug
			}
			slog.SetDefault(slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: level})))
			return serve(c.Context(), o, c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&o.data, "data", ".hotswap", "data folder")
	f.StringVar(&o.listen, "listen", "127.0.0.1:7080", "address to listen on; when its port is taken, the next free one is")
	repositoryFlags(f, &o)
	f.StringVar(&o.public, "public-url", "", "where Gitea reaches this server, for its webhook")
	databaseFlags(f, &o)
	f.DurationVar(&o.tick, "tick", 5*time.Second, "how often the cron looks, when no hint comes")
	f.DurationVar(&o.reconcile, "reconcile", time.Minute, "how often the branch is looked at, when no webhook comes")
	f.StringToStringVar(&o.metrics, "metric-source", nil, "server of metrics, NAME=URL, as analyses name it; may be given several times")
	f.IntVar(&o.connections, "function-connections", 40, "connections to the database that all functions together may hold")
	f.StringSliceVar(&o.callbacks, "allow-callbacks", nil, "private networks that answers of asynchronous calls may be told to, such as 10.1.0.0/16")
	f.StringVar(&o.functionsAt, "functions-at", "", "the functions run on another host, below this URL; only the Git server and its forge run here")
	f.BoolVar(&o.verbose, "verbose", false, "log every call")
	return c
}

// repositoryFlags say which repository is worked for.
func repositoryFlags(f *pflag.FlagSet, o *serveOptions) {
	f.StringVar(&o.tenant, "tenant", "default", "tenant that the repository belongs to")
	f.StringVar(&o.repository, "repository", "deploy", "name of the repository with the intents")
	f.StringVar(&o.gitea.URL, "gitea-url", "", "Gitea server to work with, instead of the built-in Git server and forge")
	f.StringVar(&o.gitea.Repository, "gitea-repository", "", "repository with the intents there, OWNER/NAME")
	f.Int64SliceVar(&o.gitea.Bots, "gitea-bots", nil, "numbers of accounts there that are bots: their reviews never count")
	f.StringVar(&o.branch, "branch", "", "branch to release from (default: the repository's default branch, or main)")
}

// databaseFlags say which database is used.
func databaseFlags(f *pflag.FlagSet, o *serveOptions) {
	f.StringVar(&o.databaseURL, "database-url-file", "", "file with the URL of an existing PostgreSQL database")
	f.StringVar(&o.migrateURL, "migrate-url-file", "", "file with the URL of a role that may change its schema")
}

// openData opens the data folder, with its secrets.
func openData(path string) (platform.DataDir, platform.Secrets, error) {
	dir, err := platform.OpenDataDir(path)
	if err != nil {
		return dir, platform.Secrets{}, err
	}
	secrets, err := dir.LoadSecrets()
	return dir, secrets, err
}

// serve runs until ctx ends or a part of it does. Whoever ends it while it
// starts gets no error: it was told to end.
func serve(ctx context.Context, o serveOptions, out io.Writer) error {
	started := false
	err := startAndServe(ctx, o, out, &started)
	if err != nil && !started && ctx.Err() != nil {
		slog.InfoContext(ctx, "ended before it was ready", "while", err)
		return nil
	}
	return err
}

func startAndServe(ctx context.Context, o serveOptions, out io.Writer, started *bool) (err error) {
	dir, secrets, err := openData(o.data)
	if err != nil {
		return err
	}
	database, err := openDatabase(ctx, o, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, database.stop()) }()
	st, err := store.Open(ctx, store.Options{DSN: database.dsn, MaxConns: 6}, audit.NewWriter(secrets.Audit.Private()))
	if err != nil {
		return err
	}
	defer st.Close()
	listener, err := listen(o.listen)
	if err != nil {
		return err
	}
	here := "http://" + listener.Addr().String()
	s := &server{options: o, dir: dir, secrets: secrets, store: st, dsn: database.dsn, here: here, url: cmp.Or(strings.TrimSuffix(o.functionsAt, "/"), here)}
	if err := s.prepare(ctx); err != nil {
		_ = listener.Close()
		return err
	}
	if err := s.announce(database.dsn, out); err != nil {
		_ = listener.Close()
		return err
	}
	*started = true
	return s.run(ctx, listener, database.done)
}

// A server is one process of the embedded platform.
type server struct {
	options serveOptions
	dir     platform.DataDir
	secrets platform.Secrets
	store   *store.Store
	here    string // URL of this server
	url     string // below which the functions are
	git     *platform.GitServer
	opener  func(tenant, repository string) (*gitrepo.Repository, error)
	gate    gate // of pushes; whole before anybody is served
	gateway http.Handler
	dsn     string // of the application role
	runner  *platform.Runner
	async   *platform.Async

	functions *platform.Functions
}

// prepare puts the parts together; nothing runs yet.
func (s *server) prepare(ctx context.Context) error {
	authorizer := auth.NewAuthorizer(s.store)
	if err := s.install(ctx, authorizer); err != nil {
		return err
	}
	if s.options.functionsAt != "" {
		return s.onlyGit()
	}
	return s.host(authorizer)
}

// onlyGit serves the repositories and nothing else.
func (s *server) onlyGit() error {
	if s.git == nil {
		return usagef("--functions-at leaves nothing to serve here with --gitea-url; hotswap setup prepares the database for the functions")
	}
	mux := http.NewServeMux()
	mux.Handle("/git/", http.StripPrefix("/git", s.git))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	s.gateway = mux
	return nil
}

// install makes sure of what functions find when they start, on whatever host: the
// repository that is worked for, its accounts or its webhook, and the local secrets.
func (s *server) install(ctx context.Context, authorizer *auth.Authorizer) error {
	o := s.options
	if _, err := metricSources(o.metrics); err != nil {
		return err
	}
	with := s.embedded
	if o.gitea.URL != "" {
		with = s.gitea
	}
	if err := with(ctx, authorizer); err != nil {
		return err
	}
	if err := s.store.KeepChecks(ctx, o.tenant, o.repository); err != nil {
		return err
	}
	_, err := secret.OpenLocal(s.dir.Path("secrets", "local"))
	return err
}

// embedded is the Git server and the forge of this process.
func (s *server) embedded(ctx context.Context, authorizer *auth.Authorizer) error {
	o := s.options
	at := forgeAt{
		store: s.store, tenant: o.tenant, repository: o.repository, url: s.url, webhook: s.secrets.Webhook,
		open: func(name string) (*gitrepo.Repository, error) { return s.opener(o.tenant, name) },
	}
	git, err := platform.NewGitServer(platform.GitOptions{
		Root:         s.dir.Path("git"),
		Authenticate: s.authenticate,
		Authorize:    s.authorizeGit(at, authorizer),
		Gate:         &s.gate,
		Log:          slog.Default(),
	})
	if err != nil {
		return err
	}
	s.git = git
	s.opener = openOnce(func(tenant, repository string) (string, error) { return git.RepositoryPath(tenant + "/" + repository) })
	if _, err := git.CreateRepository(ctx, at.full()); err != nil && !errors.Is(err, platform.ErrRepositoryExists) {
		return err
	}
	if err := s.store.AddRepository(ctx, o.tenant, o.repository, cmp.Or(o.branch, "main")); err != nil {
		return err
	}
	builtinForge, err := openForge(ctx, at)
	if err != nil {
		return err
	}
	s.gate = gate{at: at, forge: builtinForge, authorizer: authorizer}
	r, err := builtinForge.Repository(ctx, at.full())
	if err == nil {
		err = s.bind(ctx, r)
	}
	return err
}

// gitea is a repository of a Gitea server, with a mirror in the data folder.
func (s *server) gitea(ctx context.Context, _ *auth.Authorizer) error {
	o := s.options
	g, err := openGitea(s.dir, o.gitea, o.tenant)
	if err != nil {
		return err
	}
	r, err := g.greet(ctx)
	if err != nil {
		return err
	}
	if err := s.store.AddRepository(ctx, o.tenant, o.repository, cmp.Or(o.branch, r.DefaultBranch)); err != nil {
		return err
	}
	if err := s.bind(ctx, r); err != nil { // before another one is told a secret of ours
		return err
	}
	return g.listen(ctx, o.public, forge.Hook{
		URL: strings.TrimSuffix(o.public, "/") + "/function/forge-webhook/" + o.tenant + "/" + o.repository, Secret: s.secrets.Webhook,
	})
}

// bind remembers which repository of the forge it is, and refuses another one of its name.
func (s *server) bind(ctx context.Context, r forge.Repository) error {
	err := s.store.BindRepository(ctx, s.options.tenant, s.options.repository, strconv.FormatInt(r.ID, 10), r.Name)
	if errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("the repository is another one than HotSwap worked for so far, by the same name; another data folder and database are for another repository: %w", err)
	}
	return err
}

// metricSources are the servers that analyses may name.
func metricSources(urls map[string]string) (map[string]engine.MetricSource, error) {
	out := map[string]engine.MetricSource{}
	for name, url := range urls {
		p, err := metric.New(name, url)
		if err != nil {
			return nil, usagef("--metric-source %s: %w", name, err)
		}
		out[name] = p
	}
	return out, nil
}

// openOnce opens each repository once, where path says that it is.
func openOnce(path func(tenant, repository string) (string, error)) func(tenant, repository string) (*gitrepo.Repository, error) {
	open := map[string]*gitrepo.Repository{}
	turn := make(chan struct{}, 1)
	return func(tenant, repository string) (*gitrepo.Repository, error) {
		turn <- struct{}{}
		defer func() { <-turn }()
		name := tenant + "/" + repository
		if r, ok := open[name]; ok {
			return r, nil
		}
		at, err := path(tenant, repository)
		if err != nil {
			return nil, err
		}
		r, err := gitrepo.Open(at)
		if err != nil {
			return nil, err
		}
		open[name] = r
		return r, nil
	}
}

// announce tells other commands where the installation is, and the person what runs.
func (s *server) announce(dsn string, out io.Writer) error {
	if err := s.remember(dsn); err != nil {
		return err
	}
	if g := s.foreign(); g != nil {
		fmt.Fprintf(out, "gitea      %s/%s\n", strings.TrimSuffix(g.URL, "/"), g.Repository)
	} else {
		fmt.Fprintf(out, "git        %s/git/%s/%s.git  (user admin, password in %s)\n", s.here, s.options.tenant, s.options.repository, s.dir.Path("secrets", "git-admin"))
	}
	fmt.Fprintf(out, "functions  %s/function/NAME/\n", s.url)
	return nil
}

// remember writes down where the installation is.
func (s *server) remember(dsn string) error {
	raw, err := json.MarshalIndent(serveFile{
		DSN: dsn, URL: s.url, Tenant: s.options.tenant, Repository: s.options.repository, PID: os.Getpid(), Gitea: s.foreign(),
	}, "", "  ")
	if err != nil {
		return err
	}
	return s.dir.WriteFile(serveFileName, append(raw, '\n'))
}

// foreign is the forge that is worked with instead of our own; nil: none.
func (s *server) foreign() *giteaAt {
	if s.options.gitea.URL == "" {
		return nil
	}
	return &s.options.gitea
}

// serveEnd bounds how long requests under way may take to end.
const serveEnd = 10 * time.Second

// run serves until ctx ends or the database is gone, then ends in order: no new
// requests, requests under way, functions.
func (s *server) run(ctx context.Context, listener net.Listener, databaseGone <-chan struct{}) error {
	group, ctx := errgroup.WithContext(ctx)
	calls, cancel := context.WithCancel(context.WithoutCancel(ctx)) // of requests: they end by themselves, or after serveEnd
	defer cancel()
	h := &http.Server{
		Handler: s.gateway, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return calls },
	}
	group.Go(func() error {
		if err := h.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	if s.functions != nil {
		group.Go(func() error { return s.runner.Run(ctx) })
		group.Go(func() error { return s.async.Run(ctx) })
		group.Go(func() error { return s.functions.Run(ctx) })
	}
	group.Go(func() error {
		select {
		case <-databaseGone:
			return errors.New("PostgreSQL ended; see postgres.log in the data folder")
		case <-ctx.Done():
			return nil
		}
	})
	group.Go(func() error {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), serveEnd)
		defer cancel()
		err := h.Shutdown(end)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			slog.WarnContext(ctx, "requests were still under way and were cut off")
			err = h.Close()
		}
		return err
	})
	return group.Wait()
}

// portsToTry is how many ports after the one that was asked for are tried.
const portsToTry = 50

// listen takes the address, or the next free port after a taken one.
func listen(address string) (net.Listener, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, usagef("--listen %q is not HOST:PORT", address)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return nil, usagef("--listen %q: the port is not a number", address)
	}
	for i := range portsToTry {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port+i)))
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("listen: %w", err)
		}
	}
	return nil, fmt.Errorf("listen: no free port from %d to %d", port, port+portsToTry-1)
}

// A database is the PostgreSQL that a server works with.
type database struct {
	dsn  string          // of the application role
	done <-chan struct{} // closed when a cluster of our own has ended; nil for a foreign one
	stop func() error
}

// appRole is the role that the functions work as; see the first migration.
const appRole = "hotswap_app"

// openDatabase starts the private cluster, or takes the one that was named, and
// brings the schema up to date where it may.
func openDatabase(ctx context.Context, o serveOptions, dir platform.DataDir) (database, error) {
	if o.databaseURL != "" {
		return foreignDatabase(ctx, o)
	}
	cluster, err := privateCluster(ctx, dir)
	if err != nil {
		return database{}, err
	}
	stop := func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), serveEnd)
		defer cancel()
		return cluster.Stop(ctx)
	}
	if err := migrate(ctx, cluster); err != nil {
		return database{}, errors.Join(err, stop())
	}
	return database{dsn: appDSN(cluster), done: cluster.Done(), stop: stop}, nil
}

// privateCluster starts the PostgreSQL of a data folder.
func privateCluster(ctx context.Context, dir platform.DataDir) (*platform.Cluster, error) {
	return platform.StartCluster(ctx, platform.ClusterOptions{
		Dir: dir.Path("postgres"), Roles: []string{appRole}, Settings: map[string]string{"max_connections": "64"},
	})
}

// migrate brings a private cluster's schema up to date.
func migrate(ctx context.Context, cluster *platform.Cluster) error {
	return store.Migrate(ctx, cluster.Connection("postgres", "postgres").DSN())
}

// appDSN is how the functions reach a private cluster.
func appDSN(cluster *platform.Cluster) string { return cluster.Connection(appRole, "postgres").DSN() }

func foreignDatabase(ctx context.Context, o serveOptions) (database, error) {
	dsn, err := readURL(o.databaseURL)
	if err != nil {
		return database{}, err
	}
	if o.migrateURL != "" {
		admin, err := readURL(o.migrateURL)
		if err != nil {
			return database{}, err
		}
		if err := store.Migrate(ctx, admin); err != nil {
			return database{}, err
		}
	}
	return database{dsn: dsn, stop: func() error { return nil }}, nil
}

// readURL reads a file with one line that may hold a password.
func readURL(path string) (string, error) {
	b, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return "", usagef("database URL: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
