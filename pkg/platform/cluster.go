package platform

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Errors of [StartCluster] that a caller decides on.
var (
	// ErrPostgresMissing: no initdb and postgres were found; the message has the line that installs them.
	ErrPostgresMissing = errors.New("PostgreSQL's server programs were not found")
	// ErrClusterInUse: another process holds the data folder; the message says which.
	ErrClusterInUse = errors.New("the folder is in use")
	// ErrClusterVersion: the data was written by a major version of PostgreSQL that is not installed.
	ErrClusterVersion = errors.New("the data belongs to another major version of PostgreSQL")
)

// port is part of the socket's name only; nothing listens on TCP.
const port = 5432

// ClusterOptions say where a cluster lives and how it runs.
type ClusterOptions struct {
	// Dir is the cluster's folder: data/, run/ (the socket), passwords/, postgres.log and lock. It is created with
	// mode 0700, and may lie below folders that only root can enter.
	Dir string
	// BinDir has initdb and postgres. Empty: the installed version that wrote the data, or else the newest below
	// /usr/lib/postgresql, or else PATH's.
	BinDir string
	// TempDir is where the socket goes when Dir's path is too long for one. Empty: the system's temporary folder.
	TempDir string
	// Roles are made sure to exist as login roles, each with a random password in a file of its own, besides
	// "postgres", the superuser. Lower-case letters, digits and underscores.
	Roles []string
	// Settings are further server settings, for example {"max_connections": "200"}.
	Settings map[string]string
	// LockWait is how long to wait for a former process that is still ending. Zero: 5 s.
	LockWait time.Duration
	// Fast gives durability up (fsync off). For tests only.
	Fast bool
	// Trust asks nobody for a password: the folder of the socket is the only door. For tests only.
	Trust bool
}

// Cluster is a running private PostgreSQL. It ends with [Cluster.Stop], or at the latest with this process.
type Cluster struct {
	options  ClusterOptions
	identity identity
	lock     *os.File
	socket   string // folder of the socket
	server   *child

	stopping sync.Mutex
}

// StartCluster creates the cluster when there is none, starts it, waits until crash recovery is over and it takes
// connections. ctx bounds the start only. A process of its own user owns the data: root's cluster runs as "postgres"
// or else "nobody", because PostgreSQL refuses root.
func StartCluster(ctx context.Context, o ClusterOptions) (*Cluster, error) {
	c, err := prepareCluster(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL in %s: %w", o.Dir, err)
	}
	if err := c.start(ctx); err != nil {
		_ = c.lock.Close()
		return nil, fmt.Errorf("start PostgreSQL in %s: %w", o.Dir, err)
	}
	return c, nil
}

// prepareCluster does all that comes before a process runs: checks, folders, and the lock.
func prepareCluster(ctx context.Context, o ClusterOptions) (*Cluster, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	o.Dir = dir
	if o.TempDir == "" {
		o.TempDir = os.TempDir()
	}
	if o.LockWait == 0 {
		o.LockWait = 5 * time.Second
	}
	for _, role := range o.Roles {
		if !roleName().MatchString(role) {
			return nil, fmt.Errorf("role %q: only lower-case letters, digits and underscores", role)
		}
	}
	if o.BinDir, err = findBinDir(o.BinDir, filepath.Join(o.Dir, "data")); err != nil {
		return nil, err
	}
	id, err := clusterIdentity(o.BinDir)
	if err != nil {
		return nil, err
	}
	if err := privateFolder(o.Dir); err != nil {
		return nil, err
	}
	lock, err := lockFolder(ctx, o.Dir, o.LockWait)
	if err != nil {
		return nil, err
	}
	return &Cluster{options: o, identity: id, lock: lock}, nil
}

func (c *Cluster) start(ctx context.Context) error {
	if err := c.makeSocketFolder(); err != nil {
		return err
	}
	if err := c.createData(ctx); err != nil {
		return err
	}
	if err := c.clearStale(); err != nil {
		return err
	}
	if err := c.applyPasswords(ctx); err != nil {
		return err
	}
	return c.startServer(ctx)
}

// Done is closed when the server has ended, for whatever reason.
func (c *Cluster) Done() <-chan struct{} { return c.server.done }

// Pid is the process id of the server.
func (c *Cluster) Pid() int { return c.server.pid }

// Stop ends the server: open transactions are rolled back (SIGINT) and it is waited for; when ctx ends first it is
// told to drop everything (SIGQUIT; the next start recovers), and at last killed. Stopping twice is fine.
func (c *Cluster) Stop(ctx context.Context) error {
	c.stopping.Lock()
	defer c.stopping.Unlock()
	err := c.server.stop(ctx, syscall.SIGINT, syscall.SIGQUIT)
	_ = c.lock.Close()
	if err != nil {
		return fmt.Errorf("stop PostgreSQL in %s: %w", c.options.Dir, err)
	}
	return nil
}
