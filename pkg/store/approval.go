package store

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/promotion"
)

// The sources of approvals that are given past the forge.
const (
	ByAPI      = "api"
	BreakGlass = "break-glass"
)

// GiveApproval stores the approval of a person of one head and plan, with its audit row,
// and wakes the pull request. The same again changes nothing. [ErrConflict] says why it
// is not what can be approved now: an approval is of what was shown.
func (s *Store) GiveApproval(ctx context.Context, tenant, id string, g GivenApproval) error {
	err := s.within(ctx, tenant, func(tx pgx.Tx) error {
		var p promotion.State
		var pull Pull
		if err := scanPromotion(tx.QueryRow(ctx, selectPromotion+" WHERE (p.tenant, p.id) = ($1, $2) FOR SHARE", tenant, id), &p); err != nil {
			return missing(err)
		}
		err := scanPull(tx.QueryRow(ctx, selectPull+" WHERE (tenant, environment, deployment, promotion) = ($1, $2, $3, $4)", tenant, p.Environment, p.Deployment, p.ID), &pull)
		if err != nil && missing(err) != ErrNotFound {
			return err
		}
		switch {
		case p.Reviewed() == "":
			return fmt.Errorf("%w: promotion %s waits for no reviews: it is %s", ErrConflict, id, p.Status)
		case pull.Number == 0:
			return fmt.Errorf("%w: it has no pull request yet", ErrConflict)
		case g.Head != pull.Head || g.Plan != p.Plan || g.Plan != pull.Plan:
			return fmt.Errorf("%w: its pull request shows plan %s in commit %s now", ErrConflict, pull.Plan, pull.Head)
		}
		if g.At, err = now(ctx, tx); err != nil {
			return err
		}
		g.Subject = fmt.Sprintf("%s by %s of %s", id, g.Actor, g.Plan)
		return s.insertApproval(ctx, tx, p, g)
	})
	if err != nil {
		return fmt.Errorf("approve %s: %w", id, err)
	}
	return nil
}

func (s *Store) insertApproval(ctx context.Context, tx pgx.Tx, p promotion.State, g GivenApproval) error {
	row := approvalRow(p.Tenant, p.ID, g)
	signed, err := s.writer.Sign(row)
	if err != nil {
		return err
	}
	b := &pgx.Batch{}
	b.Queue(`INSERT INTO approvals (tenant, source, subject, promotion, actor, role, head, plan, reason, statement, at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING`,
		p.Tenant, g.Source, g.Subject, p.ID, g.Actor, g.Role, g.Head, g.Plan, g.Reason, signed, g.At)
	if err := s.queueRowsOnce(b, []audit.Row{row}); err != nil {
		return err
	}
	queuePullDue(b, p)
	return send(ctx, tx, b)
}

// approvalRow is what an approval says in the audit trail: it is what is signed.
func approvalRow(tenant, id string, g GivenApproval) audit.Row {
	action := "approval.given"
	if g.Source == BreakGlass {
		action = "glass.broken"
	}
	return audit.Row{
		ID: "approval/" + g.Source + "/" + g.Subject, Tenant: tenant, At: g.At.UTC().Truncate(time.Microsecond),
		Actor: audit.Actor{Kind: audit.Person, Name: g.Actor}, Action: action, Subject: "promotion " + id, Reason: g.Reason,
		Attributes: map[string]string{"head": g.Head, "plan": g.Plan, "role": g.Role},
	}
}

// ProveApproval returns nil when an approval is, word for word, what this installation
// signed: nobody who can only write rows can approve.
func (s *Store) ProveApproval(tenant, id string, g GivenApproval) error {
	if err := (audit.Keys{s.writer.ID(): s.writer.Public()}).Check(g.Statement); err != nil {
		return err
	}
	want, err := s.writer.Sign(approvalRow(tenant, id, g))
	if err != nil {
		return err
	}
	if !bytes.Equal(want.Header, g.Statement.Header) {
		return fmt.Errorf("%w: it says something else than its row", audit.ErrSignature)
	}
	return nil
}
