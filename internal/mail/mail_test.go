package mail_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/mail"
	"github.com/lingyun-cloud/lingyun/internal/mail/mailtest"
	"github.com/lingyun-cloud/lingyun/internal/pki"
	"github.com/lingyun-cloud/lingyun/internal/secret"
)

func service(t *testing.T, db *database.DB, c mail.Config) (*mail.Service, *clock.Clock) {
	t.Helper()
	key, err := secret.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	k := clock.New()
	return mail.New(mail.Deps{DB: db, Clock: k, Secret: key, Settings: func(context.Context) (mail.Config, error) { return c, nil }}), k
}

func left(t *testing.T, db *database.DB) (n int) {
	t.Helper()
	if err := db.Reader().NewRaw(`SELECT count(*) FROM mail_outbox`).Scan(t.Context(), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOutbox(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		server := mailtest.Start(t, nil, "")
		s, k := service(t, db, mail.Config{Host: server.Host, Port: server.Port, Sender: "cloud@example.com", Prefix: "[Lingyun] "})
		enqueue := func(m mail.Message, lasts time.Duration, fail error) {
			t.Helper()
			err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
				return errors.Join(s.Enqueue(ctx, tx, m, lasts), fail)
			})
			if !errors.Is(err, fail) {
				t.Fatal(err)
			}
		}
		flush := func() {
			t.Helper()
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		// What is sealed in the table arrives whole; what was rolled back, and what is for nobody, does not.
		enqueue(mail.Message{To: "a@example.com", Subject: "code\r\nBcc: thief@example.com", Text: "验证码 123456\n"}, time.Hour, nil)
		enqueue(mail.Message{To: "b@example.com", Text: "never"}, time.Hour, errors.New("rolled back"))
		enqueue(mail.Message{Text: "for nobody"}, time.Hour, nil)
		var text string
		if err := db.Reader().NewRaw(`SELECT message FROM mail_outbox ORDER BY id LIMIT 1`).Scan(t.Context(), &text); err != nil || strings.Contains(text, "123456") {
			t.Errorf("the outbox holds %q, %v", text, err)
		}
		flush()
		if all := server.All(); len(all) != 1 || all[0].To != "a@example.com" || !strings.Contains(all[0].Text, "验证码 123456") || all[0].From != "cloud@example.com" ||
			!strings.HasPrefix(all[0].Subject, "[Lingyun] code") {
			t.Errorf("mails %+v", all)
		}
		// A server that cannot just now is asked again, later and later.
		server.RefuseNext(2)
		enqueue(mail.Message{To: "c@example.com", Text: "third time"}, time.Hour, nil)
		for _, pause := range []time.Duration{0, 11 * time.Second, 21 * time.Second} {
			flush() // not due yet: nothing happens
			k.Advance(pause)
			flush()
		}
		server.Wait(t, "c@example.com", 1)
		// An address that is refused for good is not.
		enqueue(mail.Message{To: "unknown@example.com"}, time.Hour, nil)
		flush()
		// Nor is what is of no use any more.
		server.RefuseNext(1)
		enqueue(mail.Message{To: "late@example.com"}, time.Minute, nil)
		flush()
		k.Advance(2 * time.Minute)
		flush()
		if n := left(t, db); n != 0 || len(server.All()) != 2 {
			t.Errorf("%d left in the outbox, %d arrived", n, len(server.All()))
		}
	})
}

func TestCheck(t *testing.T) {
	server := mailtest.Start(t, nil, "")
	s, _ := service(t, dbtest.SQLite(t), mail.Config{Host: server.Host, Port: server.Port, Sender: "cloud@example.com"})
	if err := s.Check(t.Context(), "a@example.com"); err != nil {
		t.Error(err)
	}
	if err := s.Check(t.Context(), "unknown@example.com"); !errors.Is(err, mail.ErrRefused) {
		t.Errorf("an unknown address: %v", err)
	}
	if len(server.All()) != 0 {
		t.Error("a check sent mail")
	}
}

func TestTLSAndPassword(t *testing.T) {
	a, err := pki.NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.IssueServer("mail", []string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(p.CertificatePEM, p.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	server := mailtest.Start(t, &tls.Config{Certificates: []tls.Certificate{pair}}, "s3cret")
	c := mail.Config{Host: server.Host, Port: server.Port, SSL: true, Sender: "cloud@example.com", Password: "s3cret"}
	s, _ := service(t, dbtest.SQLite(t), c)
	m := mail.Message{To: "a@example.com", Subject: "x", Text: "y"}
	if _, err := s.Send(t.Context(), c, m); err == nil {
		t.Error("a certificate of a stranger is believed")
	}
	s.Roots = x509.NewCertPool()
	s.Roots.AppendCertsFromPEM(a.CertificatePEM())
	if _, err := s.Send(t.Context(), c, m); err != nil {
		t.Error(err)
	}
	wrong := c
	wrong.Password = "wrong"
	if _, err := s.Send(t.Context(), wrong, m); err == nil {
		t.Error("a wrong password is taken")
	}
	// A password does not go over a connection that cannot be encrypted.
	plain := mailtest.Start(t, nil, "")
	open := mail.Config{Host: plain.Host, Port: plain.Port, Sender: "cloud@example.com", Password: "s3cret"}
	if _, err := s.Send(t.Context(), open, m); err == nil {
		t.Error("a password was sent in the clear")
	}
}
