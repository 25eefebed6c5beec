package compute

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

const passwordSpecials = "()`~!@#$%^&*-+=_|{}[]:;'<>,.?/"

// passwordRules are those of guests' passwords, as a region's configuration has them.
type passwordRules struct {
	length  int // the least
	classes int // of upper case, lower case, digits and specials
}

func (s *Service) passwordRules(ctx context.Context, region string) passwordRules {
	return passwordRules{s.Catalog.Config.VMPasswordMinLength(ctx, region), s.Catalog.Config.VMPasswordClasses(ctx, region)}
}

// check refuses passwords that are too short or longer than 30 characters (1029), and those with other characters than
// letters, digits and specials, of too few classes, or with 3 following characters of windowsUser (1030).
func (r passwordRules) check(password, windowsUser string) error {
	if n := utf8.RuneCountInString(password); n < r.length || n > 30 {
		return retcode.VMPasswordLengthInvalid.Errorf("Password must have %d to 30 characters", r.length)
	}
	var upper, lower, digit, special int
	for _, r := range password {
		switch {
		case r >= 'A' && r <= 'Z':
			upper = 1
		case r >= 'a' && r <= 'z':
			lower = 1
		case r >= '0' && r <= '9':
			digit = 1
		case strings.ContainsRune(passwordSpecials, r):
			special = 1
		default:
			return retcode.VMPasswordComplexityInvalid.Errorf("Password may have letters, digits and %s", passwordSpecials)
		}
	}
	if upper+lower+digit+special < r.classes {
		return retcode.VMPasswordComplexityInvalid.Errorf("Password needs %d of upper case, lower case, digits and specials", r.classes)
	}
	for i := 0; i+3 <= len(windowsUser); i++ {
		if strings.Contains(strings.ToLower(password), strings.ToLower(windowsUser[i:i+3])) {
			return retcode.VMPasswordComplexityInvalid.Errorf("Password has a part of the user name")
		}
	}
	return nil
}
