// Package engine carries work forward: it claims a due row, observes, lets the
// domain decide, and commits, one transaction for one step.
//
// It is the only writer of releases and promotions. It keeps nothing between
// calls, so any number of engines may work on one database, and any of them may
// die at any instant: what it had claimed is claimed again when the lease ends.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/store"
)

// Options bound what one call does. Zero values mean the defaults.
type Options struct {
	Lease       time.Duration // of a claim; a step's deadline is half of it. Default 5 s, 12 s to read a repository, 30 s to ask a forge
	Batch       int           // claims at once; default 8
	Concurrency int           // steps side by side; default 2, as many as a function has connections
	Reconcile   time.Duration // how often a branch is looked at when no webhook comes; default 60 s

	// Metrics are the servers that metrics are read from, by the name that an Analysis calls them.
	Metrics map[string]MetricSource
	// Forges finds the forge of a repository, and its name there; false, or nil: it has none
	// with pull requests, and no policy's approval is ever given there.
	Forges func(tenant, repository string) (forge.Forge, string, bool)
	// Remotes finds where a repository lives, for those that are mirrors here; false: it lives here.
	Remotes func(tenant, repository string) (gitrepo.Remote, bool)
	// Sign signs the commits of records; nil: they are not written.
	Sign func(payload []byte) (string, error)
}

func (o Options) withDefaults() Options {
	if o.Batch == 0 {
		o.Batch = 8
	}
	if o.Concurrency == 0 {
		o.Concurrency = 2
	}
	if o.Reconcile == 0 {
		o.Reconcile = time.Minute
	}
	return o
}

// An Engine advances work. It is safe for concurrent use.
type Engine struct {
	store   *store.Store
	open    func(tenant, repository string) (*gitrepo.Repository, error)
	options Options
	local   locks    // empty but in a mutant
	seen    sync.Map // when the number of a repository at its forge was looked at last, by tenant and name
}

// New returns an engine on a store. Open finds a tenant's repository by name.
func New(s *store.Store, open func(tenant, repository string) (*gitrepo.Repository, error), o Options) *Engine {
	return &Engine{store: s, open: open, options: o.withDefaults()}
}

// Validate looks at deliveries and repositories that are due, until none is or
// ctx ends. It returns how many steps it took.
func (e *Engine) Validate(ctx context.Context) (int, error) {
	return e.drain(ctx, ValidateKinds(), map[store.Kind]step{
		store.Inbox: e.delivery, store.Repository: e.repository,
	})
}

// ValidateKinds are the kinds of work that [Engine.Validate] does.
func ValidateKinds() []store.Kind { return []store.Kind{store.Inbox, store.Repository} }

// Advance takes releases, promotions and slots that are due forward, until none
// is or ctx ends. It returns how many steps it took.
func (e *Engine) Advance(ctx context.Context) (int, error) {
	return e.drain(ctx, AdvanceKinds(), map[store.Kind]step{
		store.Release: e.release, store.Promotion: e.promotion, store.Slot: e.drift,
	})
}

// Step does what one claim asks for, for who claims by other means than the drains.
// An error is the caller's to give back, see [store.Store.Fail].
func (e *Engine) Step(ctx context.Context, c store.Claim) error {
	switch c.Kind {
	case store.Release:
		return e.release(ctx, c)
	case store.Promotion:
		return e.promotion(ctx, c)
	case store.Slot:
		return e.drift(ctx, c)
	default:
		return fmt.Errorf("no step for a %s", c.Kind)
	}
}

// AdvanceKinds are the kinds of work that [Engine.Advance] does.
func AdvanceKinds() []store.Kind { return []store.Kind{store.Release, store.Promotion, store.Slot} }

// Deliver does what is due outside: records to Git, pull requests, merges, until none
// is or ctx ends. It returns how many steps it took.
func (e *Engine) Deliver(ctx context.Context) (int, error) {
	records, err := e.drain(ctx, []store.Kind{store.Record}, map[store.Kind]step{store.Record: e.records})
	if err != nil {
		return records, err
	}
	asked, err := e.drain(ctx, []store.Kind{store.Effect, store.PullDue, store.CheckDue}, map[store.Kind]step{
		store.Effect: e.effect, store.PullDue: e.pull, store.CheckDue: e.checks,
	})
	return records + asked, err
}

// DeliverKinds are the kinds of work that [Engine.Deliver] does.
func DeliverKinds() []store.Kind {
	return []store.Kind{store.Record, store.Effect, store.PullDue, store.CheckDue}
}

