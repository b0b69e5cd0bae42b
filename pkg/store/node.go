package store

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/target"
)

// A node's id names its tenant, so that its key can be looked up under
// row-level security: "tenant.name". Both are DNS labels, which hold no dot.

// NodeID returns the id of a node.
func NodeID(tenant, name string) string { return tenant + "." + name }

// SplitNodeID is the inverse of [NodeID].
func SplitNodeID(id string) (tenant, name string, ok bool) {
	tenant, name, ok = strings.Cut(id, ".")
	return tenant, name, ok && tenant != "" && name != "" && !strings.Contains(name, ".")
}

// CreateJoinToken makes a one-time token with which one node may join, with
// these labels and no others. Only its hash is kept.
func (s *Store) CreateJoinToken(ctx context.Context, tenant string, labels map[string]string, ttl time.Duration, by audit.Actor) (string, error) {
	secret := make([]byte, 24)
	_, _ = rand.Read(secret) // never fails, see crypto/rand
	token := tenant + "." + base64.RawURLEncoding.EncodeToString(secret)
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		at, err := now(ctx, tx)
		if err != nil {
			return err
		}
		b := &pgx.Batch{}
		hash := sha256.Sum256([]byte(token))
		b.Queue("INSERT INTO join_tokens (tenant, hash, labels, expires_at) VALUES ($1, $2, $3, now() + $4)", tenant, hash[:], orEmpty(labels), ttl)
		err = s.queueRows(b, []audit.Row{{
			ID: fmt.Sprintf("join-token/%x", hash[:8]), Tenant: tenant, At: at, Actor: by, Action: "join-token.created",
			Subject: fmt.Sprintf("join token %x", hash[:4]), Reason: "a node may join once within " + ttl.String(), Attributes: labels,
		}})
		if err != nil {
			return err
		}
		return send(ctx, tx, b)
	})
	if err != nil {
		return "", fmt.Errorf("create join token: %w", err)
	}
	return token, nil
}

// Join lets a node into the fleet. The same join asked again with the same key
// gets the same answer. A name that is known gets the new key: the token is the
// authority, and a reinstalled node has no other. But it keeps its labels: who may
// add a node to one environment must not get the orders of another. [ErrToken] for
// a token that does not hold, [ErrConflict] for labels that are not the token's, or
// a name that a node with other labels has.
func (s *Store) Join(ctx context.Context, j target.Join, key ed25519.PublicKey) (target.Joined, error) {
	tenant, _, ok := strings.Cut(j.Token, ".")
	if !ok || tenant == "" || !plainToken(j.Token) {
		return target.Joined{}, fmt.Errorf("join %s: %w", j.Name, ErrToken)
	}
	out := target.Joined{Node: NodeID(tenant, j.Name), Tenant: tenant}
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		hash := sha256.Sum256([]byte(j.Token))
		var usedBy *string
		var live bool
		err := tx.QueryRow(ctx, "SELECT labels, used_by, expires_at > now() FROM join_tokens WHERE (tenant, hash) = ($1, $2) FOR UPDATE",
			tenant, hash[:]).Scan(&out.Labels, &usedBy, &live)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return ErrToken
		case err != nil:
			return err
		case usedBy != nil:
			return sameNode(ctx, tx, tenant, j.Name, *usedBy, key)
		case !live:
			return ErrToken
		}
		for k, v := range j.Labels {
			if have, ok := out.Labels[k]; !ok || have != v {
				return fmt.Errorf("label %s=%s is not the token's: %w", k, v, ErrConflict)
			}
		}
		return s.admit(ctx, tx, tenant, j.Name, hash[:], out.Labels, key)
	})
	if err != nil {
		return target.Joined{}, fmt.Errorf("join %s: %w", j.Name, err)
	}
	return out, nil
}

// plainToken reports whether a token has the form of one that was made here: what
// has not is no text for the database either.
func plainToken(token string) bool {
	return len(token) <= 200 && !strings.ContainsFunc(token, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	})
}

// sameNode decides on a token that was used: the answer may have been lost.
func sameNode(ctx context.Context, tx pgx.Tx, tenant, name, usedBy string, key ed25519.PublicKey) error {
	var have []byte
	err := tx.QueryRow(ctx, "SELECT public_key FROM nodes WHERE (tenant, name) = ($1, $2)", tenant, name).Scan(&have)
	if err != nil || usedBy != name || !key.Equal(ed25519.PublicKey(have)) {
		return ErrToken
	}
	return nil
}

