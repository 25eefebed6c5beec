package identity

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) totpActions() []action.Action {
	spec := func(name, summary string, mutates bool) action.Spec {
		return action.Spec{Name: name, Module: "account", Summary: summary, Region: action.RegionNone, Personal: true, Mutates: mutates, Extension: true, Failure: retcode.InternalError}
	}
	return []action.Action{
		action.Define(spec("ApplyTOTP", "Issue a secret for one-time passwords; the state becomes applied.", true), s.applyTOTPAction),
		action.Define(spec("BindTOTP", "Finish the binding with a first code.", true), s.bindTOTPAction),
		action.Define(spec("UnbindTOTP", "Remove the binding.", true), s.unbindTOTPAction),
		action.Define(spec("VerifyTOTP", "Check a code outside of a login, before a dangerous step.", true), s.verifyTOTPAction),
		action.Define(spec("DescribeTOTP", "Return the state of the binding.", false), s.describeTOTPAction),
	}
}

type applyTOTPRequest struct {
	TokenType    string `default:"Software" validate:"oneof=Software Hardware" doc:"an app, or a device that takes a secret"`
	SerialNumber string `validate:"max=63" doc:"of a Hardware token"`
}

type applyTOTPResponse struct {
	Secret     string `doc:"base32; never shown again"`
	URL        string `doc:"otpauth link, for the picture that apps scan"`
	ExpireTime int64  `doc:"unix seconds: bind it until then"`
}

func (s *Service) applyTOTPAction(ctx context.Context, c *action.Call, q *applyTOTPRequest) (*applyTOTPResponse, error) {
	if q.TokenType == "Hardware" && q.SerialNumber == "" {
		return nil, retcode.MissingParameter.Errorf("SerialNumber is required with TokenType Hardware")
	}
	a, err := accountByID(ctx, s.DB.Reader(), c.Caller.Account)
	if err != nil {
		return nil, err
	}
	secret, url, until, err := s.applyTOTP(ctx, a, q.TokenType, q.SerialNumber)
	if err != nil {
		return nil, err
	}
	return &applyTOTPResponse{secret, url, until}, nil
}

type totpCodeRequest struct {
	TOTPCode string `validate:"required,max=16" doc:"six digits"`
}

// guessing runs what checks a code of the caller, with the attempts counted.
func (s *Service) guessing(c *action.Call, check func() error) error {
	t, err := s.guard.attempt(c.ClientIP, factorTOTP+"/"+c.Caller.Email, "")
	if err != nil {
		return err
	}
	err = check()
	switch retcode.Of(err) {
	case retcode.OK:
		t.right()
	case retcode.AuthCodeVerifyFailed:
		t.failed()
	}
	return err
}

func (s *Service) bindTOTPAction(ctx context.Context, c *action.Call, q *totpCodeRequest) (*action.Empty, error) {
	return nil, s.guessing(c, func() error { return s.bindTOTP(ctx, c.Caller.Account, q.TOTPCode) })
}

type unbindTOTPRequest struct {
	TOTPCode string `validate:"max=16" doc:"six digits, for the own binding"`
	Token    string `validate:"max=128" doc:"of CheckVerificationCode (UnbindTOTP), when the device is lost"`
	MemberID int64  `doc:"another account, without a code; system administrators only"`
}

func (s *Service) unbindTOTPAction(ctx context.Context, c *action.Call, q *unbindTOTPRequest) (*action.Empty, error) {
	drop := func(ctx context.Context, tx bun.Tx, id int64) error {
		r, err := tx.NewRaw(`DELETE FROM totp WHERE account = ? AND bound`, id).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return retcode.TOTPNotBound.Errorf("account %d", id)
	}
	if q.MemberID != 0 && q.MemberID != c.Caller.Account {
		if err := system(c); err != nil {
			return nil, err
		}
		return s.changing(ctx, c, q.MemberID, func(ctx context.Context, tx bun.Tx, a *account) error { return drop(ctx, tx, a.ID) })
	}
	if q.TOTPCode == "" && q.Token == "" {
		return nil, retcode.MissingParameter.Errorf("TOTPCode is required")
	}
	return nil, s.guessing(c, func() error {
		return s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
			var err error
			if q.Token != "" {
				err = s.useToken(ctx, tx, purposeUnbindTOTP, c.Caller.Email, q.Token)
			} else {
				err = s.useTOTP(ctx, tx, c.Caller.Account, q.TOTPCode)
			}
			if err != nil {
				return err
			}
			return drop(ctx, tx, c.Caller.Account)
		})
	})
}

type verifyTOTPResponse struct{ Valid bool }

func (s *Service) verifyTOTPAction(ctx context.Context, c *action.Call, q *totpCodeRequest) (*verifyTOTPResponse, error) {
	err := s.guessing(c, func() error {
		return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return s.useTOTP(ctx, tx, c.Caller.Account, q.TOTPCode) })
	})
	if err != nil {
		return nil, err
	}
	return &verifyTOTPResponse{true}, nil
}

type describeTOTPRequest struct {
	MemberID int64 `doc:"another account; administrators only"`
}

type totpInfo struct {
	MemberID     int64
	State        string `doc:"Unbound, Applied, Bound"`
	TokenType    string
	SerialNumber string
	BindTime     int64 `doc:"unix seconds"`
}

type describeTOTPResponse struct{ Info totpInfo }

func (s *Service) describeTOTPAction(ctx context.Context, c *action.Call, q *describeTOTPRequest) (*describeTOTPResponse, error) {
	id := c.Caller.Account
	if q.MemberID != 0 && q.MemberID != id {
		if !c.Caller.Admin || c.Caller.OfRegions() {
			return nil, retcode.AdminOnly.Errorf("MemberID %d is another account", q.MemberID)
		}
		id = q.MemberID
	}
	if _, err := accountByID(ctx, s.DB.Reader(), id); err != nil {
		return nil, err
	}
	t, err := s.totp(ctx, s.DB.Reader(), id)
	if err != nil {
		return nil, err
	}
	i := totpInfo{MemberID: id, State: t.state()}
	if t != nil {
		i.TokenType, i.SerialNumber, i.BindTime = t.Kind, t.Serial, t.BoundAt/1e6
	}
	return &describeTOTPResponse{i}, nil
}
