// Package mailtest runs a real mail server in the test's process.
package mailtest

import (
	"crypto/tls"
	"io"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Mail that arrived.
type Mail struct{ From, To, Subject, Text string }

// Server takes mail for every address that does not begin with "unknown".
type Server struct {
	Host string
	Port int

	mu       sync.Mutex
	mails    []Mail
	refuse   int // deliveries to refuse for now
	password string
}

// Start runs a server until the test's end. With a TLS configuration it speaks TLS from the first byte and wants the
// password.
func Start(t testing.TB, secure *tls.Config, password string) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, password: password}
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	server := smtp.NewServer(s)
	server.Domain, server.AllowInsecureAuth = "mail.test", secure != nil
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	return s
}

// RefuseNext has the next n deliveries fail for now.
func (s *Server) RefuseNext(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = n
}

// All mails that arrived.
func (s *Server) All() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail(nil), s.mails...)
}

// Wait for the nth mail to an address, counted from 1.
func (s *Server) Wait(t testing.TB, to string, n int) Mail {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		i := 0
		for _, m := range s.All() {
			if m.To == to {
				if i++; i == n {
					return m
				}
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("mail %d to %s did not arrive; there are %v", n, to, s.All())
		}
	}
}

// NewSession begins a conversation.
func (s *Server) NewSession(*smtp.Conn) (smtp.Session, error) { return &session{s: s}, nil }

type session struct {
	s  *Server
	ok bool
	m  Mail
}

// AuthMechanisms that the server has.
func (c *session) AuthMechanisms() []string {
	if c.s.password == "" {
		return nil
	}
	return []string{sasl.Plain}
}

// Auth checks the password.
func (c *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, _, password string) error {
		if password != c.s.password {
			return smtp.ErrAuthFailed
		}
		c.ok = true
		return nil
	}), nil
}

// Mail takes the sender.
func (c *session) Mail(from string, _ *smtp.MailOptions) error {
	if c.s.password != "" && !c.ok {
		return smtp.ErrAuthRequired
	}
	c.m.From = from
	return nil
}

// Rcpt takes the receiver.
func (c *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "unknown") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	}
	c.m.To = to
	return nil
}

// Data takes the message.
func (c *session) Data(r io.Reader) error {
	m, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	body := m.Body
	if strings.EqualFold(m.Header.Get("Content-Transfer-Encoding"), "quoted-printable") {
		body = quotedprintable.NewReader(body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.refuse > 0 {
		c.s.refuse--
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "not now"}
	}
	c.m.Subject, c.m.Text = m.Header.Get("Subject"), string(text)
	c.s.mails = append(c.s.mails, c.m)
	return nil
}

// Reset forgets the message.
func (c *session) Reset() { c.m = Mail{} }

// Logout ends the conversation.
func (c *session) Logout() error { return nil }

var _ smtp.AuthSession = (*session)(nil)