func (s *Store) admit(ctx context.Context, tx pgx.Tx, tenant, name string, hash []byte, labels map[string]string, key ed25519.PublicKey) error {
	at, err := now(ctx, tx)
	if err != nil {
		return err
	}
	var same bool
	err = tx.QueryRow(ctx, "SELECT labels = $3 FROM nodes WHERE (tenant, name) = ($1, $2) AND left_at IS NULL FOR UPDATE", tenant, name, labels).Scan(&same)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
	case err != nil:
		return err
	case !same:
		return fmt.Errorf("a node of this name has other labels; hotswap node remove %s comes first: %w", name, ErrConflict)
	}
	b := &pgx.Batch{}
	b.Queue("UPDATE join_tokens SET used_by = $3 WHERE (tenant, hash) = ($1, $2)", tenant, hash, name)
	for _, table := range []string{"wanted", "reports"} { // with other labels it is another node
		b.Queue("DELETE FROM "+table+" o USING nodes n WHERE (o.tenant, o.node) = ($1, $2) AND (n.tenant, n.name) = ($1, $2) AND n.labels <> $3", tenant, name, labels)
	}
	b.Queue(`INSERT INTO nodes (tenant, name, labels, public_key) VALUES ($1, $2, $3, $4)
		ON CONFLICT (tenant, name) DO UPDATE SET labels = excluded.labels, public_key = excluded.public_key, left_at = NULL, boot = 0, seq = 0`,
		tenant, name, labels, []byte(key))
	err = s.queueRows(b, []audit.Row{{
		ID: fmt.Sprintf("node/%s/joined/%x", name, hash[:8]), Tenant: tenant, At: at, Actor: audit.Actor{Kind: audit.Node, Name: name},
		Action: "node.joined", Subject: "node " + name, Reason: "it presented a one-time token",
		Attributes: map[string]string{"key": audit.KeyID(key)},
	}})
	if err != nil {
		return err
	}
	// Whoever waits for a node to match may have one now.
	b.Queue(pokeAll(Promotion, "SELECT p.id FROM promotions p WHERE p.tenant = $1 AND p.finished_at IS NULL AND p.status = 'queued'"), tenant)
	// Where something is live, it comes to the new node too.
	b.Queue(pokeAll(Slot, `SELECT s.environment || '/' || s.deployment FROM slots s JOIN environments e ON (e.tenant, e.name) = (s.tenant, s.environment)
		WHERE s.tenant = $1 AND s.live <> '' AND $2::jsonb @> e.selector`), tenant, labels)
	return send(ctx, tx, b)
}

// RemoveNode takes a node out of the fleet, in the name of a person: its key is
// refused from now on, no promotion waits for it any more, and those that
// counted on it look again. It may join again with a new token. [ErrNotFound]
// for a node that is not in the fleet.
func (s *Store) RemoveNode(ctx context.Context, tenant, name string, by audit.Actor, reason string) error {
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		at, err := now(ctx, tx)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, "UPDATE nodes SET left_at = now() WHERE (tenant, name) = ($1, $2) AND left_at IS NULL", tenant, name)
		if err := one(tag, err, ErrNotFound); err != nil {
			return err
		}
		b := &pgx.Batch{}
		b.Queue(pokeAll(Promotion, "SELECT p.id FROM promotions p WHERE p.tenant = $1 AND p.finished_at IS NULL"), tenant)
		b.Queue(pokeAll(Slot, "SELECT w.environment || '/' || w.deployment FROM wanted w WHERE (w.tenant, w.node) = ($1, $2)"), tenant, name)
		err = s.queueRows(b, []audit.Row{{
			ID: fmt.Sprintf("node/%s/removed/%d", name, at.UnixMicro()), Tenant: tenant, At: at, Actor: by,
			Action: "node.removed", Subject: "node " + name, Reason: reason,
		}})
		if err != nil {
			return err
		}
		return send(ctx, tx, b)
	})
	if err != nil {
		return fmt.Errorf("remove node %s: %w", name, err)
	}
	return nil
}

// NodeKey returns the key that a node signs with, [ErrNotFound] when the node
// is unknown or has left.
func (s *Store) NodeKey(ctx context.Context, id string) (ed25519.PublicKey, error) {
	tenant, name, ok := SplitNodeID(id)
	if !ok {
		return nil, fmt.Errorf("node %q: %w", id, ErrNotFound)
	}
	var key []byte
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		return missing(tx.QueryRow(ctx, "SELECT public_key FROM nodes WHERE (tenant, name) = ($1, $2) AND left_at IS NULL", tenant, name).Scan(&key))
	})
	if err != nil {
		return nil, fmt.Errorf("node %q: %w", id, err)
	}
	return ed25519.PublicKey(key), nil
}

