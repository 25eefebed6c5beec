package identity

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// SetApproval switches whether what a tenant asks for waits for an approval, and whether that is given by itself: 27001.
func (s *Service) SetApproval(ctx context.Context, company int64, on, automatic bool) error {
	if err := s.CheckTenant(ctx, company); err != nil {
		return err
	}
	return s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewUpdate().Model((*tenant)(nil)).Where("id = ?", company).
			Set("approval = ?, auto_approval = ?, updated_at = ?, generation = generation + 1", on, automatic, s.Clock.Micros()).Exec(ctx)
		return err
	})
}

// Caller is an account as it would call now, for work that is done in its name later: 20004 when it is gone.
func (s *Service) Caller(ctx context.Context, account int64) (*action.Caller, error) {
	c, err := s.caller(ctx, s.DB.Reader(), account)
	if err == nil && c == nil {
		err = retcode.AccountNotFound.Errorf("MemberID %d", account)
	}
	return c, err
}

// Members returns the e-mails of accounts by id; unknown ids are left out.
func (s *Service) Members(ctx context.Context, ids []int64) (map[int64]string, error) {
	out := map[int64]string{}
	if len(ids) == 0 {
		return out, nil
	}
	var rows []account
	if err := s.DB.Reader().NewSelect().Model(&rows).Column("id", "email").Where("id IN (?)", bun.In(ids)).Scan(ctx); err != nil {
		return nil, err
	}
	for _, a := range rows {
		out[a.ID] = a.Email
	}
	return out, nil
}
