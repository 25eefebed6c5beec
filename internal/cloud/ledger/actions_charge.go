package ledger

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) chargeActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "RenewResource", Module: "billing", Mutates: true,
			Summary: "Extend the paid period of a resource."}, s.renewResource),
		action.Define(action.Spec{Name: "GetRenewPrice", Module: "billing",
			Summary: "Quote the price of renewing a resource."}, s.getRenewPrice),
		action.Define(action.Spec{Name: "UpdateAutoRenew", Module: "billing", Mutates: true, Extension: true,
			Summary: "Switch automatic renewal of resources."}, s.updateAutoRenew),
	}
}

// chargeOf reads a charge of the call's scope: 200.
func chargeOf(ctx context.Context, idb bun.IDB, scope action.Scope, id string) (*charge, error) {
	rows, err := charges(ctx, idb, id)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 || !scope.Holds(rows[0].Region, rows[0].Company, rows[0].Project) {
		return nil, retcode.ResourceNotFound.Errorf("%s", id)
	}
	return &rows[0], nil
}

type renewRequest struct {
	ResourceID string `validate:"required" doc:"resource id"`
	ChargeType string `validate:"omitempty,oneof=Dynamic Month Year" doc:"only hour to month to year; empty keeps it"`
	Quantity   int    `default:"1" validate:"min=0" doc:"periods; Dynamic 1 (VM 1-24), Month 1-11 or 0: to the end of the month, Year 1-5"`
	action.Tenant
}

// term checks what is asked for: 113.
func (s *Service) term(c *charge, q *renewRequest) (chargeType string, quantity int, err error) {
	chargeType = q.ChargeType
	if chargeType == "" {
		chargeType = c.ChargeType
	}
	most := longest(chargeType, s.kinds[c.Kind])
	if q.Quantity > most || q.Quantity == 0 && chargeType != Monthly {
		return "", 0, retcode.InvalidParameter.Errorf("Quantity is 1 to %d with ChargeType %s", most, chargeType)
	}
	return chargeType, q.Quantity, nil
}

type renewResponse struct {
	TransactonNo string `doc:"number of the transaction, spelled so"`
}

func (s *Service) renewResource(ctx context.Context, c *action.Call, q *renewRequest) (*renewResponse, error) {
	c.AddResource(q.ResourceID)
	out := &renewResponse{}
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		row, err := chargeOf(ctx, tx, c.Scope(), q.ResourceID)
		if err != nil {
			return err
		}
		chargeType, quantity, err := s.term(row, q)
		if err != nil {
			return err
		}
		out.TransactonNo, err = s.renewTx(ctx, tx, row, chargeType, quantity)
		return err
	})
	return out, err
}

type renewPriceResponse struct {
	Price float64 `doc:"yuan"`
}

func (s *Service) getRenewPrice(ctx context.Context, c *action.Call, q *renewRequest) (*renewPriceResponse, error) {
	row, err := chargeOf(ctx, s.DB.Reader(), c.Scope(), q.ResourceID)
	if err != nil {
		return nil, err
	}
	chargeType, quantity, err := s.term(row, q)
	if err != nil {
		return nil, err
	}
	price, err := s.renewalPrice(ctx, s.DB.Reader(), *row, chargeType, quantity)
	return &renewPriceResponse{Price: price.Float()}, err
}

type autoRenewRequest struct {
	ResourceIDs []string `validate:"required,min=1,max=100" doc:"resource ids"`
	AutoRenew   *bool    `validate:"required" doc:"renew by itself when the period ends"`
	action.Tenant
}

func (s *Service) updateAutoRenew(ctx context.Context, c *action.Call, q *autoRenewRequest) (*action.Empty, error) {
	ids := slices.Compact(slices.Sorted(slices.Values(q.ResourceIDs)))
	c.AddResource(ids...)
	return nil, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		var rows []charge
		for _, id := range ids {
			row, err := chargeOf(ctx, tx, c.Scope(), id)
			if err != nil {
				return err
			}
			if row.State == Destroyed || row.State == InRecycle {
				return retcode.InvalidResourceBizState.Errorf("%s is %s, which does not allow %s", id, row.State, c.Action)
			}
			row.AutoRenew = *q.AutoRenew
			rows = append(rows, *row)
		}
		return s.write(ctx, tx, rows)
	})
}