// Leases of the kinds of work, where [Options] say nothing. The shorter they
// are, the sooner somebody takes over from a function that died.
const (
	forgeLease   = 30 * time.Second // a forge is asked a dozen questions, and a merge may take seconds
	readLease    = 12 * time.Second // a repository is read from Git, or written
	advanceLease = 5 * time.Second  // a few statements
)

// lease is how long a claim of these kinds is held at most.
func (e *Engine) lease(kinds []store.Kind) time.Duration {
	switch {
	case e.options.Lease != 0:
		return e.options.Lease
	case slices.Contains(kinds, store.Effect), slices.Contains(kinds, store.PullDue):
		return forgeLease
	case slices.Contains(kinds, store.Repository), slices.Contains(kinds, store.Record):
		return readLease
	default:
		return advanceLease
	}
}

// A step does what one claim asks for and gives the claim back.
type step func(ctx context.Context, c store.Claim) error

// drain claims and works until nothing is due. A step that fails is due again
// after a backoff; it does not stop the others. Only a database that cannot be
// asked for claims ends the drain with an error.
func (e *Engine) drain(ctx context.Context, kinds []store.Kind, steps map[store.Kind]step) (int, error) {
	total, lease := 0, e.lease(kinds)
	tenants := map[string]bool{}
	defer func() { e.sequence(ctx, tenants) }()
	for ctx.Err() == nil {
		claims, err := e.store.Claim(ctx, kinds, e.options.Batch, lease)
		if err != nil {
			return total, fmt.Errorf("drain: %w", err)
		}
		if len(claims) == 0 {
			break
		}
		var group errgroup.Group
		group.SetLimit(e.options.Concurrency)
		for _, c := range claims {
			tenants[c.Tenant] = true
			group.Go(func() error { e.work(ctx, c, steps[c.Kind], lease/2); return nil })
		}
		_ = group.Wait() // work reports its own errors
		total += len(claims)
	}
	return total, nil
}

// work runs one step, and gives its claim back if it fails.
func (e *Engine) work(ctx context.Context, c store.Claim, run step, deadline time.Duration) {
	unlock, ok := e.local.lock(c)
	if !ok {
		return
	}
	defer unlock()
	err := try(ctx, c, run, deadline)
	switch {
	case err == nil:
	case errors.Is(err, store.ErrLost):
		slog.DebugContext(ctx, "step taken over", "kind", c.Kind, "id", c.ID)
	default:
		slog.WarnContext(ctx, "step failed", "tenant", c.Tenant, "kind", c.Kind, "id", c.ID, "attempt", c.Attempts+1, "err", err)
		// The step may have used up its time: giving it back has time of its own.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadline/2)
		defer cancel()
		if err := e.store.Fail(ctx, c, err); err != nil && !errors.Is(err, store.ErrLost) {
			slog.WarnContext(ctx, "step not given back; its lease will end", "kind", c.Kind, "id", c.ID, "err", err)
		}
	}
}

// try runs one step under a deadline that ends well before its lease. A panic is
// an error of the step: what one repository holds must not end the process.
func try(ctx context.Context, c store.Claim, run step, deadline time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			slog.ErrorContext(ctx, "step panicked", "kind", c.Kind, "id", c.ID, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("step panicked: %v", p)
		}
	}()
	return run(ctx, c)
}

// sequence gives the rows that were just committed their leaves. What is left
// out here, the tick does.
func (e *Engine) sequence(ctx context.Context, tenants map[string]bool) {
	for tenant := range tenants {
		if _, err := e.store.Sequence(ctx, tenant); err != nil {
			slog.WarnContext(ctx, "audit rows wait for the next tick", "tenant", tenant, "err", err)
		}
	}
}

// maxFold bounds how many counted rows one [Engine.Backstop] folds: a step counts a
// handful, so it keeps up, and it is a fraction of a second.
const maxFold = 5000

// Backstop does what no hint asks for: leaves for rows that are without, the
// partitions of the audit log, and the folding of what was counted.
func (e *Engine) Backstop(ctx context.Context) error {
	if err := e.store.KeepPartitions(ctx); err != nil {
		return err
	}
	tenants, err := e.store.Unsequenced(ctx)
	if err != nil {
		return err
	}
	for _, t := range tenants {
		if _, err := e.store.Sequence(ctx, t); err != nil {
			return err
		}
	}
	_, err = e.store.FoldMetrics(ctx, maxFold)
	return err
}