// Orders returns the newest order for every place of a node.
func (s *Store) Orders(ctx context.Context, tenant, node string) ([]target.Order, error) {
	var orders []target.Order
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT environment, deployment, epoch, token, generation, active, standby, smoke, keep_for FROM wanted
			WHERE (tenant, node) = ($1, $2) ORDER BY environment, deployment`, tenant, node)
		if err != nil {
			return err
		}
		orders, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (o target.Order, err error) {
			err = row.Scan(&o.Place.Environment, &o.Place.Deployment, &o.Position.Epoch, &o.Position.Token, &o.Position.Generation, &o.Active, &o.Standby, &o.Smoke, &o.KeepFor)
			return o, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("orders of %s/%s: %w", tenant, node, err)
	}
	return orders, nil
}

// SaveReport stores what a node sees and wakes the promotions that it concerns.
// A report that is not newer than the newest one changes nothing, and a place
// that the node was never given is left out.
func (s *Store) SaveReport(ctx context.Context, tenant, node string, r target.Report) error {
	places, envs, deps := []string{}, []string{}, []string{}
	var said []target.PlaceReport
	seen := map[target.Place]bool{}
	for _, p := range slices.Backward(r.Places) { // of a place that is told twice, the last word counts
		if seen[p.Place] {
			continue
		}
		seen[p.Place] = true
		p = printable(p)
		said = append(said, p)
		doc, err := encode(p)
		if err != nil {
			return fmt.Errorf("report of %s/%s: %w", tenant, node, err)
		}
		places, envs, deps = append(places, doc), append(envs, noNUL(p.Place.Environment)), append(deps, noNUL(p.Place.Deployment))
	}
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE nodes SET last_seen = now(), boot = $3, seq = $4, agent = $5
			WHERE (tenant, name) = ($1, $2) AND (boot, seq) < ($3, $4)`, tenant, node, r.Boot, r.Seq, noNUL(r.Agent))
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		b := &pgx.Batch{}
		b.Queue(`INSERT INTO reports (tenant, node, environment, deployment, report, seen)
			SELECT w.tenant, w.node, w.environment, w.deployment, r.doc::jsonb, now()
			FROM unnest($3::text[], $4::text[], $5::text[]) AS r(environment, deployment, doc)
			JOIN wanted w ON (w.tenant, w.node, w.environment, w.deployment) = ($1, $2, r.environment, r.deployment)
			ON CONFLICT (tenant, node, environment, deployment) DO UPDATE SET report = excluded.report, seen = excluded.seen`,
			tenant, node, envs, deps, places)
		if err := queueSamples(b, tenant, node, said); err != nil {
			return err
		}
		b.Queue(pokeHolders, tenant, envs, deps)
		b.Queue(pokeDrift, tenant, node)
		return send(ctx, tx, b)
	})
	if err != nil {
		return fmt.Errorf("report of %s/%s: %w", tenant, node, err)
	}
	return nil
}

var (
	// pokeHolders wakes the promotions that hold the slots ($1, $2[i], $3[i]).
	pokeHolders = pokeAll(Promotion, `SELECT s.holder FROM unnest($2::text[], $3::text[]) AS r(environment, deployment)
		CROSS JOIN LATERAL (SELECT s.holder FROM slots s WHERE (s.tenant, s.environment, s.deployment) = ($1, r.environment, r.deployment) OFFSET 0) s
		WHERE s.holder IS NOT NULL`)
	// pokeDrift wakes the slots of the node $2 of which a report differs from what is
	// recorded and no finding says so yet, or the other way round.
	pokeDrift = pokeAll(Slot, `SELECT w.environment || '/' || w.deployment
		FROM wanted w JOIN reports r USING (tenant, node, environment, deployment) JOIN slots s USING (tenant, environment, deployment)
		WHERE (w.tenant, w.node) = ($1, $2) AND s.holder IS NULL
		AND (r.report #>> '{active,digest}' IS DISTINCT FROM w.active ->> 'digest' OR coalesce(r.report #>> '{active,phase}', 'healthy') <> 'healthy')
			<> EXISTS (SELECT FROM findings f WHERE (f.tenant, f.environment, f.deployment, f.node) = (w.tenant, w.environment, w.deployment, w.node)
				AND f.closed_at IS NULL AND f.kind <> 'outside')`)
)

// printable is p without the one character that the database cannot keep. What a
// module says about itself must not silence its node.
func printable(p target.PlaceReport) target.PlaceReport {
	p.Address, p.Refused, p.RefusedFor = noNUL(p.Address), noNUL(p.Refused), noNUL(p.RefusedFor)
	p.Active, p.Standby = printableInstance(p.Active), printableInstance(p.Standby)
	return p
}

func printableInstance(i *target.InstanceReport) *target.InstanceReport {
	if i == nil {
		return nil
	}
	c := *i
	c.Digest, c.Version, c.Detail = noNUL(c.Digest), noNUL(c.Version), noNUL(c.Detail)
	c.Phase, c.Reason = target.Phase(noNUL(string(c.Phase))), target.Reason(noNUL(string(c.Reason)))
	return &c
}

func noNUL(s string) string { return strings.ReplaceAll(s, "\x00", "\uFFFD") }

// orEmpty is m, or the empty map for nil: a jsonb object rather than null.
func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
