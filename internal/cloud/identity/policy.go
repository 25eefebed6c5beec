package identity

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Policy is what the configuration says of passwords, logins and sessions.
type Policy struct {
	FreezeAfterFailures bool          // six wrong passwords in a row freeze the account, until somebody unfreezes it
	Lock                time.Duration // after which failures are forgiven to an address and an account
	PasswordLifetime    time.Duration // 0: passwords do not expire
	ForceExpired        bool          // an expired password must be changed before the login (20007)
	ForceWeak           bool          // so must one that breaks today's rule (20010)
	Concurrent          bool          // an account may have several sessions
	IdleTimeout         time.Duration
	MinLength           int    // of a password, in characters
	Classes             int    // of upper, lower, digit and special characters that it needs at least
	SelfRegistration    bool   // tenants register themselves
	MailedCodes         bool   // registering, and changing one's e-mail, need a code sent to the address
	MailFactor          bool   // a mailed code is the second factor of accounts without TOTP
	Language            string // of mails to accounts that name none: zh, en
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

// DefaultPolicy is that of an installation whose configuration nobody touched.
var DefaultPolicy = Policy{
	Lock:             15 * time.Minute,
	PasswordLifetime: 90 * 24 * time.Hour,
	ForceExpired:     true,
	Concurrent:       true,
	IdleTimeout:      30 * time.Minute,
	MinLength:        6,
	Classes:          2,
	Language:         retcode.Chinese,
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
