package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/audit"
)

// CleanSlot accepts what the units of a dirty slot run, whatever it is, in the
// name of a person, and wakes whoever waits for the slot. [ErrNotFound] when
// there is no such slot, [ErrConflict] when it is held or not dirty.
func (s *Store) CleanSlot(ctx context.Context, tenant, environment, deployment string, by audit.Actor, reason string) error {
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		var token int64
		var ready bool
		err := tx.QueryRow(ctx, `SELECT token, dirty AND holder IS NULL FROM slots
			WHERE (tenant, environment, deployment) = ($1, $2, $3) FOR UPDATE`, tenant, environment, deployment).Scan(&token, &ready)
		if err != nil {
			return missing(err)
		}
		if !ready {
			return ErrConflict
		}
		at, err := now(ctx, tx)
		if err != nil {
			return err
		}
		b := &pgx.Batch{}
		b.Queue("UPDATE slots SET dirty = false WHERE (tenant, environment, deployment) = ($1, $2, $3)", tenant, environment, deployment)
		b.Queue(pokeSlot, tenant, environment, deployment, "")
		err = s.queueRows(b, []audit.Row{{
			ID: fmt.Sprintf("slot/%s/%s/cleaned/%d", environment, deployment, token), Tenant: tenant, At: at, Actor: by,
			Action: "slot.cleaned", Subject: "slot " + environment + "/" + deployment, Reason: reason,
		}})
		if err != nil {
			return err
		}
		return send(ctx, tx, b)
	})
	if err != nil {
		return fmt.Errorf("clean slot %s/%s: %w", environment, deployment, err)
	}
	return nil
}
