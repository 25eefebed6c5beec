// Package mail sends the platform's mail. A message is written in the transaction of what wants it sent, and
// a loop sends it: nothing waits for a mail server, and no message is lost with the process.
package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/textproto"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// Config of the mail server.
type Config struct {
	Host     string // empty: no mail is sent
	Port     int
	SSL      bool   // TLS from the first byte; else STARTTLS when the server offers it
	Sender   string // address that mail comes from, and login name when Password is set
	Password string
	Prefix   string // of subjects
}

// Configured tells whether mail can be sent at all.
func (c Config) Configured() bool { return c.Host != "" && c.Sender != "" }

// Message to one address.
type Message struct {
	To, Subject, Text string
}

// timeout of one conversation with a mail server.
const timeout = 20 * time.Second

// ErrRefused is a server that will not take mail for an address, now or later.
var ErrRefused = errors.New("the mail server refuses the address")

// client prepares a conversation.
func (s *Service) client(c Config) (*gomail.Client, error) {
	options := []gomail.Option{gomail.WithPort(c.Port), gomail.WithTimeout(timeout), gomail.WithHELO("lingyun.local")}
	roots := &tls.Config{ServerName: c.Host, MinVersion: tls.VersionTLS12, RootCAs: s.Roots}
	options = append(options, gomail.WithTLSConfig(roots))
	switch {
	case c.SSL:
		options = append(options, gomail.WithSSL())
	case c.Password != "":
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory)) // a password is not sent in the clear
	default:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSOpportunistic))
	}
	if c.Password != "" {
		options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(c.Sender), gomail.WithPassword(c.Password))
	}
	return gomail.NewClient(c.Host, options...)
}

// Send sends one message now and returns what the server said. It is for tests of the settings; everything else is
// enqueued.
func (s *Service) Send(ctx context.Context, c Config, m Message) (answer string, err error) {
	client, err := s.client(c)
	if err != nil {
		return "", err
	}
	msg := gomail.NewMsg()
	if err := msg.From(c.Sender); err != nil {
		return "", fmt.Errorf("sender: %w", err)
	}
	if err := msg.To(m.To); err != nil {
		return "", fmt.Errorf("%w: %w", ErrRefused, err)
	}
	msg.Subject(c.Prefix + oneLine(m.Subject))
	msg.SetDate()
	msg.SetMessageID()
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := client.DialAndSendWithContext(ctx, msg); err != nil {
		return "", refused(err)
	}
	return msg.ServerResponse(), nil
}

// Check asks the mail server whether it takes mail for an address, without sending any. ErrRefused when it does not;
// nil also when no server is configured.
func (s *Service) Check(ctx context.Context, address string) error {
	c, err := s.Config(ctx)
	if err != nil || !c.Configured() {
		return err
	}
	client, err := s.client(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	talk, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = client.CloseWithSMTPClient(talk) }()
	if err := talk.Mail(c.Sender); err != nil {
		return err
	}
	return refused(talk.Rcpt(address))
}

// refused marks an answer of the 500s.
func refused(err error) error {
	if err == nil {
		return nil
	}
	var send *gomail.SendError
	if errors.As(err, &send) && !send.IsTemp() && send.ErrorCode() >= 500 {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	var reply *textproto.Error
	if errors.As(err, &reply) && reply.Code >= 500 {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}

// oneLine keeps a subject from becoming headers.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, text)
}
