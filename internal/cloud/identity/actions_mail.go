package identity

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/mail"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) mailActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "SendTestMail", Module: "config", Summary: "Send a mail with the given or stored settings, at once.",
			Region: action.RegionNone, Admin: true, System: true, Mutates: true, Extension: true}, s.sendTestMail),
		action.Define(action.Spec{Name: "VerifyEmailAvailability", Module: "config", Summary: "Tell whether an address is free and can get mail.",
			Region: action.RegionNone, Extension: true}, s.verifyEmailAvailability),
	}
}

type sendTestMailRequest struct {
	Email      string `validate:"required" doc:"where to"`
	MailConfig string `validate:"max=4000" doc:"JSON object: Host, Port, SSL, Sender, Password, Prefix; what it lacks is as stored"`
}

type sendTestMailResponse struct {
	Output string `doc:"answer of the mail server"`
}

func (s *Service) sendTestMail(ctx context.Context, c *action.Call, q *sendTestMailRequest) (*sendTestMailResponse, error) {
	to, err := address(q.Email)
	if err != nil {
		return nil, err
	}
	stored, err := s.Mail.Config(ctx)
	if err != nil {
		return nil, err
	}
	settings := stored
	if q.MailConfig != "" {
		if err := json.Unmarshal([]byte(q.MailConfig), &settings); err != nil {
			return nil, retcode.InvalidParameterFormat.Errorf("MailConfig is no JSON object of mail settings")
		}
		// The stored password is for the stored server alone.
		if settings.Host != stored.Host || settings.Sender != stored.Sender {
			if settings.Password == stored.Password {
				settings.Password = ""
			}
		}
	}
	if !settings.Configured() {
		return nil, retcode.InvalidParameter.Errorf("Host and Sender are required")
	}
	answer, err := s.Mail.Send(ctx, settings, mail.Message{To: to, Subject: "Test", Text: "邮件设置可用。\nThe mail settings work.\n"})
	if err != nil {
		if errors.Is(err, mail.ErrRefused) {
			return nil, retcode.InvalidEmail.Errorf("%s", err)
		}
		return nil, retcode.InvalidParameter.Errorf("the mail could not be sent: %s", err)
	}
	return &sendTestMailResponse{answer}, nil
}

type verifyEmailAvailabilityResponse struct{ Available bool }

func (s *Service) verifyEmailAvailability(ctx context.Context, c *action.Call, q *emailRequest) (*verifyEmailAvailabilityResponse, error) {
	email, err := s.usable(ctx, q.Email)
	if retcode.Of(err) == retcode.InvalidEmail {
		return &verifyEmailAvailabilityResponse{false}, nil
	}
	if err != nil {
		return nil, err
	}
	a, err := s.byEmail(ctx, email)
	return &verifyEmailAvailabilityResponse{a == nil}, err
}
