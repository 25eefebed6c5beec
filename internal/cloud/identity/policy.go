package identity

import (
	"context"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Policy is what the configuration says of passwords, logins and sessions.
type Policy struct {
	FreezeAfterFailures bool          // six wrong passwords in a row freeze the account
	FreezeFor           time.Duration // after which it is in use again; 0: when somebody unfreezes it
	PasswordLifetime    time.Duration // 0: passwords do not expire
	ForceExpired        bool          // an expired password must be changed before the login (20007)
	ForceWeak           bool          // so must one that breaks today's rule (20010)
	Concurrent          bool          // an account may have several sessions
	IdleTimeout         time.Duration
	MinLength           int  // of a password, in characters
	Classes             int  // of upper, lower, digit and special characters that it needs at least
	SelfRegistration    bool // tenants register themselves
	MailedCodes         bool // registering, and changing one's e-mail, need a code sent to the address
	MailFactor          bool // a mailed code is the second factor of accounts without TOTP
}

// What does not depend on the configuration.
const (
	maxLength       = 30 // of a password
	freezeAfter     = 6  // wrong passwords
	sessionLifetime = 12 * time.Hour
	sessionsEach    = 50 // of one account; the oldest gives way
)

// specials are the characters that a password may have beside letters and digits.
const specials = "()`~!@#$%^&*-+=_|{}[]:;'<>,.?/"

// defaultPolicy is that of an installation whose configuration nobody touched.
var defaultPolicy = Policy{
	FreezeFor:        30 * time.Minute,
	PasswordLifetime: 90 * 24 * time.Hour,
	ForceExpired:     true,
	Concurrent:       true,
	IdleTimeout:      30 * time.Minute,
	MinLength:        6,
	Classes:          2,
}

type cachedPolicy struct {
	Policy
	read time.Time
}

// Policy of the moment; read again every few seconds.
func (s *Service) Policy(ctx context.Context) (Policy, error) {
	if p := s.policy.Load(); p != nil && time.Since(p.read) < believed {
		return p.Policy, nil
	}
	p, err := s.readPolicy(ctx)
	if err == nil {
		s.policy.Store(&cachedPolicy{p, time.Now()})
	}
	return p, err
}

func (s *Service) readPolicy(ctx context.Context) (Policy, error) {
	p := defaultPolicy
	if s.Setting == nil {
		return p, nil
	}
	for name, set := range map[string]func(string){
		"login.FreezeAfterFailures": truth(&p.FreezeAfterFailures),
		"login.FreezeMinutes":       units(&p.FreezeFor, time.Minute),
		"login.PasswordDays":        units(&p.PasswordLifetime, 24*time.Hour),
		"login.ForceExpired":        truth(&p.ForceExpired),
		"login.ForceWeak":           truth(&p.ForceWeak),
		"login.Concurrent":          truth(&p.Concurrent),
		"login.IdleMinutes":         units(&p.IdleTimeout, time.Minute),
		"login.MinLength":           whole(&p.MinLength),
		"login.Classes":             whole(&p.Classes),
		"login.SelfRegistration":    truth(&p.SelfRegistration),
		"login.MailedCodes":         truth(&p.MailedCodes),
		"login.MailFactor":          truth(&p.MailFactor),
	} {
		text, err := s.Setting(ctx, name)
		if err != nil {
			return p, err
		}
		if text != "" {
			set(text)
		}
	}
	return p, nil
}

func truth(to *bool) func(string) {
	return func(text string) { *to = text == "true" || text == "1" || text == "on" }
}

func whole(to *int) func(string) {
	return func(text string) {
		if n, err := strconv.Atoi(text); err == nil {
			*to = n
		}
	}
}

func units(to *time.Duration, unit time.Duration) func(string) {
	return func(text string) {
		if n, err := strconv.Atoi(text); err == nil && n >= 0 {
			*to = time.Duration(n) * unit
		}
	}
}

// check holds a new password against the rule: 20013 for its length, 20014 for its characters.
func (p *Policy) check(password string) error {
	if n := utf8.RuneCountInString(password); n < p.MinLength || n > maxLength {
		return retcode.PasswordLengthInvalid.Errorf("a password has %d to %d characters", p.MinLength, maxLength)
	}
	var classes [4]bool
	for _, r := range password {
		switch {
		case r >= 'A' && r <= 'Z':
			classes[0] = true
		case r >= 'a' && r <= 'z':
			classes[1] = true
		case r >= '0' && r <= '9':
			classes[2] = true
		case r < utf8.RuneSelf && strings.ContainsRune(specials, r):
			classes[3] = true
		default:
			return retcode.PasswordComplexityInvalid.Errorf("a password has letters, digits and %s, nothing else", specials)
		}
	}
	n := 0
	for _, c := range classes {
		if c {
			n++
		}
	}
	if n < p.Classes {
		return retcode.PasswordComplexityInvalid.Errorf("a password has %d of upper-case letters, lower-case letters, digits and special characters", p.Classes)
	}
	return nil
}
